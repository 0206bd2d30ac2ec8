package bpf

import (
	"os/exec"
	"strings"
	"testing"

	"github.com/cilium/ebpf/link"
)

// TestDamage: what somebody does to the sensor's links and tables is noticed; all that
// happens on a machine is not.
func TestDamage(t *testing.T) {
	r := record(t, Config{})
	r.exitOf(t, run(t, exec.Command("sh", "-c", "true; true")))
	if d := r.Damage(); len(d) != 0 {
		t.Fatalf("nobody did anything: %q", d)
	}
	if len(r.holds) < 15 {
		t.Errorf("only %d links are looked at", len(r.holds))
	}
	expect := func(what string) {
		t.Helper()
		d := r.Damage()
		for _, line := range d {
			if line == what {
				return
			}
		}
		t.Errorf("%q, want %q", d, what)
	}

	// As `bpftool link detach` does.
	for _, h := range r.holds {
		if h.name != "packet_out" {
			continue
		}
		info, err := h.link.Info()
		if err != nil {
			t.Fatal(err)
		}
		other, err := link.NewFromID(info.ID)
		if err != nil {
			t.Fatal(err)
		}
		if err := other.Detach(); err != nil {
			t.Fatal(err)
		}
		if err := other.Close(); err != nil {
			t.Fatal(err)
		}
	}
	expect("link of packet_out is detached")

	var comm [16]byte
	copy(comm[:], "Runner.Worker")
	if err := r.objects.Workers.Delete(comm); err != nil {
		t.Fatal(err)
	}
	expect("table of workers was written to")
	if err := r.objects.Processes.Delete(r.self.pid); err != nil {
		t.Fatal(err)
	}
	expect("table of processes was written to")
	if d := r.Damage(); len(d) != 3 {
		t.Errorf("%s", strings.Join(d, "; "))
	}
}
