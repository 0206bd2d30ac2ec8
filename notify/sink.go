package notify

import (
	"context"
	"fmt"
	"regexp"
	"time"

	sallyportv1 "github.com/sallyport-ci/sallyport/proto/sallyport/v1"
)

// Sink says where findings go, and how much of them.
type Sink struct {
	// Name identifies the sink in the bucket NOTIFY, in metrics and in logs: 1 to 32
	// characters of [a-z0-9-], unique, and the same after a restart.
	Name string
	// Target takes the messages.
	Target Target
	// MinSeverity is the least severity that this sink is told of; all if unset.
	MinSeverity sallyportv1.Severity
	// Window is how long findings like one that was told are gathered before they
	// are told of together. Zero tells each finding by itself.
	Window time.Duration
	// Interval is the least time between two messages. Slack asks for one second.
	Interval time.Duration
	// MaxItems is how many findings one message may carry when more wait than can be
	// told one by one, at least 1; 1 by default.
	MaxItems int
}

// Target takes messages to people. It is called by one goroutine at a time.
type Target interface {
	// Deliver returns nil when the message has arrived. Otherwise it returns a
	// *RetryError, a *RejectedError or, if it cannot tell whether the message
	// arrived, any other error.
	Deliver(ctx context.Context, a Alert) error
}

// Alert is one message. It has at least one item; more than one only if the sink
// allows it and messages had to wait.
type Alert struct {
	// Items are the findings to tell of, in the order in which they were found.
	Items []Item
	// Attempt counts the attempts to deliver these items, from 1.
	Attempt int
	// HeldBack is why the items were not told before; empty if they were not held back. They
	// are all that were.
	HeldBack string
	// Refused is set when the target has rejected these items before: try a
	// simpler form.
	Refused bool
}

// Item is one finding of a message, or the repeats of one that was told before.
type Item struct {
	// Finding is the first of its kind. It must not be changed.
	Finding *sallyportv1.Finding
	// FollowUp is set when Finding was told before: only More is new.
	FollowUp bool
	// More are the findings like it that came after it, in their order.
	More []Repeat
	// PossibleRepeat is set when an earlier attempt may have arrived: the
	// connection broke, or this process was killed, before the answer came.
	PossibleRepeat bool
}

// Repeat is a finding like one that was told already.
type Repeat struct {
	// ID is the finding's identity.
	ID string `json:"id"`
	// Sequence is its place in the stream FINDINGS.
	Sequence uint64 `json:"sequence"`
	// RunID is the run that it belongs to; empty outside of runs.
	RunID string `json:"run_id,omitempty"`
	// Time is when the behaviour was seen.
	Time time.Time `json:"time"`
}

// RetryError says that a message has certainly not arrived, and may if it is sent
// again.
type RetryError struct {
	// After is how long the target asked to wait; zero if it did not say.
	After time.Duration
	// Err is what went wrong.
	Err error
}

// Error implements error.
func (e *RetryError) Error() string { return e.Err.Error() }

// Unwrap returns what went wrong.
func (e *RetryError) Unwrap() error { return e.Err }

// RejectedError says that the target refused the message and will refuse it again.
type RejectedError struct {
	// Err is the target's reason.
	Err error
}

// Error implements error.
func (e *RejectedError) Error() string { return e.Err.Error() }

// Unwrap returns the target's reason.
func (e *RejectedError) Unwrap() error { return e.Err }

var sinkName = regexp.MustCompile(`^[a-z0-9-]{1,32}$`)

func checkSinks(sinks []Sink) error {
	names := make(map[string]bool)
	for _, s := range sinks {
		switch {
		case !sinkName.MatchString(s.Name):
			return fmt.Errorf("sink name %q is not 1 to 32 characters of [a-z0-9-]", s.Name)
		case names[s.Name]:
			return fmt.Errorf("two sinks are named %q", s.Name)
		case s.Target == nil:
			return fmt.Errorf("sink %q has no target", s.Name)
		case s.Window < 0 || s.Interval < 0 || s.MaxItems < 0:
			return fmt.Errorf("sink %q has a negative window, interval or number of items", s.Name)
		}
		names[s.Name] = true
	}
	return nil
}
