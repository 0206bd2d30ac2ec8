package stream_test

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/sallyport-ci/sallyport/stream"
	"github.com/sallyport-ci/sallyport/stream/natsserver"
	"github.com/sallyport-ci/sallyport/stream/natsserver/natstest"
)

// TestEachMessageBelongsToOnePartition divides a stream again and again while agents
// publish: each message is read by one of the consumers, whatever the division was.
func TestEachMessageBelongsToOnePartition(t *testing.T) {
	_, js := natstest.StartDeclared(t, natsserver.Config{})
	ctx := t.Context()
	published := make(map[uint64]string)
	for _, partitions := range []int{1, 4, 2, 4, 1} {
		if err := stream.Declare(ctx, js, stream.Limits{Partitions: partitions}); err != nil {
			t.Fatalf("divide into %d: %v", partitions, err)
		}
		for agent := range 20 {
			ack, err := js.Publish(ctx, stream.EventSubject(fmt.Sprintf("agent-%d", agent)), []byte{1})
			if err != nil {
				t.Fatal(err)
			}
			published[ack.Sequence] = stream.EventSubject(fmt.Sprintf("agent-%d", agent))
		}
	}
	all, err := stream.IngestPartitions(ctx, js)
	if err != nil {
		t.Fatal(err)
	}
	// Findings, the undivided stream, four and two.
	if len(all) != 1+1+4+2 {
		t.Errorf("%d partitions, want 8: %v", len(all), all)
	}
	read := make(map[uint64]string)
	used := make(map[string]int)
	for _, p := range all {
		if p.Stream != stream.EventsStream {
			continue
		}
		c, err := js.Consumer(ctx, p.Stream, p.Consumer)
		if err != nil {
			t.Fatal(err)
		}
		batch, err := c.FetchNoWait(1000)
		if err != nil {
			t.Fatal(err)
		}
		for m := range batch.Messages() {
			meta, err := m.Metadata()
			if err != nil {
				t.Fatal(err)
			}
			if before, twice := read[meta.Sequence.Stream]; twice {
				t.Errorf("message %d is in two partitions, %s and %s", meta.Sequence.Stream, before, p.Name)
			}
			read[meta.Sequence.Stream] = p.Name
			used[p.Name]++
			if got, want := stream.PublishedSubject(m.Subject()), published[meta.Sequence.Stream]; got != want {
				t.Errorf("message %d was published on %s, want %s", meta.Sequence.Stream, got, want)
			}
			for _, other := range all {
				if other.Stream == p.Stream && other.Has(m.Subject()) != (other.Name == p.Name) {
					t.Errorf("whether %s has %s: %t", other.Name, m.Subject(), other.Has(m.Subject()))
				}
			}
			if err := m.DoubleAck(ctx); err != nil {
				t.Fatal(err)
			}
		}
	}
	if len(read) != len(published) {
		t.Errorf("%d of %d messages were read", len(read), len(published))
	}
	if len(used) != 7 {
		t.Errorf("messages in %d partitions of EVENTS, want all 7: %v", len(used), used)
	}

	// Empty partitions of earlier divisions go.
	var left []string
	for deadline := time.Now().Add(5 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		if err := stream.Declare(ctx, js, stream.Limits{}); err != nil {
			t.Fatal(err)
		}
		left = consumers(ctx, t, js)
		if slices.Equal(left, []string{"detector", "ingest"}) {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("consumers %v stay", left)
		}
	}
}

func consumers(ctx context.Context, t *testing.T, js jetstream.JetStream) []string {
	t.Helper()
	s, err := js.Stream(ctx, stream.EventsStream)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for name := range s.ConsumerNames(ctx).Name() {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

func TestTooManyPartitions(t *testing.T) {
	_, js := natstest.StartDeclared(t, natsserver.Config{})
	for _, n := range []int{-1, stream.MaxPartitions + 1} {
		if err := stream.Declare(t.Context(), js, stream.Limits{Partitions: n}); err == nil {
			t.Errorf("%d partitions were taken", n)
		}
	}
}
