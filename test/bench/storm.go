package main

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

// storm is a load that does one thing as fast as it can, in a process of its own.
type storm struct {
	name string
	// events is how often the thing is done in a round.
	events int
	run    func(n int) error
}

// storms are the loads of KERNEL.md: what observing costs shows best where
// nothing else is done.
func storms() []storm {
	return []storm{
		{"exec", 1500, execStorm},
		{"connect", 15000, connectStorm},
		{"open-read", 200000, openReadStorm},
		{"open-write", 150000, openWriteStorm},
		{"getppid", 2000000, getppidStorm},
	}
}

func runStorm(name string, n int) error {
	for _, s := range storms() {
		if s.name == name {
			start := time.Now()
			if err := s.run(n); err != nil {
				return fmt.Errorf("%s storm: %w", name, err)
			}
			fmt.Println(time.Since(start).Nanoseconds())
			return nil
		}
	}
	return fmt.Errorf("there is no storm %q", name)
}

func execStorm(n int) error {
	for range n {
		pid, err := syscall.ForkExec("/bin/true", []string{"true"}, &syscall.ProcAttr{})
		if err != nil {
			return err
		}
		if _, err := syscall.Wait4(pid, nil, 0, nil); err != nil {
			return err
		}
	}
	return nil
}

func getppidStorm(n int) error {
	for range n {
		syscall.Getppid()
	}
	return nil
}

func connectStorm(n int) (err error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, l.Close()) }()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			c.Close()
		}
	}()
	port := l.Addr().(*net.TCPAddr).Port
	address := &syscall.SockaddrInet4{Port: port, Addr: [4]byte{127, 0, 0, 1}}
	for range n {
		fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		// A reset at the end instead of TIME_WAIT, or ports run out.
		if err := syscall.SetsockoptLinger(fd, syscall.SOL_SOCKET, syscall.SO_LINGER, &syscall.Linger{Onoff: 1}); err != nil {
			return err
		}
		if err := syscall.Connect(fd, address); err != nil {
			return err
		}
		if err := syscall.Close(fd); err != nil {
			return err
		}
	}
	return nil
}

func openReadStorm(n int) error {
	for range n {
		fd, err := syscall.Open("/etc/hostname", syscall.O_RDONLY|syscall.O_CLOEXEC, 0)
		if err != nil {
			return err
		}
		if err := syscall.Close(fd); err != nil {
			return err
		}
	}
	return nil
}

func openWriteStorm(n int) (err error) {
	dir, err := os.MkdirTemp("", "sallyport-bench-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	path := filepath.Join(dir, "file")
	for range n {
		fd, err := syscall.Open(path, syscall.O_WRONLY|syscall.O_CREAT|syscall.O_CLOEXEC, 0o600)
		if err != nil {
			return err
		}
		if err := syscall.Close(fd); err != nil {
			return err
		}
	}
	return nil
}
