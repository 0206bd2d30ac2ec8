package bpf

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// UnsupportedError says what this machine or this process lacks. Open returns it
// when trying again cannot help.
type UnsupportedError struct {
	// Missing names the feature or privilege, for people.
	Missing string
	// Kernel is the release that was asked, as uname gives it.
	Kernel string
	// Err is the error that showed it, or nil.
	Err error
}

// Error says what is missing and where.
func (e *UnsupportedError) Error() string {
	kernel := e.Kernel
	if kernel == "" {
		kernel = kernelRelease()
	}
	s := fmt.Sprintf("the kernel side cannot run here (kernel %s): missing %s", kernel, e.Missing)
	if e.Err != nil {
		s += ": " + e.Err.Error()
	}
	return s
}

// Unwrap returns the error that showed it.
func (e *UnsupportedError) Unwrap() error { return e.Err }

func kernelRelease() string {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return "unknown"
	}
	return unix.ByteSliceToString(u.Release[:])
}

// checkMachine looks at what can be known before anything is loaded, so that the
// commonest mistakes get a clear answer.
func checkMachine() error {
	if missing := missingCapabilities(); len(missing) > 0 {
		return &UnsupportedError{
			Missing: "privilege: run as root, or with " + strings.Join(missing, ", "),
			Kernel:  kernelRelease(),
		}
	}
	if _, err := os.Stat("/sys/kernel/btf/vmlinux"); err != nil {
		return &UnsupportedError{
			Missing: "the kernel's type information (a kernel built with CONFIG_DEBUG_INFO_BTF, with /sys mounted)",
			Kernel:  kernelRelease(),
			Err:     err,
		}
	}
	return nil
}

// capable says whether the sensor has a capability; if that cannot be learned, that it has: the
// kernel will tell.
func capable(capability uint) bool {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&header, &data[0]); err != nil {
		return true
	}
	return data[capability/32].Effective&(1<<(capability%32)) != 0
}

func missingCapabilities() []string {
	if capable(unix.CAP_SYS_ADMIN) {
		return nil
	}
	var missing []string
	for _, c := range []struct {
		number uint
		name   string
	}{
		{unix.CAP_BPF, "CAP_BPF"},
		{unix.CAP_PERFMON, "CAP_PERFMON"},
		{unix.CAP_NET_ADMIN, "CAP_NET_ADMIN"},
		{unix.CAP_SYS_PTRACE, "CAP_SYS_PTRACE"},
	} {
		if !capable(c.number) {
			missing = append(missing, c.name)
		}
	}
	return missing
}

func lockdown() string {
	b, err := os.ReadFile("/sys/kernel/security/lockdown")
	if err != nil {
		return ""
	}
	return string(b)
}

// loadError turns the kernel's refusal of the programs into what is missing.
func loadError(err error) error {
	var verifier *ebpf.VerifierError
	switch {
	case strings.Contains(lockdown(), "[confidentiality]"):
		return &UnsupportedError{Missing: "permission to read kernel memory (lockdown is at confidentiality)", Kernel: kernelRelease(), Err: err}
	case errors.Is(err, unix.EPERM):
		return &UnsupportedError{Missing: "permission to load BPF programs", Kernel: kernelRelease(), Err: err}
	case errors.Is(err, ebpf.ErrNotSupported), errors.As(err, &verifier):
		return &UnsupportedError{Missing: "a BPF feature, or consent to one of the programs (docs/kernels.md says which kernels were tried)", Kernel: kernelRelease(), Err: err}
	}
	return fmt.Errorf("load BPF programs: %w", err)
}

func attachError(program *ebpf.Program, err error) error {
	if errors.Is(err, ebpf.ErrNotSupported) || errors.Is(err, unix.EPERM) || errors.Is(err, unix.EOPNOTSUPP) {
		return &UnsupportedError{Missing: "permission or hook to attach " + program.String(), Kernel: kernelRelease(), Err: err}
	}
	return fmt.Errorf("attach %s: %w", program, err)
}
