package main

import (
	"fmt"
	"net"
	"strconv"
	"strings"
)

// listen takes an address early, so that a clash is said before anything starts.
func listen(flag, address string) (net.Listener, error) {
	if _, _, err := hostPort(flag, address); err != nil {
		return nil, err
	}
	l, err := net.Listen("tcp", address)
	if err != nil {
		return nil, fmt.Errorf("--%s: %w; choose another address, or port 0 for a free one", flag, err)
	}
	return l, nil
}

// free says early that an address is taken, for a component that listens by itself.
func free(flag, address string) error {
	l, err := listen(flag, address)
	if err != nil {
		return err
	}
	return l.Close()
}

// hostPort splits an address for a component that listens by itself.
func hostPort(flag, address string) (string, int, error) {
	if strings.Contains(address, "://") { // which may hold a password: it is not repeated
		return "", 0, usageError(fmt.Errorf("--%s is an address to listen on, HOST:PORT, and no URL", flag))
	}
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return "", 0, usageError(fmt.Errorf("--%s: %w", flag, err))
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		return "", 0, usageError(fmt.Errorf("--%s: port %q is not a number from 0 to 65535", flag, port))
	}
	return host, int(n), nil
}
