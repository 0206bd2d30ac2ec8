package control

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"

	"golang.org/x/sys/unix"
)

// Listener returns the process of the agent that listens on a socket, without asking it
// anything. An error wraps ErrNobody if none does, or if it is not root's: somebody else
// may listen where no agent does.
func Listener(ctx context.Context, socket string) (pid int, err error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	var d net.Dialer
	c, err := d.DialContext(ctx, "unix", socket)
	if errors.Is(err, os.ErrNotExist) || errors.Is(err, unix.ECONNREFUSED) {
		return 0, fmt.Errorf("look for the agent: %w on %s", ErrNobody, socket)
	}
	if err != nil {
		return 0, fmt.Errorf("look for the agent: %w", err)
	}
	defer func() { _ = c.Close() }() // nothing was asked
	if pid, err = rootListens(c, socket); err != nil {
		return 0, fmt.Errorf("look for the agent: %w", err)
	}
	return pid, nil
}

// rootListens returns the process at the other end if it is root's. An error wraps ErrNobody if
// it is somebody else's.
func rootListens(c net.Conn, socket string) (pid int, err error) {
	at, err := credentials(c.(*net.UnixConn))
	if err != nil {
		return 0, err
	}
	if at.Uid != 0 {
		return 0, fmt.Errorf("%w on %s, but a program of user %d", ErrNobody, socket, at.Uid)
	}
	return int(at.Pid), nil
}
