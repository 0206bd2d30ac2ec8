package main

import "errors"

// Exit codes of every command, unless its help says otherwise.
const (
	exitFailed = 1
	exitUsage  = 2
)

// wrongUsage is an error of the person who typed the command.
type wrongUsage struct{ err error }

func usageError(err error) error { return &wrongUsage{err} }

func (e *wrongUsage) Error() string { return e.err.Error() + " (see --help)" }
func (e *wrongUsage) Unwrap() error { return e.err }

func exitCode(err error) int {
	var usage *wrongUsage
	if errors.As(err, &usage) {
		return exitUsage
	}
	return exitFailed
}
