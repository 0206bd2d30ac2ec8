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
	// at is the job that its processes belong to, if that is known of the container
	// itself.
	at *attribution
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
	t.pods.learn(c.pod, first)
	if c.pod.known {
		c.labelled = true
		c.message = proto.CloneOf(c.message) // who has it may be read
		c.message.Pod, c.message.PodNamespace = text(c.pod.told.Name), text(c.pod.told.Namespace)
		c.message.PodLabels = c.pod.labels()
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
func (a *Agent) enterContainer(p *process, c *contained, r *bpf.Exec, environment map[string]string, values []string) {
	if e, m := a.executionOf(environment); e != nil {
		e.secrets.add(values)
		p.at = &attribution{message: m, secrets: e.secrets}
		if c.at == nil {
			c.at = e.between
		}
		return
	}
	if a.enterElsewhere(p, c, r, environment, values) {
		return
	}
	if c.at == nil {
		c.at = a.jobOfContainer(c)
	}
	p.at = c.at
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

func (a *Agent) jobOfContainer(c *contained) *attribution {
	var inPod, only *attribution
	jobs := 0
	a.processes.eachWorker(func(w *process) {
		for _, e := range w.worker.executions {
			if e.ended {
				continue
			}
			jobs++
			at := w.worker.last // the step that runs now, if it is this job's
			if at == nil || at.message.GetExecutionId() != e.between.message.GetExecutionId() {
				at = e.between
			}
			only = at
			if host := w.container; host != nil && samePod(host, c) {
				inPod = at
			}
		}
	})
	switch {
	case inPod != nil:
		return inPod
	case jobs == 1 && c.group.PodUID == "":
		return only
	default:
		return nil
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
	if of := c.pod.runnerPod(); of != "" {
		return of == pod
	}
	return strings.HasPrefix(c.message.GetPod(), pod+"-")
}
