package agent

import (
	"cmp"
	"container/list"
	"slices"
	"time"

	"github.com/sallyport-ci/sallyport/agent/httphead"
	"github.com/sallyport-ci/sallyport/bpf"
	sallyportv1 "github.com/sallyport-ci/sallyport/proto/sallyport/v1"
)

// process is a program in a process. Its message is not changed once made: batches
// that wait to be published share it.
type process struct {
	message *sallyportv1.Process
	parent  *process
	// at is the step that it belongs to, nil outside of jobs.
	at *attribution
	// worker holds what a runner's worker process has started; nil for all others.
	worker *worker
	// forkHeld is true while a fork has not been told: nearly all forks run a program
	// at once and are told of as that.
	forkHeld bool
	started  uint64 // when the process, not this program, came to be
	forked   bool   // came by fork and has run no program of its own
	found    bool   // ran before the agent
	counted  bool   // in its job's tally
	endedAt  uint64
	files    []*touch // what it did to files that matter
	// container that it runs in, nil if none.
	container *contained
	// named says that the environment of a program of it, which the job's container engine
	// started, has named job and step.
	named bool
	// beside says that it lives in a runner's pod beside the jobs, as Docker's daemon does: it is
	// attributed to the one that runs, and outlives it by right.
	beside bool
	// adopted is when its container was made a part of a step from here, 0 if it was not.
	adopted uint64
	streams map[uint64]*httphead.Stream // by connection
	// index of the process in batch number batch.
	batch uint64
	index uint32
}

// attributed returns the step of a process that may be nil.
func (p *process) attributed() *attribution {
	if p == nil {
		return nil
	}
	return p.at
}

const (
	// forkPatience is how long a fork is held back in the hope that it runs a program.
	forkPatience = 100 * time.Millisecond
	// endedKept is how long processes that ended are remembered: flows and answers
	// that end later refer to them.
	endedKept = 2 * time.Minute
	// maxEnded bounds their number.
	maxEnded = 1 << 16
)

// processTable knows the processes by their identity.
type processTable struct {
	byID map[uint64]*process
	// workers are those that stand for runners' workers and have not ended.
	workers map[*process]struct{}
	held    list.List // of *process, forks not yet told, oldest first
	ended   list.List // of *process, oldest first
}

func newProcessTable() *processTable {
	return &processTable{byID: make(map[uint64]*process), workers: make(map[*process]struct{})}
}

func (t *processTable) get(id uint64) *process { return t.byID[id] }

func (t *processTable) put(p *process) { t.byID[p.message.GetId()] = p }

// end marks a process as ended, or as having become another program.
func (t *processTable) end(p *process, boot uint64) {
	delete(t.workers, p)
	if p.endedAt == 0 {
		p.endedAt = boot
		t.ended.PushBack(p)
	}
}

// forget drops processes that ended long ago.
func (t *processTable) forget(boot uint64) {
	for e := t.ended.Front(); e != nil; e = t.ended.Front() {
		p := e.Value.(*process)
		if t.ended.Len() <= maxEnded && p.endedAt+uint64(endedKept) > boot {
			return
		}
		t.ended.Remove(e)
		if t.byID[p.message.GetId()] == p {
			delete(t.byID, p.message.GetId())
		}
	}
}

func (t *processTable) hold(p *process) {
	p.forkHeld = true
	t.held.PushBack(p)
}

// forkedBefore returns the forks that were held back and happened before boot.
func (t *processTable) forkedBefore(boot uint64) []*process {
	var due []*process
	for e := t.held.Front(); e != nil; e = t.held.Front() {
		p := e.Value.(*process)
		if p.forkHeld {
			if p.bornAt() >= boot {
				break
			}
			due = append(due, p)
		}
		t.held.Remove(e)
	}
	return due
}

// bornAt is the boot time that an identity is made of.
func (p *process) bornAt() uint64 { return p.message.GetId() &^ 1023 }

// employ has a process stand for a runner's worker.
func (t *processTable) employ(p *process, w *worker) {
	p.worker = w
	t.workers[p] = struct{}{}
}

// running returns the processes of an execution of a job that have not ended, oldest
// first. What lives in a runner's pod beside the jobs is none of them.
func (t *processTable) running(execution string) []*process {
	var found []*process
	for _, p := range t.byID {
		if p.endedAt == 0 && !p.beside && p.at != nil && p.at.message.GetExecutionId() == execution {
			found = append(found, p)
		}
	}
	slices.SortFunc(found, func(a, b *process) int { return cmp.Compare(a.message.GetId(), b.message.GetId()) })
	return found
}

// within says whether a process is another one, which may be nil, or below it.
func (p *process) within(other *process) bool {
	for q := p; q != nil && other != nil; q = q.parent {
		if q == other {
			return true
		}
	}
	return false
}

// byPID returns the process that has a number now, the last one that is known; nil if none.
func (t *processTable) byPID(pid uint32) *process {
	var found *process
	for _, p := range t.byID {
		if p.message.GetPid() == pid && p.endedAt == 0 && (found == nil || p.message.GetId() > found.message.GetId()) {
			found = p
		}
	}
	return found
}

func (t *processTable) eachWorker(f func(*process)) {
	for p := range t.workers {
		f(p)
	}
}

func (a *Agent) fork(r *bpf.Fork) {
	parent := a.processes.get(r.Parent)
	m := &sallyportv1.Process{Id: r.Process, ParentId: r.Parent, Pid: r.PID, Uid: r.UID, StartTimeUnixNano: a.wall(r.Time)}
	p := &process{message: m, parent: parent, forked: true}
	if parent != nil {
		// A fork runs its parent's program.
		m.Executable = parent.message.GetExecutable()
		m.Arguments = parent.message.GetArguments()
		m.ArgumentsTruncated = parent.message.GetArgumentsTruncated()
		m.WorkingDirectory = parent.message.GetWorkingDirectory()
		m.Container = parent.message.GetContainer()
		p.container = parent.container
		p.at = parent.at
		if parent.worker != nil {
			p.at = parent.worker.between()
		}
	}
	a.processes.put(p)
	a.processes.hold(p)
	if parent != nil && parent.adopted != 0 && r.Time < parent.adopted+uint64(adoptionLag) {
		a.adopt(p, parent.adopted) // forked before the kernel knew of its parent
	}
}

func (a *Agent) emitFork(p *process) {
	p.forkHeld = false
	a.emit(&sallyportv1.Event{
		TimeUnixNano: p.message.GetStartTimeUnixNano(),
		Body:         &sallyportv1.Event_ProcessForked{ProcessForked: &sallyportv1.ProcessForked{}},
	}, p, p.at, "fork")
}

func (a *Agent) exec(r *bpf.Exec) {
	environment, secrets := a.environment.take(r.Process)
	previous := a.processes.get(r.Previous)
	parent := a.processes.get(r.Parent)
	started := r.Time
	if r.Found {
		started = r.Started
	}
	m := &sallyportv1.Process{
		Id: r.Process, ParentId: r.Parent, Pid: r.PID, Uid: r.UID,
		Executable:         text(executablePath(r)),
		WorkingDirectory:   text(r.WorkingDirectory),
		ArgumentsTruncated: int(r.ArgumentsSize) > len(r.Arguments),
		StartTimeUnixNano:  a.wall(started),
		StandardInput:      descriptor(r.Stdin),
		StandardOutput:     descriptor(r.Stdout),
		ArgumentPipe:       pipeDescriptor(r.ArgumentPipe),
		ExecutableInode:    r.Inode, ExecutableDevice: r.Device,
	}
	if !r.Found {
		m.Gid, m.EffectiveUid, m.Capabilities = r.GID, r.EUID, uint64(r.Capabilities)
		m.ExecutableDeleted, m.ExecutableInMemory = r.Deleted, r.InMemory
		if r.Script {
			m.Script = text(r.Filename)
		}
	}
	p := &process{message: m, parent: parent, started: r.Started, found: r.Found, container: a.containers.of(r.Cgroup, r.Time)}
	m.Container = p.container.told()
	if known := a.processes.get(r.Process); r.Found && known != nil {
		// Reported again because it is watched from now on.
		p = known
	}
	if previous != nil && !previous.forked {
		// A second program in one process: the first one stays visible above it.
		p.parent = previous
		m.ParentId = previous.message.GetId()
	}
	switch {
	case previous != nil:
		p.at, p.named, p.beside = previous.at, previous.named, previous.beside
		p.counted = previous.counted
		previous.forkHeld = false // told as what it became
		a.emitTimes(previous, r.Time)
		a.requests.forget(previous)
		a.processes.end(previous, r.Time)
		if p.adopted = previous.adopted; p.adopted != 0 && r.Time < p.adopted+uint64(adoptionLag) {
			a.adopt(p, p.adopted) // the kernel may have been told of what it was before
		}
	case parent != nil && !parent.beside: // else it is of the step that runs now: enterPod
		p.at = parent.at
	}
	if r.Found && r.Process == a.cfg.Self {
		p.at = nil
	}
	if r.Worker && p.worker == nil {
		w := &worker{}
		if previous != nil && previous.worker != nil {
			w = previous.worker
		}
		a.processes.employ(p, w)
	}
	if previous != nil {
		a.became(previous, p)
	}
	a.processes.put(p)
	if w := workerOf(p, previous); w != nil && r.Step && r.Process != a.cfg.Self {
		a.startStep(p, w, r, environment, secrets)
	} else if r.Container && p.container != nil && !p.named {
		before := p.at
		a.enterContainer(p, p.container, r, environment, secrets)
		if before == nil && p.at != nil {
			a.adopt(p, r.Time)
			a.requests.enter(r.PID)
		}
	} else if p.at == nil && p.worker == nil && r.Process != a.cfg.Self && a.enterPod(p) {
		a.adopt(p, r.Time)
		a.requests.enter(r.PID)
	}
	m.Arguments = a.redactor.arguments(splitArguments(r.Arguments), p.secrets())
	if p.at != nil {
		a.requests.look(looking{key: fileKey{r.Inode, r.Device}, pid: r.PID, path: m.GetExecutable(), exe: true}, r.Changed)
	}
	m.ExecutableSha256 = a.digests.of(p, fileKey{r.Inode, r.Device}, r.Changed, r.PID)
	if r.Found {
		if r.Process == a.cfg.Self {
			a.foundSelf = true
			if w := p.ofWorker(); w != nil {
				a.starter, w.worker.uses = w.worker, true
				if a.cfg.BeginsJob {
					a.begins(w)
				}
			}
		}
		a.found.Processes++
		return // it did not start now
	}
	a.emit(&sallyportv1.Event{
		TimeUnixNano: a.wall(r.Time),
		Body:         &sallyportv1.Event_ProcessExecuted{ProcessExecuted: &sallyportv1.ProcessExecuted{}},
	}, p, p.at, "exec")
	a.hook(p, r.Time)
}

// workerOf returns the worker whose child p is, or nil.
func workerOf(p, previous *process) *process {
	for _, q := range []*process{p, previous} {
		if q != nil && q.parent != nil && q.parent.worker != nil {
			return q.parent
		}
	}
	return nil
}

func (a *Agent) exit(r *bpf.Exit) {
	p := a.processes.get(r.Process)
	if p != nil && p.forkHeld {
		a.emitFork(p)
	}
	a.emitTimes(p, r.Time)
	a.emit(&sallyportv1.Event{
		TimeUnixNano: a.wall(r.Time),
		Body: &sallyportv1.Event_ProcessExited{ProcessExited: &sallyportv1.ProcessExited{
			ExitCode: uint32(r.Code), Signal: uint32(r.Signal),
		}},
	}, p, p.attributed(), "exit")
	if p == nil {
		return
	}
	if p.worker != nil && !p.worker.elsewhere {
		a.endJobs(p, r.Time, sallyportv1.JobEndReason_JOB_END_REASON_WORKER_EXITED)
	}
	a.requests.forget(p)
	a.processes.end(p, r.Time)
	if p.worker != nil {
		a.left(p)
	}
}

// executablePath prefers the path that the kernel resolved to the one that was
// asked for.
func executablePath(r *bpf.Exec) string {
	if r.Executable != "" {
		return r.Executable
	}
	return r.Filename
}

// The file type bits of i_mode (stat(2)).
const (
	modeType   = 0o170000
	modeSocket = 0o140000
	modeFile   = 0o100000
	modeDevice = 0o020000
	modePipe   = 0o010000
)

func descriptor(d bpf.Descriptor) *sallyportv1.Descriptor {
	var kind sallyportv1.DescriptorKind
	switch d.Mode & modeType {
	case modeSocket:
		kind = sallyportv1.DescriptorKind_DESCRIPTOR_KIND_SOCKET
	case modeFile:
		kind = sallyportv1.DescriptorKind_DESCRIPTOR_KIND_FILE
	case modeDevice:
		kind = sallyportv1.DescriptorKind_DESCRIPTOR_KIND_DEVICE
	case modePipe:
		kind = sallyportv1.DescriptorKind_DESCRIPTOR_KIND_PIPE
	default:
		return nil
	}
	return &sallyportv1.Descriptor{Kind: kind, Inode: d.Inode}
}

func pipeDescriptor(d bpf.Descriptor) *sallyportv1.Descriptor {
	if d.Mode&modeType != modePipe {
		return nil
	}
	return descriptor(d)
}
