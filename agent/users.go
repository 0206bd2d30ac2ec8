package agent

import (
	"context"
	"errors"
)

// ErrNoUser says that whoever wants to count on the agent is in no job that it sees.
var ErrNoUser = errors.New("the agent sees no job that this process is of")

// Use notes that the job of a process counts on an agent that another job has started
// (Config.EndsWithJobs): it goes on until the runner's worker of that job has ended, too.
func (a *Agent) Use(ctx context.Context, pid uint32) error {
	a.catchUp(ctx)
	a.mu.Lock()
	defer a.mu.Unlock()
	if p := a.processes.byPID(pid); p != nil && pid != 0 {
		if w := p.ofWorker(); w != nil {
			w.worker.uses = true
			return nil
		}
	}
	return ErrNoUser
}

// Users returns how many jobs count on the agent: that which started it, and those of Use.
func (a *Agent) Users() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.users()
}

// Unused is closed when the last job that counted on the agent has ended.
func (a *Agent) Unused() <-chan struct{} { return a.unused }

func (a *Agent) users() int {
	n := 0
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
