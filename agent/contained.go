package agent

import (
	"strings"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/sallyport-ci/sallyport/agent/container"
	"github.com/sallyport-ci/sallyport/bpf"
	sallyportv1 "github.com/sallyport-ci/sallyport/proto/sallyport/v1"
)

// maxGroups bounds how many control groups of containers there may be at a time.
const maxGroups = 1 << 14

// contained is a container on this machine, or a group of one.
type contained struct {
	group container.Group
	// groups is how many control groups it has.
	groups  int
	message *sallyportv1.Container
	// described is true once the engines' files have been read.
	described bool
	// pod that it belongs to, nil if none; labelled is true once message has its labels.
	pod      *pod
	labelled bool
	// execution of a job that its programs belong to, if it is known of the container itself,
	// and the worker of it: nil if it was named by an environment.
	execution *execution
	worker    *process
}

// containerTable knows the containers by their control groups.
type containerTable struct {
	root   string // of the machine
	groups map[uint64]*contained
	byID   map[string]*contained
	pods   podTable
}

func newContainerTable(root string) containerTable {
	return containerTable{root: root, groups: make(map[uint64]*contained), byID: make(map[string]*contained), pods: newPodTable()}
}

// cgroup notes a control group, if it is a container's.
func (a *Agent) cgroup(r *bpf.Cgroup) {
	t := &a.containers
	if c := t.groups[r.ID]; c != nil {
		delete(t.groups, r.ID)
		if c.groups--; c.groups == 0 {
			a.podGone(c, a.now)
			t.pods.left(c.pod)
			if t.byID[c.group.ID] == c {
				delete(t.byID, c.group.ID)
			}
		}
	}
	group := container.ParseGroup(r.Path)
	if r.Removed || group.ID == "" || len(t.groups) >= maxGroups {
		return
	}
	c := t.byID[group.ID]
	if c == nil || c.group != group {
		c = &contained{group: group, message: &sallyportv1.Container{Id: group.ID}, pod: t.pods.entered(group.PodUID)}
		t.byID[group.ID] = c
	}
	c.groups++
	t.groups[r.ID] = c
}

// of returns the container of a control group, nil outside of containers. The engine's
// files are read once, when the container runs its first program; its pod's labels come from
// the runtime, soon.
func (t *containerTable) of(cgroup, now uint64) *contained {
	c := t.groups[cgroup]
	if c == nil {
		return c
	}
	first := !c.described
	if first {
		c.described = true
		if d, ok := container.Describe(t.root, c.group.ID); ok {
			c.message = &sallyportv1.Container{
				Id: c.group.ID, Image: text(d.Image), Name: text(d.Name), Pod: text(d.Pod), PodNamespace: text(d.PodNamespace),
			}
		}
	}
	if c.pod == nil || c.labelled {
		return c
	}
	t.pods.ask(c.pod, now)
	if first {
		t.pods.learn(c.pod, labelPatience)
	} else {
		t.pods.learn(c.pod, 0)
	}
	if c.pod.known {
		c.labelled = true
		c.message = proto.CloneOf(c.message) // who has it may be read
		c.message.Pod, c.message.PodNamespace, c.message.PodLabels = c.pod.name, c.pod.namespace, c.pod.labels
	}
	return c
}

// message of a container that may be nil.
func (c *contained) told() *sallyportv1.Container {
	if c == nil {
		return nil
	}
	return c.message
}

// enterContainer attributes a program that somebody outside of every job started in a
// container: the engine did, for a job. Which job it is, say, in this order: the
// environment, if it names a job that runs on this machine, or one of a runner elsewhere that
// had this pod made; the container itself, if it is known; its pod, if that is a runner's or
// was made for one; or, outside of pods, that only one job runs here. docs/attribution.md has
// the reasons.
//
// A program that takes the place of such a one in its process may still name another step:
// the runner's hooks start a script that sets the environment. The first environment that
// names a job is the last that is looked at, since then the job's own programs run.
func (a *Agent) enterContainer(p *process, c *contained, r *bpf.Exec, environment map[string]string, values []string) {
	if e, m := a.executionOf(environment); e != nil {
		e.secrets.add(values)
		p.at, p.named = &attribution{message: m, secrets: e.secrets}, true
		if c.execution == nil {
			c.execution = e
		}
		return
	}
	if a.enterMade(p, c, r, environment, values) {
		p.named = true
		return
	}
	if p.at != nil {
		return // it is of what it was before
	}
	if c.execution == nil {
		c.worker, c.execution = a.jobOfContainer(c)
	}
	switch {
	case c.execution == nil:
	case c.worker == nil || c.execution.ended:
		p.at = c.execution.between
	default:
		p.at = c.worker.worker.now(c.execution)
	}
}

// adoptionLag is how long what a program forks may still be unknown to the kernel as a
// part of its step.
const adoptionLag = 2 * time.Second

// adopt has the kernel take a program for a part of a step, if it belongs to one.
func (a *Agent) adopt(p *process, since uint64) {
	if p.at == nil || a.cfg.Watcher == nil {
		return
	}
	p.adopted = since
	if _, err := a.cfg.Watcher.Adopt(p.message.GetId(), p.message.GetPid()); err != nil {
		a.log.Warn("not all of a program in a container is seen", "pid", p.message.GetPid(), "error", err)
	}
}

// executionOf returns the execution on this machine that an environment names, and the
// attribution that it gives.
func (a *Agent) executionOf(environment map[string]string) (*execution, *sallyportv1.Attribution) {
	if environment["GITHUB_REPOSITORY"] == "" || environment["GITHUB_RUN_ID"] == "" {
		return nil, nil
	}
	m := fromEnvironment(environment)
	var found *execution
	a.processes.eachWorker(func(w *process) {
		for _, e := range w.worker.executions {
			of := e.between.message
			if !e.ended && of.GetRepository() == m.GetRepository() && of.GetRunId() == m.GetRunId() &&
				of.GetRunAttempt() == m.GetRunAttempt() && of.GetJob() == m.GetJob() {
				found = e
			}
		}
	})
	if found == nil {
		return nil, nil
	}
	whole := proto.CloneOf(found.between.message)
	whole.Step, whole.Action = m.GetStep(), m.GetAction()
	return found, whole
}

// now returns the step of an execution that began last, and the execution without a step
// where none did since another job's.
func (w *worker) now(e *execution) *attribution {
	if at := w.last; at != nil && at.message.GetExecutionId() == e.between.message.GetExecutionId() {
		return at
	}
	return e.between
}

// jobOfContainer returns the job that a container is for as far as only the machine says it,
// with its worker; nil if it does not.
func (a *Agent) jobOfContainer(c *contained) (w *process, e *execution) {
	type job struct {
		w *process
		e *execution
	}
	var inPod, only job
	jobs := 0
	a.processes.eachWorker(func(w *process) {
		for _, e := range w.worker.executions {
			if e.ended {
				continue
			}
			jobs++
			only = job{w, e}
			if host := w.container; host != nil && samePod(host, c) {
				inPod = only
			}
		}
	})
	switch {
	case inPod.e != nil:
		return inPod.w, inPod.e
	case jobs == 1 && c.group.PodUID == "":
		return only.w, only.e
	default:
		return nil, nil
	}
}

// samePod says whether a container is in the pod of a runner, or in one that the runner's
// container hooks made. Such a pod has a label with the name of the runner's; where labels are
// not known its name begins with the runner's, unless that was too long.
func samePod(runner, c *contained) bool {
	if runner.group.PodUID != "" && runner.group.PodUID == c.group.PodUID {
		return true
	}
	pod := runner.message.GetPod()
	if pod == "" || runner.message.GetPodNamespace() != c.message.GetPodNamespace() {
		return false
	}
	if c.pod != nil && c.pod.runner != "" {
		return c.pod.runner == pod
	}
	return strings.HasPrefix(c.message.GetPod(), pod+"-")
}
