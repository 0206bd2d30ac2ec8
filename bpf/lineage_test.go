package bpf

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// worker is a command that runs scripts as steps under a worker's name.
func worker(t *testing.T, name string, scripts ...string) *exec.Cmd {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	copyBinary(t, path)
	cmd := exec.Command(path, scripts...)
	cmd.Env = []string{"SALLYPORT_BPF_PLAY=worker", "PATH=" + os.Getenv("PATH"), "GITHUB_JOB=build"}
	cmd.Stderr = os.Stderr
	return cmd
}

func (r *recorder) environmentOf(process uint64) (data []byte, size uint32) {
	for _, e := range matching(r, func(e *Environment) bool { return e.Process == process }) {
		if int(e.Offset) != len(data) {
			r.t.Errorf("piece at %d after %d bytes", e.Offset, len(data))
		}
		data = append(data, e.Data...)
		size = e.Size
	}
	return data, size
}

func TestSteps(t *testing.T) {
	r := record(t, Config{})
	forged := filepath.Join(t.TempDir(), "Runner.Worker")
	copyBinary(t, forged)
	cmd := worker(t, "Runner.Worker",
		"exec /usr/bin/env -i GITHUB_JOB=other /bin/sh -c '/bin/true; (/bin/true &)'",
		"GITHUB_JOB=other SALLYPORT_BPF_PLAY=worker "+forged+" /bin/true",
	)
	pid := run(t, cmd)
	exit := r.exitOf(t, pid)
	w := r.execsOf(pid)
	if len(w) != 1 || !w[0].Worker || w[0].Step || !exit.Worker {
		t.Fatalf("the worker: %+v, %+v", w, exit)
	}
	steps := matching(r, func(e *Exec) bool { return e.Step && e.Parent == w[0].Process })
	if len(steps) != 2 {
		t.Fatalf("%d steps: %+v", len(steps), steps)
	}
	for _, s := range steps {
		data, size := r.environmentOf(s.Process)
		if int(size) != len(data) || !bytes.Contains(append([]byte{0}, data...), []byte("\x00GITHUB_JOB=build\x00")) {
			t.Errorf("environment of %d bytes: %q", size, data)
		}
		if s.Worker {
			t.Errorf("a step became a worker: %+v", s)
		}
	}
	// Nothing below a step is a step or a worker, whatever its name.
	below := map[uint64]bool{steps[0].Process: true, steps[1].Process: true}
	var programs []string
	for _, rec := range r.all() {
		switch x := rec.(type) {
		case *Fork:
			if below[x.Parent] {
				below[x.Process] = true
			}
		case *Exec:
			if x.Found || !below[x.Previous] {
				continue
			}
			below[x.Process] = true
			programs = append(programs, x.Comm)
			if x.Step || x.Worker {
				t.Errorf("below a step: %+v", x)
			}
		case *Environment:
			if below[x.Process] && x.Process != steps[0].Process && x.Process != steps[1].Process {
				t.Errorf("environment of a process below a step: %+v", x.Header)
			}
		}
	}
	if got := strings.Join(programs, " "); !strings.Contains(got, "env") || !strings.Contains(got, "Runner.Worker") || strings.Count(got, "true") != 3 {
		t.Errorf("programs below the steps: %s", got)
	}
}

func TestEnvironmentComesBeforeItsExec(t *testing.T) {
	r := record(t, Config{})
	cmd := worker(t, "act", "/bin/true")
	// An environment of three and a half pieces in one variable, and more.
	cmd.Env = append(cmd.Env, "BIG="+strings.Repeat("v", 100<<10))
	pid := run(t, cmd)
	r.exitOf(t, pid)
	w := r.execsOf(pid)[0]
	step := matching(r, func(e *Exec) bool { return e.Step && e.Parent == w.Process })[0]
	data, size := r.environmentOf(step.Process)
	if int(size) != len(data) || len(data) < 100<<10 {
		t.Fatalf("%d of %d bytes", len(data), size)
	}
	variables := map[string]int{}
	for _, v := range bytes.Split(bytes.TrimSuffix(data, []byte{0}), []byte{0}) {
		name, value, _ := strings.Cut(string(v), "=")
		variables[name] = len(value)
	}
	if variables["BIG"] != 100<<10 || variables["GITHUB_JOB"] != len("build") {
		t.Errorf("%v", variables)
	}
	pieces, done := 0, false
	for _, rec := range r.all() {
		switch x := rec.(type) {
		case *Environment:
			if x.Process == step.Process {
				pieces++
				if done {
					t.Error("a piece came after the exec")
				}
			}
		case *Exec:
			if x.Process == step.Process {
				done = true
			}
		}
	}
	if pieces < 7 {
		t.Errorf("%d pieces", pieces)
	}
}

func TestEnvironmentIsCut(t *testing.T) {
	r := record(t, Config{})
	cmd := worker(t, "act", "/bin/true")
	for _, name := range []string{"BIG1", "BIG2", "BIG3"} {
		cmd.Env = append(cmd.Env, name+"="+strings.Repeat("v", 100<<10))
	}
	pid := run(t, cmd)
	r.exitOf(t, pid)
	w := r.execsOf(pid)[0]
	step := matching(r, func(e *Exec) bool { return e.Step && e.Parent == w.Process })[0]
	data, size := r.environmentOf(step.Process)
	if int(size) < 300<<10 || len(data) != MaxEnvironment {
		t.Errorf("%d of %d bytes", len(data), size)
	}
}

func TestWorkersAreConfigured(t *testing.T) {
	r := record(t, Config{Workers: []string{"my-worker"}})
	other := run(t, worker(t, "Runner.Worker", "/bin/true"))
	mine := run(t, worker(t, "my-worker", "/bin/true"))
	r.exitOf(t, mine)
	if e := r.execsOf(other)[0]; e.Worker {
		t.Errorf("%+v", e)
	}
	if e := r.execsOf(mine)[0]; !e.Worker {
		t.Errorf("%+v", e)
	}
	if _, err := Open(Config{Workers: []string{"a name that is too long"}}); err == nil {
		t.Error("a name that no task can have was accepted")
	}
}

func TestWatch(t *testing.T) {
	r := record(t, Config{})
	if err := r.Watch(os.Getpid()); err != nil {
		t.Fatal(err)
	}
	w := await(t, r, 1, "this process as a worker", func(e *Exec) bool { return e.Worker && int(e.PID) == os.Getpid() })[0]
	cmd := exec.Command("/bin/true")
	cmd.Env = []string{"GITHUB_JOB=watched"}
	pid := run(t, cmd)
	r.exitOf(t, pid)
	step := r.execsOf(pid)[0]
	if !w.Found || !step.Step || step.Parent != w.Process {
		t.Errorf("%+v below %+v", step, w)
	}
	if data, _ := r.environmentOf(step.Process); string(data) != "GITHUB_JOB=watched\x00" {
		t.Errorf("environment %q", data)
	}
	// One that was started after the sensor, too.
	cmd = exec.Command("/bin/sh", "-c", "read x; /bin/true; exit 0")
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	late := runWhile(t, cmd, func(pid int) {
		err := r.Watch(pid)
		// It is below a step by now: this process is a worker.
		if err == nil {
			t.Error("a step was made a worker")
		}
		if err := in.Close(); err != nil {
			t.Error(err)
		}
	})
	r.exitOf(t, late)
	if err := r.Watch(1 << 30); err == nil {
		t.Error("watched a process that is not")
	}
}

// runWhile runs cmd, and does something while it runs.
func runWhile(t *testing.T, cmd *exec.Cmd, meanwhile func(pid int)) int {
	t.Helper()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	meanwhile(cmd.Process.Pid)
	if err := cmd.Wait(); err != nil {
		t.Fatal(err)
	}
	return cmd.Process.Pid
}

func TestWatchLater(t *testing.T) {
	r := record(t, Config{})
	cmd := exec.Command("/bin/sh", "-c", "read x; /bin/true; exit 0")
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	pid := runWhile(t, cmd, func(pid int) {
		if err := r.Watch(pid); err != nil {
			t.Error(err)
		}
		if err := in.Close(); err != nil {
			t.Error(err)
		}
	})
	if exit := r.exitOf(t, pid); !exit.Worker {
		t.Errorf("%+v", exit)
	}
	step := await(t, r, 1, "step", func(e *Exec) bool { return int(e.ParentPID) == pid })[0]
	if !step.Step {
		t.Errorf("%+v", step)
	}
}

func TestFoundWorker(t *testing.T) {
	cmd := worker(t, "Runner.Worker", "echo ready; read x; /bin/true")
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := out.Read(make([]byte, 6)); err != nil {
		t.Fatal(err)
	}
	r := record(t, Config{})
	if err := in.Close(); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Fatal(err)
	}
	exit := r.exitOf(t, cmd.Process.Pid)
	w := r.execsOf(cmd.Process.Pid)[0]
	if !w.Found || !w.Worker || !exit.Worker {
		t.Fatalf("%+v, %+v", w, exit)
	}
	steps := matching(r, func(e *Exec) bool { return e.Parent == w.Process && e.Step })
	if len(steps) != 1 || !steps[0].Found {
		t.Fatalf("%+v", steps)
	}
	if data, _ := r.environmentOf(steps[0].Process); !bytes.Contains(data, []byte("GITHUB_JOB=build\x00")) {
		t.Errorf("environment %q", data)
	}
	below := matching(r, func(e *Exec) bool { return e.Parent == steps[0].Process })
	for _, e := range below {
		if e.Step || e.Worker {
			t.Errorf("%+v", e)
		}
	}
}
