package pipeline

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/sallyport-ci/sallyport/detector"
	"github.com/sallyport-ci/sallyport/ingest"
	sallyportv1 "github.com/sallyport-ci/sallyport/proto/sallyport/v1"
	"github.com/sallyport-ci/sallyport/recording"
	"github.com/sallyport-ci/sallyport/store"
	"github.com/sallyport-ci/sallyport/store/engine/enginetest"
	"github.com/sallyport-ci/sallyport/stream"
	"github.com/sallyport-ci/sallyport/stream/natsserver"
	"github.com/sallyport-ci/sallyport/stream/natsserver/natstest"
)

func TestMain(m *testing.M) { enginetest.Main(m) }

// tables have the identity of an event in each row.
var tables = []string{
	"process_events", "flow_events", "dns", "process_accesses", "file_accesses",
	"privileges", "executables", "http_requests", "job_events", "agent_status",
}

// line is the real thing from the stream to the tables.
type line struct {
	js    jetstream.JetStream
	store *store.Store
	conn  driver.Conn
}

func newLine(t *testing.T, limits stream.Limits) *line {
	t.Helper()
	e := enginetest.Start(t)
	name, conn := e.Database(t)
	l := &line{conn: conn}
	_, l.js = natstest.Start(t, natsserver.Config{})
	if err := stream.Declare(t.Context(), l.js, limits); err != nil {
		t.Fatal(err)
	}
	var err error
	if l.store, err = store.Open(t.Context(), e.DatabaseDSN(name)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.store.Close() })
	if err := l.store.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	return l
}

// start starts ingest and detector, which stop before what they need.
func (l *line) start(t *testing.T) {
	t.Helper()
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
}

// files are the recordings of testdata.
func files(t *testing.T, pattern string) []string {
	t.Helper()
	list, err := filepath.Glob(filepath.Join("../../testdata/recordings", pattern))
	if err != nil || len(list) == 0 {
		t.Fatal(pattern, list, err)
	}
	return list
}

func open(t *testing.T, path string) *recording.Reader {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	r, err := recording.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// summary also counts the events that become rows.
func summary(t *testing.T, path string) (s Summary, rows uint64) {
	t.Helper()
	s, err := Summarise(open(t, path), func(b *recording.Batch) {
		for _, e := range b.Events.GetEvents() {
			if e.GetBody() != nil {
				rows++
			}
		}
	})
	if !errors.Is(err, io.EOF) {
		t.Fatal(err)
	}
	return s, rows
}

func (l *line) play(t *testing.T, c PlayConfig, paths ...string) PlayCounts {
	t.Helper()
	c.JetStream = l.js
	if c.Speed == 0 {
		c.Speed = AsFast
	}
	p, err := NewPlayer(c)
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range paths {
		s, _ := summary(t, path)
		if err := p.Play(t.Context(), open(t, path), s); err != nil {
			t.Fatal(err)
		}
	}
	l.wait(t)
	return p.Counts()
}

func (l *line) wait(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	if err := WaitRead(ctx, l.js); err != nil {
		t.Fatal(err)
	}
}

func (l *line) number(t *testing.T, sql string) (n uint64) {
	t.Helper()
	if err := l.conn.QueryRow(t.Context(), sql).Scan(&n); err != nil {
		t.Fatal(sql, err)
	}
	return n
}

// rows counts the rows of all events, and complains of any that are there twice.
func (l *line) rows(t *testing.T) (n uint64) {
	t.Helper()
	for _, table := range tables {
		all := l.number(t, "SELECT count() FROM "+table)
		if once := l.number(t, "SELECT uniqExact(agent_id, epoch, sequence) FROM "+table); once != all {
			t.Errorf("%s has %d rows of %d events", table, all, once)
		}
		n += all
	}
	return n
}

// findings waits until there are so many in the table.
func (l *line) findings(t *testing.T, want uint64) {
	t.Helper()
	var got uint64
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		if got = l.number(t, "SELECT count() FROM findings"); got >= want {
			break
		}
	}
	if got != want {
		t.Errorf("%d findings, want %d", got, want)
	}
}

// TestPlayedOnceHoweverOften plays the runs of testdata through the real pipeline: each
// event is one row, also when they are played again and when a replay was cut off; new
// identities are new events.
func TestPlayedOnceHoweverOften(t *testing.T) {
	l := newLine(t, stream.Limits{Partitions: 3})
	l.start(t)
	paths := append(files(t, "ci-clean-*.rec"), files(t, "ci-compromised.rec")...)
	var want, batches uint64
	for _, path := range paths {
		s, rows := summary(t, path)
		want, batches = want+rows, batches+s.Batches
	}
	if c := l.play(t, PlayConfig{}, paths...); c.Batches != batches || c.Known != 0 {
		t.Errorf("played %+v, want %d batches", c, batches)
	}
	if got := l.rows(t); got != want {
		t.Fatalf("%d rows, want %d", got, want)
	}
	l.findings(t, 6) // process_memory_read is of two ways
	if runs := l.number(t, "SELECT uniqExact(run_id) FROM process_events WHERE repository = 'acme/shop'"); int(runs) != len(paths) {
		t.Errorf("%d runs, want %d", runs, len(paths))
	}
	if c := l.play(t, PlayConfig{}, paths...); c.Known != batches {
		t.Errorf("again at once: the stream knew %d of %d batches", c.Known, batches)
	}
	// Cut off in the middle, then whole, under the same name.
	path := files(t, "ci-compromised.rec")[0]
	s, more := summary(t, path)
	broken, cancel := context.WithCancel(t.Context())
	p, err := NewPlayer(PlayConfig{JetStream: l.js, Speed: 1, Identity: "x", Progress: func(c PlayCounts) {
		if c.Batches > 2 {
			cancel()
		}
	}})
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Play(broken, open(t, path), s); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	l.play(t, PlayConfig{Identity: "x", Now: true}, path)
	if got := l.rows(t); got != want+more {
		t.Errorf("%d rows after a new run, want %d", got, want+more)
	}
	l.findings(t, 12)
	run := recording.Identity("x").Run("acme/shop", "7")
	if n := l.number(t, "SELECT count() FROM job_events WHERE run_id = '"+run+"'"); n != 4 {
		t.Errorf("the new run %s has %d job events, want 4", run, n)
	}
	l.play(t, PlayConfig{Identity: "y", Now: true}, path)
	if got := l.rows(t); got != want+2*more {
		t.Errorf("%d rows after another new run, want %d", got, want+2*more)
	}
	if n := l.number(t, "SELECT count() FROM process_events WHERE agent_id = '"+recording.Identity("y").Agent(agentOf(s))+"' AND abs(dateDiff('second', time, now())) > 600"); n != 0 {
		t.Errorf("%d events that should be of now are not", n)
	}
}

func agentOf(s Summary) string {
	for start := range s.Starts {
		return start.Agent
	}
	return ""
}

func mustSummary(t *testing.T, path string) Summary {
	s, _ := summary(t, path)
	return s
}

// TestPlayedAgainLater plays runs again when the stream has forgotten them: ingest has not.
func TestPlayedAgainLater(t *testing.T) {
	l := newLine(t, stream.Limits{})
	s, err := l.js.Stream(t.Context(), stream.EventsStream)
	if err != nil {
		t.Fatal(err)
	}
	config := s.CachedInfo().Config
	config.Duplicates = 100 * time.Millisecond // instead of half an hour
	if _, err := l.js.UpdateStream(t.Context(), config); err != nil {
		t.Fatal(err)
	}
	l.start(t)
	paths := files(t, "ci-c*.rec")
	l.play(t, PlayConfig{}, paths...)
	want := l.rows(t)
	for deadline := time.Now().Add(time.Minute); ; {
		time.Sleep(300 * time.Millisecond)
		if l.play(t, PlayConfig{}, paths...).Known == 0 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("the stream does not forget")
		}
	}
	if got := l.rows(t); got != want {
		t.Errorf("%d rows after playing again, want %d", got, want)
	}
	for s := range mustSummary(t, paths[0]).Starts {
		known, err := Ingested(t.Context(), l.js, s)
		there, err2 := l.store.HasStart(t.Context(), s.Agent, s.Epoch)
		other, err3 := l.store.HasStart(t.Context(), s.Agent, s.Epoch+1)
		if err := errors.Join(err, err2, err3); err != nil || !known || !there || other {
			t.Errorf("agent %s: known %t, in tables %t, another epoch %t, %v", s.Agent, known, there, other, err)
		}
	}
}

// TestRecordOneRun records one run out of what goes through the stream, and what was
// recorded can be judged and played as the original.
func TestRecordOneRun(t *testing.T) {
	l := newLine(t, stream.Limits{})
	l.start(t)
	path := filepath.Join(t.TempDir(), "one.rec")
	file, err := recording.Create(path, recording.About{Run: "7"})
	if err != nil {
		t.Fatal(err)
	}
	ready, ended := make(chan struct{}), make(chan error, 1)
	go func() {
		ended <- Record(t.Context(), RecordConfig{
			JetStream: l.js, To: file.Writer, Settle: 2 * time.Second, Ready: func() { close(ready) },
			Keep: func(a *sallyportv1.Attribution) bool { return a.GetRunId() == "7" },
		})
	}()
	<-ready
	if _, err := l.js.Publish(t.Context(), stream.EventSubject("foreign"), []byte("no batch")); err != nil {
		t.Fatal(err)
	}
	l.play(t, PlayConfig{}, append(files(t, "ci-clean-[12].rec"), files(t, "ci-compromised.rec")...)...)
	if err := errors.Join(<-ended, file.Close()); err != nil {
		t.Fatal(err)
	}
	var text strings.Builder
	got, err := Summarise(open(t, path), func(b *recording.Batch) { text.WriteString(b.Events.String()) })
	if !errors.Is(err, io.EOF) {
		t.Fatal(err)
	}
	want, _ := summary(t, files(t, "ci-compromised.rec")[0])
	if got.Events != want.Events || !got.First.Equal(want.First) || !got.Last.Equal(want.Last) {
		t.Errorf("recorded %d events from %s to %s, want %d from %s to %s", got.Events, got.First, got.Last, want.Events, want.First, want.Last)
	}
	if strings.Contains(text.String(), `run_id:"1"`) {
		t.Error("another run is in it")
	}
	s, err := l.js.Stream(t.Context(), stream.EventsStream)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for name := range s.ConsumerNames(t.Context()).Name() {
		names = append(names, name)
	}
	if slices.Sort(names); !slices.Equal(names, []string{"detector", "ingest"}) {
		t.Errorf("consumers after the recording: %q", names)
	}
}

// TestFullStream: a replay waits while the stream is full, and loses nothing.
func TestFullStream(t *testing.T) {
	l := newLine(t, stream.Limits{EventsBytes: 64 << 10})
	paths := files(t, "ci-clean-*.rec")
	var want uint64
	for _, path := range paths {
		_, rows := summary(t, path)
		want += rows
	}
	waited, again := 0, 0
	c := l.play(t, PlayConfig{Waiting: func(err error) {
		if err == nil {
			again++
			return
		}
		if waited++; waited == 1 {
			l.start(t) // nobody has read until now
		}
	}}, paths...)
	if waited == 0 || again == 0 {
		t.Fatalf("64 KiB took %d bytes; waited %d times, went on %d times", c.Bytes, waited, again)
	}
	if got := l.rows(t); got != want {
		t.Errorf("%d rows, want %d", got, want)
	}
}

func TestTestdataIsSmallAndWhole(t *testing.T) {
	var total int64
	for _, path := range files(t, "*") {
		s, _ := summary(t, path)
		if total += s.Bytes; s.Events == 0 {
			t.Errorf("%s has no events", path)
		}
	}
	if total > 300_000 {
		t.Errorf("testdata/recordings has %d bytes, at most 300,000 are agreed", total)
	}
}
