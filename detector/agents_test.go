package detector

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	sallyportv1 "github.com/sallyport-ci/sallyport/proto/sallyport/v1"
	"github.com/sallyport-ci/sallyport/stream"
	"github.com/sallyport-ci/sallyport/stream/natsserver"
	"github.com/sallyport-ci/sallyport/stream/natsserver/natstest"
)

// clock is a clock that a test sets.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) pass(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

func heartbeat(change func(*sallyportv1.Heartbeat)) *sallyportv1.Heartbeat {
	h := &sallyportv1.Heartbeat{AgentId: "a1", Epoch: 1, Hostname: "runner.example.test"}
	if change != nil {
		change(h)
	}
	return h
}

func withJob(h *sallyportv1.Heartbeat) {
	h.Jobs = []*sallyportv1.Attribution{{Repository: "example/app", RunId: "7", Job: "build", ExecutionId: "0123456789abcdef"}}
}

func TestAgents(t *testing.T) {
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	killed := func(ago time.Duration) func(*sallyportv1.Heartbeat) {
		return func(h *sallyportv1.Heartbeat) {
			h.PreviousEnd, h.PreviousSeenUnixNano = sallyportv1.AgentEnd_AGENT_END_KILLED, uint64(at.Add(-ago).UnixNano())
		}
	}
	for _, c := range []struct {
		name string
		act  func(a *Agents, c *clock)
		want []string // policy and job
	}{
		{"alive", func(a *Agents, c *clock) {
			for range 30 {
				a.hear(heartbeat(withJob))
				c.pass(time.Second)
				a.look(true)
			}
		}, nil},
		{"killed during a job", func(a *Agents, c *clock) {
			a.hear(heartbeat(withJob))
			for range 30 {
				c.pass(time.Second)
				a.look(true)
			}
		}, []string{"agent_silent build"}},
		{"a network that fails for seven seconds", func(a *Agents, c *clock) {
			a.hear(heartbeat(withJob))
			for range 7 {
				c.pass(time.Second)
				a.look(true)
			}
			a.hear(heartbeat(withJob))
			c.pass(5 * time.Second)
			a.look(true)
		}, nil},
		{"silent without a job: a machine that was taken away", func(a *Agents, c *clock) {
			a.hear(heartbeat(nil))
			c.pass(time.Minute)
			a.look(true)
		}, nil},
		{"stopped in order during a job", func(a *Agents, c *clock) {
			a.hear(heartbeat(withJob))
			a.hear(heartbeat(func(h *sallyportv1.Heartbeat) { withJob(h); h.Stopping = true }))
			c.pass(time.Minute)
			a.look(true)
		}, nil},
		{"our own connection was away", func(a *Agents, c *clock) {
			a.hear(heartbeat(withJob))
			for range 60 {
				c.pass(time.Second)
				a.look(false)
			}
			c.pass(3 * time.Second)
			a.look(true)
			a.hear(heartbeat(withJob))
		}, nil},
		{"silent twice", func(a *Agents, c *clock) {
			for range 2 {
				a.hear(heartbeat(withJob))
				c.pass(11 * time.Second)
				a.look(true)
			}
		}, []string{"agent_silent build", "agent_silent build"}},
		{"the one before was killed", func(a *Agents, _ *clock) {
			for range 3 {
				a.hear(heartbeat(killed(time.Minute)))
			}
		}, []string{"agent_killed "}},
		{"the one before was killed last week", func(a *Agents, _ *clock) { a.hear(heartbeat(killed(7 * 24 * time.Hour))) }, nil},
		{"damaged", func(a *Agents, _ *clock) {
			a.hear(heartbeat(withJob))
			for range 3 {
				a.hear(heartbeat(func(h *sallyportv1.Heartbeat) { withJob(h); h.Damage = []string{"link of tcp_state is detached"} }))
			}
		}, []string{"agent_damaged build"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			clock := &clock{now: at}
			a := NewAgents(AgentsConfig{Now: clock.Now})
			c.act(a, clock)
			var got []string
			for _, f := range a.pending {
				got = append(got, f.GetPolicy().GetId()+" "+f.GetAttribution().GetJob())
			}
			if !slices.Equal(got, c.want) {
				t.Errorf("%q, want %q", got, c.want)
			}
		})
	}
}

// TestAgentsOnNATS: what is found is published once, and messages that are no heartbeat
// are passed over.
func TestAgentsOnNATS(t *testing.T) {
	_, js := natstest.StartDeclared(t, natsserver.Config{AgentPassword: "secret"})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	clock := &clock{now: time.Now()}
	a := NewAgents(AgentsConfig{JetStream: js, Now: clock.Now})
	go func() { done <- a.Run(ctx) }()
	defer func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}()
	for deadline := time.Now().Add(10 * time.Second); a.count(false) == 0; time.Sleep(20 * time.Millisecond) {
		if err := js.Conn().Publish("sallyport.heartbeats.a1", []byte("\xff\xff")); err != nil {
			t.Fatal(err)
		}
		if err := js.Conn().Publish("sallyport.heartbeats.a2", nil); err != nil {
			t.Fatal(err)
		}
		if err := stream.PublishHeartbeat(js.Conn(), heartbeat(withJob)); err != nil {
			t.Fatal(err)
		}
		if time.Now().After(deadline) {
			t.Fatal("no agent is heard")
		}
	}
	clock.pass(time.Minute)
	s, err := js.Stream(t.Context(), stream.FindingsStream)
	if err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		if m, err := s.GetLastMsgForSubject(t.Context(), stream.FindingSubject); err == nil {
			f, err := stream.DecodeFinding(m.Data)
			if err != nil || f.GetPolicy().GetId() != "agent_silent" || !strings.Contains(f.GetMessage(), "runner.example.test") {
				t.Errorf("%v, %v", f, err)
			}
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("no finding")
		}
	}
	if a.count(true) != 1 {
		t.Error(fmt.Sprint("silent agents: ", a.count(true)))
	}
}
