package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/sallyport-ci/sallyport/agent"
	"github.com/sallyport-ci/sallyport/agent/control"
)

// statusCommand says how the agent is.
var statusCommand = command{
	name:  "status",
	valid: func(o *options) error { return o.noWords("status") },
	run: func(ctx context.Context, o *options) error {
		s, err := control.AskStatus(ctx, o.socket)
		if err != nil {
			return err
		}
		return o.tell(os.Stdout, s, "watches")
	},
}

// stopCommand ends the agent.
var stopCommand = command{
	name: "stop",
	valid: func(o *options) error {
		if o.within < 0 {
			return errors.New("--within is less than nothing")
		}
		return o.noWords("stop")
	},
	run: func(ctx context.Context, o *options) error {
		s, err := control.Stop(ctx, o.socket, o.within, o.unlessUsed)
		if err != nil {
			return err
		}
		if s.GoesOn {
			return o.tell(os.Stdout, s, "goes on: another job counts on it")
		}
		return o.tell(os.Stdout, s, "has ended")
	},
}

func (o *options) noWords(name string) error {
	if len(o.arguments) > 0 {
		return fmt.Errorf("%s takes no argument %q", name, o.arguments[0])
	}
	return nil
}

// status is how the agent in this process is.
func (o *options) status(a *agent.Agent, publisher *agent.Publisher, way *link) control.Status {
	s := control.Status{
		AgentID: o.agentID, Version: version, PID: os.Getpid(), BatchesWaiting: publisher.Waiting(), Spool: way.spool, Run: way.runOf, Ends: a.Ends(),
	}
	s.EventsSeen, s.EventsLost = a.Account()
	if o.endsWithJobs {
		s.Users = a.Users()
	}
	select {
	case <-a.Armed():
		s.Armed = true
	default:
	}
	if err := way.check(); err != nil {
		s.NotConnected = strings.ReplaceAll(err.Error(), "\n", ": ")
	} else {
		s.Connected = true
	}
	return s
}

// tell prints a status: for people, or with --json as one line.
func (o *options) tell(w io.Writer, s control.Status, does string) error {
	if o.json {
		return json.NewEncoder(w).Encode(s)
	}
	var text strings.Builder
	fmt.Fprintf(&text, "agent %s, version %s, process %d, %s\n", s.AgentID, s.Version, s.PID, does)
	switch {
	case s.Connected:
		fmt.Fprintln(&text, "NATS: connected")
	default:
		fmt.Fprintln(&text, "NATS:", s.NotConnected)
	}
	fmt.Fprintf(&text, "records from the kernel: %d\n", s.EventsSeen)
	for _, kind := range slices.Sorted(maps.Keys(s.EventsLost)) {
		fmt.Fprintf(&text, "lost, %s: %d\n", kind, s.EventsLost[kind])
	}
	if s.BatchesWaiting > 0 {
		fmt.Fprintf(&text, "batches not sent: %d, in %s\n", s.BatchesWaiting, s.Spool)
	}
	_, err := io.WriteString(w, text.String())
	return err
}
