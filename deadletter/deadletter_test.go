package deadletter

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/sallyport-ci/sallyport/detector"
	"github.com/sallyport-ci/sallyport/ingest"
	sallyportv1 "github.com/sallyport-ci/sallyport/proto/sallyport/v1"
	"github.com/sallyport-ci/sallyport/store"
	"github.com/sallyport-ci/sallyport/store/engine/enginetest"
	"github.com/sallyport-ci/sallyport/stream"
	"github.com/sallyport-ci/sallyport/stream/natsserver"
	"github.com/sallyport-ci/sallyport/stream/natsserver/natstest"
)

func TestMain(m *testing.M) { enginetest.Main(m) }

func newStreams(t *testing.T) jetstream.JetStream {
	t.Helper()
	_, js := natstest.Start(t, natsserver.Config{})
	if err := stream.Declare(t.Context(), js, stream.Limits{Partitions: 2}); err != nil {
		t.Fatal(err)
	}
	return js
}

// line is the real thing from the stream to the tables.
type line struct {
	js    jetstream.JetStream
	store *store.Store
	conn  driver.Conn
}

func newLine(t *testing.T) *line {
	t.Helper()
	e := enginetest.Start(t)
	name, conn := e.Database(t)
	l := &line{js: newStreams(t), conn: conn}
	var err error
	if l.store, err = store.Open(t.Context(), e.DatabaseDSN(name)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.store.Close() })
	if err := l.store.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	log := slog.New(slog.DiscardHandler)
	in, err := ingest.New(ingest.Config{JS: l.js, Store: l.store, MaxAge: 20 * time.Millisecond, Logger: log})
	if err != nil {
		t.Fatal(err)
	}
	policies, problems, err := detector.LoadPolicies(t.Context(), "")
	if err != nil || len(problems) > 0 {
		t.Fatal(err, problems)
	}
	d, err := detector.New(t.Context(), detector.Config{JetStream: l.js, Policies: policies, Logger: log})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 2)
	go func() { ended <- in.Run(ctx) }()
	go func() { ended <- d.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := errors.Join(<-ended, <-ended); err != nil {
			t.Error(err)
		}
	})
	return l
}

func (l *line) number(t *testing.T, sql string) (n uint64) {
	t.Helper()
	if err := l.conn.QueryRow(t.Context(), sql).Scan(&n); err != nil {
		t.Fatal(sql, err)
	}
	return n
}

func (l *line) exec(t *testing.T, sql string) {
	t.Helper()
	if err := l.conn.Exec(t.Context(), sql); err != nil {
		t.Fatal(sql, err)
	}
}

// read waits until all of EVENTS has been acknowledged.
func (l *line) read(t *testing.T) {
	t.Helper()
	eventually(t, func() error {
		s, err := l.js.Stream(t.Context(), stream.EventsStream)
		if err == nil && s.CachedInfo().State.Msgs > 0 {
			err = fmt.Errorf("%d messages are unread", s.CachedInfo().State.Msgs)
		}
		return err
	})
}

func eventually(t *testing.T, f func() error) {
	t.Helper()
	deadline := time.Now().Add(time.Minute)
	for {
		err := f()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

func list(t *testing.T, js jetstream.JetStream, part string) (all []Letter) {
	t.Helper()
	if err := List(t.Context(), js, part, func(l Letter) error { all = append(all, l); return nil }); err != nil {
		t.Fatal(err)
	}
	return all
}

// batch has a process, a question about a name, and a read of another process' memory, which
// is a finding.
func batch(first uint64, name string) *sallyportv1.EventBatch {
	now := uint64(time.Now().UnixNano())
	return &sallyportv1.EventBatch{
		AgentId: "a1", Epoch: 7, FirstSequence: first, Hostname: "runner",
		Attributions: []*sallyportv1.Attribution{{Repository: "acme/shop", Workflow: "CI", RunId: "1", Job: "build", ExecutionId: "00000000000000aa", Step: "s"}},
		Processes:    []*sallyportv1.Process{{Id: 1, Executable: "/usr/bin/python3"}, {Id: 2, Executable: "/opt/Runner.Worker"}},
		Events: []*sallyportv1.Event{
			{TimeUnixNano: now, Process: 1, Attribution: 1, Body: &sallyportv1.Event_ProcessExecuted{ProcessExecuted: &sallyportv1.ProcessExecuted{}}},
			{TimeUnixNano: now + 1, Process: 1, Attribution: 1, Body: &sallyportv1.Event_DnsExchange{DnsExchange: &sallyportv1.DnsExchange{Name: name, Type: "A"}}},
			{TimeUnixNano: now + 2, Process: 1, Attribution: 1, Body: &sallyportv1.Event_ProcessAccess{ProcessAccess: &sallyportv1.ProcessAccess{
				Kind: sallyportv1.AccessKind_ACCESS_KIND_PROC_MEM, Target: 2, TargetIsWorker: true,
			}}},
		},
	}
}

func publish(t *testing.T, js jetstream.JetStream, b *sallyportv1.EventBatch) {
	t.Helper()
	e, err := stream.NewEncoder()
	if err != nil {
		t.Fatal(err)
	}
	data, err := e.Encode(nil, b)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := js.Publish(t.Context(), stream.EventSubject(b.AgentId), data, jetstream.WithMsgID(stream.BatchID(b))); err != nil {
		t.Fatal(err)
	}
}

// TestRefusedBatchComesBackOnce: a batch that one table refuses becomes a dead letter;
// replayed when the table takes it each event is there once, and nothing is judged again,
// also if replay was killed after the stream had it, and if it is refused a second time.
func TestRefusedBatchComesBackOnce(t *testing.T) {
	l := newLine(t)
	l.exec(t, "ALTER TABLE dns ADD CONSTRAINT no_poison CHECK name != 'poison.example.test'")
	publish(t, l.js, batch(1, "good.example.test"))
	publish(t, l.js, batch(4, "poison.example.test"))
	l.read(t)
	letters := list(t, l.js, "")
	if len(letters) != 1 || letters[0].Part != "ingest" || letters[0].Stream != stream.EventsStream || letters[0].MessageID != "a1.7.4" || letters[0].Size == 0 || letters[0].Reason == "" {
		t.Fatalf("dead letters: %+v", letters)
	}
	expect := func(when string, dns uint64) {
		t.Helper()
		for table, want := range map[string]uint64{"process_events": 2, "process_accesses": 2, "dns": dns} {
			if n := l.number(t, "SELECT count() FROM "+table); n != want {
				t.Errorf("%s: %d rows in %s, want %d", when, n, table, want)
			}
		}
	}
	expect("refused", 1)
	eventually(t, func() error {
		if n := l.number(t, "SELECT count() FROM findings"); n != 1 {
			return fmt.Errorf("%d findings, want 1", n)
		}
		return nil
	})

	// Without the tables it stays; with them it goes back, is refused again and comes again.
	if err := Replay(t.Context(), l.js, nil, letters[0].ID); !errors.Is(err, ErrStays) {
		t.Fatalf("without the tables: %v", err)
	}
	if err := Replay(t.Context(), l.js, l.store.StoredSequences, letters[0].ID); err != nil {
		t.Fatal(err)
	}
	l.read(t)
	letters = list(t, l.js, "ingest")
	if len(letters) != 1 || letters[0].MessageID != "a1.7.04" {
		t.Fatalf("refused again: %+v", letters)
	}
	expect("refused again", 1)

	l.exec(t, "ALTER TABLE dns DROP CONSTRAINT no_poison")
	// As a replay that is killed when the stream has it.
	killed, err := Get(t.Context(), l.js, letters[0].ID)
	if err != nil {
		t.Fatal(err)
	}
	id, err := killed.replayID()
	if err != nil || id != "a1.7.004" {
		t.Fatal(id, err)
	}
	if err := killed.leaveOut(t.Context(), l.store.StoredSequences); err != nil {
		t.Fatal(err)
	}
	m := &nats.Msg{Subject: killed.Subject, Data: killed.Body, Header: nats.Header{}}
	m.Header.Set(stream.OnlyHeader, "ingest")
	if _, err := l.js.PublishMsg(t.Context(), m, jetstream.WithMsgID(id)); err != nil {
		t.Fatal(err)
	}
	l.read(t)
	expect("replayed", 2)
	if err := Replay(t.Context(), l.js, l.store.StoredSequences, killed.ID); err != nil {
		t.Fatal(err)
	}
	l.read(t)
	expect("replayed twice", 2)
	if left := list(t, l.js, ""); len(left) != 0 {
		t.Errorf("left: %+v", left)
	}
	if err := Replay(t.Context(), l.js, l.store.StoredSequences, killed.ID); !errors.Is(err, ErrNone) {
		t.Errorf("a letter that is gone: %v", err)
	}
	// The agent's own copy comes days later.
	publish(t, l.js, batch(4, "poison.example.test"))
	l.read(t)
	expect("the agent's copy came too", 2)
	if n := l.number(t, "SELECT count() FROM findings"); n != 1 {
		t.Errorf("%d findings, want 1", n)
	}
}

// TestMalformed: what nobody can decode is a letter of each part; replayed it comes back as
// a letter of the same part alone, and stays whole.
func TestMalformed(t *testing.T) {
	l := newLine(t)
	if _, err := l.js.Publish(t.Context(), stream.EventSubject("a1"), []byte("no batch"), jetstream.WithMsgID("a1.7.1")); err != nil {
		t.Fatal(err)
	}
	l.read(t)
	if all := list(t, l.js, ""); len(all) != 2 {
		t.Fatalf("letters: %+v", all)
	}
	d := list(t, l.js, "detector")[0]
	if err := Replay(t.Context(), l.js, l.store.StoredSequences, d.ID); err != nil {
		t.Fatal(err)
	}
	l.read(t)
	all := list(t, l.js, "detector")
	if len(all) != 1 || all[0].ID == d.ID || all[0].MessageID != "a1.07.1" {
		t.Fatalf("the detector's letters: %+v", all)
	}
	got, err := Get(t.Context(), l.js, all[0].ID)
	if err != nil || string(got.Body) != "no batch" {
		t.Errorf("%+v, %v", got, err)
	}
	i := list(t, l.js, "ingest")[0]
	if err := Replay(t.Context(), l.js, l.store.StoredSequences, i.ID); err != nil {
		t.Fatal(err)
	}
	l.read(t)
	if n := len(list(t, l.js, "detector")); n != 1 {
		t.Errorf("ingest's letter came to the detector, too: it has %d", n)
	}
}

// TestLetters: list, count and drop; what cannot go back stays.
func TestLetters(t *testing.T) {
	js := newStreams(t)
	if all := list(t, js, ""); len(all) != 0 {
		t.Fatal(all)
	}
	add := func(part, origin, subject string) uint64 {
		t.Helper()
		m := &nats.Msg{Subject: stream.DeadLetterSubject(part), Data: []byte("x"), Header: nats.Header{}}
		m.Header.Set(stream.OriginStreamHeader, origin)
		m.Header.Set(stream.OriginSubjectHeader, subject)
		m.Header.Set(stream.OriginSequenceHeader, "5")
		ack, err := js.PublishMsg(t.Context(), m)
		if err != nil {
			t.Fatal(err)
		}
		return ack.Sequence
	}
	for _, l := range []struct{ part, stream, subject string }{
		{"ingest", "", ""}, {"ingest", stream.EventsStream, "sallyport.events.*"}, {"ingest", stream.EventsStream, "elsewhere"},
		{"ingest", stream.FindingsStream, "sallyport.events.a"},
	} {
		id := add(l.part, l.stream, l.subject)
		if err := Replay(t.Context(), js, nil, id); !errors.Is(err, ErrStays) {
			t.Errorf("%+v: %v", l, err)
		}
	}
	last := add("notify", stream.FindingsStream, stream.FindingSubject)
	registry := prometheus.NewPedanticRegistry()
	registry.MustRegister(NewCollector(js))
	metrics, err := registry.Gather()
	if err != nil || len(metrics) != 2 || metrics[0].GetMetric()[0].GetGauge().GetValue() != 5 {
		t.Errorf("metrics %v, %v, want 5 letters", metrics, err)
	}
	if err := Drop(t.Context(), js, last); err != nil {
		t.Fatal(err)
	}
	if err := Drop(t.Context(), js, last); !errors.Is(err, ErrNone) {
		t.Errorf("dropped twice: %v", err)
	}
	if _, err := Get(t.Context(), js, 4711); !errors.Is(err, ErrNone) {
		t.Errorf("never was: %v", err)
	}
	if err := Drop(t.Context(), js, 2); err != nil { // a gap
		t.Fatal(err)
	}
	if all := list(t, js, ""); len(all) != 3 || all[0].Size != 1 || all[1].ID != 3 {
		t.Errorf("left: %+v", all)
	}
	if all := list(t, js, "detector"); len(all) != 0 {
		t.Errorf("the detector has none: %+v", all)
	}
}
