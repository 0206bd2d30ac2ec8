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
)

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
