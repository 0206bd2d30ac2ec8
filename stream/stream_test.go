package stream_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	sallyportv1 "github.com/sallyport-ci/sallyport/proto/sallyport/v1"
	"github.com/sallyport-ci/sallyport/stream"
	"github.com/sallyport-ci/sallyport/stream/natsserver"
	"github.com/sallyport-ci/sallyport/stream/natsserver/natstest"
)

func TestEventsStayUntilBothConsumersHaveThem(t *testing.T) {
	_, js := natstest.StartDeclared(t, natsserver.Config{})
	ctx := t.Context()
	if err := stream.Declare(ctx, js, stream.Limits{}); err != nil {
		t.Fatalf("declaring twice: %v", err)
	}
	b := stream.SampleBatch()
	for range 2 {
		if _, err := js.Publish(ctx, stream.EventSubject(b.GetAgentId()), stream.Encode(t, b), jetstream.WithMsgID(stream.BatchID(b))); err != nil {
			t.Fatal(err)
		}
	}
	messages := func() uint64 {
		s, err := js.Stream(ctx, stream.EventsStream)
		if err != nil {
			t.Fatal(err)
		}
		return s.CachedInfo().State.Msgs
	}
	if n := messages(); n != 1 {
		t.Fatalf("the stream holds %d messages, want 1: a repeat has to be dropped", n)
	}
	for i, name := range []string{stream.IngestConsumer, stream.DetectorConsumer} {
		c, err := js.Consumer(ctx, stream.EventsStream, name)
		if err != nil {
			t.Fatal(err)
		}
		m, err := c.Next(jetstream.FetchMaxWait(5 * time.Second))
		if err != nil {
			t.Fatal(err)
		}
		if n := messages(); n != 1 {
			t.Fatalf("before acknowledgement %d: %d messages, want 1", i, n)
		}
		if err := m.DoubleAck(ctx); err != nil {
			t.Fatal(err)
		}
	}
	for deadline := time.Now().Add(5 * time.Second); messages() != 0; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the message stays though both consumers have acknowledged it")
		}
	}
}

func TestAgentMayOnlyPublishEvents(t *testing.T) {
	s, _ := natstest.StartDeclared(t, natsserver.Config{AgentPassword: "secret"})
	if _, err := nats.Connect(s.URL()); !errors.Is(err, nats.ErrAuthorization) {
		t.Errorf("connecting without a password: %v, want an authorization error", err)
	}
	nc, err := nats.Connect(s.AgentURL("secret"), nats.ErrorHandler(func(*nats.Conn, *nats.Subscription, error) {}))
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	b := stream.SampleBatch()
	if _, err := js.Publish(ctx, stream.EventSubject(b.GetAgentId()), stream.Encode(t, b)); err != nil {
		t.Errorf("publishing events: %v", err)
	}
	for _, subject := range []string{stream.FindingSubject, "$JS.API.STREAM.PURGE.EVENTS", "$JS.API.STREAM.DELETE.EVENTS", "$KV.BASELINES.x"} {
		if m, err := nc.Request(subject, nil, 200*time.Millisecond); err == nil {
			t.Errorf("the agent may use %s: %s", subject, m.Data)
		}
	}
}

// Events that a part asks for arrive at its inbox.
func TestAgentMayNotOverhearOthers(t *testing.T) {
	s, js := natstest.StartDeclared(t, natsserver.Config{AgentPassword: "secret"})
	denied := make(chan error, 16)
	nc, err := nats.Connect(s.AgentURL("secret"), nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) { denied <- err }))
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	heard, err := nc.SubscribeSync("_INBOX.>")
	if err != nil {
		t.Fatal(err)
	}
	if err := nc.Flush(); err != nil {
		t.Fatal(err)
	}
	b := stream.SampleBatch()
	if _, err := js.Publish(t.Context(), stream.EventSubject(b.GetAgentId()), stream.Encode(t, b)); err != nil {
		t.Fatal(err)
	}
	c, err := js.Consumer(t.Context(), stream.EventsStream, stream.IngestConsumer)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Next(jetstream.FetchMaxWait(5 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if m, err := heard.NextMsg(200 * time.Millisecond); err == nil {
		t.Errorf("an agent hears %d bytes on %s", len(m.Data), m.Subject)
	}
	if _, err := nc.SubscribeSync(stream.Inbox(stream.PartUp) + ".>"); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-denied:
		if !errors.Is(err, nats.ErrPermissionViolation) {
			t.Error(err)
		}
	case <-time.After(5 * time.Second):
		t.Error("an agent may listen to what others asked for")
	}
}

func TestServerGoesOnWhereItStopped(t *testing.T) {
	dir := t.TempDir()
	s, err := natsserver.Start(natsserver.Config{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	publish := func(s *natsserver.Server, first uint64) uint64 {
		nc, err := s.Connect()
		if err != nil {
			t.Fatal(err)
		}
		defer nc.Close()
		js, err := jetstream.New(nc)
		if err != nil {
			t.Fatal(err)
		}
		if err := stream.Declare(t.Context(), js, stream.Limits{}); err != nil {
			t.Fatal(err)
		}
		b := stream.SampleBatch()
		b.FirstSequence = first
		ack, err := js.Publish(t.Context(), stream.EventSubject(b.GetAgentId()), stream.Encode(t, b))
		if err != nil {
			t.Fatal(err)
		}
		return ack.Sequence
	}
	if n := publish(s, 1); n != 1 {
		t.Errorf("first message has sequence %d", n)
	}
	s.Shutdown()
	if s, err = natsserver.Start(natsserver.Config{Dir: dir}); err != nil {
		t.Fatal(err)
	}
	defer s.Shutdown()
	if n := publish(s, 3); n != 2 {
		t.Errorf("after a restart the next message has sequence %d, want 2", n)
	}
}

func TestStartSaysWhatIsWrong(t *testing.T) {
	s, _ := natstest.StartDeclared(t, natsserver.Config{})
	_, port, _ := strings.Cut(strings.TrimPrefix(s.URL(), "nats://"), ":")
	n := 0
	for _, r := range port {
		n = n*10 + int(r-'0')
	}
	_, err := natsserver.Start(natsserver.Config{Dir: t.TempDir(), Port: n})
	if err == nil || !strings.Contains(err.Error(), "address already in use") {
		t.Errorf("error = %v, want one that names the address in use", err)
	}
}

func TestFindingIsPublishedOnce(t *testing.T) {
	_, js := natstest.StartDeclared(t, natsserver.Config{})
	f := &sallyportv1.Finding{Id: strings.Repeat("0a", 16), Time: timestamppb.Now(), Policy: &sallyportv1.Policy{Id: "new_endpoint"}}
	for range 2 {
		if err := stream.PublishFinding(t.Context(), js, f); err != nil {
			t.Fatal(err)
		}
	}
	c, err := js.Consumer(t.Context(), stream.FindingsStream, stream.NotifyConsumer)
	if err != nil {
		t.Fatal(err)
	}
	batch, err := c.Fetch(2, jetstream.FetchMaxWait(200*time.Millisecond))
	if err != nil {
		t.Fatal(err)
	}
	var got []*sallyportv1.Finding
	for m := range batch.Messages() {
		g, err := stream.DecodeFinding(m.Data())
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, g)
	}
	if len(got) != 1 || !proto.Equal(got[0], f) {
		t.Errorf("got %v, want the finding once", got)
	}
	if err := stream.PublishFinding(t.Context(), js, &sallyportv1.Finding{Id: "x"}); err == nil {
		t.Error("a finding without identity was published")
	}
}

func TestDeadLetterKeepsTheMessage(t *testing.T) {
	_, js := natstest.StartDeclared(t, natsserver.Config{})
	ctx := t.Context()
	if _, err := js.Publish(ctx, stream.EventSubject("foreign"), []byte("not a batch")); err != nil {
		t.Fatal(err)
	}
	c, err := js.Consumer(ctx, stream.EventsStream, stream.IngestConsumer)
	if err != nil {
		t.Fatal(err)
	}
	m, err := c.Next(jetstream.FetchMaxWait(5 * time.Second))
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := stream.PublishDeadLetter(ctx, js, "ingest", m, errors.New("not\na batch: \xff")); err != nil {
			t.Fatal(err)
		}
	}
	s, err := js.Stream(ctx, stream.DeadLettersStream)
	if err != nil {
		t.Fatal(err)
	}
	if n := s.CachedInfo().State.Msgs; n != 1 {
		t.Errorf("%d dead letters, want 1", n)
	}
	letter, err := s.GetMsg(ctx, 1)
	if err != nil {
		t.Fatal(err)
	}
	if string(letter.Data) != "not a batch" || letter.Header.Get(stream.ReasonHeader) != "not a batch: \uFFFD" ||
		letter.Header.Get(stream.OriginStreamHeader) != stream.EventsStream || letter.Header.Get(stream.OriginSequenceHeader) != "1" {
		t.Errorf("dead letter is %q with %v", letter.Data, letter.Header)
	}
}
