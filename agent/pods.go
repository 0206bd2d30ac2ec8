package agent

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/sallyport-ci/sallyport/agent/cri"
	"github.com/sallyport-ci/sallyport/bpf"
	sallyportv1 "github.com/sallyport-ci/sallyport/proto/sallyport/v1"
)

// runnerPodLabel is the label by which the runner's container hooks say for which runner
// they made a pod: its value is the name of the runner's own pod, in the same namespace
// (actions/runner-container-hooks, packages/k8s).
const runnerPodLabel = "runner-pod"

const (
	// maxLabels bounds the labels that are kept of a pod, maxLabel the bytes of each: more
	// than Kubernetes allows a name with its prefix.
	maxLabels = 32
	maxLabel  = 320
	// askTimeout bounds a question to a container runtime. labelPatience is how long the
	// first program of a container waits for the answer: the runtime is asked when the
	// container's control group is made, which is tens of milliseconds before. A program whose
	// environment names a job that is not known here waits longer: it may be all that names it.
	askTimeout     = 2 * time.Second
	labelPatience  = 100 * time.Millisecond
	namingPatience = time.Second
	// maxInVain is after how many programs that have waited in vain none waits any more,
	// until the runtime answers.
	maxInVain = 3
	// minAskPause and maxAskPause bound the pause between two questions for one pod.
	minAskPause = time.Second
	maxAskPause = time.Minute
	// maxPodQuestions is how many pods may wait to be asked for.
	maxPodQuestions = 1024
)

// pod is a pod on this machine.
type pod struct {
	uid string
	// containers is how many of its containers there are.
	containers int
	// name, namespace, labels that are worth telling, and the name of the pod of the runner for
	// which this one was made, if its labels say so; all if known.
	name, namespace, runner string
	labels                  map[string]string
	known                   bool
	// answer is where the answer to the question comes that is under way, nil if none is.
	answer chan podAnswer
	// nextAsk is when it may be asked for again, pause how long it was until then.
	nextAsk uint64
	pause   time.Duration
	// worker stands for the runner's worker, if that is on another machine (elsewhere).
	worker *process
}

type podQuestion struct {
	uid    string
	answer chan podAnswer // with room for it
}

type podAnswer struct {
	pod   cri.Pod
	known bool
}

// podTable knows the pods on this machine by their UIDs.
type podTable struct {
	pods      map[string]*pod
	questions chan podQuestion
	inVain    int
}

func newPodTable() podTable {
	return podTable{pods: make(map[string]*pod), questions: make(chan podQuestion, maxPodQuestions)}
}

// entered returns the pod of a container that has come to be, nil if it is in none. The
// runtime is asked at once, so that the answer is there when the first program starts.
func (t *podTable) entered(uid string) *pod {
	if uid == "" {
		return nil
	}
	p := t.pods[uid]
	if p == nil {
		p = &pod{uid: uid}
		t.pods[uid] = p
	}
	p.containers++
	// That the runtime did not know the pod while it was being made says nothing now.
	p.nextAsk, p.pause = 0, 0
	t.ask(p, 0)
	return p
}

// left notes that a container of a pod has gone.
func (t *podTable) left(p *pod) {
	if p == nil {
		return
	}
	if p.containers--; p.containers == 0 && t.pods[p.uid] == p {
		delete(t.pods, p.uid)
	}
}

// ask asks for a pod unless it is known, has been asked for, or was just now.
func (t *podTable) ask(p *pod, now uint64) {
	if p.known || p.answer != nil || now < p.nextAsk {
		return
	}
	answer := make(chan podAnswer, 1)
	select {
	case t.questions <- podQuestion{p.uid, answer}:
		p.answer = answer
		p.pause = min(max(minAskPause, 2*p.pause), maxAskPause)
		p.nextAsk = now + uint64(p.pause)
	default: // many wait: a later program asks
	}
}

// learn takes the answer for a pod if there is one, and waits for it as long as told to.
func (t *podTable) learn(p *pod, patience time.Duration) {
	if p.answer == nil {
		return
	}
	take := func(a podAnswer) {
		t.inVain = 0
		p.answer, p.known = nil, a.known
		p.name, p.namespace, p.runner, p.labels = text(a.pod.Name), text(a.pod.Namespace), text(a.pod.Labels[runnerPodLabel]), keptLabels(a.pod.Labels)
	}
	select {
	case a := <-p.answer:
		take(a)
		return
	default:
	}
	if patience == 0 || t.inVain >= maxInVain {
		return
	}
	timeout := time.NewTimer(patience)
	defer timeout.Stop()
	select {
	case a := <-p.answer:
		take(a)
	case <-timeout.C:
		t.inVain++
	}
}

// answerQuestions asks the machine's container runtime, off the path of events, until stop
// is closed.
func (t *podTable) answerQuestions(ctx context.Context, root string, log *slog.Logger, stop <-chan struct{}) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		<-stop
		cancel()
	}()
	runtime := cri.New(root)
	silent := false // it was said that the runtime does not answer
	for {
		select {
		case <-stop:
			return
		case q := <-t.questions:
			asking, done := context.WithTimeout(ctx, askTimeout)
			told, known, err := runtime.Pod(asking, q.uid)
			done()
			switch {
			case err == nil:
				silent = false
			case !silent && ctx.Err() == nil:
				silent = true
				level := slog.LevelWarn
				if errors.Is(err, cri.ErrNoRuntime) {
					level = slog.LevelInfo // Docker's or Podman's pods, or none of Kubernetes
				}
				log.Log(ctx, level, "labels of pods are not known", "error", err)
			}
			q.answer <- podAnswer{told, known}
		}
	}
}

// keptLabels returns the labels that are worth telling: not what the kubelet gives every pod, nor
// hashes of templates; the first maxLabels by name.
func keptLabels(labels map[string]string) map[string]string {
	told := make(map[string]string)
	for _, name := range slices.Sorted(maps.Keys(labels)) {
		value := labels[name]
		if name == "" || strings.HasPrefix(name, "io.kubernetes.") || strings.HasSuffix(name, "-hash") || len(name) > maxLabel || len(value) > maxLabel {
			continue
		}
		if len(told) == maxLabels {
			break
		}
		told[text(name)] = text(value)
	}
	return told
}

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
