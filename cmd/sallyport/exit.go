package main

import "errors"

// Exit codes of every command, unless its help says otherwise.
const (
	exitFailed   = 1
	exitUsage    = 2
	exitNotFound = 3
)

// wrongUsage is an error of the person who typed the command.
type wrongUsage struct{ err error }

func usageError(err error) error { return &wrongUsage{err} }

func (e *wrongUsage) Error() string { return e.err.Error() + " (see --help)" }
func (e *wrongUsage) Unwrap() error { return e.err }

// notFound is an error for what was asked for and does not exist.
type notFound struct{ err error }

func (e *notFound) Error() string { return e.err.Error() }
func (e *notFound) Unwrap() error { return e.err }

func exitCode(err error) int {
	var missing *notFound
	if errors.As(err, &missing) {
		return exitNotFound
	}
	var usage *wrongUsage
	if errors.As(err, &usage) {
		return exitUsage
	}
	return exitFailed
}
