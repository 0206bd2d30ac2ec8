package main

import "errors"

// Exit codes of every command, unless its help says otherwise.
const (
	exitFailed   = 1
	exitUsage    = 2
	exitNotFound = 3
)

// wrongUsageError is an error of the person who typed the command.
type wrongUsageError struct{ err error }

func usageError(err error) error { return &wrongUsageError{err} }

func (e *wrongUsageError) Error() string { return e.err.Error() + " (see --help)" }
func (e *wrongUsageError) Unwrap() error { return e.err }

// notFoundError is an error for what was asked for and does not exist.
type notFoundError struct{ err error }

func (e *notFoundError) Error() string { return e.err.Error() }
func (e *notFoundError) Unwrap() error { return e.err }

func exitCode(err error) int {
	var missing *notFoundError
	if errors.As(err, &missing) {
		return exitNotFound
	}
	var usage *wrongUsageError
	if errors.As(err, &usage) {
		return exitUsage
	}
	return exitFailed
}
