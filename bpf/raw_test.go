package bpf

import (
	"net/netip"
	"os"
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
