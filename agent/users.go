package agent

import (
	"context"
	"errors"
)

// ErrNoUser says that whoever wants to count on the agent is in no job that it sees.
var ErrNoUser = errors.New("the agent sees no job that this process is of")

// ErrEnds says that the agent is about to end: it sees nothing more.
var ErrEnds = errors.New("the agent has been stopped")

// Use notes that the job of a process counts on an agent that another job has started
// (Config.EndsWithJobs): it goes on until the runner's worker of that job has ended, too. begins
// says, as Config.BeginsJob does of the other, that the process is of the first step of its job.
func (a *Agent) Use(ctx context.Context, pid uint32, begins bool) error {
	a.catchUp(ctx)
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.ends.Load() {
		return ErrEnds
	}
	if p := a.processes.byPID(pid); p != nil && pid != 0 {
		if w := p.ofWorker(); w != nil {
			w.worker.uses = true
			if begins {
				a.begins(w)
			}
			return nil
		}
	}
	return ErrNoUser
}

// Ends says whether the agent is about to end: it sees nothing more, and may still send what it saw.
func (a *Agent) Ends() bool { return a.ends.Load() }

// Users returns how many jobs count on the agent: that which started it, and those of Use.
func (a *Agent) Users() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.users()
}

// EndUnlessUsed says whether the agent may end: it may not while another job than that which
// started it counts on it. If it may, none can count on it any more.
func (a *Agent) EndUnlessUsed() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	used := false
	a.processes.eachWorker(func(w *process) { used = used || w.worker.uses && w.worker != a.starter })
	if used {
		return false
	}
	a.ends.Store(true)
	return true
}

// Unused is closed when the last job that counted on the agent has ended.
func (a *Agent) Unused() <-chan struct{} { return a.unused }

func (a *Agent) users() int {
	n := 0
	if a.cfg.EndsWithJobs && !a.foundSelf {
		n++ // the job that started it, which it has not heard of yet
	}
	a.processes.eachWorker(func(w *process) {
		if w.worker.uses {
			n++
		}
	})
	return n
}

// left notes that a worker has ended. A runner that is killed, or loses its job, runs no
// last step that would end the agent: without this it would stay, and answer for the jobs
// that come after.
func (a *Agent) left(w *process) {
	if a.cfg.EndsWithJobs && w.worker.uses && a.users() == 0 {
		a.ends.Store(true) // before somebody comes to count on it
		a.unusedOnce.Do(func() { close(a.unused) })
	}
}

// ofWorker returns the worker that a process is of, nil if none.
func (p *process) ofWorker() *process {
	for q := p; q != nil; q = q.parent {
		if q.worker != nil {
			return q
		}
	}
	return nil
}
