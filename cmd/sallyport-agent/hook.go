package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/sallyport-ci/sallyport/agent"
	"github.com/sallyport-ci/sallyport/agent/control"
)

// hookCommand is for the runner's job hooks.
var hookCommand = command{
	name: "hook",
	valid: func(o *options) error {
		if len(o.arguments) != 1 || (o.arguments[0] != "started" && o.arguments[0] != "completed") {
			return errors.New("hook takes started or completed")
		}
		return nil
	},
	run: func(ctx context.Context, o *options) error {
		hook(ctx, o.socket, o.arguments[0])
		return nil
	},
}

// handOverGap is how long nobody may listen while an agent hands over to the next one.
const handOverGap = time.Second

// awaitAgent returns once an agent listens, or has not for longer than a handing over takes.
func awaitAgent(ctx context.Context, socket string) error {
	for until := time.Now().Add(handOverGap); ; {
		_, err := control.Listener(ctx, socket)
		if !errors.Is(err, control.ErrNobody) || time.Now().After(until) {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// hook waits until the agent has sent what it saw, and adds the job's summary to the step's
// if there is a file for it. It never fails: a job goes on without an agent. The agent knows
// what it says by seeing it run (docs/attribution.md).
func hook(ctx context.Context, socket, what string) {
	if what == "started" {
		sayObserved(ctx, os.Stdout, socket)
		return
	}
	say := func(err error) {
		if err != nil {
			fmt.Fprintln(os.Stderr, "sallyport-agent:", printable(err.Error())) // one line, in which no command of the runner's is
		}
	}
	_ = awaitAgent(ctx, socket) // what is asked next says it
	if path := os.Getenv(summaryVariable); path != "" {
		r, err := control.Report(ctx, socket, agent.OwnExecution, hookWait)
		if err == nil {
			say(appendSummary(path, r))
			if r.GetGaps().GetBatchesWaiting() == 0 && r.GetUnasked() == "" {
				return // all of it has arrived
			}
		} else if say(err); errors.Is(err, control.ErrNobody) || errors.Is(err, os.ErrDeadlineExceeded) {
			return // nor does it answer to more
		}
	}
	say(control.Flush(ctx, socket))
}
