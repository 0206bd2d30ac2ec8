package doctor

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sallyport-ci/sallyport/bpf"
)

// Machine is what the checks of the machine look at. The zero value is this machine.
type Machine struct {
	// Root is before /proc and /sys.
	Root string
	// Release of the kernel; that of the one that runs by default.
	Release string
	// EffectiveUID; this process's by default.
	EffectiveUID func() int
	// Sensor loads the eBPF programs and lets go of them, and says what this kernel does not
	// give; bpf.Open by default.
	Sensor func() (lacks []string, err error)
	// Clock returns wall time; time.Now by default.
	Clock func() time.Time
	// Synchronised says whether something keeps the clock right, and how; adjtimex by default.
	Synchronised func() (bool, error)
}

func (m Machine) withDefaults() Machine {
	if m.Release == "" {
		var u unix.Utsname
		if err := unix.Uname(&u); err == nil {
			m.Release = unix.ByteSliceToString(u.Release[:])
		}
	}
	if m.EffectiveUID == nil {
		m.EffectiveUID = os.Geteuid
	}
	if m.Sensor == nil {
		m.Sensor = openSensor
	}
	if m.Clock == nil {
		m.Clock = time.Now
	}
	if m.Synchronised == nil {
		m.Synchronised = synchronised
	}
	return m
}

func openSensor() ([]string, error) {
	s, err := bpf.Open(bpf.Config{})
	if err != nil {
		return nil, err
	}
	return s.Lacks(), s.Close()
}

// clockError is adjtimex's answer when nothing keeps the clock right (adjtimex(2)).
const clockError = 5

func synchronised() (bool, error) {
	state, err := unix.Adjtimex(&unix.Timex{})
	if err != nil {
		return false, fmt.Errorf("ask the kernel about its clock: %w", err)
	}
	return state != clockError, nil
}

// CheckMachine looks at the kernel, the privileges of this process, and the clock.
func CheckMachine(_ context.Context, m Machine) (r Results) {
	m = m.withDefaults()
	root := m.EffectiveUID() == 0
	r.kernel(m.Release)
	if _, err := os.Stat(filepath.Join(m.Root, "/sys/kernel/btf/vmlinux")); err != nil {
		r.add(Fail, "kernel-types", "/sys/kernel/btf/vmlinux is not there",
			"use a kernel built with CONFIG_DEBUG_INFO_BTF, and mount /sys; the agent cannot run without")
	} else {
		r.add(OK, "kernel-types", "/sys/kernel/btf/vmlinux", "")
	}
	r.cgroup(m.Root)
	r.lockdown(m.Root)
	switch {
	case root:
		r.add(OK, "privilege", "root", "")
	default:
		r.add(Warn, "privilege", "not root: whether eBPF programs load was not tried",
			"run sudo sallyport doctor; the agent needs root or CAP_BPF, CAP_PERFMON, CAP_NET_ADMIN and CAP_SYS_PTRACE, all else runs without")
	}
	if root {
		r.sensor(m.Sensor)
	}
	r.clock(m)
	return r
}

func (r *Results) kernel(release string) {
	var major, minor int
	if _, err := fmt.Sscanf(release, "%d.%d", &major, &minor); err != nil {
		r.add(Warn, "kernel", fmt.Sprintf("release %q cannot be read", release), "use Linux 6.1 or later (docs/kernels.md)")
		return
	}
	switch {
	case major < 6 || major == 6 && minor < 1:
		r.add(Fail, "kernel", release, "use Linux 6.1 or later: earlier ones lack what the agent needs (docs/kernels.md)")
	case major == 6 && minor < 12:
		r.add(OK, "kernel", release+"; some things are seen from 6.12 on only (docs/kernels.md)", "")
	default:
		r.add(OK, "kernel", release, "")
	}
}

func (r *Results) cgroup(root string) {
	f, err := os.Open(filepath.Join(root, "/proc/self/mountinfo"))
	if err != nil {
		r.add(Fail, "cgroup2", "mounts cannot be read: "+err.Error(), "mount /proc")
		return
	}
	defer func() { _ = f.Close() }() // it was only read
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		// proc_pid_mountinfo(5): the kind comes first after the separator.
		before, after, ok := strings.Cut(lines.Text(), " - ")
		fields := strings.Fields(before)
		if ok && strings.HasPrefix(after, "cgroup2 ") && len(fields) > 4 {
			r.add(OK, "cgroup2", "mounted at "+fields[4], "")
			return
		}
	}
	r.add(Warn, "cgroup2", "not mounted", "mount -t cgroup2 none /sys/fs/cgroup/unified; as root the agent does it by itself")
}

func (r *Results) lockdown(root string) {
	text, err := os.ReadFile(filepath.Join(root, "/sys/kernel/security/lockdown"))
	switch {
	case err != nil:
		r.add(OK, "lockdown", "none", "")
	case strings.Contains(string(text), "[confidentiality]"):
		r.add(Fail, "lockdown", "confidentiality: the kernel lets nobody read its memory", "boot with lockdown=integrity or none")
	default:
		r.add(OK, "lockdown", strings.TrimSpace(string(text)), "")
	}
}

// sensor tries what the agent does first: lift the limit of locked memory, load, attach.
func (r *Results) sensor(open func() ([]string, error)) {
	lacks, err := open()
	var unsupported *bpf.UnsupportedError
	switch {
	case errors.As(err, &unsupported):
		r.add(Fail, "ebpf", "the agent cannot run here: "+err.Error(), "needed: "+unsupported.Missing)
	case err != nil:
		r.add(Fail, "ebpf", "the agent cannot run here: "+err.Error(), "in a container give it --privileged and the host's /sys")
	case len(lacks) > 0:
		r.add(OK, "ebpf", "programs load and attach; not seen on this kernel: "+strings.Join(lacks, "; "), "")
	default:
		r.add(OK, "ebpf", "programs load and attach, memory can be locked", "")
	}
}

// probe is how long wall time and monotonic time are compared.
const probe = 100 * time.Millisecond

func (r *Results) clock(m Machine) {
	const advice = "start an NTP client, such as chrony or systemd-timesyncd; events keep their order without, but their times are wrong"
	monotonic, wall := time.Now(), m.Clock().Round(0)
	if wall.Year() < 2025 {
		r.add(Fail, "clock", "it is "+wall.UTC().Format(time.RFC3339)+" here", "set the clock; "+advice)
		return
	}
	time.Sleep(probe)
	apart := m.Clock().Round(0).Sub(wall) - time.Since(monotonic)
	ok, err := m.Synchronised()
	switch {
	case apart.Abs() > probe/2:
		r.add(Warn, "clock", fmt.Sprintf("somebody is setting it: it moved by %s within %s", apart.Round(time.Millisecond), probe), "let one program alone set the clock")
	case err != nil:
		r.add(Warn, "clock", "whether it is synchronised is not known: "+err.Error(), "")
	case !ok:
		r.add(Warn, "clock", "the kernel says that nothing keeps it right", advice)
	default:
		r.add(OK, "clock", "synchronised", "")
	}
}
