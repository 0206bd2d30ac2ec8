package stream_test

import (
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/sallyport-ci/sallyport/stream"
	"github.com/sallyport-ci/sallyport/stream/natsserver"
	"github.com/sallyport-ci/sallyport/stream/natsserver/natstest"
)

func streamConfig(t *testing.T, js jetstream.JetStream, name string) jetstream.StreamConfig {
	t.Helper()
	s, err := js.Stream(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	return s.CachedInfo().Config
}

// A part that is started without --replicas or limits must not undo what an operator
// chose.
func TestDeclareLeavesWhatIsNotSet(t *testing.T) {
	_, js := natstest.StartDeclared(t, natsserver.Config{})
	var told []string
	tell := func(what, done string) { told = append(told, what+": "+done) }
	declare := func(l stream.Limits) string {
		t.Helper()
		told = nil
		if err := stream.Declare(t.Context(), js, l, tell); err != nil {
			t.Fatal(err)
		}
		return strings.Join(told, "\n")
	}
	declare(stream.Limits{Partitions: 3})
	if text := declare(stream.Limits{EventsBytes: 1 << 20, EventsAge: time.Hour}); !strings.Contains(text, "stream EVENTS: changed: max_bytes is 8589934592 and has to be 1048576, max_age is 0s and has to be 1h0m0s") {
		t.Errorf("a change is told as\n%s", text)
	}
	if text := declare(stream.Limits{}); strings.Contains(text, "changed") || strings.Contains(text, "made") || len(told) != 20 {
		t.Errorf("declaring again did something:\n%s", text)
	}
	c := streamConfig(t, js, stream.EventsStream)
	if c.MaxBytes != 1<<20 || c.MaxAge != time.Hour {
		t.Errorf("EVENTS has %d bytes, %s", c.MaxBytes, c.MaxAge)
	}
	// What somebody broke is put right.
	c.Subjects, c.Compression = []string{"other"}, jetstream.S2Compression
	if _, err := js.UpdateStream(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	declare(stream.Limits{})
	if c = streamConfig(t, js, stream.EventsStream); c.Subjects[0] != "sallyport.events.*" || len(c.Subjects) != 2 || c.Compression != jetstream.S2Compression {
		t.Errorf("after a change by hand: subjects %v, compression %v", c.Subjects, c.Compression)
	}
	// Answers of a bucket come from the leader alone.
	if streamConfig(t, js, "KV_"+stream.IngestBucket).AllowDirect {
		t.Error("a replica may answer for the bucket INGEST, also with what is not true any more")
	}
}

func TestDeclareSaysWhatCannotBeChanged(t *testing.T) {
	_, js := natstest.StartDeclared(t, natsserver.Config{})
	err := stream.Declare(t.Context(), js, stream.Limits{Storage: "memory"})
	if !errors.Is(err, stream.ErrDiffers) || !strings.Contains(err.Error(), "stream EVENTS") || !strings.Contains(err.Error(), "storage is File and has to be Memory") {
		t.Errorf("declare with another storage: %v", err)
	}
	for _, l := range []stream.Limits{{Replicas: 6}, {Storage: "tape"}, {EventsBytes: -1}, {EventsAge: -1}, {Partitions: stream.MaxPartitions + 1}} {
		if err := stream.Declare(t.Context(), js, l); err == nil {
			t.Errorf("declared with %+v", l)
		}
	}
}

func TestDeclareFromSeveralProcessesAtOnce(t *testing.T) {
	s, js := natstest.StartDeclared(t, natsserver.Config{})
	for _, name := range []string{stream.EventsStream, stream.FindingsStream, "KV_" + stream.NotifyBucket} {
		if err := js.DeleteStream(t.Context(), name); err != nil {
			t.Fatal(err)
		}
	}
	var wait sync.WaitGroup
	for range 4 {
		nc, err := s.Connect()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(nc.Close)
		own, err := jetstream.New(nc)
		if err != nil {
			t.Fatal(err)
		}
		wait.Go(func() {
			if err := stream.Declare(t.Context(), own, stream.Limits{}); err != nil {
				t.Error(err)
			}
		})
	}
	wait.Wait()
	if err := stream.Check(t.Context(), js, stream.PartUp, stream.Limits{}); err != nil {
		t.Error(err)
	}
}

func TestCheckSaysWhatAPartLacks(t *testing.T) {
	_, js := natstest.StartDeclared(t, natsserver.Config{})
	ctx := t.Context()
	for _, part := range []string{stream.PartIngest, stream.PartDetector, stream.PartNotify, stream.PartServer, stream.PartChecks, stream.PartUp} {
		if err := stream.Check(ctx, js, part, stream.Limits{}); err != nil {
			t.Errorf("%s: %v", part, err)
		}
	}
	if err := stream.Check(ctx, js, stream.PartIngest, stream.Limits{Replicas: 3}); !errors.Is(err, stream.ErrDiffers) || !strings.Contains(err.Error(), "replicas is 1 and has to be 3") {
		t.Errorf("with one replica of three: %v", err)
	}
	if err := js.DeleteConsumer(ctx, stream.EventsStream, stream.IngestConsumer); err != nil {
		t.Fatal(err)
	}
	if err := js.DeleteKeyValue(ctx, stream.NotifyBucket); err != nil {
		t.Fatal(err)
	}
	for part, want := range map[string]string{
		stream.PartIngest:   "consumer ingest of stream EVENTS: not declared",
		stream.PartNotify:   "bucket NOTIFY: not declared",
		stream.PartDetector: "",
		stream.PartServer:   "",
	} {
		err := stream.Check(ctx, js, part, stream.Limits{})
		if want == "" && err != nil || want != "" && (!errors.Is(err, stream.ErrNotDeclared) || err.Error() != want) {
			t.Errorf("%s: %v, want %q", part, err, want)
		}
	}
}

// What version 0.1 made is brought up to date with what is in it.
func TestDeclareOverAnEarlierVersion(t *testing.T) {
	s, err := natsserver.Start(natsserver.Config{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Shutdown)
	nc, err := s.Connect()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	kv, err := js.CreateOrUpdateKeyValue(t.Context(), jetstream.KeyValueConfig{Bucket: stream.BaselinesBucket, History: 1, MaxBytes: 256 << 20})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := kv.Put(t.Context(), "job", []byte("learned")); err != nil {
		t.Fatal(err)
	}
	var told string
	if err := stream.Declare(t.Context(), js, stream.Limits{}, func(what, done string) {
		if what == "bucket BASELINES" {
			told = done
		}
	}); err != nil {
		t.Fatal(err)
	}
	if told != "changed: allow_direct is true and has to be false" {
		t.Errorf("bucket BASELINES: %s", told)
	}
	if kv, err = js.KeyValue(t.Context(), stream.BaselinesBucket); err != nil {
		t.Fatal(err)
	}
	if e, err := kv.Get(t.Context(), "job"); err != nil || string(e.Value()) != "learned" {
		t.Errorf("what was learned is gone: %v", err)
	}
}
