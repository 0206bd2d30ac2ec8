package bpf

import (
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// TestPacketsMadeByHand: whatever way a packet leaves, there is a flow of its process.
func TestPacketsMadeByHand(t *testing.T) {
	// Ping sockets are for the groups in this range only.
	const groups = "/proc/sys/net/ipv4/ping_group_range"
	before, err := os.ReadFile(groups)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(groups, []byte("0 2147483647"), 0o644); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := os.WriteFile(groups, before, 0o644); err != nil {
			t.Error(err)
		}
	}()
	r := record(t, Config{})
	for _, c := range []struct {
		how, to  string
		protocol uint8
		port     uint16
	}{
		{"ping", "127.0.0.1", 1, 0},
		{"raw", "127.0.0.1", 1, 0},
		{"raw6", "::1", 58, 0},
		{"tcp by hand", "127.0.0.1", 6, 4321},
		{"protocol 253", "127.0.0.1", 253, 0},
		{"fast open", "127.0.0.1", 6, 4321},
		{"sendmmsg", "127.0.0.1", 17, 4321},
	} {
		t.Run(c.how, func(t *testing.T) {
			cmd := play(t, "raw", c.how, c.to)
			if err := cmd.Run(); err != nil {
				t.Fatal(err)
			}
			r.exitOf(t, cmd.Process.Pid)
			execs := r.execsOf(cmd.Process.Pid)
			f := matching(r, func(f *Flow) bool { return int(f.PID) == cmd.Process.Pid && f.State == FlowStarted })
			if len(f) != 1 || f[0].Process != execs[len(execs)-1].Process {
				t.Fatalf("flows %+v of process %d", f, execs[len(execs)-1].Process)
			}
			if want := netip.AddrPortFrom(netip.MustParseAddr(c.to), c.port); f[0].Protocol != c.protocol || f[0].Destination != want {
				t.Errorf("protocol %d to %s, want %d to %s", f[0].Protocol, f[0].Destination, c.protocol, want)
			}
		})
	}
}

// TestListening: who listens, and who comes from elsewhere.
func TestListening(t *testing.T) {
	r := record(t, Config{})
	const script = `import socket
l = socket.socket(); l.bind(("", 4242)); l.listen()
c = socket.create_connection(("198.51.100.7", 4242)); a, _ = l.accept()
c.send(b"four"); a.recv(4); a.send(b"answer"); c.recv(6); c.close(); a.close()
c = socket.create_connection(("127.0.0.1", 4242)); a, _ = l.accept(); c.close(); a.close()
l.close()`
	cmd := exec.Command("unshare", "-n", "sh", "-c", "ip link set lo up && ip address add 198.51.100.7/32 dev lo && exec python3 -c '"+strings.ReplaceAll(script, "'", `'\''`)+"'")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	r.exitOf(t, cmd.Process.Pid)
	var got []string
	for _, f := range matching(r, func(f *Flow) bool { return int(f.PID) == cmd.Process.Pid && f.Direction != FlowOutbound }) {
		got = append(got, fmt.Sprintf("%d %d %s %s %d %d", f.Direction, f.State, f.Source, f.Destination.Addr(), f.Sent, f.Received))
	}
	want := []string{
		"3 1 0.0.0.0:4242 0.0.0.0 0 0",
		"2 1 198.51.100.7:4242 198.51.100.7 0 0",
		"2 3 198.51.100.7:4242 198.51.100.7 6 4",
		"3 3 0.0.0.0:4242 0.0.0.0 0 0",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}
