package agent

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"
	"golang.org/x/sys/unix"

	"github.com/sallyport-ci/sallyport/bpf"
	sallyportv1 "github.com/sallyport-ci/sallyport/proto/sallyport/v1"
)

// machine is a made-up machine with workers and containers.
type machine struct {
	*script
	*kept
	t     *testing.T
	root  string
	next  uint64
	beats chan *sallyportv1.Heartbeat
}

func newMachine(t *testing.T) *machine {
	t.Helper()
	m := &machine{script: newScript(), kept: &kept{}, t: t, root: t.TempDir(), beats: make(chan *sallyportv1.Heartbeat, 1000)}
	beat := func(h *sallyportv1.Heartbeat) error {
		select {
		case m.beats <- h:
		default: // nobody listens
		}
		return nil
	}
	a, err := New(Config{AgentID: "test", Source: m.script, Sink: m.kept, MachineRoot: m.root, Beat: beat})
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- a.Run(context.WithoutCancel(t.Context())) }()
	t.Cleanup(func() {
		if err := m.Close(); err != nil {
			t.Error(err)
		}
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return m
}

// exec tells of a program, and returns its identity.
func (m *machine) exec(parent uint64, program string, change func(*bpf.Exec)) uint64 {
	m.next++
	id := m.next << 10
	e := &bpf.Exec{
		Header: bpf.Header{Process: id, PID: uint32(m.next)}, Parent: parent,
		Executable: program, Arguments: []byte(strings.ReplaceAll(program, " ", "\x00") + "\x00"),
	}
	e.Executable, _, _ = strings.Cut(program, " ")
	if change != nil {
		change(e)
	}
	m.tell(e)
	return id
}

func (m *machine) environment(job, step string) {
	// Of the program that is told next.
	data := fmt.Sprintf("GITHUB_REPOSITORY=example/app\x00GITHUB_RUN_ID=7\x00GITHUB_JOB=%s\x00GITHUB_ACTION=%s\x00", job, step)
	m.tell(&bpf.Environment{Header: bpf.Header{Process: (m.next + 1) << 10}, Size: uint32(len(data)), Data: []byte(data)})
}

// job starts a worker, in a control group, that runs a step of a job.
func (m *machine) job(job, step string, cgroup uint64) (worker, shell uint64) {
	worker = m.exec(0, "/opt/runner/bin/Runner.Worker", func(e *bpf.Exec) { e.Worker, e.Cgroup = true, cgroup })
	m.environment(job, step)
	shell = m.exec(worker, "/bin/bash", func(e *bpf.Exec) { e.Step, e.Cgroup = true, cgroup })
	return worker, shell
}

// group makes a control group.
func (m *machine) group(id uint64, path string) { m.tell(&bpf.Cgroup{ID: id, Path: path}) }

// docker makes a file as Docker keeps it.
func (m *machine) docker(id, image string) {
	m.t.Helper()
	dir := filepath.Join(m.root, "var/lib/docker/containers", id)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		m.t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "config.v2.json"), fmt.Appendf(nil, `{"Name":"/box","Config":{"Image":%q}}`, image), 0o644); err != nil {
		m.t.Fatal(err)
	}
}

func (m *machine) execOf(program string) seen {
	m.t.Helper()
	return m.await(m.t, m.script, "exec of "+program, func(e seen) bool {
		return e.GetProcessExecuted() != nil && e.process.GetExecutable() == program
	})
}

func containerID(n int) string { return strings.Repeat(fmt.Sprintf("%02x", n), 32) }

func TestProgramsInContainers(t *testing.T) {
	const pod = "/kubepods.slice/kubepods-pod01234567_89ab_cdef_0123_456789abcdef.slice/cri-containerd-"
	inContainer := func(cgroup uint64) func(*bpf.Exec) {
		return func(e *bpf.Exec) { e.Container, e.Cgroup = true, cgroup }
	}
	for _, c := range []struct {
		name string
		act  func(m *machine)
		want string // job and step of /in/container
	}{
		{"named by the environment, with two jobs", func(m *machine) {
			m.job("build", "compile", 0)
			m.job("test", "check", 0)
			m.environment("build", "compile")
			m.exec(0, "/in/container", inContainer(5))
		}, "build compile"},
		{"environment of a job that does not run here", func(m *machine) {
			m.job("build", "compile", 0)
			m.job("test", "check", 0)
			m.environment("deploy", "ship")
			m.exec(0, "/in/container", inContainer(5))
		}, " "},
		{"the only job", func(m *machine) {
			m.job("build", "compile", 0)
			m.exec(0, "/in/container", inContainer(5))
		}, "build compile"},
		{"two jobs and nothing said", func(m *machine) {
			m.job("build", "compile", 0)
			m.job("test", "check", 0)
			m.exec(0, "/in/container", inContainer(5))
		}, " "},
		{"a later program of a container that is known", func(m *machine) {
			m.job("build", "compile", 0)
			m.job("test", "check", 0)
			m.environment("test", "check")
			m.exec(0, "/first", inContainer(5))
			m.exec(0, "/in/container", inContainer(5))
		}, "test "},
		{"below one that is attributed", func(m *machine) {
			m.job("build", "compile", 0)
			shell := m.exec(0, "/bin/sh", inContainer(5))
			m.exec(shell, "/in/container", func(e *bpf.Exec) { e.Cgroup = 5 })
		}, "build compile"},
		{"a service of systemd", func(m *machine) {
			m.job("build", "compile", 0)
			m.exec(0, "/in/container", func(e *bpf.Exec) { e.Container, e.Cgroup = true, 99 })
		}, " "},
		{"another container of the runner's pod", func(m *machine) {
			m.group(6, pod+containerID(6)+".scope")
			m.group(7, pod+containerID(7)+".scope/docker/"+containerID(8))
			m.job("build", "compile", 6)
			m.job("test", "check", 0)
			m.exec(0, "/in/container", inContainer(7))
		}, "build compile"},
		{"another pod while one job runs", func(m *machine) {
			m.group(7, pod+containerID(7)+".scope")
			m.job("build", "compile", 0)
			m.exec(0, "/in/container", inContainer(7))
		}, " "},
		{"a job that is over", func(m *machine) {
			worker, _ := m.job("build", "compile", 0)
			m.tell(&bpf.Exit{Header: bpf.Header{Process: worker}, Worker: true})
			m.exec(0, "/in/container", inContainer(5))
		}, " "},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := newMachine(t)
			m.docker(containerID(5), "alpine:3")
			m.group(5, "/system.slice/docker-"+containerID(5)+".scope")
			c.act(m)
			e := m.execOf("/in/container")
			if got := e.at.GetJob() + " " + e.at.GetStep(); got != c.want {
				t.Errorf("it is of %q, want %q", got, c.want)
			}
			if e.process.GetContainer().GetId() == containerID(5) && e.process.GetContainer().GetImage() != "alpine:3" {
				t.Errorf("container %v", e.process.GetContainer())
			}
		})
	}
}

// TestScriptThatSetsTheEnvironment: as the runner's hooks for Kubernetes do it. What runs
// after that is of the step, whatever it does to its environment.
func TestScriptThatSetsTheEnvironment(t *testing.T) {
	m := newMachine(t)
	m.group(5, "/docker/"+containerID(5))
	m.job("build", "compile", 0)
	m.job("test", "check", 0)
	become := func(previous uint64, program string) uint64 {
		return m.exec(0, program, func(e *bpf.Exec) { e.Previous, e.Container, e.Cgroup = previous, true, 5 })
	}
	script := m.exec(0, "/bin/sh", func(e *bpf.Exec) { e.Container, e.Cgroup = true, 5 })
	m.environment("test", "check")
	step := become(script, "/bin/step")
	m.environment("build", "compile")
	become(step, "/bin/forger")
	for program, want := range map[string]string{"/bin/sh": " ", "/bin/step": "test check", "/bin/forger": "test check"} {
		if e := m.execOf(program); e.at.GetJob()+" "+e.at.GetStep() != want {
			t.Errorf("%s is of %v, want %q", program, e.at, want)
		}
	}
}

// TestLaterStepOfAContainer: what names no step belongs to the one that runs, not to the one
// that ran when the container began.
func TestLaterStepOfAContainer(t *testing.T) {
	m := newMachine(t)
	m.group(5, "/docker/"+containerID(5))
	worker, _ := m.job("build", "compile", 0)
	in := func(e *bpf.Exec) { e.Container, e.Cgroup = true, 5 }
	m.exec(0, "/first", in)
	m.environment("build", "check")
	m.exec(worker, "/bin/bash", func(e *bpf.Exec) { e.Step = true })
	m.exec(0, "/second", in)
	for program, want := range map[string]string{"/first": "compile", "/second": "check"} {
		if got := m.execOf(program).at.GetStep(); got != want {
			t.Errorf("%s is of step %q, want %q", program, got, want)
		}
	}
}

// TestNameWithinAContainer: of two names of one address, the one that the container
// itself looked up.
func TestNameWithinAContainer(t *testing.T) {
	l := newLookups(t)
	l.tell(&bpf.Cgroup{ID: 5, Path: "/docker/" + containerID(5)})
	exec := func(n int, cgroup uint64) asker {
		l.tell(&bpf.Exec{Header: bpf.Header{Process: uint64(n) << 10, PID: uint32(n)}, Executable: "/bin/program", Cgroup: cgroup})
		return asker(n << 10)
	}
	inside, beside, outside := exec(1, 5), exec(2, 5), exec(3, 0)
	for n, p := range []asker{inside, outside} {
		name := []string{"inside.example.test", "outside.example.test"}[n]
		q := ask(name, dnsmessage.TypeA)
		l.dns(p, resolver, uint16(n+1), asking(uint16(n+1), q))
		l.dns(p, resolver, uint16(n+1), answering(uint16(n+1), questions{q}, address(name, "192.0.2.7")))
	}
	l.named(beside, "192.0.2.7", "inside.example.test container")
	l.named(exec(4, 0), "192.0.2.7", "outside.example.test host")
}

// TestPodOfTheJob: in Kubernetes mode the runner's hooks make a pod for the job.
func TestPodOfTheJob(t *testing.T) {
	m := newMachine(t)
	for n, name := range map[int]string{6: "arc-runner", 7: "arc-runner-workflow", 8: "arc-runnerx", 9: "arc-runner-workflow"} {
		dir := filepath.Join(m.root, "run/containerd/io.containerd.runtime.v2.task/k8s.io", containerID(n))
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		namespace := "arc"
		if n == 9 {
			namespace = "other"
		}
		config := fmt.Sprintf(`{"annotations":{"io.kubernetes.cri.sandbox-name":%q,"io.kubernetes.cri.sandbox-namespace":%q}}`, name, namespace)
		if err := os.WriteFile(filepath.Join(dir, "config.json"), []byte(config), 0o644); err != nil {
			t.Fatal(err)
		}
		m.group(uint64(n), fmt.Sprintf("/kubepods/pod0000000%d-89ab-cdef-0123-456789abcdef/%s", n, containerID(n)))
	}
	m.job("build", "compile", 6)
	for n, want := range map[uint64]string{7: "build", 8: "", 9: ""} {
		program := fmt.Sprint("/in/", n)
		m.exec(0, program, func(e *bpf.Exec) { e.Container, e.Cgroup = true, n })
		if got := m.execOf(program).at.GetJob(); got != want {
			t.Errorf("in container %d: job %q, want %q", n, got, want)
		}
	}
}

// TestGroupsComeAndGo: the number of a group that went may be another's.
func TestGroupsComeAndGo(t *testing.T) {
	m := newMachine(t)
	m.group(5, "/docker/"+containerID(1))
	m.exec(0, "/first", func(e *bpf.Exec) { e.Cgroup = 5 })
	m.tell(&bpf.Cgroup{ID: 5, Path: "/docker/" + containerID(1), Removed: true})
	m.exec(0, "/second", func(e *bpf.Exec) { e.Cgroup = 5 })
	m.group(5, "/docker/"+containerID(2))
	m.exec(0, "/third", func(e *bpf.Exec) { e.Cgroup = 5 })
	for program, want := range map[string]string{"/first": containerID(1), "/second": "", "/third": containerID(2)} {
		if got := m.execOf(program).process.GetContainer().GetId(); got != want {
			t.Errorf("%s in %q, want %q", program, got, want)
		}
	}
}

func TestWhatOutlivesItsJob(t *testing.T) {
	m := newMachine(t)
	worker, shell := m.job("build", "compile", 0)
	left := m.exec(shell, "/usr/bin/left-behind", nil)
	m.tell(&bpf.Exit{Header: bpf.Header{Process: shell}})
	m.tell(&bpf.Exit{Header: bpf.Header{Process: worker}, Worker: true})
	end := m.await(t, m.script, "end of job", func(e seen) bool { return e.GetJobEnded() != nil })
	if got := m.survivors(end); len(got) != 1 || got[0] != left || end.GetJobEnded().GetReason() != sallyportv1.JobEndReason_JOB_END_REASON_WORKER_EXITED {
		t.Errorf("%v, left %v, want %d", end.GetJobEnded(), got, left)
	}
}

// survivors are the identities that the end of a job names.
func (m *machine) survivors(end seen) (ids []uint64) {
	m.kept.mu.Lock()
	defer m.kept.mu.Unlock()
	for _, b := range m.batches {
		for _, e := range b.Events {
			if e == end.Event {
				for _, n := range end.GetJobEnded().GetSurvivors() {
					ids = append(ids, b.Processes[n-1].GetId())
				}
			}
		}
	}
	return ids
}

func TestHook(t *testing.T) {
	m := newMachine(t)
	worker, shell := m.job("build", "compile", 0)
	left := m.exec(shell, "/usr/bin/left-behind", nil)
	m.tell(&bpf.Exit{Header: bpf.Header{Process: shell}})
	m.environment("build", "hook")
	hook := m.exec(worker, "/bin/bash", func(e *bpf.Exec) { e.Step = true })
	m.exec(hook, "/usr/local/bin/sallyport-agent hook completed", nil)
	end := m.await(t, m.script, "end of job", func(e seen) bool { return e.GetJobEnded() != nil })
	if got := m.survivors(end); len(got) != 1 || got[0] != left || end.GetJobEnded().GetReason() != sallyportv1.JobEndReason_JOB_END_REASON_HOOK {
		t.Errorf("%v, left %v, want %d", end.GetJobEnded(), got, left)
	}
	m.tell(&bpf.Exit{Header: bpf.Header{Process: worker}, Worker: true})
	m.exec(0, "/after", nil)
	m.execOf("/after")
	ends := 0
	for _, e := range m.events(t) {
		if e.GetJobEnded() != nil {
			ends++
		}
	}
	if ends != 1 {
		t.Errorf("the job ended %d times", ends)
	}
}

func TestPrivilegesAndUses(t *testing.T) {
	m := newMachine(t)
	_, shell := m.job("build", "compile", 0)
	sudo := m.exec(shell, "/usr/bin/sudo", func(e *bpf.Exec) { e.UID, e.EUID, e.Capabilities, e.GID = 1001, 0, 1<<21, 1002 })
	m.tell(&bpf.Privilege{Header: bpf.Header{Process: sudo}, Kind: bpf.PrivilegeGained, Gained: 1<<21 | 1<<41, EUIDBefore: 1001})
	m.tell(&bpf.Privilege{Header: bpf.Header{Process: shell}, Kind: bpf.PrivilegeNamespaces, Namespaces: 4 | 16})
	m.tell(&bpf.Flow{Header: bpf.Header{Process: shell}, ID: 9, State: bpf.FlowStarted, Protocol: 6, Direction: bpf.FlowOutbound})
	m.tell(&bpf.Flow{Header: bpf.Header{Process: sudo}, ID: 9, State: bpf.FlowUsed, Protocol: 6, Direction: bpf.FlowOutbound})
	gained := m.await(t, m.script, "gain", func(e seen) bool {
		return e.GetPrivilegeUse().GetKind() == sallyportv1.PrivilegeKind_PRIVILEGE_KIND_GAINED
	})
	if got := fmt.Sprint(gained.GetPrivilegeUse().GetCapabilities()); got != "[CAP_SYS_ADMIN CAP_41]" || gained.process.GetExecutable() != "/usr/bin/sudo" ||
		gained.process.GetEffectiveUid() != 0 || gained.process.GetUid() != 1001 || gained.process.GetGid() != 1002 || gained.at.GetStep() != "compile" {
		t.Errorf("%v by %v", gained.GetPrivilegeUse(), gained.process)
	}
	entered := m.await(t, m.script, "namespaces", func(e seen) bool {
		return e.GetPrivilegeUse().GetKind() == sallyportv1.PrivilegeKind_PRIVILEGE_KIND_NAMESPACES
	})
	if got := fmt.Sprint(entered.GetPrivilegeUse().GetNamespaces()); got != "[mnt net]" {
		t.Errorf("namespaces %s", got)
	}
	used := m.await(t, m.script, "use", func(e seen) bool {
		return e.GetFlow().GetPhase() == sallyportv1.FlowPhase_FLOW_PHASE_USED
	})
	if used.process.GetExecutable() != "/usr/bin/sudo" || used.GetFlow().GetId() != 9 {
		t.Errorf("%v by %v", used.GetFlow(), used.process)
	}
}

// TestContainerOnThisMachine: what a container's processes read, and what they ask for
// by TLS, is seen as a step's own is.
func TestContainerOnThisMachine(t *testing.T) {
	k := observe(t)
	root := cgroupRoot(t)
	id := containerID(0x5a)
	group := filepath.Join(root, "docker-"+id+".scope")
	if err := os.Mkdir(group, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.Remove(group); err != nil {
			t.Error(err)
		}
	})
	fd, err := unix.Open(group, unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.Close(fd) }()
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, ".aws"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, ".aws/credentials"), []byte("secret"), 0o644); err != nil {
		t.Fatal(err)
	}
	port := api(t)
	script := filepath.Join(dir, "inside.sh")
	if err := os.WriteFile(script, []byte("sleep 0.1; cat "+dir+"/.aws/credentials; curl -sk --resolve api.github.com:"+port+":127.0.0.1 https://api.github.com:"+port+"/inside"), 0o755); err != nil {
		t.Fatal(err)
	}
	// The runner asks the engine, here this test, to run a step in the container.
	started := make(chan error, 1)
	go func() {
		cmd := exec.Command("unshare", "--mount", "--pid", "--fork", "bash", script)
		cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "GITHUB_REPOSITORY=acme/step", "GITHUB_RUN_ID=1", "GITHUB_JOB=build", "GITHUB_ACTION=inside"}
		cmd.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: fd}
		time.Sleep(300 * time.Millisecond)
		started <- cmd.Run()
	}()
	step(t, "sleep 2")
	if err := <-started; err != nil {
		t.Fatal(err)
	}
	of := func(e seen) bool { return e.at.GetStep() == "inside" && e.process.GetContainer().GetId() == id }
	eventually(t, k, "program in the container", func(e seen) bool {
		return e.GetProcessExecuted() != nil && of(e) && filepath.Base(e.process.GetExecutable()) == "cat"
	})
	eventually(t, k, "read of a credential", func(e seen) bool {
		return e.GetFileAccess().GetCategory() == "credential" && of(e)
	})
	eventually(t, k, "request", func(e seen) bool { return e.GetHttpRequest().GetPath() == "/inside" && of(e) })
	eventually(t, k, "namespaces", func(e seen) bool {
		return e.GetPrivilegeUse().GetKind() == sallyportv1.PrivilegeKind_PRIVILEGE_KIND_NAMESPACES && of(e)
	})
}

// cgroupRoot is where cgroup2 is mounted.
func cgroupRoot(t *testing.T) string {
	t.Helper()
	mounts, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(mounts)) {
		if f := strings.Fields(line); len(f) > 2 && f[2] == "cgroup2" {
			return f[1]
		}
	}
	t.Fatal("cgroup2 is not mounted")
	return ""
}
