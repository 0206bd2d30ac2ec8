package bpf

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"syscall"
	"testing"
)

func TestAccess(t *testing.T) {
	t.Run("calls", func(t *testing.T) { testAccess(t, Config{not: objectHooks | functionHooks}) })
	t.Run("objects", func(t *testing.T) { testAccess(t, Config{}) })
}

func testAccess(t *testing.T, cfg Config) {
	r := record(t, cfg)
	for _, c := range []struct {
		how  string
		kind AccessKind
	}{
		{"mem", AccessMem},
		{"thread", AccessMem},
		{"relative", AccessMem},
		{"link", AccessMem},
		{"openat2", AccessMem},
		{"mount", AccessMem},
		{"io_uring", AccessMem},
		{"maps", AccessMaps},
		{"smaps", AccessMaps},
		{"environ", AccessEnviron},
		{"attach", AccessPtrace},
		{"seize", AccessPtrace},
		{"read", AccessVMRead},
		{"write", AccessVMWrite},
	} {
		if c.how == "maps" && cfg.not == 0 {
			continue // seen of workers only (TestAccessToWorker)
		}
		t.Run(c.how, func(t *testing.T) {
			if b, err := os.ReadFile("/proc/sys/kernel/io_uring_disabled"); c.how == "io_uring" && (err != nil || b[0] != '0') {
				t.Skip("skipped: this kernel has no io_uring, or it is disabled")
			}
			target := exec.Command("sleep", "60")
			if err := target.Start(); err != nil {
				t.Fatal(err)
			}
			defer func() { _ = target.Process.Kill(); _ = target.Wait() }()
			where := t.TempDir()
			if c.how == "link" {
				where = filepath.Join(where, "harmless")
			}
			cmd := play(t, "access", c.how, fmt.Sprint(target.Process.Pid), where)
			if err := cmd.Run(); err != nil {
				t.Fatal(err)
			}
			r.exitOf(t, cmd.Process.Pid)
			seen := matching(r, func(a *Access) bool { return int(a.PID) == cmd.Process.Pid })
			if len(seen) != 1 {
				t.Fatalf("%d records", len(seen))
			}
			a := seen[0]
			by, to := r.execsOf(cmd.Process.Pid), r.execsOf(target.Process.Pid)
			if a.Kind != c.kind || a.Process != by[len(by)-1].Process || int(a.TargetPID) != target.Process.Pid ||
				a.Target != to[len(to)-1].Process || a.TargetWorker {
				t.Errorf("%+v", a)
			}
		})
	}
}

func TestAccessToWorker(t *testing.T) {
	for _, calls := range []bool{true, false} {
		cfg := Config{}
		if calls {
			cfg.not = objectHooks | functionHooks
		}
		for file, kind := range map[string]AccessKind{"environ": AccessEnviron, "maps": AccessMaps} {
			t.Run(fmt.Sprintf("calls %t, %s", calls, file), func(t *testing.T) {
				r := record(t, cfg)
				// The step reads its worker, which is its parent, until the worker is watched.
				run(t, worker(t, "Runner.Worker", "for i in 1 2 3 4 5 6 7 8; do sleep 0.2; cat /proc/$PPID/"+file+" >/dev/null; done"))
				a := await(t, r, 1, "access", func(a *Access) bool { return a.TargetWorker })[0]
				if a.Kind != kind || a.Process == 0 || a.Target == 0 {
					t.Errorf("%+v", a)
				}
			})
		}
	}
}

func TestNoAccessToItself(t *testing.T) {
	r := record(t, Config{})
	target := exec.Command("sleep", "60")
	if err := target.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = target.Process.Kill(); _ = target.Wait() }()
	cmd := play(t, "access", "self", fmt.Sprint(target.Process.Pid))
	if err := cmd.Run(); err != nil {
		t.Fatal(err)
	}
	r.exitOf(t, cmd.Process.Pid)
	for _, a := range matching(r, func(a *Access) bool { return int(a.PID) == cmd.Process.Pid }) {
		t.Errorf("%+v", a)
	}
}

// compat is a 32-bit program: its calls have other numbers.
const compat = `package main

import (
	"os"
	"runtime"
	"strconv"
	"syscall"
	"unsafe"
)

func main() {
	runtime.LockOSThread()
	pid, _ := strconv.Atoi(os.Args[1])
	path, _ := syscall.BytePtrFromString("/proc/" + os.Args[1] + "/mem")
	const open, openat = 5, 295
	fd, _, errno := syscall.Syscall(open, uintptr(unsafe.Pointer(path)), 0, 0)
	if errno != 0 {
		panic(errno)
	}
	buffer := make([]byte, 8)
	syscall.Read(int(fd), buffer)
	const atCWD = ^uintptr(99)
	if _, _, errno := syscall.Syscall(openat, atCWD, uintptr(unsafe.Pointer(path)), 0); errno != 0 {
		panic(errno)
	}
	const processVMReadv = 347
	local := [2]uint32{uint32(uintptr(unsafe.Pointer(&buffer[0]))), 8}
	remote := [2]uint32{0x10000, 8}
	syscall.Syscall6(processVMReadv, uintptr(pid), uintptr(unsafe.Pointer(&local)), 1, uintptr(unsafe.Pointer(&remote)), 1, 0)
	if err := syscall.PtraceAttach(pid); err != nil {
		panic(err)
	}
}
`

func TestAccessBy32BitProgram(t *testing.T) {
	t.Run("calls", func(t *testing.T) { testAccessBy32BitProgram(t, Config{not: objectHooks | functionHooks}) })
	t.Run("objects", func(t *testing.T) { testAccessBy32BitProgram(t, Config{}) })
}

func testAccessBy32BitProgram(t *testing.T, cfg Config) {
	if runtime.GOARCH != "amd64" {
		t.Skip("skipped: 32-bit programs are tried on amd64 only")
	}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "main.go"), []byte(compat), 0o600); err != nil {
		t.Fatal(err)
	}
	program := filepath.Join(dir, "compat")
	build := exec.Command("go", "build", "-o", program, filepath.Join(dir, "main.go"))
	build.Env = append(os.Environ(), "GOARCH=386", "CGO_ENABLED=0", "GO111MODULE=off", "GOFLAGS=")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	r := record(t, cfg)
	target := exec.Command("sleep", "60")
	if err := target.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = target.Process.Kill(); _ = target.Wait() }()
	cmd := exec.Command(program, fmt.Sprint(target.Process.Pid))
	out, err := cmd.CombinedOutput()
	if errors.Is(err, syscall.ENOEXEC) {
		t.Skip("skipped: this kernel runs no 32-bit programs")
	}
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	r.exitOf(t, cmd.Process.Pid)
	var kinds []AccessKind
	for _, a := range matching(r, func(a *Access) bool { return int(a.PID) == cmd.Process.Pid }) {
		if int(a.TargetPID) != target.Process.Pid {
			t.Errorf("%+v", a)
		}
		kinds = append(kinds, a.Kind)
	}
	if want := []AccessKind{AccessMem, AccessVMRead, AccessPtrace}; !slices.Equal(slices.Compact(kinds), want) {
		t.Errorf("kinds %v, want %v", kinds, want)
	}
}

// TestAccessInPIDNamespace: the number that a container's process gives to the call
// is not the one that the machine knows.
func TestAccessInPIDNamespace(t *testing.T) {
	r := record(t, Config{})
	const script = `sleep 60 & sleep 0.2; SALLYPORT_BPF_PLAY=access "$0" read $!; SALLYPORT_BPF_PLAY=access "$0" attach $!; kill $!; exit 0`
	copied := filepath.Join(t.TempDir(), "play")
	copyBinary(t, copied)
	cmd := exec.Command("unshare", "--pid", "--fork", "--mount-proc", "bash", "-c", script, copied)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	r.exitOf(t, cmd.Process.Pid)
	below := map[uint64]bool{}
	var sleep *Exec
	for _, rec := range r.all() {
		switch x := rec.(type) {
		case *Fork:
			if int(x.ParentPID) == cmd.Process.Pid || below[x.Parent] {
				below[x.Process] = true
			}
		case *Exec:
			if below[x.Previous] {
				below[x.Process] = true
				if string(x.Arguments) == "sleep\x0060\x00" {
					sleep = x
				}
			}
		}
	}
	if sleep == nil {
		t.Fatal("the target was not seen")
	}
	for _, kind := range []AccessKind{AccessVMRead, AccessPtrace} {
		seen := matching(r, func(a *Access) bool { return below[a.Process] && a.Kind == kind })
		if len(seen) != 1 || seen[0].Target != sleep.Process || seen[0].TargetPID != sleep.PID {
			t.Errorf("kind %d: %+v, target %d (%d)", kind, seen, sleep.Process, sleep.PID)
		}
	}
}
