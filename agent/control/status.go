package control

import (
	"context"
	"errors"
	"net"
	"time"
)

// Status is how an agent is.
type Status struct {
	AgentID string `json:"agent_id"`
	Version string `json:"version"`
	PID     int    `json:"pid"`
	// Armed is true once everything that is to be watched is.
	Armed bool `json:"armed"`
	// Connected is true while NATS can be reached; NotConnected says why not, if that is
	// known.
	Connected    bool   `json:"connected"`
	NotConnected string `json:"not_connected,omitempty"`
	// EventsSeen and EventsLost (by kind) are since the agent started.
	EventsSeen uint64            `json:"events_seen"`
	EventsLost map[string]uint64 `json:"events_lost,omitempty"`
	// BatchesWaiting have not reached the stream; those that are in the folder Spool are
	// sent by the next agent that has it.
	BatchesWaiting uint64 `json:"batches_waiting"`
	Spool          string `json:"spool"`
	// Users is how many jobs count on an agent that ends with them; 0 of one that does not.
	Users int `json:"users,omitempty"`
	// Ends says that the agent is about to end: it only sends what it has seen.
	Ends bool `json:"ends,omitempty"`
	// GoesOn says, when the agent was to stop unless it is used, that it is.
	GoesOn bool `json:"goes_on,omitempty"`
	// Run is the one that the agent may speak for, OWNER/NAME/ID/ATTEMPT; empty if it may
	// speak for others, too.
	Run string `json:"run,omitempty"`
}

// maxWithin bounds how long an agent that is to stop may go on sending.
const maxWithin = time.Minute

func stop(ctx context.Context, c *net.UnixConn, a Agent, q request) (*Status, string) {
	within := min(max(q.Within, 0), maxWithin)
	ctx, cancel := context.WithTimeout(ctx, within+handOverPatience)
	defer cancel()
	if who, err := peer(c); err != nil || who.UID != 0 {
		return nil, "only root may have the agent stop"
	}
	if err := c.SetDeadline(time.Now().Add(within + handOverPatience + patience)); err != nil {
		return nil, err.Error()
	}
	status, err := a.Stop(ctx, within, q.UnlessUsed)
	if err != nil {
		return nil, err.Error()
	}
	return &status, ""
}

// AskStatus asks the agent that listens how it is.
func AskStatus(ctx context.Context, socket string) (Status, error) {
	got, err := ask(ctx, socket, request{Do: doStatus}, patience)
	return got.status(err)
}

func (a answer) status(err error) (Status, error) {
	switch {
	case err != nil:
		return Status{}, err
	case a.Status == nil:
		return Status{}, errors.New("the agent does not say how it is")
	default:
		return *a.Status, nil
	}
}

// Stop ends the agent that listens and returns how it was at its end. What it cannot send
// within that time, a minute at most, stays in its spool.
func Stop(ctx context.Context, socket string, within time.Duration, unlessUsed bool) (Status, error) {
	within = min(within, maxWithin)
	got, err := ask(ctx, socket, request{Do: doStop, Within: within, UnlessUsed: unlessUsed}, within+handOverPatience+patience)
	return got.status(err)
}
