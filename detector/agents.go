package detector

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/protobuf/types/known/timestamppb"

	sallyportv1 "github.com/sallyport-ci/sallyport/proto/sallyport/v1"
	"github.com/sallyport-ci/sallyport/stream"
)

const (
	// quietAfter is how long an agent may give no sign of life before it counts as
	// silent; agents give one every second.
	quietAfter = 5 * time.Second
	// alarmAfter is how long it may be silent, while jobs run on its machine, before that
	// is a finding. Networks fail for a few seconds; nobody is to be woken by that.
	alarmAfter = 10 * time.Second
	// forgetAfter is how long a silent agent is remembered: its machine is gone.
	forgetAfter = time.Hour
	// killedWithin is how recently an agent must have been alive for the finding that it
	// was killed.
	killedWithin = 10 * time.Minute
	// agentsTick is how often silence is looked for.
	agentsTick = time.Second
	// maxAgents bounds how many agents are followed.
	maxAgents = 100_000
)

// What happens to agents is told like what breaks a policy, though no policy is asked.
var (
	silentPolicy = &sallyportv1.Policy{
		Id: "agent_silent", Title: "The agent fell silent during a job", Severity: sallyportv1.Severity_SEVERITY_HIGH,
		Technique: "T1562.001",
		Description: "The agent of a machine gives a sign of life every second. It stopped to while a job ran there, and did not say that it " +
			"stops: it was killed or paused, its network was cut, or the machine went down. What the job did since is not known.",
		Remediation: "Look whether the machine is still there. If it is, somebody stopped the agent: rotate the secrets of the job, and replace the machine.",
	}
	killedPolicy = &sallyportv1.Policy{
		Id: "agent_killed", Title: "The agent was killed", Severity: sallyportv1.Severity_SEVERITY_MEDIUM, Technique: "T1562.001",
		Description: "The agent that ran before on this machine ended without a word, though the machine went on. What happened until this one started is not known.",
		Remediation: "Look in the machine's log for a crash or for memory that ran out. If there is neither, somebody killed it: the table privileges names who sends signals to agents.",
	}
	damagedPolicy = &sallyportv1.Policy{
		Id: "agent_damaged", Title: "The agent's hold on the kernel was damaged", Severity: sallyportv1.Severity_SEVERITY_CRITICAL, Technique: "T1562.001",
		Description: "Somebody with root's rights detached one of the agent's eBPF programs or wrote to its tables. It does not see everything any more.",
		Remediation: "Rotate the secrets of all jobs that ran since on this machine, and replace it.",
	}
)

// AgentsConfig says how agents are watched. JetStream is needed.
type AgentsConfig struct {
	// JetStream of the NATS on which stream.Declare has run.
	JetStream jetstream.JetStream
	// Now is the clock; time.Now by default.
	Now func() time.Time
	// Logger; slog.Default() by default.
	Logger *slog.Logger
	// Metrics takes the number of agents by state; none by default.
	Metrics prometheus.Registerer
}

// Agents listens to the heartbeats of all agents and publishes findings on those that
// fall silent during a job, were killed, or are damaged.
type Agents struct {
	cfg AgentsConfig
	log *slog.Logger

	mu        sync.Mutex
	agents    map[string]*watched
	listening time.Time // since when nothing was missed
	pending   []*sallyportv1.Finding
}

// watched is an agent.
type watched struct {
	last   *sallyportv1.Heartbeat
	heard  time.Time
	silent bool // and said so
	told   bool // a finding was made of its silence
}

// NewAgents returns a watch over agents. Run it.
func NewAgents(cfg AgentsConfig) *Agents {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.Default()
	}
	a := &Agents{cfg: cfg, log: cfg.Logger, agents: make(map[string]*watched), listening: cfg.Now()}
	if cfg.Metrics != nil {
		for state, silent := range map[string]bool{"heard": false, "silent": true} {
			cfg.Metrics.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
				Name: "sallyport_agents", Help: "Agents, by whether they give signs of life.", ConstLabels: prometheus.Labels{"state": state},
			}, func() float64 { return a.count(silent) }))
		}
	}
	return a
}

func (a *Agents) count(silent bool) float64 {
	a.mu.Lock()
	defer a.mu.Unlock()
	n := 0
	for _, w := range a.agents {
		if w.silent == silent {
			n++
		}
	}
	return float64(n)
}

// Run listens until ctx ends.
func (a *Agents) Run(ctx context.Context) error {
	nc := a.cfg.JetStream.Conn()
	s, err := stream.SubscribeHeartbeats(nc, a.hear, func(err error) {
		a.log.Warn("a message that is no heartbeat", "error", err)
	})
	if err != nil {
		return err
	}
	defer func() { _ = s.Unsubscribe() }() // the connection may be gone
	ticker := time.NewTicker(agentsTick)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
		a.look(nc.Status() == nats.CONNECTED)
		a.publish(ctx)
	}
}

// hear takes a heartbeat.
func (a *Agents) hear(h *sallyportv1.Heartbeat) {
	a.mu.Lock()
	defer a.mu.Unlock()
	now := a.cfg.Now()
	w := a.agents[h.GetAgentId()]
	if h.GetStopping() {
		delete(a.agents, h.GetAgentId())
		return
	}
	if w == nil {
		if len(a.agents) >= maxAgents {
			return
		}
		w = &watched{}
		a.agents[h.GetAgentId()] = w
	}
	if w.silent {
		a.log.Warn("an agent is heard again", "agent", h.GetAgentId(), "host", h.GetHostname(), "after", now.Sub(w.heard).Round(time.Second))
	}
	before := w.last
	w.last, w.heard, w.silent, w.told = h, now, false, false
	first := before == nil || before.GetEpoch() != h.GetEpoch()
	if seen := time.Unix(0, int64(h.GetPreviousSeenUnixNano())); first && h.GetPreviousEnd() == sallyportv1.AgentEnd_AGENT_END_KILLED &&
		now.Sub(seen) < killedWithin {
		a.find(killedPolicy, h, nil, now, fmt.Sprintf("The agent on %s ended without a word after %s, and was started again.",
			h.GetHostname(), seen.UTC().Format(time.RFC3339)))
	}
	if len(h.GetDamage()) > 0 && (first || len(before.GetDamage()) == 0) {
		jobs := h.GetJobs()
		if len(jobs) == 0 {
			jobs = []*sallyportv1.Attribution{nil}
		}
		for _, job := range jobs {
			a.find(damagedPolicy, h, job, now, fmt.Sprintf("The agent on %s says: %s.", h.GetHostname(), strings.Join(h.GetDamage(), "; ")))
		}
	}
}

// look finds agents that have fallen silent. While this end's own connection is away
// all are, and none is to blame.
func (a *Agents) look(connected bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	now := a.cfg.Now()
	if !connected {
		a.listening = now
		return
	}
	for id, w := range a.agents {
		since := w.heard
		if a.listening.After(since) {
			since = a.listening
		}
		quiet := now.Sub(since)
		if quiet >= quietAfter && !w.silent {
			w.silent = true
			a.log.Warn("an agent fell silent", "agent", id, "host", w.last.GetHostname(), "jobs", len(w.last.GetJobs()), "last", w.heard)
		}
		if quiet >= alarmAfter && !w.told {
			w.told = true
			for _, job := range w.last.GetJobs() {
				a.find(silentPolicy, w.last, job, now, fmt.Sprintf("The agent on %s gave its last sign of life at %s, while this job ran.",
					w.last.GetHostname(), w.heard.UTC().Format(time.RFC3339)))
			}
		}
		if quiet >= forgetAfter {
			delete(a.agents, id)
		}
	}
}

// maxPending bounds the findings that wait to be published.
const maxPending = 4096

func (a *Agents) find(p *sallyportv1.Policy, h *sallyportv1.Heartbeat, job *sallyportv1.Attribution, now time.Time, message string) {
	if len(a.pending) >= maxPending {
		a.log.Error("a finding is lost: too many wait to be published", "policy", p.GetId(), "agent", h.GetAgentId())
		return
	}
	sum := sha256.Sum256(fmt.Appendf(nil, "%q %q %d %q", p.GetId(), h.GetAgentId(), h.GetEpoch(), job.GetExecutionId()))
	a.pending = append(a.pending, &sallyportv1.Finding{
		Id: hex.EncodeToString(sum[:16]), Time: timestamppb.New(now), Policy: p, Message: message, Attribution: job,
		Behaviour: &sallyportv1.Behaviour{Kind: sallyportv1.BehaviourKind_BEHAVIOUR_KIND_AGENT, Target: h.GetHostname()},
		AgentId:   h.GetAgentId(), Hostname: h.GetHostname(),
	})
}

// publish publishes what was found; what cannot be is tried again.
func (a *Agents) publish(ctx context.Context) {
	a.mu.Lock()
	findings := a.pending
	a.pending = nil
	a.mu.Unlock()
	for i, f := range findings {
		call, cancel := context.WithTimeout(ctx, callTimeout)
		err := stream.PublishFinding(call, a.cfg.JetStream, f)
		cancel()
		if err != nil {
			a.log.Warn("a finding waits", "error", err)
			a.mu.Lock()
			a.pending = append(findings[i:], a.pending...)
			a.mu.Unlock()
			return
		}
	}
}
