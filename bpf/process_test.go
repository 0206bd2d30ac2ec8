package bpf

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

func TestForkExecExit(t *testing.T) {
	r := record(t, Config{})
	dir := t.TempDir()
	cmd := exec.Command("/bin/sh", "-c", "exit 7")
	cmd.Dir = dir
	pid := run(t, cmd)
	exit := r.exitOf(t, pid)
	forks := matching(r, func(f *Fork) bool { return int(f.PID) == pid })
	execs := r.execsOf(pid)
	if len(forks) != 1 || len(execs) != 1 {
		t.Fatalf("%d forks, %d execs", len(forks), len(execs))
	}
	f, e := forks[0], execs[0]
	if f.Process == 0 || e.Previous != f.Process || e.Process == f.Process || exit.Process != e.Process {
		t.Errorf("identities: fork %d, exec %d after %d, exit %d", f.Process, e.Process, e.Previous, exit.Process)
	}
	if f.Time > e.Time || e.Time > exit.Time {
		t.Errorf("times: %d, %d, %d", f.Time, e.Time, exit.Time)
	}
	if int(f.ParentPID) != os.Getpid() || int(e.ParentPID) != os.Getpid() || f.Parent != e.Parent || f.Parent == 0 {
		t.Errorf("parent: %d (%d) at fork, %d (%d) at exec", f.Parent, f.ParentPID, e.Parent, e.ParentPID)
	}
	self := matching(r, func(e *Exec) bool { return e.Found && int(e.PID) == os.Getpid() })
	if len(self) != 1 || self[0].Process != f.Parent {
		t.Errorf("the parent was found as %+v, is %d", self, f.Parent)
	}
	shell, err := filepath.EvalSymlinks("/bin/sh")
	if err != nil {
		t.Fatal(err)
	}
	if e.Filename != "/bin/sh" || e.Executable != shell || e.Comm != "sh" {
		t.Errorf("file %q, executable %q (want %q), comm %q", e.Filename, e.Executable, shell, e.Comm)
	}
	if want := "/bin/sh\x00-c\x00exit 7\x00"; string(e.Arguments) != want || int(e.ArgumentsSize) != len(want) {
		t.Errorf("arguments %q, size %d", e.Arguments, e.ArgumentsSize)
	}
	if e.WorkingDirectory != dir {
		t.Errorf("working directory %q, want %q", e.WorkingDirectory, dir)
	}
	if int(e.UID) != os.Getuid() || int(e.GID) != os.Getgid() || e.Found || e.Worker || e.Step || e.Started == 0 || e.Started > e.Time {
		t.Errorf("%+v", e)
	}
	if exit.Code != 7 || exit.Signal != 0 || exit.Worker {
		t.Errorf("%+v", exit)
	}
}

func TestSignalled(t *testing.T) {
	r := record(t, Config{})
	exit := r.exitOf(t, run(t, exec.Command("/bin/sh", "-c", "kill -9 $$")))
	if exit.Signal != uint8(syscall.SIGKILL) || exit.Code != 0 {
		t.Errorf("%+v", exit)
	}
}

func TestSecondExec(t *testing.T) {
	r := record(t, Config{})
	pid := run(t, exec.Command("/bin/sh", "-c", "exec /bin/sleep 0"))
	r.exitOf(t, pid)
	execs := r.execsOf(pid)
	if len(execs) != 2 {
		t.Fatalf("%d execs", len(execs))
	}
	if execs[1].Previous != execs[0].Process || execs[1].Process <= execs[0].Process || execs[1].Started != execs[0].Started {
		t.Errorf("%+v then %+v", execs[0], execs[1])
	}
}

func TestExecOfThread(t *testing.T) {
	r := record(t, Config{})
	pid := run(t, play(t, "thread-exec", "/bin/sleep", "0"))
	exit := r.exitOf(t, pid)
	execs := r.execsOf(pid)
	if len(execs) != 2 {
		t.Fatalf("%d execs", len(execs))
	}
	if execs[1].Comm != "sleep" || execs[1].Previous != execs[0].Process || exit.Process != execs[1].Process {
		t.Errorf("%+v then %+v", execs[0], execs[1])
	}
	exits := matching(r, func(e *Exit) bool { return int(e.PID) == pid })
	if len(exits) != 1 {
		t.Errorf("%d exits", len(exits))
	}
}

func TestShortLived(t *testing.T) {
	r := record(t, Config{})
	const n = 300
	pids := map[uint32]bool{}
	cmd := exec.Command("/bin/sh", "-c", fmt.Sprintf("i=0; while [ $i -lt %d ]; do (exit 0); /bin/true; i=$((i+1)); done", n))
	pid := run(t, cmd)
	r.exitOf(t, pid)
	parent := r.execsOf(pid)[0].Process
	forks := matching(r, func(f *Fork) bool { return f.Parent == parent })
	if len(forks) != 2*n {
		t.Errorf("%d forks of %d", len(forks), 2*n)
	}
	identities := map[uint64]bool{}
	for _, f := range forks {
		pids[f.PID] = true
		identities[f.Process] = true
	}
	if len(identities) != len(forks) {
		t.Errorf("%d identities for %d processes", len(identities), len(forks))
	}
	execs := matching(r, func(e *Exec) bool { return identities[e.Previous] })
	exits := matching(r, func(e *Exit) bool { return pids[e.PID] })
	if len(execs) != n || len(exits) < 2*n {
		t.Errorf("%d execs, %d exits", len(execs), len(exits))
	}
}

func TestLongCommandLine(t *testing.T) {
	r := record(t, Config{})
	long := strings.Repeat("x", 128<<10-1) // the longest that the kernel takes
	pid := run(t, exec.Command("/bin/true", long))
	r.exitOf(t, pid)
	e := r.execsOf(pid)[0]
	if want := len("/bin/true") + 1 + len(long) + 1; int(e.ArgumentsSize) != want {
		t.Errorf("size %d, want %d", e.ArgumentsSize, want)
	}
	if len(e.Arguments) != MaxArguments || !bytes.HasPrefix(e.Arguments, []byte("/bin/true\x00xxx")) || bytes.Count(e.Arguments, []byte("x")) != MaxArguments-10 {
		t.Errorf("%d bytes: %.20q", len(e.Arguments), e.Arguments)
	}
}

func TestNoArguments(t *testing.T) {
	r := record(t, Config{})
	cmd := &exec.Cmd{Path: "/bin/true", Args: []string{""}, Env: []string{}}
	pid := run(t, cmd)
	r.exitOf(t, pid)
	e := r.execsOf(pid)[0]
	if e.ArgumentsSize != 1 || string(e.Arguments) != "\x00" {
		t.Errorf("%q, size %d", e.Arguments, e.ArgumentsSize)
	}
}

func TestDescriptors(t *testing.T) {
	r := record(t, Config{})
	cmd := exec.Command("bash", "-c", "/bin/echo x | /bin/cat >/dev/null; /bin/cat <(/bin/true) </dev/null")
	pid := run(t, cmd)
	r.exitOf(t, pid)
	shell := r.execsOf(pid)[0].Process
	below := matching(r, func(e *Exec) bool { return e.Parent == shell })
	var echo, cat, substituted *Exec
	for _, e := range below {
		switch {
		case e.Comm == "echo":
			echo = e
		case e.Comm == "cat" && e.Stdin.Mode&modeType == modePipe:
			cat = e
		case e.Comm == "cat":
			substituted = e
		}
	}
	if echo == nil || cat == nil || substituted == nil {
		t.Fatalf("%+v", below)
	}
	if echo.Stdout.Inode == 0 || echo.Stdout != cat.Stdin {
		t.Errorf("the ends of one pipe: %+v, %+v", echo.Stdout, cat.Stdin)
	}
	if cat.Stdout.Mode&modeType != syscall.S_IFCHR {
		t.Errorf("/dev/null: %+v", cat.Stdout)
	}
	if substituted.ArgumentPipe.Inode == 0 {
		t.Errorf("no pipe at descriptor 63: %+v", substituted)
	}
}

func TestPaths(t *testing.T) {
	r := record(t, Config{})
	// Long, with blanks, on a file system mounted inside another, deleted while it runs.
	mounted := filepath.Join(t.TempDir(), "a mount")
	if err := os.Mkdir(mounted, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mount("tmpfs", mounted, "tmpfs", 0, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(mounted, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	deep := filepath.Join(mounted, strings.Repeat("d", 200), strings.Repeat("e", 255))
	if err := os.MkdirAll(deep, 0o755); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile("/bin/sleep")
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(deep, "my sleep")
	if err := os.WriteFile(path, b, 0o755); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(path, "0")
	cmd.Dir = deep
	pid := run(t, cmd)
	r.exitOf(t, pid)
	if e := r.execsOf(pid)[0]; e.Executable != path || e.WorkingDirectory != deep {
		t.Errorf("executable %q\nwant %q\ndirectory %q", e.Executable, path, e.WorkingDirectory)
	}
	cmd = exec.Command("/bin/true")
	cmd.Dir = "/"
	pid = run(t, cmd)
	r.exitOf(t, pid)
	if e := r.execsOf(pid)[0]; e.WorkingDirectory != "/" {
		t.Errorf("root is %q", e.WorkingDirectory)
	}
}

func TestFound(t *testing.T) {
	cmd := exec.Command("/bin/sh", "-c", "/bin/sleep 60 & echo $!; wait")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var child int
	if _, err := fmt.Fscan(out, &child); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = syscall.Kill(child, syscall.SIGKILL)
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}()
	for { // until the shell's child runs its own program
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", child))
		if err != nil {
			t.Fatal(err)
		}
		if string(b) == "sleep\n" {
			break
		}
	}
	r := record(t, Config{})
	sleep := await(t, r, 1, "the sleep", func(e *Exec) bool { return int(e.PID) == child })[0]
	shell := await(t, r, 1, "the shell", func(e *Exec) bool { return int(e.PID) == cmd.Process.Pid })[0]
	if !sleep.Found || !shell.Found || sleep.Parent != shell.Process || sleep.Previous != 0 {
		t.Errorf("%+v below %+v", sleep, shell)
	}
	if sleep.Comm != "sleep" || string(sleep.Arguments) != "/bin/sleep\x0060\x00" || filepath.Base(sleep.Executable) != "sleep" || sleep.Started == 0 {
		t.Errorf("%+v", sleep)
	}
	seen := map[uint64]bool{}
	found := matching(r, func(e *Exec) bool { return e.Found })
	all := map[uint64]bool{}
	for _, e := range found {
		all[e.Process] = true
	}
	for _, e := range found {
		if seen[e.Process] {
			t.Errorf("found twice: %+v", e)
		}
		seen[e.Process] = true
		if e.Parent != 0 && all[e.Parent] && !seen[e.Parent] {
			t.Errorf("before its parent: %+v", e)
		}
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	if exit := r.exitOf(t, cmd.Process.Pid); exit.Process != shell.Process {
		t.Errorf("found as %d, ended as %d", shell.Process, exit.Process)
	}
}
