package bpf

import (
	"fmt"
	"os/exec"
	"path/filepath"
	"testing"
)

func TestAccess(t *testing.T) {
	r := record(t, Config{})
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
		{"maps", AccessMaps},
		{"smaps", AccessMaps},
		{"environ", AccessEnviron},
		{"attach", AccessPtrace},
		{"seize", AccessPtrace},
		{"read", AccessVMRead},
		{"write", AccessVMWrite},
	} {
		t.Run(c.how, func(t *testing.T) {
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
	r := record(t, Config{})
	// The step reads its worker, which is its parent.
	run(t, worker(t, "Runner.Worker", "cat /proc/$PPID/environ >/dev/null"))
	a := await(t, r, 1, "access", func(a *Access) bool { return a.TargetWorker })[0]
	if a.Kind != AccessEnviron {
		t.Errorf("%+v", a)
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

// TestAccessInPIDNamespace: the number that a container's process gives to the call
// is not the one that the machine knows.
func TestAccessInPIDNamespace(t *testing.T) {
	r := record(t, Config{})
	exe := play(t, "access").Path
	script := fmt.Sprintf(`sleep 60 & sleep 0.2; SALLYPORT_BPF_PLAY=access "$0" read $!; SALLYPORT_BPF_PLAY=access "$0" attach $!; kill $!; exit 0 # %s`, exe)
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
