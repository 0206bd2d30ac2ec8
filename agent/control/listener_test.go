package control

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"time"

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
	// Nor does root believe what it says, which may be that all is told, or that an agent runs.
	if _, err := HandOver(t.Context(), socket); !errors.Is(err, ErrNobody) {
		t.Errorf("another user hands over: %v", err)
	}
	if _, err := AskStatus(t.Context(), socket); !errors.Is(err, ErrNobody) {
		t.Errorf("another user's status: %v", err)
	}
}

// TestListenForAll: all can reach the socket, whatever the umask.
func TestListenForAll(t *testing.T) {
	old := unix.Umask(0o077)
	socket := filepath.Join(t.TempDir(), "run", "agent.sock")
	l, err := Listen(socket)
	unix.Umask(old)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }() // the end of the test
	for path, want := range map[string]os.FileMode{filepath.Dir(socket): 0o755, socket: 0o666} {
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != want {
			t.Errorf("%s: %v, %v", path, info.Mode(), err)
		}
	}
}

// TestNextListens: nobody listens any more when an agent says that it has ended, and it leaves the
// next one's socket alone, however long it takes to end.
func TestNextListens(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "agent.sock")
	for what, end := range map[string]func() error{
		"hand over": func() error { _, err := HandOver(t.Context(), socket); return err },
		"stop":      func() error { _, err := Stop(t.Context(), socket, 0, false); return err },
	} {
		l, err := Listen(socket)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		served := make(chan error, 1)
		go func() {
			served <- Serve(ctx, l, Agent{
				HandOver: func(context.Context) (uint64, error) { return 0, nil },
				Stop:     func(context.Context, time.Duration, bool) (Status, error) { return Status{}, nil },
			})
		}()
		if err := end(); err != nil {
			t.Fatal(err)
		}
		if _, err := Listener(t.Context(), socket); !errors.Is(err, ErrNobody) {
			t.Errorf("%s: somebody listens: %v", what, err)
		}
		next, err := Listen(socket)
		if err != nil {
			t.Fatal(err)
		}
		cancel()
		if err := <-served; err != nil {
			t.Errorf("%s: %v", what, err)
		}
		if _, err := net.Dial("unix", socket); err != nil {
			t.Errorf("%s: the next agent's socket: %v", what, err)
		}
		if err := next.Close(); err != nil {
			t.Error(err)
		}
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
