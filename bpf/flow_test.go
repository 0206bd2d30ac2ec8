package bpf

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// serveTCP answers each connection, after reading to its end, with n bytes.
func serveTCP(t *testing.T, network, address string, n int) net.Listener {
	t.Helper()
	l, err := net.Listen(network, address)
	if err != nil {
		t.Error(err)
		return nil
	}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				_, err := io.Copy(io.Discard, c)
				if err == nil {
					_, err = c.Write(make([]byte, n))
				}
				if err := errors.Join(err, c.Close()); err != nil {
					t.Error(err)
				}
			}()
		}
	}()
	t.Cleanup(func() { _ = l.Close() })
	return l
}

func flowsOf(r *recorder, pid int) []*Flow {
	return matching(r, func(f *Flow) bool { return int(f.PID) == pid })
}

func checkTCP(t *testing.T, r *recorder, server, source string, sent, received int) {
	t.Helper()
	cmd := play(t, "tcp", server, fmt.Sprint(sent))
	pid := run(t, cmd)
	await(t, r, 1, "end of flow", func(f *Flow) bool { return int(f.PID) == pid && f.State == FlowEnded })
	flows := flowsOf(r, pid)
	if len(flows) != 2 {
		t.Fatalf("%d records: %+v", len(flows), flows)
	}
	start, end := flows[0], flows[1]
	process := r.execsOf(pid)[0].Process
	destination := netip.MustParseAddrPort(server)
	for _, f := range flows {
		if f.ID != start.ID || f.ID == 0 || f.Process != process || f.Protocol != syscall.IPPROTO_TCP ||
			f.Destination != destination || f.Source.Addr() != netip.MustParseAddr(source) || f.Started != start.Time {
			t.Errorf("%+v", f)
		}
	}
	if start.State != FlowStarted || start.Sent != 0 || start.Received != 0 || start.Established {
		t.Errorf("start: %+v", start)
	}
	if int(end.Sent) != sent || int(end.Received) != received || !end.Established || end.Errno != 0 || end.Source.Port() == 0 {
		t.Errorf("end: %+v, want %d and %d bytes", end, sent, received)
	}
}

func TestTCP(t *testing.T) {
	r := record(t, Config{})
	for _, c := range []struct{ network, address, source string }{
		{"tcp4", "127.0.0.1:0", "127.0.0.1"},
		{"tcp6", "[::1]:0", "::1"},
	} {
		l := serveTCP(t, c.network, c.address, 70000)
		checkTCP(t, r, l.Addr().String(), c.source, 12345, 70000)
		checkTCP(t, r, l.Addr().String(), c.source, 0, 70000)
	}
	empty := serveTCP(t, "tcp4", "127.0.0.1:0", 0)
	checkTCP(t, r, empty.Addr().String(), "127.0.0.1", 1, 0)
	// The server's side of a connection is not egress.
	for _, f := range matching(r, func(f *Flow) bool {
		return f.Direction != FlowListening && f.Source.Port() != 0 && f.Source == netip.MustParseAddrPort(empty.Addr().String())
	}) {
		t.Errorf("an accepted connection: %+v", f)
	}
}

func TestTCPMapped(t *testing.T) {
	r := record(t, Config{})
	l := serveTCP(t, "tcp4", "127.0.0.1:0", 5)
	port := l.Addr().(*net.TCPAddr).Port
	fd, err := syscall.Socket(syscall.AF_INET6, syscall.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	address := &syscall.SockaddrInet6{Port: port, Addr: netip.MustParseAddr("::ffff:127.0.0.1").As16()}
	if err := syscall.Connect(fd, address); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Close(fd); err != nil {
		t.Fatal(err)
	}
	want := netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), uint16(port))
	await(t, r, 2, "flow by a mapped address", func(f *Flow) bool { return f.Destination == want })
}

func TestTCPRefused(t *testing.T) {
	r := record(t, Config{})
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	cmd := play(t, "tcp", address, "1")
	cmd.Stderr = nil
	pid := run(t, cmd)
	end := await(t, r, 1, "refusal", func(f *Flow) bool { return int(f.PID) == pid && f.State == FlowEnded })[0]
	if end.Errno != uint16(syscall.ECONNREFUSED) || end.Established || end.Sent != 0 || end.Received != 0 {
		t.Errorf("%+v", end)
	}
}

func TestTCPGoesOn(t *testing.T) {
	r := record(t, Config{FlowInterval: 300 * time.Millisecond})
	l := serveTCP(t, "tcp4", "127.0.0.1:0", 100)
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	want := netip.MustParseAddrPort(l.Addr().String())
	for range 3 {
		if _, err := c.Write(make([]byte, 1000)); err != nil {
			t.Fatal(err)
		}
		time.Sleep(200 * time.Millisecond)
	}
	active := await(t, r, 1, "active flow", func(f *Flow) bool { return f.Destination == want && f.State == FlowActive })[0]
	if active.Sent == 0 || active.Source.Port() == 0 || !active.Established {
		t.Errorf("%+v", active)
	}
	if err := c.(*net.TCPConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(io.Discard, c); err != nil {
		t.Fatal(err)
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	await(t, r, 1, "end", func(f *Flow) bool { return f.Destination == want && f.State == FlowEnded })
	var sent, received uint64
	for _, f := range matching(r, func(f *Flow) bool { return f.Destination == want }) {
		sent += f.Sent
		received += f.Received
	}
	if sent != 3000 || received != 100 {
		t.Errorf("%d sent, %d received in sum", sent, received)
	}
}

func TestTCPInNetworkNamespace(t *testing.T) {
	r := record(t, Config{})
	inNetwork(t, func() {
		l, err := net.Listen("tcp4", "127.0.0.1:4321")
		if err != nil {
			t.Error(err)
			return
		}
		defer func() { _ = l.Close() }()
		cmd := exec.Command("bash", "-c", "echo hello >/dev/tcp/127.0.0.1/4321")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("%v: %s", err, out)
			return
		}
		pid := cmd.Process.Pid
		c, err := l.Accept()
		if err != nil {
			t.Error(err)
			return
		}
		if _, err := io.Copy(io.Discard, c); err != nil {
			t.Error(err)
		}
		if err := c.Close(); err != nil {
			t.Error(err)
		}
		end := await(t, r, 1, "flow", func(f *Flow) bool { return int(f.PID) == pid && f.State == FlowEnded })[0]
		if end.Sent != 6 || end.Received != 0 || end.Destination.String() != "127.0.0.1:4321" || end.Process != r.execsOf(pid)[0].Process {
			t.Errorf("%+v", end)
		}
	})
}

// serveUDP answers each datagram with n bytes.
func serveUDP(t *testing.T, network, address string, n int) *net.UDPConn {
	t.Helper()
	a, err := net.ResolveUDPAddr(network, address)
	if err != nil {
		t.Fatal(err)
	}
	c, err := net.ListenUDP(network, a)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		b := make([]byte, 65536)
		for {
			_, from, err := c.ReadFrom(b)
			if err != nil {
				return
			}
			if _, err := c.WriteTo(make([]byte, n), from); err != nil {
				t.Error(err)
			}
		}
	}()
	t.Cleanup(func() { _ = c.Close(); <-done })
	return c
}

func TestUDP(t *testing.T) {
	r := record(t, Config{})
	v4 := serveUDP(t, "udp4", "127.0.0.1:0", 33).LocalAddr().String()
	other := serveUDP(t, "udp4", "127.0.0.1:0", 44).LocalAddr().String()
	v6 := serveUDP(t, "udp6", "[::1]:0", 55).LocalAddr().String()
	type want struct {
		destination    string
		sent, received uint64
	}
	for name, c := range map[string]struct {
		args []string
		want []want
	}{
		"connected":        {[]string{"connected", v4, "10", v4, "20"}, []want{{v4, 30, 66}}},
		"connected v6":     {[]string{"connected", v6, "10"}, []want{{v6, 10, 55}}},
		"unconnected":      {[]string{"udp4", v4, "10", v4, "1"}, []want{{v4, 11, 66}}},
		"to several":       {[]string{"udp4", v4, "10", other, "20", v4, "7"}, []want{{v4, 17, 66}, {other, 20, 44}}},
		"of both families": {[]string{"udp", v4, "10", v6, "20"}, []want{{v4, 10, 33}, {v6, 20, 55}}},
		"in fragments":     {[]string{"udp4", v4, "60000"}, []want{{v4, 60000, 33}}},
		"empty":            {[]string{"udp4", v4, "0"}, []want{{v4, 0, 33}}},
	} {
		t.Run(name, func(t *testing.T) {
			pid := run(t, play(t, "udp", c.args...))
			r.exitOf(t, pid)
			await(t, r, len(c.want), "ends", func(f *Flow) bool { return int(f.PID) == pid && f.State == FlowEnded })
			process := r.execsOf(pid)[0].Process
			flows := flowsOf(r, pid)
			if len(flows) != 2*len(c.want) {
				t.Errorf("%d records: %+v", len(flows), flows)
			}
			for _, w := range c.want {
				var started, ended *Flow
				for _, f := range flows {
					if f.Destination.String() != w.destination {
						continue
					}
					if f.Process != process || f.Protocol != syscall.IPPROTO_UDP || f.Source.Port() == 0 {
						t.Errorf("%+v", f)
					}
					if f.State == FlowStarted {
						started = f
					} else {
						ended = f
					}
				}
				if started == nil || ended == nil {
					t.Fatalf("to %s: %+v", w.destination, flows)
				}
				if started.Sent != 0 || started.Received != 0 || ended.ID != started.ID || ended.Sent != w.sent || ended.Received != w.received || ended.Started != started.Time {
					t.Errorf("%+v then %+v, want %+v", started, ended, w)
				}
			}
		})
	}
	// The servers sent, too, but only to those who asked.
	for _, f := range matching(r, func(f *Flow) bool { return f.Protocol == syscall.IPPROTO_UDP }) {
		for _, server := range []string{v4, other, v6} {
			if f.Source.String() == server {
				t.Errorf("an answer is a flow: %+v", f)
			}
		}
	}
}

func TestUDPIdle(t *testing.T) {
	r := record(t, Config{FlowIdle: 300 * time.Millisecond, FlowInterval: 150 * time.Millisecond})
	server := serveUDP(t, "udp4", "127.0.0.1:0", 3).LocalAddr()
	want := netip.MustParseAddrPort(server.String())
	c, err := net.DialUDP("udp4", nil, server.(*net.UDPAddr))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	of := func(state FlowState) func(*Flow) bool {
		return func(f *Flow) bool { return f.Destination == want && f.State == state }
	}
	for range 4 {
		if _, err := c.Write(make([]byte, 10)); err != nil {
			t.Fatal(err)
		}
		time.Sleep(100 * time.Millisecond)
	}
	await(t, r, 1, "active", of(FlowActive))
	await(t, r, 1, "end", of(FlowEnded))
	var sent, received uint64
	for _, f := range matching(r, func(f *Flow) bool { return f.Destination == want }) {
		sent += f.Sent
		received += f.Received
	}
	if sent != 40 || received != 12 {
		t.Errorf("%d sent, %d received in sum", sent, received)
	}
	// The same socket again: another flow.
	if _, err := c.Write(make([]byte, 10)); err != nil {
		t.Fatal(err)
	}
	started := await(t, r, 2, "second start", of(FlowStarted))
	if started[0].ID == started[1].ID {
		t.Errorf("one flow twice: %+v", started)
	}
}

// TestSocketsOpenBefore: a socket that was there before the sensor has an owner, too.
func TestSocketsOpenBefore(t *testing.T) {
	server := serveUDP(t, "udp4", "127.0.0.1:0", 3).LocalAddr()
	c, err := net.DialUDP("udp4", nil, server.(*net.UDPAddr))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	r := record(t, Config{})
	if _, err := c.Write(make([]byte, 10)); err != nil {
		t.Fatal(err)
	}
	want := netip.MustParseAddrPort(server.String())
	f := await(t, r, 1, "flow", func(f *Flow) bool { return f.Destination == want })[0]
	if int(f.PID) != syscall.Getpid() || f.Process == 0 {
		t.Errorf("%+v", f)
	}
}

// TestOpenBefore: TCP connections and listening sockets that were there before the
// sensor are told once, with their processes, and their ends later; in containers, too.
func TestOpenBefore(t *testing.T) {
	for name, namespaces := range map[string]uintptr{
		"machine": 0, "namespaces": syscall.CLONE_NEWNET | syscall.CLONE_NEWPID | syscall.CLONE_NEWUSER,
	} {
		t.Run(name, func(t *testing.T) { openBefore(t, namespaces) })
	}
}

func openBefore(t *testing.T, namespaces uintptr) {
	cmd := play(t, "open-before")
	if namespaces != 0 {
		root := []syscall.SysProcIDMap{{HostID: 0, Size: 1}}
		cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: namespaces, UidMappings: root, GidMappings: root}
	}
	cmd.Stdout = nil
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
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	port, err := strconv.Atoi(strings.TrimSpace(line))
	if err != nil {
		t.Fatal(err)
	}
	r := record(t, Config{})
	if err := in.Close(); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Fatal(err)
	}
	pid := cmd.Process.Pid
	r.exitOf(t, pid)
	process := matching(r, func(e *Exec) bool { return int(e.PID) == pid && e.Found })[0].Process
	var got []string
	for _, f := range flowsOf(r, pid) {
		if f.Process != process || int(f.Destination.Port()) != port && int(f.Source.Port()) != port {
			t.Errorf("%+v", f)
		}
		got = append(got, fmt.Sprintf("direction %d state %d sent %d", f.Direction, f.State, f.Sent))
	}
	slices.Sort(got)
	want := []string{
		"direction 1 state 3 sent 16", "direction 1 state 5 sent 0", "direction 3 state 3 sent 0", "direction 3 state 5 sent 0",
	}
	if !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}
