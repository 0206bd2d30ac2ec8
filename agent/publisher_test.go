package agent

import (
	"net"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	sallyportv1 "github.com/sallyport-ci/sallyport/proto/sallyport/v1"
	"github.com/sallyport-ci/sallyport/stream"
	"github.com/sallyport-ci/sallyport/stream/natsserver"
	"github.com/sallyport-ci/sallyport/stream/natsserver/natstest"
)

// road is a publisher to a NATS server that comes and goes.
type road struct {
	t      *testing.T
	dir    string
	port   int
	server *natsserver.Server
	js     jetstream.JetStream
	next   uint64
}

const agentPassword = "agents"

func newRoad(t *testing.T) *road {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r := &road{t: t, dir: t.TempDir(), port: l.Addr().(*net.TCPAddr).Port, next: 1}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	nc, err := nats.Connect("nats://"+natsserver.AgentUser+":"+agentPassword+"@127.0.0.1:"+strconv.Itoa(r.port),
		nats.RetryOnFailedConnect(true), nats.MaxReconnects(-1), nats.ReconnectWait(50*time.Millisecond), nats.ReconnectBufSize(-1))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	if r.js, err = jetstream.New(nc); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.down() })
	return r
}

func (r *road) up() {
	r.t.Helper()
	var err error
	r.server, err = natsserver.Start(natsserver.Config{Dir: filepath.Join(r.dir, "nats"), Port: r.port, AgentPassword: agentPassword})
	if err != nil {
		r.t.Fatal(err)
	}
	if err := stream.Declare(r.t.Context(), r.operator(), stream.Limits{}); err != nil {
		r.t.Fatal(err)
	}
}

func (r *road) down() {
	if r.server != nil {
		r.server.Shutdown()
		r.server = nil
	}
}

// operator may read what agents wrote.
func (r *road) operator() jetstream.JetStream {
	r.t.Helper()
	nc, err := r.server.Connect()
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(nc.Close)
	js, err := jetstream.New(nc)
	if err != nil {
		r.t.Fatal(err)
	}
	return js
}

func (r *road) publisher(maxBytes int64) *Publisher {
	r.t.Helper()
	p, err := NewPublisher(PublisherConfig{JS: r.js, AgentID: "agent-1", Dir: filepath.Join(r.dir, "spool"), MaxSpoolBytes: maxBytes})
	if err != nil {
		r.t.Fatal(err)
	}
	return p
}

// publish hands over n batches of two events.
func (r *road) publish(p *Publisher, n int) {
	r.t.Helper()
	for range n {
		b := &sallyportv1.EventBatch{AgentId: "agent-1", Epoch: 1, FirstSequence: r.next, Hostname: "h"}
		for range 2 {
			b.Events = append(b.Events, &sallyportv1.Event{TimeUnixNano: 1, Body: &sallyportv1.Event_AgentStatus{AgentStatus: &sallyportv1.AgentStatus{}}})
		}
		if err := p.Publish(r.t.Context(), b); err != nil {
			r.t.Fatal(err)
		}
		r.next += 2
	}
}

func (r *road) delivered(p *Publisher) {
	r.t.Helper()
	for deadline := time.Now().Add(30 * time.Second); p.Waiting() > 0; time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			r.t.Fatalf("%d batches wait", p.Waiting())
		}
	}
}

// complete checks that each event is in the stream once.
func (r *road) complete() {
	r.t.Helper()
	s, err := r.operator().Stream(r.t.Context(), stream.EventsStream)
	if err != nil {
		r.t.Fatal(err)
	}
	decoder, err := stream.NewDecoder()
	if err != nil {
		r.t.Fatal(err)
	}
	times := map[uint64]int{}
	for n := uint64(1); n <= s.CachedInfo().State.LastSeq; n++ {
		m, err := s.GetMsg(r.t.Context(), n)
		if err != nil {
			r.t.Fatal(err)
		}
		b := new(sallyportv1.EventBatch)
		if err := decoder.Decode(m.Data, b); err != nil {
			r.t.Fatal(err)
		}
		times[b.FirstSequence]++
	}
	for first := uint64(1); first < r.next; first += 2 {
		if times[first] != 1 {
			r.t.Errorf("the batch at %d is there %d times", first, times[first])
		}
	}
}

// TestServerComesAndGoes: NATS is down when the agent starts, the agent starts
// again while it is, and NATS goes away later for a while.
func TestServerComesAndGoes(t *testing.T) {
	r := newRoad(t)
	p := r.publisher(0)
	r.publish(p, 100)
	p.Close()
	p = r.publisher(0)
	if p.Waiting() == 0 {
		t.Error("nothing is in the spool")
	}
	r.publish(p, 100)
	r.up()
	r.delivered(p)
	r.publish(p, 50)
	r.delivered(p)
	r.down()
	r.publish(p, 100)
	r.up()
	r.delivered(p)
	p.Close()
	if p.Spilled() > 0 {
		t.Errorf("%d events lost", p.Spilled())
	}
	r.complete()
}

// TestFullSpoolIsCounted: what does not fit is lost, and said to be.
func TestFullSpoolIsCounted(t *testing.T) {
	r := newRoad(t)
	p := r.publisher(2 << 10)
	r.publish(p, 300)
	p.Close()
	if p.Spilled() == 0 {
		t.Error("nothing was counted as lost")
	}
	kept := r.publisher(2 << 10)
	if got := 2*kept.Waiting() + p.Spilled(); got != 600 {
		t.Errorf("%d events kept and %d lost, together %d, want 600", 2*kept.Waiting(), p.Spilled(), got)
	}
	kept.Close()
}

// TestDamagedSpool: a file that the disk has damaged does not hold up the rest. It
// goes out as it is: whoever reads the stream keeps it as a dead letter.
func TestDamagedSpool(t *testing.T) {
	r := newRoad(t)
	p := r.publisher(0)
	r.publish(p, 20)
	p.Close()
	files, err := os.ReadDir(filepath.Join(r.dir, "spool"))
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	last := filepath.Join(r.dir, "spool", files[len(files)-1].Name())
	if err := os.Truncate(last, 5); err != nil {
		t.Fatal(err)
	}
	p = r.publisher(0)
	r.up()
	r.delivered(p)
	r.publish(p, 5)
	r.delivered(p)
	p.Close()
	s, err := r.operator().Stream(t.Context(), stream.EventsStream)
	if err != nil {
		t.Fatal(err)
	}
	decoder, err := stream.NewDecoder()
	if err != nil {
		t.Fatal(err)
	}
	whole := 0
	for n := uint64(1); n <= 25; n++ {
		m, err := s.GetMsg(t.Context(), n)
		if err != nil {
			t.Fatal(err)
		}
		if decoder.Decode(m.Data, new(sallyportv1.EventBatch)) == nil {
			whole++
		}
	}
	if whole != 24 {
		t.Errorf("%d whole batches arrived, want 24 of 25", whole)
	}
}

// A stream that says nothing, neither yes nor no, as one that is losing its leader.
func TestUnansweredBatchesDoNotAddUp(t *testing.T) {
	_, js := natstest.Start(t, natsserver.Config{})
	tries := make(chan struct{}, 16)
	if _, err := js.Conn().Subscribe(stream.EventSubject("agent-1"), func(*nats.Msg) { tries <- struct{}{} }); err != nil {
		t.Fatal(err)
	}
	p, err := NewPublisher(PublisherConfig{JS: js, AgentID: "agent-1", Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	if err := p.Publish(t.Context(), &sallyportv1.EventBatch{
		AgentId: "agent-1", Epoch: 1, FirstSequence: 1, Hostname: "h", Events: []*sallyportv1.Event{{
			TimeUnixNano: 1, Body: &sallyportv1.Event_AgentStatus{AgentStatus: &sallyportv1.AgentStatus{}},
		}},
	}); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		select {
		case <-tries:
		case <-time.After(time.Minute):
			t.Fatal("the batch is not tried again")
		}
	}
	if n := p.js.PublishAsyncPending(); n > 1 {
		t.Errorf("%d messages are on their way, of one batch", n)
	}
}
