package ingest

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os/exec"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/sallyport-ci/sallyport/stream"
)

// divide divides EVENTS and lets ingest alone read it: a message is gone when it was
// acknowledged.
func (l *lab) divide(t *testing.T, partitions int) {
	t.Helper()
	if err := stream.Declare(t.Context(), l.js, stream.Limits{Partitions: partitions}); err != nil {
		t.Fatal(err)
	}
	if err := l.js.DeleteConsumer(t.Context(), stream.EventsStream, stream.DetectorConsumer); err != nil {
		t.Fatal(err)
	}
	// What a process had that died comes again soon.
	s, err := l.js.Stream(t.Context(), stream.EventsStream)
	if err != nil {
		t.Fatal(err)
	}
	for c := range s.ListConsumers(t.Context()).Info() {
		c.Config.AckWait = 5 * time.Second
		if _, err := s.UpdateConsumer(t.Context(), c.Config); err != nil {
			t.Fatal(err)
		}
	}
}

// waitEmpty waits until nothing is in EVENTS.
func (l *lab) waitEmpty(t *testing.T, limit time.Duration) {
	t.Helper()
	eventually(t, limit, func() error {
		s, err := l.js.Stream(context.Background(), stream.EventsStream)
		if err != nil {
			return err
		}
		n := s.CachedInfo().State.Msgs
		if n == 0 {
			return nil
		}
		consumers := ""
		for c := range s.ListConsumers(context.Background()).Info() {
			consumers += fmt.Sprintf("; %s: %d are to be delivered, %d to be acknowledged", c.Name, c.NumPending, c.NumAckPending)
		}
		return fmt.Errorf("%d messages are in %s%s", n, stream.EventsStream, consumers)
	})
}

// shared returns how many partitions each process has.
func (l *lab) shared(t *testing.T) map[string]int {
	t.Helper()
	kv, err := l.js.KeyValue(context.Background(), stream.IngestBucket)
	if err != nil {
		t.Fatal(err)
	}
	shares := newShares(&Ingest{}, kv)
	lister, err := kv.ListKeysFiltered(context.Background(), leasePrefix+">")
	if err != nil {
		t.Fatal(err)
	}
	for key := range lister.Keys() {
		entry, err := kv.Get(context.Background(), key)
		if err != nil {
			t.Fatal(err)
		}
		if err := shares.heard(entry); err != nil {
			t.Fatal(err)
		}
	}
	n := make(map[string]int)
	for _, lease := range shares.leases {
		n[lease.holder.Name]++
	}
	return n
}

func (l *lab) waitShared(t *testing.T, want map[string]int) {
	t.Helper()
	eventually(t, 60*time.Second, func() error {
		if have := l.shared(t); fmt.Sprint(have) != fmt.Sprint(want) {
			return fmt.Errorf("partitions are shared %v, want %v", have, want)
		}
		return nil
	})
}

// TestProcessesShareTheWork lets three processes share five partitions (four of EVENTS,
// and FINDINGS). One is killed for good, one sleeps until the others take it for dead and
// then wakes with what it had in hand, one is told to stop.
func TestProcessesShareTheWork(t *testing.T) {
	l := newLab(t)
	l.divide(t, 4)
	children := make(map[string]*exec.Cmd)
	for _, name := range []string{"a", "b", "c"} {
		children[name] = l.startChild(t, name)
	}
	t.Cleanup(func() {
		for _, c := range children {
			_ = c.Process.Kill() // most have ended
			_ = c.Wait()
		}
	})
	l.waitShared(t, map[string]int{"a": 2, "b": 2, "c": 1})

	// Eight agents, so that all partitions have some.
	stop := make(chan struct{})
	wants := make([]uint64, 8)
	var loading sync.WaitGroup
	for n := range wants {
		loading.Go(func() {
			r := rand.New(rand.NewPCG(9, uint64(n)))
			for next := uint64(1); ; {
				select {
				case <-stop:
					return
				default:
				}
				events := 1 + r.IntN(100)
				l.publish(t, realisticBatch(r, fmt.Sprintf("agent-%d", n), next, events, time.Now()))
				next += uint64(events)
				wants[n] = next - 1
				time.Sleep(50 * time.Millisecond)
			}
		})
	}
	signal := func(name string, s syscall.Signal) {
		t.Helper()
		if err := children[name].Process.Signal(s); err != nil {
			t.Fatal(err)
		}
	}
	time.Sleep(time.Second)
	signal("b", syscall.SIGSTOP)
	signal("c", syscall.SIGKILL)
	l.waitShared(t, map[string]int{"a": 5})
	signal("b", syscall.SIGCONT)
	l.waitShared(t, map[string]int{"a": 3, "b": 2})
	time.Sleep(time.Second)
	signal("a", syscall.SIGTERM)
	if err := children["a"].Wait(); err != nil {
		t.Errorf("a process that was told to stop: %v", err)
	}
	l.waitShared(t, map[string]int{"b": 5})
	close(stop)
	loading.Wait()
	l.waitEmpty(t, 45*time.Second)
	for n, want := range wants {
		where := fmt.Sprintf(" WHERE agent_id = 'agent-%d'", n)
		rows := l.count(t, "SELECT count() FROM ("+allEvents+")"+where)
		distinct := l.count(t, "SELECT uniqExact(sequence) FROM ("+allEvents+")"+where)
		if rows != want || distinct != want {
			t.Errorf("agent %d: %d rows of %d events, want %d of each", n, rows, distinct, want)
		}
	}
}

// TestDivisionChangesUnderLoad divides the stream anew while events come.
func TestDivisionChangesUnderLoad(t *testing.T) {
	l := newLab(t)
	l.divide(t, 1)
	l.start(t, nil)
	total := make(chan uint64, 1)
	go func() { total <- l.load(t, rand.New(rand.NewPCG(3, 4)), 200, 50, 20*time.Millisecond) }()
	for _, partitions := range []int{3, 2, 1} {
		time.Sleep(time.Second)
		l.divide(t, partitions)
	}
	want := <-total
	l.waitEmpty(t, 30*time.Second) // the new partitions are looked for every ten seconds
	l.checkOnce(t, want)
}

func TestTwoOfOneName(t *testing.T) {
	l := newLab(t)
	first, err := New(Config{JS: l.js, Store: l.store, Name: "same"})
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- first.Run(t.Context()) }()
	l.waitShared(t, map[string]int{"same": 2})
	l.start(t, func(c *Config) { c.Name = "same" })
	select {
	case err := <-ended:
		if !errors.Is(err, errNameTaken) {
			t.Errorf("the first ended with %v, want %v", err, errNameTaken)
		}
	case <-time.After(30 * time.Second):
		t.Error("both go on under one name")
	}
	l.publish(t, fullBatch(time.Now()))
	l.waitDone(t, stream.EventsStream)
}

func TestNameOfAProcess(t *testing.T) {
	l := newStreamLab(t)
	l.dsn = "http://default:none@127.0.0.1:9/none"
	l.store = openStore(t, l.dsn)
	for _, name := range []string{"a.b", "a b", "ä", string(make([]byte, 65))} {
		if _, err := New(Config{JS: l.js, Store: l.store, Name: name}); err == nil {
			t.Errorf("name %q was taken", name)
		}
	}
	if in, err := New(Config{JS: l.js, Store: l.store}); err != nil || in.self.Name == "" {
		t.Errorf("without a name: %v", err)
	}
}

func TestQuota(t *testing.T) {
	for partitions := range 20 {
		for processes := 1; processes < 8; processes++ {
			var names []string
			for n := range processes {
				names = append(names, fmt.Sprint(processes-n))
			}
			sum := 0
			for _, name := range names {
				q := quota(partitions, append([]string(nil), names...), name)
				if q < partitions/processes || q > (partitions+processes-1)/processes {
					t.Errorf("%d partitions, %d processes: %s has %d", partitions, processes, name, q)
				}
				sum += q
			}
			if sum != partitions {
				t.Errorf("%d partitions, %d processes: %d are taken", partitions, processes, sum)
			}
		}
	}
}
