package agent

import (
	"context"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sys/unix"

	"github.com/sallyport-ci/sallyport/bpf"
	sallyportv1 "github.com/sallyport-ci/sallyport/proto/sallyport/v1"
)

// script is a source whose records and clock the test sets.
type script struct {
	records chan bpf.Record
	closing sync.Once
	metrics *prometheus.Registry

	mu     sync.Mutex
	boot   uint64
	offset int64
	damage []string
}

func newScript() *script {
	return &script{metrics: prometheus.NewRegistry(), records: make(chan bpf.Record), boot: uint64(time.Hour), offset: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC).UnixNano()}
}

func (s *script) Read() (bpf.Record, error) {
	if r, ok := <-s.records; ok {
		return r, nil
	}
	return nil, os.ErrClosed
}

func (s *script) Lost() (map[string]uint64, error) { return map[string]uint64{}, nil }

func (s *script) CatchUp(context.Context) error { return nil }

func (s *script) Damage() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.damage
}

func (s *script) Close() error {
	s.closing.Do(func() { close(s.records) })
	return nil
}

func (s *script) Clock() (uint64, int64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.boot, s.offset, nil
}

func (s *script) pass(d time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.boot += uint64(d)
}

func (s *script) setWallClock(by time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.offset += int64(by)
}

// tell gives the agent a record that happens now.
func (s *script) tell(r bpf.Record) {
	r.Head().Time, _, _ = s.Clock()
	s.records <- r
}

// act runs an agent on a script until the test has told all.
func act(t *testing.T, s *script) *kept {
	t.Helper()
	k := &kept{}
	a, err := New(Config{AgentID: "test", Source: s, Sink: k, Registerer: s.metrics})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	done := make(chan error, 1)
	go func() { done <- a.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return k
}

// await lets time pass until there is an event.
func (k *kept) await(t *testing.T, s *script, what string, is func(seen) bool) seen {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		s.pass(20 * time.Millisecond)
		all := k.events(t)
		if i := slices.IndexFunc(all, is); i >= 0 {
			return all[i]
		}
		if time.Now().After(deadline) {
			t.Fatalf("no %s among %d events", what, len(all))
		}
	}
}

// TestWallClockIsSet: whatever the wall clock is set to, what waits for time to pass
// is told in time, processes are remembered, and events go by the new clock.
func TestWallClockIsSet(t *testing.T) {
	for _, by := range []time.Duration{-24 * time.Hour, 24 * time.Hour, 30 * 365 * 24 * time.Hour} {
		t.Run(by.String(), func(t *testing.T) {
			s := newScript()
			began := s.offset + int64(s.boot)
			k := act(t, s)
			s.tell(&bpf.Exec{Header: bpf.Header{Process: 1 << 10, PID: 1}, Executable: "/bin/before", Arguments: []byte("before\x00")})
			s.setWallClock(by)
			s.pass(time.Second)
			k.await(t, s, "event of before", func(e seen) bool { return e.process.GetExecutable() == "/bin/before" })
			s.tell(&bpf.Fork{Header: bpf.Header{Process: 2 << 10, PID: 2}, Parent: 1 << 10, ParentPID: 1})
			s.pass(time.Second) // longer than a fork is held back
			fork := k.await(t, s, "fork", func(e seen) bool { return e.GetProcessForked() != nil })
			if got := time.Duration(int64(fork.TimeUnixNano) - began - int64(by)); got < time.Second || got > time.Minute {
				t.Errorf("the fork is %v after the start by the new clock, want a few seconds", got)
			}
			s.tell(&bpf.Flow{
				Header: bpf.Header{Process: 1 << 10, PID: 1}, ID: 1, State: bpf.FlowStarted, Protocol: 6,
				Source: netip.MustParseAddrPort("192.0.2.1:1"), Destination: netip.MustParseAddrPort("192.0.2.2:2"),
			})
			s.pass(time.Second)
			flow := k.await(t, s, "flow", func(e seen) bool { return e.GetFlow() != nil })
			if got := flow.process.GetExecutable(); got != "/bin/before" {
				t.Errorf("the flow is of %q", got)
			}
		})
	}
}

// discard is a sink that counts.
type discard struct{ events int }

func (d *discard) Publish(_ context.Context, b *sallyportv1.EventBatch) error {
	d.events += len(b.GetEvents())
	return nil
}

// BenchmarkRecords makes batches of what a build mostly does: fork, exec, a
// connection, exit.
func BenchmarkRecords(b *testing.B) {
	s := newScript()
	sink := &discard{}
	a, err := New(Config{AgentID: "bench", Source: s, Sink: sink})
	if err != nil {
		b.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- a.Run(context.Background()) }()
	arguments := []byte("/usr/bin/cc\x00-O2\x00-Wall\x00-I/usr/include\x00-c\x00-o\x00main.o\x00main.c\x00")
	remote := netip.MustParseAddrPort("198.51.100.7:443")
	local := netip.MustParseAddrPort("192.0.2.1:40000")
	worker := bpf.Exec{Header: bpf.Header{Process: 1 << 10, PID: 1, Time: s.boot}, Worker: true, Executable: "/opt/runner/bin/Runner.Worker"}
	s.records <- &worker
	b.ReportAllocs()
	records, at, id := 0, s.boot, uint64(2<<10)
	for b.Loop() {
		at += uint64(time.Millisecond)
		head := bpf.Header{Time: at, Process: id, PID: uint32(records)}
		s.records <- &bpf.Fork{Header: head, Parent: 1 << 10, ParentPID: 1}
		child := head
		child.Process++
		s.records <- &bpf.Exec{Header: child, Previous: head.Process, Parent: 1 << 10, Executable: "/usr/bin/cc", Arguments: arguments, ArgumentsSize: uint32(len(arguments)), WorkingDirectory: "/work"}
		s.records <- &bpf.Flow{Header: child, ID: id, State: bpf.FlowStarted, Protocol: 6, Source: local, Destination: remote, Started: at}
		s.records <- &bpf.Flow{Header: child, ID: id, State: bpf.FlowEnded, Protocol: 6, Source: local, Destination: remote, Started: at, Established: true}
		s.records <- &bpf.Exit{Header: child}
		records += 5
		id += 2 << 10
	}
	b.ReportMetric(float64(records)/b.Elapsed().Seconds(), "records/s")
	if err := s.Close(); err != nil {
		b.Fatal(err)
	}
	if err := <-done; err != nil {
		b.Fatal(err)
	}
	if want := records / 5 * 4; sink.events < want { // forks that run a program are one with it
		b.Errorf("%d events, want at least %d", sink.events, want)
	}
}

// full is a kernel that has no room for one more name.
type full struct{ Watcher }

func (full) CanWatch() bool             { return true }
func (full) WatchFolder(string) error   { return bpf.ErrCannotWatch }
func (full) UnwatchFolder(string) error { return nil }
func (full) WatchName(name string, _ bpf.Watched) error {
	if name == "pre-commit" {
		return fmt.Errorf("watch files named %q: %w", name, unix.ENOMEM)
	}
	return nil
}

// TestNoRoomToWatch: what the kernel has no room to watch is a loss like any other.
func TestNoRoomToWatch(t *testing.T) {
	s, k := newScript(), &kept{}
	a, err := New(Config{AgentID: "test", Source: s, Watcher: full{}, Sink: k, Registerer: s.metrics})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	done := make(chan error, 1)
	go func() { done <- a.Run(ctx) }()
	status := k.await(t, s, "status", func(e seen) bool { return e.GetAgentStatus() != nil }).GetAgentStatus()
	if lost := status.GetEventsLost(); !maps.Equal(lost, map[string]uint64{"watch": 1}) {
		t.Errorf("lost: %v", lost)
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}
