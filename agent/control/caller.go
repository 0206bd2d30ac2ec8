package control

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"

	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/proto"
)

// Caller is the process at the other end when it connected.
type Caller struct {
	// PID as this process sees it, 0 if it does not see it.
	PID uint32
	// UID is its user; nobody's where it is root in other PID namespaces than this process: a
	// container's root, not the machine's. A pod or container may have been given the socket.
	UID uint32
}

// nobody is the user of whom nothing is known (the kernel's overflow user).
const nobody = 65534

// report makes a report for who connected, unless that process is gone by then: its number
// may be another's.
func report(ctx context.Context, c *net.UnixConn, a Agent, q request) ([]byte, error) {
	if a.Report == nil {
		return nil, errors.New("this agent makes no reports")
	}
	who, err := peer(c)
	if err != nil {
		return nil, fmt.Errorf("find out who asks: %w", err)
	}
	alive, err := hold(c, who.PID)
	if err != nil {
		return nil, fmt.Errorf("find out who asks: %w", err)
	}
	defer alive.close()
	r, err := a.Report(ctx, who, q.Execution, min(max(q.Wait, 0), MaxWait))
	if err != nil {
		return nil, err
	}
	if !alive.is() {
		return nil, errors.New("who asked is gone")
	}
	data, err := proto.Marshal(r)
	if err != nil {
		return nil, fmt.Errorf("encode report: %w", err)
	}
	return data, nil
}

// process is a hold on a process, by which it is known whether a number still is its own.
type process struct{ fd int }

// hold takes hold of the process at the other end: of the one that connected where the
// kernel keeps it (Linux 6.5), else of the one that has its number now.
func hold(c *net.UnixConn, pid uint32) (process, error) {
	if pid == 0 {
		return process{-1}, nil // outside of what this process sees: nobody's number
	}
	raw, err := c.SyscallConn()
	if err != nil {
		return process{}, err
	}
	fd := -1
	if err := raw.Control(func(socket uintptr) {
		if n, err := unix.GetsockoptInt(int(socket), unix.SOL_SOCKET, unix.SO_PEERPIDFD); err == nil {
			fd = n
		}
	}); err != nil {
		return process{}, err
	}
	if fd < 0 {
		if fd, err = unix.PidfdOpen(int(pid), 0); err != nil {
			return process{}, err
		}
	}
	return process{fd}, nil
}

func (p process) is() bool {
	return p.fd < 0 || unix.PidfdSendSignal(p.fd, 0, nil, 0) == nil
}

func (p process) close() {
	if p.fd >= 0 {
		_ = unix.Close(p.fd) // nothing was written to it
	}
}

// credentials returns what the kernel keeps of the process at the other end.
func credentials(c *net.UnixConn) (at *unix.Ucred, err error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return nil, err
	}
	var failed error
	if err := raw.Control(func(fd uintptr) {
		at, failed = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	}); err != nil {
		return nil, err
	}
	return at, failed
}

// peer returns the process at the other end.
func peer(c *net.UnixConn) (Caller, error) {
	at, err := credentials(c)
	if err != nil {
		return Caller{}, err
	}
	who := Caller{PID: uint32(at.Pid), UID: at.Uid}
	if who.UID == 0 && !ofThisMachine(c, who.PID) {
		who.UID = nobody
	}
	return who, nil
}

// ofThisMachine says whether the process at the other end is in this one's PID namespace.
func ofThisMachine(c *net.UnixConn, pid uint32) bool {
	if pid == 0 {
		return false // outside of what this process sees
	}
	alive, err := hold(c, pid)
	if err != nil {
		return false
	}
	defer alive.close()
	its, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/pid", pid))
	if err != nil || !alive.is() {
		return false
	}
	own, err := os.Readlink("/proc/self/ns/pid")
	return err == nil && own == its
}
