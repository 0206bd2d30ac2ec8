package agent

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"path/filepath"
	"slices"
	"strconv"

	"google.golang.org/protobuf/proto"

	"github.com/sallyport-ci/sallyport/bpf"
	sallyportv1 "github.com/sallyport-ci/sallyport/proto/sallyport/v1"
	"github.com/sallyport-ci/sallyport/stream"
)

// attribution is a step of a job, or (without a step) what a worker does between
// steps.
type attribution struct {
	message *sallyportv1.Attribution
	secrets *secrets // of its execution; nil if none are known
	// index of the attribution in batch number batch.
	batch uint64
	index uint32
	tally *stepTally // nil before the first event
}

// secrets are the values of the variables of an execution whose names say that they are
// secrets. They are kept in memory, to be taken out of what is told, and nowhere else.
type secrets struct{ values []string }

func (s *secrets) add(values []string) {
	for _, v := range values {
		if len(s.values) < maxSecrets && !slices.Contains(s.values, v) {
			s.values = append(s.values, v)
		}
	}
	// The longest first: one may hold another.
	slices.SortStableFunc(s.values, func(a, b string) int { return len(b) - len(a) })
}

// secrets returns those of a process that may be nil.
func (p *process) secrets() []string {
	if p == nil || p.at == nil || p.at.secrets == nil {
		return nil
	}
	return p.at.secrets.values
}

// execution is one execution of a job.
type execution struct {
	secrets *secrets
	// between is the job without a step.
	between *attribution
	ended   bool
}

// worker is what a runner's worker process has started. GitHub's runner has one
// worker process for each job; act runs all jobs of a workflow in one.
type worker struct {
	executions map[string]*execution
	last       *attribution // step that was started last
	// begun says that its first step started the agent, or came to count on it.
	begun bool
	// uses says that its job counts on the agent.
	uses bool
	// elsewhere says that this is no runner's worker: it stands in a pod for one on another
	// machine (podjobs.go).
	elsewhere bool
}

// between returns the attribution of what the worker does outside of steps: its
// job's if it has exactly one, else none.
func (w *worker) between() *attribution {
	if len(w.executions) != 1 {
		return nil
	}
	for _, e := range w.executions {
		return e.between
	}
	return nil
}

// maxEnvironment bounds what is kept of a step's environment, in bytes.
const maxEnvironment = bpf.MaxEnvironment

// maxEnvironments bounds how many environments are gathered at once: records of
// other processes may lie between the pieces of one and its exec.
const maxEnvironments = 64

// environmentBuffer gathers the pieces of environments. Each is wiped as soon as what
// is needed has been taken: an environment holds secrets.
type environmentBuffer struct{ pieces map[uint64][]byte }

func (b *environmentBuffer) add(r *bpf.Environment) {
	data, begun := b.pieces[r.Process]
	if int(r.Offset) != len(data) || len(data)+len(r.Data) > maxEnvironment {
		// A piece got lost: a variable that went on in it cannot be trusted, nor can one
		// that seems to begin behind it.
		b.wipe(r.Process)
		return
	}
	if !begun && len(b.pieces) >= maxEnvironments {
		return // execs got lost, and with them who these belong to
	}
	if b.pieces == nil {
		b.pieces = make(map[uint64][]byte)
	}
	if cap(data)-len(data) < len(r.Data) {
		// Grown by hand, so that the old memory can be wiped.
		grown := make([]byte, len(data), min(max(2*cap(data), len(data)+len(r.Data), int(r.Size)), maxEnvironment))
		copy(grown, data)
		clear(data)
		data = grown
	}
	b.pieces[r.Process] = append(data, r.Data...)
}

// take returns the variables of a process that say where it belongs, and the values of
// those that are secrets.
func (b *environmentBuffer) take(process uint64) (map[string]string, []string) {
	data, ok := b.pieces[process]
	if !ok {
		return nil, nil
	}
	defer b.wipe(process)
	return parseEnvironment(data), secretsOf(data)
}

func (b *environmentBuffer) wipe(process uint64) {
	clear(b.pieces[process])
	delete(b.pieces, process)
}

// variableNames are the only variables that are ever taken from an environment.
var variableNames = map[string]bool{
	"GITHUB_REPOSITORY": true, "GITHUB_WORKFLOW": true, "GITHUB_WORKFLOW_REF": true,
	"GITHUB_RUN_ID": true, "GITHUB_RUN_ATTEMPT": true, "GITHUB_RUN_NUMBER": true,
	"GITHUB_JOB": true, "GITHUB_ACTION": true, "GITHUB_ACTION_REPOSITORY": true,
	"GITHUB_ACTION_REF": true, "GITHUB_SHA": true, "GITHUB_REF": true,
	"GITHUB_REF_PROTECTED": true, "GITHUB_EVENT_NAME": true, "GITHUB_ACTOR": true,
	"RUNNER_NAME": true,
	// Where the step's files are (workspace.go).
	"GITHUB_WORKSPACE": true, "GITHUB_ENV": true, "GITHUB_PATH": true, "PATH": true, "HOME": true,
}

// maxVariable bounds a variable's value in bytes.
const maxVariable = 8 << 10

// parseEnvironment returns the variables of variableNames from NAME=value strings,
// each ended by a zero byte. Of a name that stands twice the first one counts, as
// it does for getenv.
func parseEnvironment(data []byte) map[string]string {
	found := make(map[string]string, len(variableNames))
	for len(data) > 0 {
		var entry []byte
		var complete bool
		entry, data, complete = bytes.Cut(data, []byte{0})
		if !complete {
			break // cut off in the middle
		}
		name, value, ok := bytes.Cut(entry, []byte{'='})
		if !ok || len(value) > maxVariable || !variableNames[string(name)] {
			continue
		}
		if _, twice := found[string(name)]; !twice {
			found[string(name)] = text(string(value))
		}
	}
	return found
}

// startStep attributes the first program of a step.
func (a *Agent) startStep(p, w *process, r *bpf.Exec, environment map[string]string, values []string) {
	m := a.cfg.Command
	switch {
	case m != nil:
		m = proto.CloneOf(m)
	case environment["GITHUB_REPOSITORY"] != "" && environment["GITHUB_RUN_ID"] != "":
		m = fromEnvironment(environment)
	default:
		p.at = w.worker.between() // a program of the worker's own
		return
	}
	if before, ok := a.beginStep(p, w, r, m, values); ok {
		if a.cfg.Command != nil && environment != nil && environment["GITHUB_WORKSPACE"] == "" {
			environment["GITHUB_WORKSPACE"] = r.WorkingDirectory
		}
		a.workspaces.arm(workspace{execution: m.GetExecutionId(), step: p.at, before: before, environment: environment})
	}
}

// beginStep attributes the first program of a step of a worker's. It returns the step before
// it, nil if there was none, and false if this agent may not speak for the job.
func (a *Agent) beginStep(p, w *process, r *bpf.Exec, m *sallyportv1.Attribution, values []string) (before *attribution, ok bool) {
	if !stream.MaySpeakFor(a.cfg.AgentID, m) {
		// Nobody would believe it, nor what else is in the same batch.
		a.notMine(m)
		return nil, false
	}
	if m.ExecutionId == "" {
		m.ExecutionId = executionID(a.cfg.AgentID, w, m)
	}
	e := w.worker.executions[m.GetExecutionId()]
	before = w.worker.last
	at := &attribution{message: m}
	w.worker.last = at
	if e == nil {
		between := proto.CloneOf(m)
		between.Step, between.Action = "", ""
		own := &secrets{}
		e = &execution{secrets: own, between: &attribution{message: between, secrets: own}}
		if w.worker.executions == nil {
			w.worker.executions = make(map[string]*execution)
		}
		w.worker.executions[m.GetExecutionId()] = e
		w.at = w.worker.between()
		a.emit(&sallyportv1.Event{
			TimeUnixNano: a.wall(r.Time),
			Body:         &sallyportv1.Event_JobStarted{JobStarted: &sallyportv1.JobStarted{}},
		}, w, e.between, "job")
		a.takeAlong(w, e, r.Time)
	}
	if s := a.tallyOf(e.between, a.wall(r.Time)); s != nil && !w.worker.begun && (r.Found || w.found && len(w.worker.executions) == 1) {
		s.job.joined, s.job.began = true, min(s.job.began, a.wall(a.started))
	}
	e.secrets.add(values)
	at.secrets = e.secrets
	p.at = at // also where it stands for the worker itself
	return before, true
}

// begins notes that the job of a worker is seen whole, though the worker was there first.
func (a *Agent) begins(w *process) {
	w.worker.begun = true
	for _, e := range w.worker.executions {
		if s := a.tallyOf(e.between, a.wall(a.started)); s != nil {
			s.job.joined = false
		}
	}
}

// maxNotMine bounds how many repositories are named that the agent may not speak for.
const maxNotMine = 64

// notMine says, once for each repository, that a job runs here which this agent may not
// speak for: what it does is told as that of no job.
func (a *Agent) notMine(m *sallyportv1.Attribution) {
	if a.foreign[m.GetRepository()] || len(a.foreign) >= maxNotMine {
		return
	}
	if a.foreign == nil {
		a.foreign = make(map[string]bool)
	}
	a.foreign[m.GetRepository()] = true
	a.log.Warn("a job runs here that this agent's identity does not stand for: it is told as no job's", "agent", a.cfg.AgentID,
		"repo", m.GetRepository(), "run", m.GetRunId())
}

// endJobs says that the jobs of a worker are over.
func (a *Agent) endJobs(w *process, boot uint64, reason sallyportv1.JobEndReason) {
	for _, e := range w.worker.executions {
		a.endJob(w, e, boot, reason, nil)
	}
}

// maxSurvivors bounds how many processes are named that outlive their job.
const maxSurvivors = 256

// endJob says that a job is over, and which of its processes still run. Those below
// hook, which says so, do not count.
func (a *Agent) endJob(w *process, e *execution, boot uint64, reason sallyportv1.JobEndReason, hook *process) {
	if e.ended {
		return
	}
	e.ended = true
	id := e.between.message.GetExecutionId()
	defer a.leaveBehind(e)
	a.workspaces.disarm(id)
	body := &sallyportv1.JobEnded{Reason: reason}
	var survivors []*process
	if reason != sallyportv1.JobEndReason_JOB_END_REASON_AGENT_STOPPED {
		for _, p := range a.processes.running(id) {
			if p != w && !p.within(hook) && len(survivors) < maxSurvivors {
				survivors = append(survivors, p)
				body.Survivors = append(body.Survivors, a.builder.process(p))
			}
		}
	}
	a.emit(&sallyportv1.Event{
		TimeUnixNano: a.wall(boot),
		Body:         &sallyportv1.Event_JobEnded{JobEnded: body},
	}, w, e.between, "job")
	if j := a.tallies.jobs[id]; j != nil {
		j.ended = a.wall(boot)
		for _, p := range survivors {
			if t := a.tallyOf(p.at, a.wall(boot)); t != nil {
				t.survived(p)
			}
		}
	}
}

// hookProgram is what a runner's job hooks run: `sallyport-agent hook completed`.
const hookProgram = "sallyport-agent"

// hook ends the job of a process that is the runner's hook for it. Whoever else runs
// the program says only that the job goes on behind its end, which is told, too.
func (a *Agent) hook(p *process, boot uint64) {
	arguments := p.message.GetArguments()
	if p.at == nil || filepath.Base(p.message.GetExecutable()) != hookProgram ||
		len(arguments) < 3 || arguments[1] != "hook" || arguments[2] != "completed" {
		return
	}
	// The hook's first program is the worker's child.
	first := p
	for first.parent != nil && first.parent.worker == nil {
		first = first.parent
	}
	if w := first.parent; w != nil {
		if e := w.worker.executions[p.at.message.GetExecutionId()]; e != nil {
			a.endJob(w, e, boot, sallyportv1.JobEndReason_JOB_END_REASON_HOOK, first)
		}
	}
}

func fromEnvironment(v map[string]string) *sallyportv1.Attribution {
	m := &sallyportv1.Attribution{
		Repository: v["GITHUB_REPOSITORY"], Workflow: v["GITHUB_WORKFLOW"], WorkflowRef: v["GITHUB_WORKFLOW_REF"],
		RunId: v["GITHUB_RUN_ID"], RunAttempt: 1, Job: v["GITHUB_JOB"], Step: v["GITHUB_ACTION"],
		Commit: v["GITHUB_SHA"], Ref: v["GITHUB_REF"], Event: v["GITHUB_EVENT_NAME"], Actor: v["GITHUB_ACTOR"],
		Runner: v["RUNNER_NAME"], RefProtected: v["GITHUB_REF_PROTECTED"] == "true",
	}
	if n, err := strconv.ParseUint(v["GITHUB_RUN_ATTEMPT"], 10, 32); err == nil && n > 0 {
		m.RunAttempt = uint32(n)
	}
	if n, err := strconv.ParseUint(v["GITHUB_RUN_NUMBER"], 10, 64); err == nil {
		m.RunNumber = n
	}
	if r := v["GITHUB_ACTION_REPOSITORY"]; r != "" {
		m.Action = r
		if ref := v["GITHUB_ACTION_REF"]; ref != "" {
			m.Action += "@" + ref
		}
	}
	return m
}

// executionID identifies one execution of a job on one machine: also for an agent that
// finds the worker running.
func executionID(agentID string, worker *process, m *sallyportv1.Attribution) string {
	h := sha256.Sum256(fmt.Appendf(nil, "%q %d %d %q %q %d %q",
		agentID, worker.message.GetPid(), worker.started, m.GetRepository(), m.GetRunId(), m.GetRunAttempt(), m.GetJob()))
	return hex.EncodeToString(h[:8])
}
