package main

import "context"

// command is something else than watching, named by the first word on the command line.
type command struct {
	name string
	// valid checks flags and the words that follow the name.
	valid func(o *options) error
	// run does it. What went wrong is printed, and is exit code 1 unless it says otherwise.
	run func(ctx context.Context, o *options) error
}

// commands are all of them, each in a file of its own name.
var commands = []command{
	hookCommand, reportCommand, startCommand, statusCommand, stopCommand, installCommand, uninstallCommand, reloadCommand, enrolCommand,
}

func commandOf(name string) *command {
	for i := range commands {
		if commands[i].name == name {
			return &commands[i]
		}
	}
	return nil
}
