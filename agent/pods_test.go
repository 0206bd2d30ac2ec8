package agent

import (
	"context"
	"fmt"
	"maps"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	runtimev1 "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/sallyport-ci/sallyport/bpf"
	sallyportv1 "github.com/sallyport-ci/sallyport/proto/sallyport/v1"
)

// podRuntime is a container runtime with pods, by Kubernetes' own code of the interface.
type podRuntime struct {
	runtimev1.UnimplementedRuntimeServiceServer
	mu    sync.Mutex
	pods  map[string]*runtimev1.PodSandbox // by UID
	fault func(ctx context.Context) error
	asked int
}

func (f *podRuntime) ListPodSandbox(ctx context.Context, q *runtimev1.ListPodSandboxRequest) (*runtimev1.ListPodSandboxResponse, error) {
	f.mu.Lock()
	f.asked++
	fault, pod := f.fault, f.pods[q.GetFilter().GetLabelSelector()["io.kubernetes.pod.uid"]]
	f.mu.Unlock()
	if fault != nil {
		if err := fault(ctx); err != nil {
			return nil, err
		}
	}
	r := &runtimev1.ListPodSandboxResponse{}
	if pod != nil {
		r.Items = append(r.Items, pod)
	}
	return r, nil
}

func (f *podRuntime) setFault(fault func(context.Context) error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.fault = fault
}

// runtime has a container runtime listen on the machine.
func (m *machine) runtime() *podRuntime {
	m.t.Helper()
	path := filepath.Join(m.root, "run/containerd/containerd.sock")
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		m.t.Fatal(err)
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		m.t.Fatal(err)
	}
	f, s := &podRuntime{pods: make(map[string]*runtimev1.PodSandbox)}, grpc.NewServer()
	runtimev1.RegisterRuntimeServiceServer(s, f)
	m.t.Cleanup(s.Stop)
	go func() { _ = s.Serve(l) }() // ends with Stop
	return f
}

func podUID(n int) string { return fmt.Sprintf("%08d-89ab-cdef-0123-456789abcdef", n) }

// add makes a pod.
func (f *podRuntime) add(n int, namespace, name string, labels map[string]string) {
	all := map[string]string{
		"io.kubernetes.pod.uid": podUID(n), "io.kubernetes.pod.name": name, "io.kubernetes.pod.namespace": namespace, "pod-template-hash": "5d8",
	}
	maps.Copy(all, labels)
	f.mu.Lock()
	defer f.mu.Unlock()
	f.pods[podUID(n)] = &runtimev1.PodSandbox{
		Id: containerID(n), CreatedAt: 1, Labels: all,
		Metadata: &runtimev1.PodSandboxMetadata{Name: name, Uid: podUID(n), Namespace: namespace},
	}
}

// container makes control group n, of a container of pod number pod.
func (m *machine) container(n uint64, pod int) {
	m.group(n, fmt.Sprintf("/kubepods/pod%s/%s", podUID(pod), containerID(int(n))))
}

func in(cgroup uint64) func(*bpf.Exec) {
	return func(e *bpf.Exec) { e.Container, e.Cgroup = true, cgroup }
}

// TestPodLabels: labels are told with each program, and say which pod was made for which
// runner, also where the pod's name does not.
func TestPodLabels(t *testing.T) {
	m := newMachine(t)
	f := m.runtime()
	long := "arc-" + strings.Repeat("x", 45) + "-runner-abcde" // 62 characters; a pod's name has 63
	f.add(1, "arc", long, map[string]string{"actions.github.com/scale-set-name": "arc", "actions.github.com/enterprise": "example"})
	f.add(2, "arc", long[:54]+"-workflow", map[string]string{runnerPodLabel: long})
	f.add(3, "arc", long[:49]+"-step-12ab34cd", map[string]string{runnerPodLabel: "arc-other"})
	f.add(4, "elsewhere", "x", map[string]string{runnerPodLabel: long})
	f.add(5, "arc", long+"-x", map[string]string{runnerPodLabel: "arc-other"})
	for n := 1; n <= 5; n++ {
		m.container(uint64(n), n)
	}
	m.job("build", "compile", 1)
	m.job("test", "check", 0)
	for n, want := range []string{1: "build", 2: "build", 3: "", 4: "", 5: ""} {
		if n == 0 {
			continue
		}
		program := fmt.Sprint("/in/", n)
		m.exec(0, program, in(uint64(n)))
		e := m.execOf(program)
		if got := e.at.GetJob(); got != want {
			t.Errorf("in pod %d: job %q, want %q", n, got, want)
		}
		c := e.process.GetContainer()
		if c.GetPodNamespace() != "arc" && n != 4 || c.GetPod() == "" {
			t.Errorf("pod %d is told as %v", n, c)
		}
		if n == 1 && !maps.Equal(c.GetPodLabels(), map[string]string{"actions.github.com/scale-set-name": "arc", "actions.github.com/enterprise": "example"}) {
			t.Errorf("labels %v", c.GetPodLabels())
		}
	}
}

// TestDockerInAPod: a container that Docker made within a runner's pod has the pod's name
// and labels, though Kubernetes does not know it.
func TestDockerInAPod(t *testing.T) {
	m := newMachine(t)
	m.runtime().add(1, "arc", "arc-runner", map[string]string{"actions.github.com/scale-set-name": "arc"})
	m.container(1, 1)
	m.group(2, fmt.Sprintf("/kubepods/pod%s/%s/docker/%s", podUID(1), containerID(3), containerID(2)))
	m.job("build", "compile", 1)
	m.exec(0, "/in/docker", in(2))
	e := m.execOf("/in/docker")
	if c := e.process.GetContainer(); e.at.GetJob() != "build" || c.GetPod() != "arc-runner" || c.GetPodLabels()["actions.github.com/scale-set-name"] != "arc" {
		t.Errorf("%v of %v", c, e.at)
	}
}

// TestDaemonInARunnersPod: what Docker's daemon in a runner's pod does while a job runs, and
// what it starts without control groups of its own (rootless), belongs to the job; the runner
// itself does not.
func TestDaemonInARunnersPod(t *testing.T) {
	m := newMachine(t)
	f := m.runtime()
	f.add(1, "arc", "arc-runner", nil)
	f.add(2, "arc", "someone", nil)
	m.container(1, 1)
	m.container(2, 1)
	m.container(3, 2)
	at := func(cgroup uint64) func(*bpf.Exec) { return func(e *bpf.Exec) { e.Cgroup = cgroup } }
	daemon := m.exec(0, "/usr/bin/dockerd", in(2))
	beside := m.exec(0, "/usr/bin/not-the-runners", in(3))
	listener := m.exec(0, "/opt/runner/bin/Runner.Listener", in(1))
	connects := func(process, flow uint64) *sallyportv1.Attribution {
		m.tell(&bpf.Flow{Header: bpf.Header{Process: process}, ID: flow, State: bpf.FlowStarted, Protocol: 6, Direction: bpf.FlowOutbound})
		return m.await(t, m.script, "flow", func(e seen) bool { return e.GetFlow().GetId() == flow }).at
	}
	if got := connects(daemon, 1); got != nil {
		t.Errorf("before the job: %v", got)
	}
	worker := m.exec(listener, "/opt/runner/bin/Runner.Worker", func(e *bpf.Exec) { e.Worker, e.Cgroup = true, 1 })
	m.environment("build", "compile")
	m.exec(worker, "/bin/bash", func(e *bpf.Exec) { e.Step, e.Cgroup = true, 1 })
	for n, c := range []struct {
		process uint64
		job     string
	}{{daemon, "build"}, {listener, ""}, {beside, ""}} {
		if got := connects(c.process, uint64(n)+10); got.GetJob() != c.job {
			t.Errorf("process %d while the job runs: %v, want %q", c.process, got, c.job)
		}
	}
	m.exec(daemon, "/in/rootless", at(2))
	if got := m.execOf("/in/rootless").at; got.GetJob() != "build" || got.GetStep() != "compile" {
		t.Errorf("what the daemon starts: %v", got)
	}
	m.exec(listener, "/bin/update", at(1))
	if got := m.execOf("/bin/update").at; got != nil {
		t.Errorf("what the runner itself starts: %v", got)
	}
	m.tell(&bpf.Exit{Header: bpf.Header{Process: worker}, Worker: true})
	end := m.await(t, m.script, "end of job", func(e seen) bool { return e.GetJobEnded() != nil })
	for _, id := range m.survivors(end) {
		if id == daemon {
			t.Error("the daemon is said to have outlived the job")
		}
	}
	if got := connects(daemon, 20); got != nil {
		t.Errorf("after the job: %v", got)
	}
	// The next job of the same runner.
	worker = m.exec(listener, "/opt/runner/bin/Runner.Worker", func(e *bpf.Exec) { e.Worker, e.Cgroup = true, 1 })
	m.environment("test", "check")
	m.exec(worker, "/bin/bash", func(e *bpf.Exec) { e.Step, e.Cgroup = true, 1 })
	if got := connects(daemon, 21); got.GetJob() != "test" {
		t.Errorf("in the next job: %v", got)
	}
}

// TestManyLabels: what a pod's owner writes there is bounded.
func TestManyLabels(t *testing.T) {
	m := newMachine(t)
	labels := map[string]string{"big": strings.Repeat("x", maxLabel+1), "": "empty"}
	for n := range 100 {
		labels[fmt.Sprintf("l%02d", n)] = "v"
	}
	m.runtime().add(1, "arc", "p", labels)
	m.container(1, 1)
	m.exec(0, "/in/pod", in(1))
	got := m.execOf("/in/pod").process.GetContainer().GetPodLabels()
	if len(got) != maxLabels || got["l31"] != "v" {
		t.Errorf("%d labels: %v", len(got), got)
	}
}

// TestRuntimeInTrouble: a runtime that refuses, hangs or is not there costs labels, and the
// first programs a moment; programs are told, and labels come when it answers again.
func TestRuntimeInTrouble(t *testing.T) {
	m := newMachine(t)
	f := m.runtime()
	f.setFault(func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() })
	const pods = 20
	began := time.Now()
	for n := 1; n <= pods; n++ {
		f.add(n, "arc", fmt.Sprint("p", n), map[string]string{"n": fmt.Sprint(n)})
		m.container(uint64(n), n)
		m.exec(0, fmt.Sprint("/hangs/", n), in(uint64(n)))
	}
	last := m.execOf(fmt.Sprint("/hangs/", pods))
	if took := time.Since(began); took > (maxInVain+1)*labelPatience+time.Second {
		t.Errorf("%d pods took %v", pods, took)
	}
	if c := last.process.GetContainer(); c.GetId() == "" || len(c.GetPodLabels()) != 0 {
		t.Errorf("container %v", c)
	}
	f.setFault(func(context.Context) error { return status.Error(codes.Unavailable, "starting") })
	time.Sleep(50 * time.Millisecond)
	f.setFault(nil)
	deadline := time.Now().Add(time.Minute)
	for n := 0; ; n++ {
		program := fmt.Sprint("/again/", n)
		m.exec(0, program, func(e *bpf.Exec) { in(1)(e); e.Time = uint64(n+1) * uint64(maxAskPause) })
		if m.execOf(program).process.GetContainer().GetPodLabels()["n"] == "1" {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("labels never came")
		}
		time.Sleep(100 * time.Millisecond)
	}
}

// TestSlowRuntime: a program that names a job waits until it is known whether its pod was made
// for one.
func TestSlowRuntime(t *testing.T) {
	m := newMachine(t)
	f := m.runtime()
	f.add(1, "arc", "arc-runner-workflow", map[string]string{runnerPodLabel: "arc-runner"})
	f.setFault(func(context.Context) error { time.Sleep(3 * labelPatience); return nil })
	m.container(1, 1)
	m.exec(0, "/bin/tail", in(1))
	m.environment("build", "compile")
	m.exec(0, "/bin/sh", in(1))
	if e := m.execOf("/bin/sh"); e.at.GetStep() != "compile" {
		t.Errorf("it is of %v", e.at)
	}
}

// TestAskedOnce: a pod that is known is not asked for again, and one that nobody knows not
// with each program.
func TestAskedOnce(t *testing.T) {
	m := newMachine(t)
	f := m.runtime()
	f.add(1, "arc", "p", nil)
	m.container(1, 1)
	m.container(2, 2)
	for n := range 100 {
		m.exec(0, fmt.Sprint("/known/", n), in(1))
		m.exec(0, fmt.Sprint("/unknown/", n), in(2))
	}
	m.execOf("/unknown/99")
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.asked > 4 {
		t.Errorf("asked %d times", f.asked)
	}
}

// TestRunnerElsewhere: the pod of a job whose runner is on another node.
func TestRunnerElsewhere(t *testing.T) {
	m := newMachine(t)
	f := m.runtime()
	f.add(1, "arc", "arc-runner-workflow", map[string]string{runnerPodLabel: "arc-runner"})
	f.add(2, "arc", "someone", nil)
	m.container(1, 1)
	m.container(2, 1) // a service of the job
	m.container(3, 2)
	first := m.exec(0, "/bin/tail", in(1))
	m.environment("build", "compile")
	shell := m.exec(0, "/bin/sh", in(1))
	m.exec(shell, "/usr/bin/curl", func(e *bpf.Exec) { e.Cgroup = 1 })
	m.exec(0, "/bin/service", in(2))
	m.environment("build", "check")
	m.exec(0, "/bin/second", in(1))
	m.environment("deploy", "ship")
	m.exec(0, "/bin/not-a-job's", in(3))
	for program, want := range map[string]string{
		"/bin/tail": " ", "/bin/sh": "build compile", "/usr/bin/curl": "build compile", "/bin/second": "build check",
		"/bin/service": "build compile", "/bin/not-a-job's": " ",
	} {
		if e := m.execOf(program); e.at.GetJob()+" "+e.at.GetStep() != want {
			t.Errorf("%s is of %v, want %q", program, e.at, want)
		}
	}
	start := m.await(t, m.script, "start of job", func(e seen) bool { return e.GetJobStarted() != nil })
	if start.process.GetId() != first || start.at.GetRepository() != "example/app" {
		t.Errorf("begun by %v, %v", start.process, start.at)
	}
	// The first process takes the others along, and is told of before them.
	m.tell(&bpf.Exit{Header: bpf.Header{Process: first}})
	m.tell(&bpf.Exit{Header: bpf.Header{Process: shell}})
	m.tell(&bpf.Cgroup{ID: 1, Path: fmt.Sprintf("/kubepods/pod%s/%s", podUID(1), containerID(1)), Removed: true})
	m.exec(0, "/after", nil)
	m.execOf("/after")
	var ends []*sallyportv1.JobEnded
	for _, e := range m.events(t) {
		if e.GetJobEnded() != nil {
			ends = append(ends, e.GetJobEnded())
		}
	}
	if len(ends) != 1 || ends[0].GetReason() != sallyportv1.JobEndReason_JOB_END_REASON_WORKER_EXITED {
		t.Errorf("ends: %v", ends)
	}
}

// TestStepPodElsewhere: a pod for one step has the job's environment from its first program
// on, which may go on as another one.
func TestStepPodElsewhere(t *testing.T) {
	m := newMachine(t)
	m.runtime().add(1, "arc", "arc-runner-step-12345678", map[string]string{runnerPodLabel: "arc-runner"})
	m.container(1, 1)
	m.environment("build", "scan")
	first := m.exec(0, "/entrypoint", in(1))
	next := m.exec(0, "/scanner", func(e *bpf.Exec) { e.Previous, e.Cgroup = first, 1 })
	git := m.exec(next, "/usr/bin/git", func(e *bpf.Exec) { e.Cgroup = 1 })
	for _, program := range []string{"/entrypoint", "/scanner", "/usr/bin/git"} {
		if e := m.execOf(program); e.at.GetJob() != "build" || e.at.GetStep() != "scan" {
			t.Errorf("%s is of %v", program, e.at)
		}
	}
	m.tell(&bpf.Exit{Header: bpf.Header{Process: next}})
	m.tell(&bpf.Exit{Header: bpf.Header{Process: git}})
	m.tell(&bpf.Cgroup{ID: 1, Path: "/", Removed: true})
	m.await(t, m.script, "end of job", func(e seen) bool { return e.GetJobEnded() != nil && len(e.GetJobEnded().GetSurvivors()) == 0 })
}

// TestRunnerWithoutSteps: a runner that has told its hooks nothing of the job in their
// environment.
func TestRunnerWithoutSteps(t *testing.T) {
	m := newMachine(t)
	f := m.runtime()
	f.add(1, "arc", "arc-runner", nil)
	f.add(2, "arc", "arc-runner-workflow", map[string]string{runnerPodLabel: "arc-runner"})
	m.container(1, 1)
	m.container(2, 2)
	worker := m.exec(0, "/opt/runner/bin/Runner.Worker", func(e *bpf.Exec) { e.Worker, e.Cgroup = true, 1 })
	m.exec(worker, "/usr/bin/node", func(e *bpf.Exec) { e.Step, e.Cgroup = true, 1 })
	m.environment("build", "compile")
	m.exec(0, "/in/pod", in(2))
	if e := m.execOf("/in/pod"); e.at.GetJob() != "build" || e.at.GetStep() != "compile" {
		t.Errorf("it is of %v", e.at)
	}
	m.tell(&bpf.Exit{Header: bpf.Header{Process: worker}, Worker: true})
	end := m.await(t, m.script, "end of job", func(e seen) bool { return e.GetJobEnded() != nil })
	if end.process.GetId() != worker {
		t.Errorf("ended by %v", end.process)
	}
}

// TestRunnerHere: while the runner is on this machine an environment that names no job of it
// makes none.
func TestRunnerHere(t *testing.T) {
	m := newMachine(t)
	f := m.runtime()
	f.add(1, "arc", "arc-runner", nil)
	f.add(2, "arc", "arc-runner-workflow", map[string]string{runnerPodLabel: "arc-runner"})
	m.container(1, 1)
	m.container(2, 2)
	m.job("build", "compile", 1)
	m.environment("deploy", "forged")
	m.exec(0, "/in/pod", in(2))
	if e := m.execOf("/in/pod"); e.at.GetJob() != "build" {
		t.Errorf("it is of %v", e.at)
	}
}
