package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"slices"
	"syscall"
	"time"

	"github.com/sallyport-ci/sallyport/agent/control"
)

// reloadCommand is for the unit's ExecReload=: it starts the next agent, with the program
// and the settings of now, and ends when that one watches and the one before has ended.
var reloadCommand = command{
	name: "reload",
	valid: func(o *options) error {
		if len(o.arguments) != 0 {
			return errors.New("reload takes no arguments")
		}
		return nil
	},
	run: func(ctx context.Context, o *options) error { return o.reload(ctx) },
}

// reloadPatience bounds how long the next agent may take: longer than handing over may.
const reloadPatience = 40 * time.Second

func (o *options) reload(ctx context.Context) error {
	program, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find the program: %w", err)
	}
	arguments := slices.DeleteFunc(slices.Clone(os.Args[1:]), func(word string) bool { return word == "reload" })
	next := exec.Command(program, arguments...) // it outlives this process, and ctx
	next.Stdout, next.Stderr = os.Stdout, os.Stderr
	next.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := next.Start(); err != nil {
		return fmt.Errorf("start the next agent: %w", err)
	}
	ended := make(chan error, 1)
	go func() { ended <- next.Wait() }()
	limit := time.NewTimer(reloadPatience)
	defer limit.Stop()
	look := time.NewTicker(20 * time.Millisecond)
	defer look.Stop()
	for {
		select {
		case err := <-ended:
			return fmt.Errorf("the next agent ended at once; the one before goes on if it did not hand over: %w", err)
		case <-ctx.Done():
			return fmt.Errorf("wait for the next agent: %w", ctx.Err())
		case <-limit.C:
			return fmt.Errorf("the next agent does not listen on %s after %s", o.socket, reloadPatience)
		case <-look.C:
			// It listens once the one before has told everything.
			if pid, err := control.Listener(ctx, o.socket); err == nil && pid == next.Process.Pid {
				return nil
			}
		}
	}
}

// listenMetrics listens, in a while if the agent that has handed over has not ended yet.
func listenMetrics(ctx context.Context, address string) (net.Listener, error) {
	const patience, pause = 3 * time.Second, 20 * time.Millisecond
	for until := time.Now().Add(patience); ; {
		l, err := net.Listen("tcp", address)
		if !errors.Is(err, syscall.EADDRINUSE) || time.Now().After(until) {
			return l, err
		}
		select {
		case <-ctx.Done():
			return nil, err
		case <-time.After(pause):
		}
	}
}

// tellSystemd says something to the service manager that started this process, if one
// did (sd_notify(3)).
func tellSystemd(what string) error {
	socket := os.Getenv("NOTIFY_SOCKET")
	if socket == "" {
		return nil
	}
	if socket[0] == '@' { // of the abstract kind
		socket = "\x00" + socket[1:]
	}
	c, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: socket, Net: "unixgram"})
	if err != nil {
		return fmt.Errorf("tell systemd: %w", err)
	}
	_, err = c.Write([]byte(what))
	if err = errors.Join(err, c.Close()); err != nil {
		return fmt.Errorf("tell systemd: %w", err)
	}
	return nil
}
