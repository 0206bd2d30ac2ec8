// Package arc plays a node of a cluster with the Actions Runner Controller: a real
// containerd with runner pods and the pods that the runner's container hooks make, and the
// real agent, which tells what each does as a part of which job.
package arc

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sallyport-ci/sallyport/agent"
	"github.com/sallyport-ci/sallyport/bpf"
	sallyportv1 "github.com/sallyport-ci/sallyport/proto/sallyport/v1"
)

// seen is an event of this test's pods.
type seen struct {
	*sallyportv1.Event
	process *sallyportv1.Process
	at      *sallyportv1.Attribution
}

// sink keeps what happened in pods.
type sink struct {
	mu     sync.Mutex
	events []seen
}

// Publish implements agent.Sink.
func (s *sink) Publish(_ context.Context, b *sallyportv1.EventBatch) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, e := range b.GetEvents() {
		x := seen{Event: e}
		if e.GetProcess() > 0 {
			x.process = b.GetProcesses()[e.GetProcess()-1]
		}
		if e.GetAttribution() > 0 {
			x.at = b.GetAttributions()[e.GetAttribution()-1]
		}
		if x.process.GetContainer().GetPodNamespace() == "arc-runners" {
			s.events = append(s.events, x)
		}
	}
	return nil
}

// await returns the first event that fits.
func (s *sink) await(t *testing.T, what string, fits func(seen) bool) seen {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		s.mu.Lock()
		events := s.events
		s.mu.Unlock()
		for _, e := range events {
			if fits(e) {
				return e
			}
		}
		if time.Now().After(deadline) {
			for _, e := range events {
				t.Logf("%T %s %v", e.Body, e.process.GetExecutable(), e.at)
			}
			t.Fatalf("no %s among %d events", what, len(events))
		}
	}
}

func watch(t *testing.T, root string) *sink {
	t.Helper()
	sensor, err := bpf.Open(bpf.Config{})
	var unsupported *bpf.UnsupportedError
	if errors.As(err, &unsupported) && os.Getenv("SALLYPORT_REQUIRE_ALL") == "" {
		t.Skip("skipped: " + unsupported.Missing)
	}
	if err != nil {
		t.Fatal(err)
	}
	s := &sink{}
	a, err := agent.New(agent.Config{AgentID: "node", Hostname: "node", Version: "v", Source: sensor, Watcher: sensor, Sink: s, MachineRoot: root})
	if err != nil {
		t.Fatal(errors.Join(err, sensor.Close()))
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	done := make(chan error, 1)
	go func() { done <- a.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	<-a.Armed()
	return s
}

// TestPods: what runs in a runner's pod and in the pods that its hooks made belongs to its
// job, by environment and labels; what another runner's pod does does not.
func TestPods(t *testing.T) {
	n := newNode(t)
	var asked sync.Map
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { asked.Store(r.URL.Path, true) }))
	t.Cleanup(server.Close)

	// So long that the pod of its job cannot be called by the whole of it.
	runner := "arc-" + strings.Repeat("x", 45) + "-runner-abcde"
	scaleSet := map[string]string{"actions.github.com/scale-set-name": "arc", "actions.github.com/scale-set-namespace": "arc-runners", "pod-template-hash": "5d8f"}
	runnerPod := n.pod(1, runner, scaleSet)
	runnerContainer := runnerPod.start("runner", "/runner/Runner.Worker") // before the agent
	// An engine beside the runner, which starts what it starts in its own control group.
	engine := runnerPod.start("dind", "/bin/busybox", "sh", "-c", "while ! [ -e /go ]; do /bin/busybox sleep 0.05; done; /mark/rootless/true; /bin/busybox sleep 1000")
	s := watch(t, n.root)
	runnerPod.exec(runnerContainer, "/bin/busybox", "touch", "/go")
	s.await(t, "runner's step", func(e seen) bool { return e.process.GetExecutable() == "/mark/runner/true" })
	runnerPod.exec(engine, "/bin/busybox", "touch", "/go")
	runnerPod.dind(engine, "/mark/dind/true")

	job := n.pod(2, runner[:54]+"-workflow", map[string]string{"runner-pod": runner})
	container := job.start("job", "/bin/busybox", "tail", "-f", "/dev/null")
	job.exec(container, "/bin/busybox", "env", "GITHUB_REPOSITORY=acme/arc", "GITHUB_RUN_ID=7", "GITHUB_RUN_ATTEMPT=1", "GITHUB_JOB=build", "GITHUB_ACTION=test",
		"/mark/job-pod/wget", "-q", "-O", "/dev/null", server.URL+"/job-pod")
	job.exec(container, "/mark/silent/true")

	other := n.pod(3, runner+"-x", map[string]string{"runner-pod": "arc-of-somebody-else"})
	other.exec(other.start("job", "/bin/busybox", "tail", "-f", "/dev/null"), "/mark/other-runner/true")

	nobody := n.pod(4, "database", nil)
	nobody.start("main", "/mark/nobody/true")

	away := n.pod(5, "arc-away-workflow", map[string]string{"runner-pod": "arc-away"})
	container = away.start("job", "/bin/busybox", "tail", "-f", "/dev/null")
	away.exec(container, "/bin/busybox", "env", "GITHUB_REPOSITORY=acme/arc", "GITHUB_RUN_ID=8", "GITHUB_RUN_ATTEMPT=1", "GITHUB_JOB=deploy", "GITHUB_ACTION=ship",
		"/bin/busybox", "sh", "-c", "/mark/elsewhere/true; exec /mark/elsewhere/wget -q -O /dev/null "+server.URL+"/elsewhere")
	away.exec(container, "/bin/busybox", "sh", "-c", `exec /bin/busybox env GITHUB_REPOSITORY=acme/arc GITHUB_RUN_ID=8 GITHUB_RUN_ATTEMPT=1 GITHUB_JOB=deploy GITHUB_ACTION=notify /mark/second/true`)
	away.remove()

	for mark, want := range map[string]struct{ run, job, step string }{
		"runner": {"7", "build", "compile"}, "job-pod": {"7", "build", "test"}, "silent": {"7", "build", ""},
		"other-runner": {}, "nobody": {}, "elsewhere": {"8", "deploy", "ship"}, "second": {"8", "deploy", "notify"},
		"rootless": {"7", "build", "compile"}, "dind": {"7", "build", "compile"},
	} {
		for _, program := range []string{"true", "wget"} {
			if (program == "wget") != (mark == "job-pod") && mark != "elsewhere" {
				continue
			}
			e := s.await(t, mark, func(e seen) bool {
				return e.GetProcessExecuted() != nil && e.process.GetExecutable() == "/mark/"+mark+"/"+program
			})
			// Without an environment it is a part of whatever step runs.
			if got := e.at; got.GetRunId() != want.run || got.GetJob() != want.job || want.step != "" && got.GetStep() != want.step {
				t.Errorf("%s/%s is of %v, want %v", mark, program, got, want)
			}
		}
	}
	for _, path := range []string{"/job-pod", "/elsewhere"} {
		if _, ok := asked.Load(path); !ok {
			t.Errorf("nobody asked for %s", path)
		}
		mark := "/mark" + path + "/wget"
		e := s.await(t, "connection of "+mark, func(e seen) bool { return e.GetFlow() != nil && e.process.GetExecutable() == mark })
		if e.at.GetRepository() != "acme/arc" {
			t.Errorf("connection of %s: %v", mark, e.at)
		}
	}
	labels := s.await(t, "runner's mark", func(e seen) bool { return e.process.GetExecutable() == "/mark/runner/true" }).process.GetContainer()
	if labels.GetPodLabels()["actions.github.com/scale-set-name"] != "arc" || len(labels.GetPodLabels()) != 2 || labels.GetPod() != runner ||
		labels.GetName() != "runner" || labels.GetImage() != image {
		t.Errorf("container of the runner: %v", labels)
	}
	end := s.await(t, "end of the job of a runner elsewhere", func(e seen) bool { return e.GetJobEnded() != nil && e.at.GetRunId() == "8" })
	if len(end.GetJobEnded().GetSurvivors()) != 0 {
		t.Errorf("survivors %v", end.GetJobEnded())
	}
}
