package engine

import (
	"syscall"
	"unsafe"
)

// A kernelSigaction is struct sigaction as the rt_sigaction system call of x86-64
// and arm64 knows it (the C library's own is different); only carried, never read.
type kernelSigaction struct {
	handler  uintptr
	flags    uint64
	restorer uintptr
	mask     uint64
}

// protectedSignals are the signals the library claims for itself when it is loaded
// or opened. Go needs its own handlers for them: SIGSEGV is how a nil pointer
// becomes a panic, SIGURG how goroutines are preempted, SIGTERM how we are asked to
// stop.
var protectedSignals = []syscall.Signal{
	syscall.SIGHUP, syscall.SIGINT, syscall.SIGQUIT, syscall.SIGILL, syscall.SIGTRAP,
	syscall.SIGABRT, syscall.SIGBUS, syscall.SIGFPE, syscall.SIGUSR1, syscall.SIGSEGV,
	syscall.SIGUSR2, syscall.SIGPIPE, syscall.SIGTERM, syscall.SIGTSTP, syscall.SIGURG,
	syscall.SIGPROF, syscall.SIGSYS,
}

// keepSignalHandlers runs f and puts back the signal handlers that f replaced.
func keepSignalHandlers(f func()) {
	saved := make([]kernelSigaction, len(protectedSignals))
	ok := make([]bool, len(protectedSignals))
	for i, s := range protectedSignals {
		ok[i] = rtSigaction(s, nil, &saved[i]) == 0
	}
	defer func() {
		for i, s := range protectedSignals {
			if ok[i] {
				_ = rtSigaction(s, &saved[i], nil) // was read from there; cannot fail
			}
		}
	}()
	f()
}

// rtSigaction asks the kernel directly: the C library's wrapper would need cgo, and
// os/signal knows only what Go itself has installed.
func rtSigaction(s syscall.Signal, act, old *kernelSigaction) syscall.Errno {
	const maskBytes = 8
	_, _, errno := syscall.RawSyscall6(syscall.SYS_RT_SIGACTION, uintptr(s),
		uintptr(unsafe.Pointer(act)), uintptr(unsafe.Pointer(old)), maskBytes, 0, 0)
	return errno
}
