package ingest

import (
	"bufio"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"os/signal"
	"reflect"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"github.com/sallyport-ci/sallyport/store"
	"github.com/sallyport-ci/sallyport/stream"
	"github.com/sallyport-ci/sallyport/stream/natsserver"
)

func lengthOf(values any) int { return reflect.ValueOf(values).Len() }

func metricValue(tb testing.TB, c prometheus.Metric) float64 {
	tb.Helper()
	var m dto.Metric
	if err := c.Write(&m); err != nil {
		tb.Fatal(err)
	}
	if m.Counter != nil {
		return m.Counter.GetValue()
	}
	return m.Gauge.GetValue()
}

// The test binary runs itself as a process with nothing but ingest, to be killed.
const (
	childVariable    = "SALLYPORT_INGESTTEST_NATS"
	childDSNVariable = "SALLYPORT_INGESTTEST_DSN"
	// Its name among ingest processes.
	childNameVariable = "SALLYPORT_INGESTTEST_NAME"
	// Set if it is to run as it does by default.
	childPlainVariable = "SALLYPORT_INGESTTEST_PLAIN"
)

func runChild() error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	nc, err := nats.Connect(os.Getenv(childVariable), nats.UserInfo(natsserver.OperatorUser, operatorPassword),
		nats.MaxReconnects(-1), nats.ReconnectWait(100*time.Millisecond), nats.RetryOnFailedConnect(true))
	if err != nil {
		return err
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		return err
	}
	s, err := store.Open(ctx, os.Getenv(childDSNVariable))
	if err != nil {
		return err
	}
	defer s.Close()
	cfg := Config{JS: js, Store: s, Name: os.Getenv(childNameVariable)}
	if os.Getenv(childPlainVariable) == "" { // many small ranges are more to kill
		cfg.MaxEvents, cfg.MaxAge = 4000, 30*time.Millisecond
	}
	in, err := New(cfg)
	if err != nil {
		return err
	}
	fmt.Println("running")
	return in.Run(ctx)
}

func (l *lab) startChild(tb testing.TB, name string) *exec.Cmd {
	tb.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childVariable+"="+l.server.URL(), childDSNVariable+"="+l.dsn, childNameVariable+"="+name)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		tb.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		tb.Fatal(err)
	}
	if !bufio.NewScanner(out).Scan() {
		tb.Fatal("the child did not start")
	}
	return cmd
}

// shortAckWait lets messages that a killed process had be delivered again soon.
func (l *lab) shortAckWait(tb testing.TB) {
	tb.Helper()
	ctx := context.Background()
	c, err := l.js.Consumer(ctx, stream.EventsStream, stream.IngestConsumer)
	if err != nil {
		tb.Fatal(err)
	}
	config := c.CachedInfo().Config
	config.AckWait = 2 * time.Second
	if _, err := l.js.UpdateConsumer(ctx, stream.EventsStream, config); err != nil {
		tb.Fatal(err)
	}
}

// load publishes batches until there are n events or stop is closed, and returns
// how many there are.
func (l *lab) load(tb testing.TB, r *rand.Rand, batches, events int, pause time.Duration) uint64 {
	tb.Helper()
	next := uint64(1)
	for range batches {
		n := 1 + r.IntN(2*events)
		l.publish(tb, realisticBatch(r, "agent-1", next, n, time.Now()))
		next += uint64(n)
		time.Sleep(pause)
	}
	return next - 1
}

const allEvents = `SELECT agent_id, epoch, sequence FROM process_events
	UNION ALL SELECT agent_id, epoch, sequence FROM flow_events
	UNION ALL SELECT agent_id, epoch, sequence FROM dns`

func (l *lab) checkOnce(tb testing.TB, want uint64) {
	tb.Helper()
	rows := l.count(tb, "SELECT count() FROM ("+allEvents+")")
	distinct := l.count(tb, "SELECT uniqExact(agent_id, epoch, sequence) FROM ("+allEvents+")")
	last := l.count(tb, "SELECT max(sequence) FROM ("+allEvents+")")
	if rows != want || distinct != want || last != want {
		tb.Errorf("%d rows of %d events up to %d, want %d of each", rows, distinct, last, want)
	}
}

func TestKilledIngestInsertsEveryEventOnce(t *testing.T) {
	l := newLab(t)
	l.shortAckWait(t)
	r := rand.New(rand.NewPCG(1, 2))
	total := make(chan uint64, 1)
	go func() { total <- l.load(t, rand.New(rand.NewPCG(3, 4)), 800, 150, 10*time.Millisecond) }()
	kills := 0
	var want uint64
	for want == 0 {
		child := l.startChild(t, "")
		time.Sleep(time.Duration(r.IntN(700)) * time.Millisecond)
		if err := child.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		_ = child.Wait()
		kills++
		select {
		case want = <-total:
		default:
		}
	}
	t.Logf("killed %d times under %d events", kills, want)
	last := l.startChild(t, "")
	l.waitDone(t, stream.EventsStream)
	if err := last.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := last.Wait(); err != nil {
		t.Errorf("the child stopped in order with %v", err)
	}
	l.checkOnce(t, want)
}
