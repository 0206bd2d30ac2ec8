package ingest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"
	"github.com/nats-io/nats.go/jetstream"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	sallyportv1 "github.com/sallyport-ci/sallyport/proto/sallyport/v1"
	"github.com/sallyport-ci/sallyport/store/engine"
	"github.com/sallyport-ci/sallyport/store/engine/enginetest"
	"github.com/sallyport-ci/sallyport/stream"
)

// newOwnEngine starts an engine for one test, to be killed; without addr it takes
// a free port.
func newOwnEngine(t *testing.T, addr, password string) *engine.Process {
	t.Helper()
	enginetest.Start(t) // skips where there is no library
	library, err := enginetest.Library(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	command, env, err := enginetest.Command()
	if err != nil {
		t.Fatal(err)
	}
	p, err := engine.Start(t.Context(), engine.StartConfig{
		Command: command, Env: env, Library: library, Dir: t.TempDir(), MaxMemory: 2 << 30, Addr: addr, Password: password,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		defer cancel()
		if err := p.Stop(ctx); err != nil {
			t.Error(err)
		}
	})
	return p
}

func TestKilledEngineKeepsEveryEventOnce(t *testing.T) {
	p := newOwnEngine(t, "", "")
	l := newStreamLab(t)
	l.dsn = strings.TrimSuffix(p.DSN(), "/default") + "/kills"
	l.store = openStore(t, l.dsn)
	l.start(t, func(c *Config) { c.MaxEvents = 2000 })
	total := make(chan uint64, 1)
	go func() { total <- l.load(t, rand.New(rand.NewPCG(5, 6)), 800, 150, 20*time.Millisecond) }()
	r := rand.New(rand.NewPCG(7, 8))
	kills := 0
	var want uint64
	for want == 0 {
		time.Sleep(time.Duration(100+r.IntN(900)) * time.Millisecond)
		if pid := p.PID(); pid != 0 && p.Up() {
			// It may have been reaped since, and not be started again yet.
			if err := syscall.Kill(pid, syscall.SIGKILL); err == nil {
				kills++
			} else if !errors.Is(err, syscall.ESRCH) {
				t.Fatal(err)
			}
		}
		select {
		case want = <-total:
		default:
		}
	}
	t.Logf("killed the engine %d times under %d events", kills, want)
	l.waitDone(t, stream.EventsStream)
	l.checkOnce(t, want)
}

func TestEngineThatComesLater(t *testing.T) {
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := free.Addr().String()
	if err := free.Close(); err != nil {
		t.Fatal(err)
	}
	l := newStreamLab(t)
	l.dsn = "http://default:later@" + address + "/later"
	l.store = openStore(t, l.dsn)
	in, _ := l.start(t, nil)
	l.publish(t, fullBatch(time.Now()))
	eventually(t, 10*time.Second, func() error {
		if ok, detail := in.Health(); ok || detail == "starting" {
			return fmt.Errorf("healthy %t: %s", ok, detail)
		}
		return nil
	})
	newOwnEngine(t, address, "later")
	l.waitDone(t, stream.EventsStream)
	if n := l.count(t, "SELECT count() FROM flow_events"); n != 5 {
		t.Errorf("%d flow events, want 5", n)
	}
	if ok, detail := in.Health(); !ok {
		t.Errorf("not healthy: %s", detail)
	}
}

func TestMessagesThatAreNoBatches(t *testing.T) {
	l := newLab(t)
	good := fullBatch(time.Now())
	e, err := stream.NewEncoder()
	if err != nil {
		t.Fatal(err)
	}
	whole, err := e.Encode(nil, good)
	if err != nil {
		t.Fatal(err)
	}
	invalid := []byte(strings.Replace(string(mustMarshal(t, good)), "runner.example.test", "runner.\xff\xfeample.test", 1))
	bad := map[string][]byte{
		"foreign":   []byte(`{"hello": "world"}`),
		"empty":     {},
		"truncated": whole[:len(whole)/2],
		"utf8":      compress(t, invalid),
		"stranger":  whole, // agent-1 on somebody else's subject
	}
	for name, data := range bad {
		l.publishRaw(t, stream.EventSubject("agent-"+name), data)
	}
	l.publish(t, good)
	in, _ := l.start(t, nil)
	l.waitDone(t, stream.EventsStream)
	if n := l.count(t, "SELECT count() FROM process_events"); n != 3 {
		t.Errorf("%d process events of the good batch, want 3", n)
	}
	letters := l.deadLetters(t)
	for _, m := range letters {
		name := strings.TrimPrefix(m.Header.Get(stream.OriginSubjectHeader), "sallyport.events.agent-")
		want, ok := bad[name]
		if !ok || !bytes.Equal(m.Data, want) || m.Header.Get(stream.ReasonHeader) == "" {
			t.Errorf("dead letter of %q with %d bytes and headers %v", name, len(m.Data), m.Header)
		}
		delete(bad, name)
	}
	if len(bad) > 0 {
		t.Errorf("no dead letter of %d messages: %v", len(bad), bad)
	}
	if n := metricValue(t, in.metrics.deadLetters.WithLabelValues(stream.EventsStream)); int(n) != len(letters) {
		t.Errorf("%v dead letters are counted, want %d", n, len(letters))
	}
}

func mustMarshal(t *testing.T, m proto.Message) []byte {
	t.Helper()
	data, err := proto.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func TestRowsThatClickHouseRefuses(t *testing.T) {
	l := newLab(t)
	db, err := openSQL(l.dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if _, err := db.Exec("ALTER TABLE dns ADD CONSTRAINT no_poison CHECK name != 'poison.example.test'"); err != nil {
		t.Fatal(err)
	}
	const batches = 40
	for n := range uint64(batches) {
		b := fullBatch(time.Now())
		b.FirstSequence = 1 + n*100
		if n == 7 || n == 31 {
			b.Events[2].GetDnsExchange().Name = "poison.example.test"
		}
		l.publish(t, b)
	}
	l.start(t, func(c *Config) { c.MaxAge = 500 * time.Millisecond })
	l.waitDone(t, stream.EventsStream)
	if n := l.count(t, "SELECT count() FROM dns"); n != batches-2 {
		t.Errorf("%d DNS exchanges, want %d", n, batches-2)
	}
	if n := l.count(t, "SELECT count() FROM flow_events"); n != 5*batches {
		t.Errorf("%d flow events, want %d", n, 5*batches)
	}
	letters := l.deadLetters(t)
	if len(letters) != 2 {
		t.Fatalf("%d dead letters, want 2", len(letters))
	}
	for i, want := range []string{"8", "32"} {
		if got := letters[i].Header.Get(stream.OriginSequenceHeader); got != want {
			t.Errorf("dead letter %d is message %s, want %s", i, got, want)
		}
	}
}

func TestMessagesDeliveredAgainAreNotInsertedAgain(t *testing.T) {
	l := newLab(t)
	l.shortAckWait(t)
	b := fullBatch(time.Now())
	l.publish(t, b)
	_, stop := l.start(t, nil)
	l.waitDone(t, stream.EventsStream)
	stop()
	// A consumer made anew delivers all that the detector has not acknowledged.
	ctx := context.Background()
	c, err := l.js.Consumer(ctx, stream.EventsStream, stream.IngestConsumer)
	if err != nil {
		t.Fatal(err)
	}
	config := c.CachedInfo().Config
	if err := l.js.DeleteConsumer(ctx, stream.EventsStream, stream.IngestConsumer); err != nil {
		t.Fatal(err)
	}
	if _, err := l.js.CreateConsumer(ctx, stream.EventsStream, config); err != nil {
		t.Fatal(err)
	}
	l.start(t, nil)
	l.waitDone(t, stream.EventsStream)
	if n := l.count(t, "SELECT count() FROM process_events"); n != 3 {
		t.Errorf("%d process events, want 3", n)
	}
}

func TestFindings(t *testing.T) {
	l := newLab(t)
	now := time.Now().UTC().Truncate(time.Microsecond)
	b := fullBatch(now)
	f := &sallyportv1.Finding{
		Id: strings.Repeat("ab", 16), Time: timestamppb.New(now), Message: "curl sent to a new place", AgentId: "agent-1", Hostname: "runner.example.test",
		Policy:      &sallyportv1.Policy{Id: "egress.new_endpoint", Title: "New endpoint", Severity: sallyportv1.Severity_SEVERITY_HIGH, Technique: "T1041", Class: sallyportv1.PolicyClass_POLICY_CLASS_NEW_BEHAVIOUR},
		Fingerprint: "f1", Attribution: b.Attributions[0],
		Behaviour: &sallyportv1.Behaviour{
			Kind: sallyportv1.BehaviourKind_BEHAVIOUR_KIND_EGRESS, Program: "curl", Target: "x.example.test", Domain: "x.example.test",
			Address: "192.0.2.7", Port: 443, Protocol: "tcp", AddressScope: "public",
		},
		Ancestry: b.Processes,
		Baseline: &sallyportv1.BaselineFacts{Stable: true, Runs: 6},
	}
	if err := stream.PublishFinding(t.Context(), l.js, f); err != nil {
		t.Fatal(err)
	}
	// The same again, as if the stream had forgotten its identity; and a foreign one.
	l.publishRaw(t, stream.FindingSubject, mustMarshal(t, f))
	l.publishRaw(t, stream.FindingSubject, []byte("no finding"))
	l.publish(t, b) // the run that it belongs to
	_, stop := l.start(t, nil)
	l.waitDone(t, stream.FindingsStream)
	l.waitDone(t, stream.EventsStream)
	stop()
	l.publishRaw(t, stream.FindingSubject, mustMarshal(t, f))
	l.start(t, nil)
	l.waitDone(t, stream.FindingsStream)

	if n := l.count(t, "SELECT count() FROM findings"); n != 1 {
		t.Fatalf("%d findings, want 1", n)
	}
	got := l.row(t, "SELECT * EXCEPT (finding, id, time) FROM findings WHERE severity >= 'high'")
	want := "('f1','agent-1','runner.example.test','example/app','ci','123',2,'build','0123456789abcdef','__run_2','example/setup@v1','c0ffee','refs/heads/main','push','alice','runner-1'," +
		"'egress.new_endpoint','New endpoint','high','new_behaviour','T1041','curl sent to a new place','egress','curl','x.example.test','x.example.test','192.0.2.7',443,'tcp','public','',false," +
		"2002,'/usr/bin/curl',['curl','-s','https://x.example.test/é'],['bash','Runner.Worker'],true,false,6)"
	if got != want {
		t.Errorf("finding:\n got %s\nwant %s", got, want)
	}
	db, err := openSQL(l.dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	var text string
	if err := db.QueryRow("SELECT finding FROM findings").Scan(&text); err != nil {
		t.Fatal(err)
	}
	var back sallyportv1.Finding
	if err := protojson.Unmarshal([]byte(text), &back); err != nil {
		t.Fatal(err)
	}
	if !proto.Equal(&back, f) {
		t.Errorf("the finding came back as %v", &back)
	}
	if n := l.count(t, "SELECT findings FROM runs"); n != 1 {
		t.Errorf("the run has %d findings, want 1", n)
	}
	if n := len(l.deadLetters(t)); n != 1 {
		t.Errorf("%d dead letters, want 1", n)
	}
}

func compress(t *testing.T, data []byte) []byte {
	t.Helper()
	z, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	return z.EncodeAll(data, nil)
}

// TestBatchesThatComeAgain publishes batches a second time after the stream has forgotten
// that it had them: while the first is in hand, after it was inserted, and after ingest was
// started again.
func TestBatchesThatComeAgain(t *testing.T) {
	l := newLab(t)
	b := fullBatch(time.Now())
	e, err := stream.NewEncoder()
	if err != nil {
		t.Fatal(err)
	}
	data, err := e.Encode(nil, b)
	if err != nil {
		t.Fatal(err)
	}
	// The stream's own window is made short.
	s, err := l.js.Stream(t.Context(), stream.EventsStream)
	if err != nil {
		t.Fatal(err)
	}
	config := s.CachedInfo().Config
	config.Duplicates = 100 * time.Millisecond
	if _, err := l.js.UpdateStream(t.Context(), config); err != nil {
		t.Fatal(err)
	}
	again := func() {
		t.Helper()
		eventually(t, 10*time.Second, func() error {
			ack, err := l.js.Publish(t.Context(), stream.EventSubject(b.GetAgentId()), data, jetstream.WithMsgID(stream.BatchID(b)))
			if err == nil && ack.Duplicate {
				err = errors.New("the stream still knows the batch")
			}
			return err
		})
	}
	again()
	again() // in hand together
	in, stop := l.start(t, nil)
	l.waitDone(t, stream.EventsStream)
	want := l.count(t, "SELECT count() FROM ("+allEvents+")")
	if want == 0 {
		t.Fatal("nothing was inserted")
	}
	again()
	l.waitDone(t, stream.EventsStream)
	if n := metricValue(t, in.metrics.repeated.WithLabelValues(stream.EventsStream)); n != 2 {
		t.Errorf("%v batches were taken for repeated, want 2", n)
	}
	stop()
	again()
	l.start(t, nil)
	l.waitDone(t, stream.EventsStream)
	if n := l.count(t, "SELECT count() FROM ("+allEvents+")"); n != want {
		t.Errorf("%d rows, want %d", n, want)
	}
	// Another start of the agent has batches of the same numbers.
	b.Epoch++
	if data, err = e.Encode(nil, b); err != nil {
		t.Fatal(err)
	}
	again()
	l.waitDone(t, stream.EventsStream)
	if n := l.count(t, "SELECT count() FROM ("+allEvents+")"); n != 2*want {
		t.Errorf("%d rows after another start, want %d", n, 2*want)
	}
}
