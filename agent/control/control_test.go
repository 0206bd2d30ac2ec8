package control

import (
	"context"
	"errors"
	"net"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func serve(t *testing.T, a Agent) string {
	t.Helper()
	socket := filepath.Join(t.TempDir(), "run", "agent.sock")
	l, err := Listen(socket)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	done := make(chan error, 1)
	go func() { done <- Serve(ctx, l, a) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return socket
}

func TestAskAndAnswer(t *testing.T) {
	flushed := 0
	socket := serve(t, Agent{
		Flush:    func(context.Context) error { flushed++; return nil },
		HandOver: func(context.Context) (uint64, error) { return 1 << 60, nil },
	})
	if err := Flush(t.Context(), socket); err != nil || flushed != 1 {
		t.Errorf("%v, flushed %d times", err, flushed)
	}
	if told, err := HandOver(t.Context(), socket); err != nil || told != 1<<60 {
		t.Errorf("%d, %v", told, err)
	}
}

func TestErrors(t *testing.T) {
	socket := serve(t, Agent{Flush: func(context.Context) error { return errors.New("the stream is away") }})
	if err := Flush(t.Context(), socket); err == nil || !strings.Contains(err.Error(), "the stream is away") {
		t.Errorf("%v", err)
	}
	if err := Flush(t.Context(), socket+"-not"); !errors.Is(err, ErrNobody) {
		t.Errorf("%v", err)
	}
	if _, err := ask(t.Context(), socket, request{Do: "dance"}, time.Second); err == nil || !strings.Contains(err.Error(), "cannot") {
		t.Errorf("%v", err)
	}
	// A socket that nobody listens on any more is nobody, and can be taken over.
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: socket + "2", Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if err := Flush(t.Context(), socket+"2"); !errors.Is(err, ErrNobody) {
		t.Errorf("%v", err)
	}
	if l, err = Listen(socket + "2"); err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Error(err)
	}
}

// TestStop: it is told how long it may take, and answers how the agent was at its end.
func TestStop(t *testing.T) {
	var had time.Duration
	agent := Agent{
		Status: func() Status { return Status{PID: 7, Connected: true} },
		Stop: func(_ context.Context, within time.Duration, unlessUsed bool) (Status, error) {
			if unlessUsed {
				return Status{GoesOn: true}, nil
			}
			had = within
			return Status{BatchesWaiting: 3, EventsLost: map[string]uint64{"spool": 2}}, nil
		},
	}
	socket := serve(t, agent)
	if got, err := AskStatus(t.Context(), socket); err != nil || got.PID != 7 || !got.Connected {
		t.Errorf("%+v, %v", got, err)
	}
	if got, err := Stop(t.Context(), socket, 1500*time.Millisecond, true); err != nil || !got.GoesOn {
		t.Errorf("used: %+v, %v", got, err)
	}
	got, err := Stop(t.Context(), socket, 1500*time.Millisecond, false)
	if err != nil || got.BatchesWaiting != 3 || got.EventsLost["spool"] != 2 || had != 1500*time.Millisecond {
		t.Errorf("%+v within %s, %v", got, had, err)
	}
	// Nobody keeps it from ending for long.
	if _, err := Stop(t.Context(), serve(t, agent), 1000*time.Hour, false); err != nil || had != maxWithin {
		t.Errorf("within %s, %v", had, err)
	}
}

// TestSilentAndForeign: who connects and says nothing, or nonsense, holds nobody up.
func TestSilentAndForeign(t *testing.T) {
	socket := serve(t, Agent{Flush: func(context.Context) error { return nil }})
	for _, words := range []string{"", "\n", "{}\n", strings.Repeat("x", 1<<20)} {
		c, err := net.Dial("unix", socket)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = c.Close() }()
		_, _ = c.Write([]byte(words)) // it may have hung up already
	}
	if err := Flush(t.Context(), socket); err != nil {
		t.Error(err)
	}
}

// TestOnlyRootEndsIt: anybody may ask to flush, and how it is. The root of a container that was
// given the socket is anybody.
func TestOnlyRootEndsIt(t *testing.T) {
	for name, attributes := range map[string]*syscall.SysProcAttr{
		"another user":       {Credential: &syscall.Credential{Uid: 65534, Gid: 65534}},
		"a container's root": {Cloneflags: syscall.CLONE_NEWPID},
	} {
		t.Run(name, func(t *testing.T) { onlyRootEndsIt(t, attributes) })
	}
}

func onlyRootEndsIt(t *testing.T, attributes *syscall.SysProcAttr) {
	handed := false
	socket := serve(t, Agent{
		Flush:    func(context.Context) error { return nil },
		HandOver: func(context.Context) (uint64, error) { handed = true; return 0, nil },
		Stop:     func(context.Context, time.Duration, bool) (Status, error) { handed = true; return Status{}, nil },
		Status:   func() Status { return Status{AgentID: "vm"} },
		Use: func(_ context.Context, who Caller, _ bool) error {
			if who.UID != 65534 || who.PID == 0 {
				return errors.New("that is not who asked")
			}
			return nil
		},
	})
	for dir := filepath.Dir(socket); dir != "/tmp" && dir != "/"; dir = filepath.Dir(dir) {
		if err := syscall.Chmod(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.Command("/usr/bin/python3", "-c", `import socket, sys
for what in "hand over", "stop", "flush", "status", "use":
    s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1])
    s.send(b'{"do": "%s"}\n' % what.encode()); print(s.recv(1000).decode().strip())`, socket)
	cmd.SysProcAttr = attributes
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if want := "{\"error\":\"only root may have the agent hand over\"}\n{\"error\":\"only root may have the agent stop\"}\n{}\n" +
		"{\"status\":{\"agent_id\":\"vm\",\"version\":\"\",\"pid\":0,\"armed\":false,\"connected\":false,\"events_seen\":0,\"batches_waiting\":0,\"spool\":\"\"}}\n{}\n"; string(out) != want || handed {
		t.Errorf("%s, handed over %t", out, handed)
	}
}

// TestNoRoomToAccept: an agent that can open no file for a while is reached afterwards.
func TestNoRoomToAccept(t *testing.T) {
	socket := serve(t, Agent{Status: func() Status { return Status{PID: 7} }})
	client, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.Close(client) }()
	if err := unix.SetsockoptTimeval(client, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 5}); err != nil {
		t.Fatal(err)
	}
	next, err := unix.Dup(0)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.Close(next); err != nil {
		t.Fatal(err)
	}
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	none := limit
	none.Cur = uint64(next)
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &none); err != nil {
		t.Fatal(err)
	}
	connected := unix.Connect(client, &unix.SockaddrUnix{Name: socket})
	time.Sleep(3 * acceptAgain)
	if err := errors.Join(connected, unix.Setrlimit(unix.RLIMIT_NOFILE, &limit)); err != nil {
		t.Fatal(err)
	}
	if _, err := unix.Write(client, []byte(`{"do": "status"}`+"\n")); err != nil {
		t.Fatal(err)
	}
	said := make([]byte, 1000)
	if n, err := unix.Read(client, said); err != nil || !strings.Contains(string(said[:n]), `"pid":7`) {
		t.Errorf("%v: %s", err, said[:max(n, 0)])
	}
	if got, err := AskStatus(t.Context(), socket); err != nil || got.PID != 7 {
		t.Errorf("%+v, %v", got, err)
	}
}
