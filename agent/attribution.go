package agent

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strconv"

	"google.golang.org/protobuf/proto"

	"github.com/sallyport-ci/sallyport/bpf"
	sallyportv1 "github.com/sallyport-ci/sallyport/proto/sallyport/v1"
)

// attribution is a step of a job, or (without a step) what a worker does between
// steps.
type attribution struct {
	message *sallyportv1.Attribution
	// index of the attribution in batch number batch.
	batch uint64
	index uint32
}

// execution is one execution of a job.
type execution struct {
	// between is the job without a step.
	between *attribution
	ended   bool
}

// worker is what a runner's worker process has started. GitHub's runner has one
// worker process for each job; act runs all jobs of a workflow in one.
type worker struct {
	executions map[string]*execution
	last       *attribution // step that was started last
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

// take returns the variables of a process that say where it belongs.
func (b *environmentBuffer) take(process uint64) map[string]string {
	data, ok := b.pieces[process]
	if !ok {
		return nil
	}
	defer b.wipe(process)
	return parseEnvironment(data)
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
func (a *Agent) startStep(p, w *process, r *bpf.Exec, environment map[string]string) {
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
	if m.ExecutionId == "" {
		m.ExecutionId = executionID(a.cfg.AgentID, w.message.GetId(), m)
	}
	e := w.worker.executions[m.GetExecutionId()]
	before := w.worker.last
	p.at = &attribution{message: m}
	w.worker.last = p.at
	if e == nil {
		between := proto.CloneOf(m)
		between.Step, between.Action = "", ""
		e = &execution{between: &attribution{message: between}}
		if w.worker.executions == nil {
			w.worker.executions = make(map[string]*execution)
		}
		w.worker.executions[m.GetExecutionId()] = e
		w.at = w.worker.between()
		a.emit(&sallyportv1.Event{
			TimeUnixNano: a.wall(r.Time),
			Body:         &sallyportv1.Event_JobStarted{JobStarted: &sallyportv1.JobStarted{}},
		}, w, e.between, "job")
	}
	if a.cfg.Command != nil && environment != nil && environment["GITHUB_WORKSPACE"] == "" {
		environment["GITHUB_WORKSPACE"] = r.WorkingDirectory
	}
	a.workspaces.arm(workspace{execution: m.GetExecutionId(), step: p.at, before: before, environment: environment})
}

// endJobs says that the jobs of a worker are over.
func (a *Agent) endJobs(w *process, wall uint64, reason sallyportv1.JobEndReason) {
	for _, e := range w.worker.executions {
		if e.ended {
			continue
		}
		e.ended = true
		a.workspaces.disarm(e.between.message.GetExecutionId())
		a.emit(&sallyportv1.Event{
			TimeUnixNano: wall,
			Body:         &sallyportv1.Event_JobEnded{JobEnded: &sallyportv1.JobEnded{Reason: reason}},
		}, w, e.between, "job")
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

// executionID identifies one execution of a job on one machine.
func executionID(agentID string, worker uint64, m *sallyportv1.Attribution) string {
	h := sha256.Sum256(fmt.Appendf(nil, "%q %d %q %q %d %q",
		agentID, worker, m.GetRepository(), m.GetRunId(), m.GetRunAttempt(), m.GetJob()))
	return hex.EncodeToString(h[:8])
}
