package ingest

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	sallyportv1 "github.com/sallyport-ci/sallyport/proto/sallyport/v1"
	"github.com/sallyport-ci/sallyport/store"
	"github.com/sallyport-ci/sallyport/store/engine/enginetest"
	"github.com/sallyport-ci/sallyport/stream"
	"github.com/sallyport-ci/sallyport/stream/natsserver"
)

func TestMain(m *testing.M) {
	for variable, run := range map[string]func() error{childVariable: runChild, natsPortVariable: runNATS, agentNATSVariable: runAgent} {
		if os.Getenv(variable) == "" {
			continue
		}
		if err := run(); err != nil {
			fmt.Fprintln(os.Stderr, "child:", err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	enginetest.Main(m)
}

// lab is a stream and a database of one test.
type lab struct {
	server *natsserver.Server
	js     jetstream.JetStream
	nc     *nats.Conn
	engine *enginetest.Engine
	dsn    string
	store  *store.Store
}

func newLab(tb testing.TB) *lab {
	tb.Helper()
	e := enginetest.Start(tb)
	name, _ := e.Database(tb)
	l := newStreamLab(tb)
	l.engine, l.dsn = e, e.DatabaseDSN(name)
	l.store = openStore(tb, l.dsn)
	if err := l.store.Migrate(tb.Context()); err != nil {
		tb.Fatal(err)
	}
	return l
}

const operatorPassword = "operator"

func newStreamLab(tb testing.TB) *lab {
	tb.Helper()
	s, err := natsserver.Start(natsserver.Config{Dir: tb.TempDir(), OperatorPassword: operatorPassword})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(s.Shutdown)
	l := &lab{server: s}
	if l.nc, err = s.Connect(); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(l.nc.Close)
	if l.js, err = jetstream.New(l.nc); err != nil {
		tb.Fatal(err)
	}
	if err := stream.Declare(tb.Context(), l.js, stream.Limits{}); err != nil {
		tb.Fatal(err)
	}
	return l
}

func openStore(tb testing.TB, dsn string) *store.Store {
	tb.Helper()
	s, err := store.Open(tb.Context(), dsn)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := s.Close(); err != nil {
			tb.Error(err)
		}
	})
	return s
}

// start runs ingest until the test ends or the returned function is called.
func (l *lab) start(tb testing.TB, change func(*Config)) (*Ingest, func()) {
	tb.Helper()
	cfg := Config{JS: l.js, Store: l.store, MaxAge: 20 * time.Millisecond}
	if testing.Verbose() {
		cfg.Logger = slog.New(slog.NewTextHandler(os.Stderr, nil))
	}
	if change != nil {
		change(&cfg)
	}
	in, err := New(cfg)
	if err != nil {
		tb.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- in.Run(ctx) }()
	stopped := false
	stop := func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		if err := <-done; err != nil {
			tb.Errorf("ingest: %v", err)
		}
	}
	tb.Cleanup(stop)
	return in, stop
}

func (l *lab) publish(tb testing.TB, b *sallyportv1.EventBatch) {
	tb.Helper()
	e, err := stream.NewEncoder()
	if err != nil {
		tb.Fatal(err)
	}
	data, err := e.Encode(nil, b)
	if err != nil {
		tb.Fatal(err)
	}
	l.publishRaw(tb, stream.EventSubject(b.GetAgentId()), data)
}

func (l *lab) publishRaw(tb testing.TB, subject string, data []byte) {
	tb.Helper()
	if _, err := l.js.Publish(context.Background(), subject, data); err != nil {
		tb.Fatal(err)
	}
}

// waitDone waits until ingest has acknowledged all of a stream.
func (l *lab) waitDone(tb testing.TB, streamName string) {
	tb.Helper()
	eventually(tb, 90*time.Second, func() error {
		s, err := l.js.Stream(context.Background(), streamName)
		if err != nil {
			return err
		}
		c, err := s.Consumer(context.Background(), stream.IngestConsumer)
		if err != nil {
			return err
		}
		info, err := c.Info(context.Background())
		if err != nil {
			return err
		}
		// A consumer's count of what waits lags behind the stream.
		if last := s.CachedInfo().State.LastSeq; info.Delivered.Stream < last || info.NumAckPending > 0 {
			return fmt.Errorf("delivered to %d of %d, %d in hand", info.Delivered.Stream, last, info.NumAckPending)
		}
		return nil
	})
}

func eventually(tb testing.TB, limit time.Duration, f func() error) {
	tb.Helper()
	deadline := time.Now().Add(limit)
	for {
		err := f()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			tb.Fatalf("after %s: %v", limit, err)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// count asks for one number.
func (l *lab) count(tb testing.TB, query string) uint64 {
	tb.Helper()
	n, err := queryNumber(l.dsn, query)
	if err != nil {
		tb.Fatal(err)
	}
	return n
}

func (l *lab) deadLetters(tb testing.TB) []*jetstream.RawStreamMsg {
	tb.Helper()
	s, err := l.js.Stream(context.Background(), stream.DeadLettersStream)
	if err != nil {
		tb.Fatal(err)
	}
	info, err := s.Info(context.Background())
	if err != nil {
		tb.Fatal(err)
	}
	var all []*jetstream.RawStreamMsg
	for n := info.State.FirstSeq; n <= info.State.LastSeq && info.State.Msgs > 0; n++ {
		m, err := s.GetMsg(context.Background(), n)
		if errors.Is(err, jetstream.ErrMsgNotFound) {
			continue
		}
		if err != nil {
			tb.Fatal(err)
		}
		all = append(all, m)
	}
	return all
}

func addr(s string) []byte { return netip.MustParseAddr(s).AsSlice() }
