package agent

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sallyport-ci/sallyport/bpf"
	sallyportv1 "github.com/sallyport-ci/sallyport/proto/sallyport/v1"
)

func TestLife(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state")
	open := func() *Life {
		t.Helper()
		l, err := OpenLife(dir)
		if err != nil {
			t.Fatal(err)
		}
		return l
	}
	if l := open(); l.PreviousEnd != sallyportv1.AgentEnd_AGENT_END_UNSPECIFIED {
		t.Errorf("the first one follows %v", l.PreviousEnd)
	}
	for _, c := range []struct {
		name string
		do   func(l *Life) error
		want sallyportv1.AgentEnd
	}{
		{"killed", func(l *Life) error { return l.seen(5) }, sallyportv1.AgentEnd_AGENT_END_KILLED},
		{"stopped", func(l *Life) error { return l.end(5, "stopped") }, sallyportv1.AgentEnd_AGENT_END_STOPPED},
		{"replaced", func(l *Life) error { return l.end(5, "replaced") }, sallyportv1.AgentEnd_AGENT_END_REPLACED},
		{"machine down", func(l *Life) error { l.boot = "another"; return l.seen(5) }, sallyportv1.AgentEnd_AGENT_END_MACHINE_DOWN},
		{"in order, then the machine", func(l *Life) error { l.boot = "another"; return l.end(5, "stopped") }, sallyportv1.AgentEnd_AGENT_END_STOPPED},
		{"half a file", func(l *Life) error { return os.WriteFile(l.path, []byte(`{"boot":"x","se`), 0o600) }, sallyportv1.AgentEnd_AGENT_END_UNSPECIFIED},
	} {
		if err := c.do(open()); err != nil {
			t.Fatal(err)
		}
		if l := open(); l.PreviousEnd != c.want || c.want != 0 && l.PreviousSeen != 5 {
			t.Errorf("%s: %v, seen %d", c.name, l.PreviousEnd, l.PreviousSeen)
		}
	}
}

// TestHeartbeat: every second, with the jobs that run, and at once when the hold on the
// kernel is damaged or the agent stops.
func TestHeartbeat(t *testing.T) {
	m := newMachine(t)
	beats := m.beats
	next := func(what string, is func(*sallyportv1.Heartbeat) bool) {
		t.Helper()
		for deadline := time.Now().Add(10 * time.Second); ; {
			m.pass(100 * time.Millisecond)
			select {
			case h := <-beats:
				if is(h) {
					return
				}
			case <-time.After(20 * time.Millisecond):
			}
			if time.Now().After(deadline) {
				t.Fatalf("no heartbeat %s", what)
			}
		}
	}
	next("", func(h *sallyportv1.Heartbeat) bool { return h.GetAgentId() == "test" && len(h.GetJobs()) == 0 })
	worker, _ := m.job("build", "compile", 0)
	next("with a job", func(h *sallyportv1.Heartbeat) bool {
		return len(h.GetJobs()) == 1 && h.GetJobs()[0].GetJob() == "build"
	})
	m.tell(&bpf.Exit{Header: bpf.Header{Process: worker}, Worker: true})
	next("without the job", func(h *sallyportv1.Heartbeat) bool { return len(h.GetJobs()) == 0 })
	m.script.mu.Lock()
	m.damage = []string{"link of x is detached"}
	m.script.mu.Unlock()
	next("with damage", func(h *sallyportv1.Heartbeat) bool { return slices.Equal(h.GetDamage(), m.damage) })
	m.await(t, m.script, "status with damage", func(e seen) bool { return strings.Join(e.GetAgentStatus().GetDamage(), "") == "link of x is detached" })

	m.pass(30 * time.Second) // as if the agent had not run
	m.await(t, m.script, "status with a pause", func(e seen) bool { return e.GetAgentStatus().GetLongestPauseNano() >= uint64(30*time.Second) })
	if err := m.Close(); err != nil {
		t.Fatal(err)
	}
	next("at the end", (*sallyportv1.Heartbeat).GetStopping)
}

// TestFirstStatus says what was there, and how the agent before ended.
func TestFirstStatus(t *testing.T) {
	s, k := newScript(), &kept{}
	life, err := OpenLife(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	life.PreviousEnd, life.PreviousSeen = sallyportv1.AgentEnd_AGENT_END_KILLED, 99
	a, err := New(Config{AgentID: "test", Source: s, Sink: k, Life: life})
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- a.Run(t.Context()) }()
	for n := range 3 {
		s.tell(&bpf.Exec{Header: bpf.Header{Process: uint64(n+1) << 10, PID: uint32(n + 1)}, Found: true})
	}
	s.tell(&bpf.Flow{Header: bpf.Header{Process: 1 << 10}, ID: 1, State: bpf.FlowFound, Protocol: 6, Direction: bpf.FlowListening})
	first := k.await(t, s, "status", func(e seen) bool { return e.GetAgentStatus() != nil }).GetAgentStatus()
	if first.GetFound().GetProcesses() != 3 || first.GetFound().GetConnections() != 1 || first.GetPreviousEnd() != life.PreviousEnd || first.GetPreviousSeenUnixNano() != 99 {
		t.Errorf("%v", first)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
}
