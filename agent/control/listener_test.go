package control

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"
)

// TestListener: who listens is known, and nobody but root is taken for an agent.
func TestListener(t *testing.T) {
	dir := t.TempDir()
	socket := filepath.Join(dir, "agent.sock")
	if _, err := Listener(t.Context(), socket); !errors.Is(err, ErrNobody) {
		t.Errorf("no socket: %v", err)
	}
	l, err := Listen(socket)
	if err != nil {
		t.Fatal(err)
	}
	pid, err := Listener(t.Context(), socket)
	if os.Geteuid() != 0 {
		if !errors.Is(err, ErrNobody) {
			t.Errorf("a listener that is not root's: %v", err)
		}
		return
	}
	if err != nil || pid != os.Getpid() {
		t.Errorf("process %d listens, %v; want %d", pid, err, os.Getpid())
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}

	if err := errors.Join(os.Chmod(filepath.Dir(dir), 0o755), os.Chmod(dir, 0o777), os.Remove(socket)); err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	others := listenAs(t, socket, 61234)
	defer func() { _ = others.Close() }() // the end of the test
	if _, err := Listener(t.Context(), socket); !errors.Is(err, ErrNobody) {
		t.Errorf("another user's listener: %v", err)
	}
}

// listenAs listens as another user: in a thread that has its own, and ends with it.
func listenAs(t *testing.T, socket string, user uintptr) net.Listener {
	t.Helper()
	type result struct {
		l   net.Listener
		err error
	}
	done := make(chan result)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread is not used again
		if _, _, errno := unix.RawSyscall(unix.SYS_SETRESUID, user, user, user); errno != 0 {
			done <- result{nil, errno}
			return
		}
		l, err := net.Listen("unix", socket)
		done <- result{l, err}
	}()
	r := <-done
	if r.err != nil {
		t.Fatal(r.err)
	}
	return r.l
}
