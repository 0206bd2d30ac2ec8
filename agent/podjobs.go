package agent

import (
	"github.com/sallyport-ci/sallyport/bpf"
	sallyportv1 "github.com/sallyport-ci/sallyport/proto/sallyport/v1"
)

// runnerPodLabel is the label by which the runner's container hooks say for which runner
// they made a pod: its value is the name of the runner's own pod, in the same namespace
// (actions/runner-container-hooks, packages/k8s).
const runnerPodLabel = "runner-pod"

// runnerOf returns the worker of the runner for which a pod was made, if it runs on this
// machine; nil if not.
func (a *Agent) runnerOf(c *contained) (here *process) {
	a.processes.eachWorker(func(w *process) {
		if w.container != nil && w.container.pod != c.pod && samePod(w.container, c) {
			here = w
		}
	})
	return here
}

// enterMade attributes a program in a pod that a runner's hooks made for a job that is not known
// here: the environment, which the runner gave it, is all that names it. It says false for all
// other programs.
//
// Where the runner itself is on another machine, it is an execution of its own beside that which
// the runner's machine tells of; the container's first process stands for the worker. Where the
// runner is here but has run no step in its own pod, it is the runner's worker's.
func (a *Agent) enterMade(p *process, c *contained, r *bpf.Exec, environment map[string]string, values []string) bool {
	if c.pod == nil || environment["GITHUB_REPOSITORY"] == "" || environment["GITHUB_RUN_ID"] == "" || environment["GITHUB_JOB"] == "" {
		return false
	}
	a.containers.pods.learn(c.pod, namingPatience)
	if c.pod.runner == "" {
		return false
	}
	w := a.runnerOf(c)
	if w != nil && len(w.worker.executions) > 0 {
		return false // it is said to be of a job that this runner does not run
	}
	if w == nil {
		w = c.pod.worker
	}
	if w == nil || w.endedAt != 0 {
		w = a.processes.firstIn(c)
		a.processes.employ(w, &worker{elsewhere: true})
		c.pod.worker = w
	}
	// Paths of the environment are those of another machine's or container's files.
	a.beginStep(p, w, r, fromEnvironment(environment), values)
	return true
}

// became has a program that takes the place of one that stands for a worker elsewhere stand
// for it, too.
func (a *Agent) became(previous, p *process) {
	if previous.worker == nil || !previous.worker.elsewhere {
		return
	}
	a.processes.employ(p, previous.worker)
	if c := previous.container; c.pod.worker == previous {
		p.container, p.message.Container = c, c.told() // wherever it moved
		c.pod.worker = p
	}
}

// firstIn returns the oldest process of a container that runs; there must be one.
func (t *processTable) firstIn(c *contained) *process {
	var first *process
	for _, p := range t.byID {
		if p.container == c && p.endedAt == 0 && (first == nil || p.message.GetId() < first.message.GetId()) {
			first = p
		}
	}
	return first
}

// enterPod attributes a program in a runner's pod that nobody in a job started: the engine of
// Docker in Docker, where containers have no control group of their own (rootless, without
// systemd), starts them as children of its own. The pod is the job's alone.
func (a *Agent) enterPod(p *process) bool {
	if p.container == nil || p.container.pod == nil {
		return false
	}
	w, e := a.jobOfContainer(p.container)
	if e == nil || w.within(p) || p.parent != nil && p.parent.container == w.container && w.within(p.parent) {
		return false // or the runner's own
	}
	p.at = w.worker.now(e)
	return true
}

// takeAlong attributes what lives in a runner's pod to the job that begins there: what Docker's
// daemon fetches, it fetches for the job. The worker and what started it stay the runner's.
func (a *Agent) takeAlong(w *process, e *execution, boot uint64) {
	c := w.container
	if c == nil || c.pod == nil || w.worker.elsewhere {
		return
	}
	for _, p := range a.processes.byID {
		if p.endedAt != 0 || p.container == nil || p.container.pod != c.pod || p.worker != nil || w.within(p) || p.within(w) ||
			p.message.GetId() == a.cfg.Self || p.at != nil {
			continue
		}
		p.at, p.beside = e.between, true
		a.adopt(p, boot)
		a.requests.enter(p.message.GetPid())
	}
}

// leaveBehind has what lives in a runner's pod belong to no job, as one ends.
func (a *Agent) leaveBehind(e *execution) {
	for _, p := range a.processes.byID {
		if p.beside && p.at == e.between {
			p.at, p.beside = nil, false
		}
	}
}

// podGone ends the jobs of a pod whose runner is elsewhere: of the first process's end the
// kernel tells before that of the others, which it takes along.
func (a *Agent) podGone(c *contained, boot uint64) {
	if c.pod == nil || c.pod.worker == nil || c.pod.worker.container != c {
		return
	}
	a.endJobs(c.pod.worker, boot, sallyportv1.JobEndReason_JOB_END_REASON_WORKER_EXITED)
	c.pod.worker = nil
}
