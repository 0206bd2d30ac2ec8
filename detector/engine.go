package detector

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"path"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/sallyport-ci/sallyport/detector/pattern"
	"github.com/sallyport-ci/sallyport/policies"
	sallyportv1 "github.com/sallyport-ci/sallyport/proto/sallyport/v1"
)

// EngineConfig says how an engine judges. Policies is needed, the rest optional.
type EngineConfig struct {
	// Policies in force.
	Policies *Policies
	// Baseline returns the baseline of a job when an execution is first seen;
	// ErrNoBaseline if there is none. Without it no job has one.
	Baseline func(ctx context.Context, repository, workflow, job string) (*sallyportv1.Baseline, error)
	// RunsNeeded is how many clean runs make a baseline stable; DefaultRunsNeeded
	// if zero.
	RunsNeeded uint32
	// TrustedRefs are patterns (path.Match) of the references whose runs may teach, beside
	// those that GitHub protects; DefaultTrustedRefs if nil.
	TrustedRefs []string
	// Now is the clock by which executions time out; time.Now by default.
	Now func() time.Time
	// Judging is told of each input before policies see it, if it is not nil.
	Judging func(*sallyportv1.PolicyInput)
	// Logger takes what goes wrong in policies; slog.Default() by default.
	Logger *slog.Logger
}

// EngineCounts are totals since an engine started.
type EngineCounts struct {
	// Events folded, behaviours judged, findings made.
	Events, Behaviours, Findings uint64
	// Excepted are findings that were not made because of an exception.
	Excepted uint64
	// PolicyErrors are evaluations that failed or took too long.
	PolicyErrors uint64
}

// DefaultTrustedRefs are the references that usually nobody can write to without review.
var DefaultTrustedRefs = []string{"refs/heads/main", "refs/heads/master"}

// Engine folds events into behaviours and judges each new one once. It is not safe
// for concurrent use, except Counts.
type Engine struct {
	config      EngineConfig
	scopes      *scopes
	rules       *pattern.Rules
	inputs      *inputs
	downloaders map[string]bool
	manyFiles   map[string]bool
	executions  map[string]*execution
	onAgent     map[string]map[string]*execution // those that are not finished, by agent
	unsettled   map[string]*execution            // those that ended
	agents      map[string]lostReport            // by agent

	mu     sync.Mutex
	logged map[string]bool

	events, behaviours, findings, excepted, policyErrors atomic.Uint64
}

// NewEngine returns an engine that knows no execution yet.
func NewEngine(c EngineConfig) (*Engine, error) {
	if c.Policies == nil {
		return nil, errors.New("new engine: no policies")
	}
	if c.RunsNeeded == 0 {
		c.RunsNeeded = DefaultRunsNeeded
	}
	if c.TrustedRefs == nil {
		c.TrustedRefs = DefaultTrustedRefs
	}
	for _, pattern := range c.TrustedRefs {
		if _, err := path.Match(pattern, ""); err != nil {
			return nil, fmt.Errorf("new engine: trusted reference %q: %w", pattern, err)
		}
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	s, err := newScopes()
	if err != nil {
		return nil, err
	}
	e := &Engine{config: c, scopes: s, inputs: newInputs(), agents: make(map[string]lostReport), logged: make(map[string]bool)}
	if e.downloaders, err = names("downloaders"); err != nil {
		return nil, err
	}
	if e.manyFiles, err = names("many_files"); err != nil {
		return nil, err
	}
	if e.rules, err = pattern.LoadRules(policies.FS); err != nil {
		return nil, fmt.Errorf("new engine: %w", err)
	}
	e.restore(make(map[string]*execution))
	return e, nil
}

// names reads an embedded list of names.
func names(list string) (map[string]bool, error) {
	name := "data/" + list + ".json"
	data, err := policies.FS.ReadFile(name)
	if err != nil {
		return nil, fmt.Errorf("read list %s: %w", name, err)
	}
	var all []string
	if err := json.Unmarshal(data, &all); err != nil {
		return nil, fmt.Errorf("read list %s: %w", name, err)
	}
	set := make(map[string]bool, len(all))
	for _, n := range all {
		set[n] = true
	}
	return set, nil
}

// restore puts executions in the place of all.
func (e *Engine) restore(executions map[string]*execution) {
	e.executions = executions
	e.onAgent, e.unsettled = make(map[string]map[string]*execution), make(map[string]*execution)
	for id, x := range executions {
		if x.Finished {
			continue
		}
		for agent := range x.Agents {
			e.isOn(agent, id, x)
		}
		if x.Ended {
			e.unsettled[id] = x
		}
	}
}

// isOn notes that an agent sees an execution.
func (e *Engine) isOn(agent, id string, x *execution) {
	if e.onAgent[agent] == nil {
		e.onAgent[agent] = make(map[string]*execution)
	}
	e.onAgent[agent][id] = x
}

// over notes that an execution is finished.
func (e *Engine) over(id string, x *execution) {
	x.forget()
	delete(e.unsettled, id)
	for agent := range x.Agents {
		delete(e.onAgent[agent], id)
		if len(e.onAgent[agent]) == 0 {
			delete(e.onAgent, agent)
		}
	}
}

// Counts returns the totals. It is safe for concurrent use.
func (e *Engine) Counts() EngineCounts {
	return EngineCounts{
		Events: e.events.Load(), Behaviours: e.behaviours.Load(),
		Findings: e.findings.Load(), Excepted: e.excepted.Load(), PolicyErrors: e.policyErrors.Load(),
	}
}

// Apply folds a batch, which must have passed stream.Decoder or come from an agent
// in the same process, and returns the findings of its new behaviours. Events that
// were applied before change nothing. An error means that a baseline could not be
// read; nothing was applied then, and the batch may be tried again.
func (e *Engine) Apply(ctx context.Context, b *sallyportv1.EventBatch) ([]*sallyportv1.Finding, error) {
	for _, a := range b.GetAttributions() {
		if err := e.follow(ctx, b, a); err != nil {
			return nil, err
		}
	}
	table := make(map[uint64]*sallyportv1.Process, len(b.GetProcesses()))
	for _, p := range b.GetProcesses() {
		table[p.GetId()] = p
	}
	defer e.inputs.forget()
	var findings []*sallyportv1.Finding
	for i, event := range b.GetEvents() {
		e.events.Add(1)
		sequence := b.GetFirstSequence() + uint64(i)
		if status := event.GetAgentStatus(); status != nil {
			e.status(b, status)
		}
		x := e.execution(b, event)
		if x == nil || x.Finished || x.applied(b, sequence) {
			continue
		}
		x.Touched, x.dirty = e.config.Now().UnixNano(), true
		s := &sight{
			agent: b.GetAgentId(), hostname: b.GetHostname(), time: int64(min(event.GetTimeUnixNano(), math.MaxInt64)),
			attribution: b.GetAttributions()[event.GetAttribution()-1], table: table,
		}
		if x.StartedAt == 0 || s.time < x.StartedAt {
			x.StartedAt = s.time
		}
		e.isOn(b.GetAgentId(), x.id, x)
		if n := event.GetProcess(); n > 0 && int(n) <= len(b.GetProcesses()) {
			s.process = b.GetProcesses()[n-1]
		}
		found, err := e.fold(ctx, x, s, b, event, sequence)
		if err != nil {
			return findings, err
		}
		findings = append(findings, found...)
	}
	e.advance(b)
	return findings, nil
}

// follow starts to follow the execution that an attribution names.
func (e *Engine) follow(ctx context.Context, b *sallyportv1.EventBatch, a *sallyportv1.Attribution) error {
	id := a.GetExecutionId()
	if id == "" || e.executions[id] != nil {
		return nil
	}
	var baseline *sallyportv1.Baseline
	if e.config.Baseline != nil && a.GetRepository() != "" {
		var err error
		baseline, err = e.config.Baseline(ctx, a.GetRepository(), a.GetWorkflow(), a.GetJob())
		if err != nil && !errors.Is(err, ErrNoBaseline) {
			return fmt.Errorf("read baseline of %s, %s, %s: %w", a.GetRepository(), a.GetWorkflow(), a.GetJob(), err)
		}
	}
	x, err := newExecution(a, know(baseline, e.rules))
	if err != nil {
		return fmt.Errorf("follow execution %s: %w", id, err)
	}
	x.Touched, x.dirty = e.config.Now().UnixNano(), true
	if r, ok := e.agents[b.GetAgentId()]; ok && r.epoch == b.GetEpoch() {
		x.position(b).Lost = r.lost
	}
	e.executions[id] = x
	return nil
}

// lostReport is what an agent last said of events that it lost.
type lostReport struct {
	epoch uint64
	lost  int64
}

func (e *Engine) execution(b *sallyportv1.EventBatch, event *sallyportv1.Event) *execution {
	n := event.GetAttribution()
	if n == 0 || int(n) > len(b.GetAttributions()) {
		return nil
	}
	return e.executions[b.GetAttributions()[n-1].GetExecutionId()]
}

// applied says whether an event was applied, and notes an agent that started anew
// in the middle of the execution.
func (x *execution) applied(b *sallyportv1.EventBatch, sequence uint64) bool {
	p := x.position(b)
	switch {
	case b.GetEpoch() > p.Epoch:
		x.incomplete("the agent started anew")
		*p = position{Epoch: b.GetEpoch(), Lost: -1}
	case b.GetEpoch() < p.Epoch:
		// A late message of the agent's former life. Its behaviours are judged by
		// their keys only once; positions of that epoch are gone.
		return false
	}
	return p.Applied.has(sequence)
}

// status notes events that the agent lost while executions ran on its machine.
func (e *Engine) status(b *sallyportv1.EventBatch, status *sallyportv1.AgentStatus) {
	var lost int64
	for _, n := range status.GetEventsLost() {
		lost += int64(min(n, math.MaxInt32))
	}
	e.agents[b.GetAgentId()] = lostReport{b.GetEpoch(), lost}
	for _, x := range e.onAgent[b.GetAgentId()] {
		p := x.Agents[b.GetAgentId()]
		if x.Finished || p == nil || p.Epoch != b.GetEpoch() {
			continue
		}
		if p.Lost < 0 {
			p.Lost = 0 // not heard of before: what it lost may have been of this run
		}
		if lost > p.Lost {
			p.Lost = lost
			x.incomplete("the agent lost events")
		}
	}
}

// advance marks the batch as applied in every execution that its agent is part of.
func (e *Engine) advance(b *sallyportv1.EventBatch) {
	if len(b.GetEvents()) == 0 {
		return
	}
	for _, x := range e.onAgent[b.GetAgentId()] {
		p := x.Agents[b.GetAgentId()]
		if x.Finished || p == nil || p.Epoch != b.GetEpoch() {
			continue
		}
		p.Applied = p.Applied.add(b.GetFirstSequence(), b.GetFirstSequence()+uint64(len(b.GetEvents()))-1)
		if len(p.Applied) > maxSpans {
			p.Applied = p.Applied[len(p.Applied)-maxSpans:]
			x.incomplete("more gaps than are remembered")
		}
		x.dirty = true
	}
}

func (e *Engine) fold(ctx context.Context, x *execution, s *sight, b *sallyportv1.EventBatch, event *sallyportv1.Event, sequence uint64) ([]*sallyportv1.Finding, error) {
	x.position(b)
	x.within(s.attribution)
	if body, ok := event.GetBody().(*sallyportv1.Event_JobEnded); ok {
		return e.end(ctx, x, s, b, body.JobEnded, sequence), nil
	}
	if s.process == nil {
		if event.GetFlow() == nil {
			return nil, nil
		}
		s.process = &sallyportv1.Process{} // a packet whose process is gone still is egress
	}
	switch body := event.GetBody().(type) {
	case *sallyportv1.Event_ProcessExecuted:
		f := e.judge(ctx, x, s, e.executes(s.process))
		before := len(x.pairs)
		if err := x.executed(s); err != nil {
			return nil, fmt.Errorf("note pipes of execution %s: %w", x.id, err)
		}
		if len(x.pairs) != before {
			f = append(f, e.judgePipes(ctx, x, s)...)
		}
		return f, nil
	case *sallyportv1.Event_ProcessExited:
		x.exited(s.agent, s.process.GetId(), s.time)
	case *sallyportv1.Event_Flow:
		behaviour := egress(e.scopes, s.process, body.Flow)
		if behaviour == nil || lookUp(behaviour.GetAddressScope(), behaviour.GetPort()) {
			return nil, nil
		}
		x.send(s.attribution.GetStep(), behaviour, body.Flow.GetBytesSent())
		f := e.judge(ctx, x, s, sighting{Behaviour: behaviour})
		if behaviour.GetAddressScope() != scopeLoopback && x.sent(s) && len(x.pairs) > 0 {
			f = append(f, e.judgePipes(ctx, x, s)...)
		}
		return f, nil
	case *sallyportv1.Event_DnsExchange:
		return e.judge(ctx, x, s, sighting{Behaviour: x.lookup(e.scopes, s.attribution.GetStep(), s.process, body.DnsExchange)}), nil
	case *sallyportv1.Event_ProcessAccess:
		return e.judge(ctx, x, s, sighting{Behaviour: access(s, b, body.ProcessAccess)}), nil
	case *sallyportv1.Event_FileAccess:
		f := body.FileAccess
		return e.judge(ctx, x, s, sighting{Behaviour: &sallyportv1.Behaviour{
			Kind: kindFile, Program: program(s.process), Target: pathPattern(f.GetPath()),
			Operation: operations[f.GetOperation()], Rule: f.GetRule(), Category: f.GetCategory(),
		}}), nil
	case *sallyportv1.Event_HttpRequest:
		r := body.HttpRequest
		return e.judge(ctx, x, s, sighting{Behaviour: &sallyportv1.Behaviour{
			Kind: kindRequest, Program: program(s.process), Target: domainName(r.GetHost()), Domain: domainName(r.GetHost()),
			Method: r.GetMethod(), Path: pathPattern(r.GetPath()),
		}}), nil
	case *sallyportv1.Event_PrivilegeUse:
		return e.judge(ctx, x, s, sighting{Behaviour: privilege(s.process, body.PrivilegeUse)}), nil
	default:
	}
	return nil, nil
}

// end notes that the job has ended, and judges what outlives it.
func (e *Engine) end(ctx context.Context, x *execution, s *sight, b *sallyportv1.EventBatch, ended *sallyportv1.JobEnded, sequence uint64) []*sallyportv1.Finding {
	x.Ended, x.EndedAt = true, s.time
	x.position(b).Last = sequence
	e.unsettled[x.id] = x
	if ended.GetReason() == sallyportv1.JobEndReason_JOB_END_REASON_AGENT_STOPPED {
		x.incomplete("the agent stopped before the job ended")
		return nil // what runs on is the job itself
	}
	var found []*sallyportv1.Finding
	for _, n := range ended.GetSurvivors() {
		if n == 0 || int(n) > len(b.GetProcesses()) {
			continue
		}
		survivor := *s
		survivor.ids, survivor.process = nil, b.GetProcesses()[n-1]
		found = append(found, e.judge(ctx, x, &survivor, sighting{Behaviour: &sallyportv1.Behaviour{
			Kind: kindSurvivor, Program: program(survivor.process), Target: program(survivor.process),
		}})...)
	}
	return found
}

// access is the behaviour of a process that reaches into another.
func access(s *sight, b *sallyportv1.EventBatch, a *sallyportv1.ProcessAccess) *sallyportv1.Behaviour {
	out := &sallyportv1.Behaviour{
		Kind: kindAccess, Program: program(s.process), Access: accessNames[a.GetKind()], TargetIsWorker: a.GetTargetIsWorker(),
	}
	if n := a.GetTarget(); n > 0 && int(n) <= len(b.GetProcesses()) {
		target := b.GetProcesses()[n-1]
		out.Target, out.TargetExecutable, out.TargetArguments = program(target), target.GetExecutable(), target.GetArguments()
		out.TargetIsDescendant = s.process.GetId() != 0 && slices.Contains(lineage(s.table, target)[1:], s.process.GetId())
	}
	return out
}

// privilege is the behaviour of a process that gained a privilege or used one.
func privilege(p *sallyportv1.Process, u *sallyportv1.PrivilegeUse) *sallyportv1.Behaviour {
	out := &sallyportv1.Behaviour{
		Kind: kindPrivilege, Program: program(p), Privilege: privileges[u.GetKind()], Capabilities: u.GetCapabilities(), Target: pathPattern(u.GetObject()),
	}
	switch {
	case out.GetTarget() != "":
	case len(u.GetNamespaces()) > 0:
		out.Target = strings.Join(u.GetNamespaces(), " ")
	default:
		out.Target = strings.Join(u.GetCapabilities(), " ")
	}
	return out
}

// judgePipes judges the pipes of an execution whose behaviour is new.
func (e *Engine) judgePipes(ctx context.Context, x *execution, now *sight) []*sallyportv1.Finding {
	var out []*sallyportv1.Finding
	for _, p := range x.pairs {
		w := p.writer
		s := &sight{agent: w.Agent, hostname: now.hostname, time: now.time, process: w.process, attribution: w.attribution}
		out = append(out, e.judgeWith(ctx, x, s, sighting{Behaviour: pipeBehaviour(p, x.downloads(w, e.downloaders))}, func() []*sallyportv1.Process { return w.ancestry })...)
	}
	return out
}

func (e *Engine) judge(ctx context.Context, x *execution, s *sight, b sighting) []*sallyportv1.Finding {
	return e.judgeWith(ctx, x, s, b, s.ancestry)
}

// judgeWith asks every policy that looks at such about a behaviour, if it is new or if
// something that policies read of it has changed.
func (e *Engine) judgeWith(ctx context.Context, x *execution, s *sight, b sighting, ancestry func() []*sallyportv1.Process) []*sallyportv1.Finding {
	if b.GetKind() != kindLookup || worthLearning(b.Behaviour) {
		x.did(b.Behaviour, s.time)
	}
	identity := b.identity(s.attribution.GetStep())
	if !x.remember(keyHash(b.reading(identity))) {
		return nil
	}
	e.behaviours.Add(1)
	set := e.config.Policies.set.Load()
	policies := set.of(b.GetKind())
	if policies == nil {
		return nil
	}
	ancestors := ancestry()
	known := facts(x.knowledge, e.config.RunsNeeded, b.Behaviour, step{s.attribution.GetStep(), s.attribution.GetAction()})
	seen := &sallyportv1.PolicyInput{
		Version: inputVersion, Behaviour: b.Behaviour, Process: s.process, Ancestry: ancestors, Job: s.attribution, Baseline: known,
	}
	if e.config.Judging != nil {
		e.config.Judging(seen)
	}
	input := e.inputs.of(seen)
	var out []*sallyportv1.Finding
	for _, a := range policies.ask(ctx, input) {
		if a.err != nil {
			e.policyFailed(a.policy.about.GetId(), a.err, s)
			x.incomplete("a behaviour could not be judged by policy " + a.policy.about.GetId())
			continue
		}
		if a.violation == nil {
			continue
		}
		f := finding(x, s, a.policy, a.violation, identity)
		if x.told[f.GetId()] {
			continue
		}
		if live, expired := excepted(set.exceptions, f, b.Behaviour); live != nil {
			e.excepted.Add(1)
			x.except(f.GetPolicy().GetId(), live)
			continue
		} else if expired != nil {
			e.exceptionExpired(expired, f)
		}
		f.Behaviour, f.Baseline = b.Behaviour, known
		f.Ancestry = cloneProcesses(append([]*sallyportv1.Process{s.process}, ancestors...))
		f.Remedies = remedies(f)
		x.tell(f)
		e.findings.Add(1)
		out = append(out, f)
	}
	return out
}

func cloneProcesses(ps []*sallyportv1.Process) []*sallyportv1.Process {
	out := make([]*sallyportv1.Process, len(ps))
	for i, p := range ps {
		out[i] = proto.CloneOf(p)
	}
	return out
}

// exceptionExpired logs, once for each exception, that it does not cover a finding any more.
func (e *Engine) exceptionExpired(x *Exception, f *sallyportv1.Finding) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if key := x.String(); !e.logged[key] {
		e.logged[key] = true
		e.config.Logger.Warn("a finding is told whose exception has expired", "exception", key, "owner", x.Owner, "policy", f.GetPolicy().GetId(), "finding", f.GetId())
	}
}

// policyFailed counts a failed evaluation and logs the first of each policy.
func (e *Engine) policyFailed(policy string, err error, s *sight) {
	e.policyErrors.Add(1)
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.logged[policy] {
		return
	}
	e.logged[policy] = true
	e.config.Logger.Error("a policy failed; further failures of it are counted only", "policy", policy, "error", err,
		"repo", s.attribution.GetRepository(), "run", s.attribution.GetRunId(), "job", s.attribution.GetJob(), "step", s.attribution.GetStep())
}
