package notify

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/sallyport-ci/sallyport/stream"
)

const (
	// attemptTimeout bounds one attempt, also one under way when the process is
	// asked to stop: an attempt that is broken off may have arrived.
	attemptTimeout = 15 * time.Second
	// firstPause and longestPause bound the pauses after attempts that failed.
	firstPause   = time.Second
	longestPause = 5 * time.Minute
	// maxRejections is how often a target may refuse a message for good before it
	// goes to the dead letters.
	maxRejections = 3
	// singleUpTo is how many messages may wait and still be sent one by one.
	singleUpTo = 3
	// bucketPause is the pause after the bucket could not be written.
	bucketPause = time.Second
	// maxHeld is how many findings that were held back one message may tell of.
	maxHeld = 1000
)

// run tells the sink until ctx ends.
func (o *outbox) run(ctx context.Context) {
	for ctx.Err() == nil {
		batch, wait := o.next(ctx)
		if batch == nil {
			var timer <-chan time.Time
			if wait > 0 {
				timer = o.clock.After(wait)
			}
			select {
			case <-ctx.Done():
			case <-o.wake:
			case <-timer:
			}
			continue
		}
		o.attempt(ctx, batch)
	}
}

// next returns the groups that the next message tells of, marked as in flight, or
// how long to wait for one; zero means until something new comes.
func (o *outbox) next(ctx context.Context) (batch []*group, wait time.Duration) {
	o.mu.Lock()
	defer o.mu.Unlock()
	now := o.clock.Now()
	var due []*group
	soon := func(d time.Duration) {
		if wait == 0 || d < wait {
			wait = max(d, time.Millisecond)
		}
	}
	var held []*group
	for _, g := range o.groups {
		switch {
		case g.waits(now):
			until, why := o.holds(g, now)
			if until.IsZero() {
				due = append(due, g)
				if g.Held != "" {
					held = append(held, g)
				}
				continue
			}
			soon(until.Sub(now))
			if g.Held == "" {
				g.Held = why
				if err := o.putGroup(ctx, g); err != nil {
					o.logger.Debug("write down why a finding is held back", "error", err) // said less, told all the same
				}
			}
		case g.over(now):
			if err := o.forget(ctx, g); err != nil {
				o.logger.Debug("forget a group", "error", err)
				soon(bucketPause)
			}
		default:
			soon(g.WindowEnd.Sub(now))
		}
	}
	if len(due) == 0 {
		return nil, wait
	}
	if d := o.notUntil.Sub(now); d > 0 {
		return nil, d
	}
	slices.SortFunc(due, byAge)
	n := 1
	if len(due) > singleUpTo && o.singles == 0 {
		n = min(len(due), o.sink.MaxItems)
	}
	batch = due[:n]
	if len(held) > 0 && o.singles == 0 {
		// What was held back is told at once, however much it is.
		slices.SortFunc(held, byAge)
		batch = held[:min(len(held), maxHeld)]
	}
	for _, g := range batch {
		g.InFlight = true
		g.Attempts++
		if err := o.putGroup(ctx, g); err != nil {
			o.logger.Warn("write down an attempt", "error", err)
			for _, g := range batch {
				// Nothing was sent. Entries that were written get right with their
				// next change; until then a kill makes at worst a possible repeat.
				g.InFlight = false
			}
			o.notUntil = now.Add(bucketPause)
			return nil, bucketPause
		}
	}
	return batch, 0
}

// holds returns until when a group is not to be told, and why.
func (o *outbox) holds(g *group, now time.Time) (time.Time, string) {
	rules := o.router.Rules()
	if rules == nil {
		return time.Time{}, ""
	}
	return rules.Hold(o.sink.Name, g.finding.GetPolicy().GetSeverity(), now, o.sent)
}

// byAge orders first findings by their place in the stream, then follow-ups by when
// they became due.
func byAge(a, b *group) int {
	if a.LeadTold != b.LeadTold {
		if a.LeadTold {
			return 1
		}
		return -1
	}
	if a.LeadTold {
		return a.WindowEnd.Compare(b.WindowEnd)
	}
	return cmp.Compare(a.Sequence, b.Sequence)
}

// attempt sends one message and writes down what came of it.
func (o *outbox) attempt(ctx context.Context, batch []*group) {
	o.mu.Lock()
	var a Alert
	for _, g := range batch {
		a.Items = append(a.Items, g.item())
		a.Attempt = max(a.Attempt, g.Attempts)
		a.Refused = a.Refused || g.Rejections > 0
		a.HeldBack = cmp.Or(a.HeldBack, g.Held)
	}
	started := o.clock.Now()
	o.mu.Unlock()

	sending, cancel := context.WithTimeout(context.WithoutCancel(ctx), attemptTimeout)
	err := o.sink.Target.Deliver(sending, a)
	cancel()

	o.mu.Lock()
	defer o.mu.Unlock()
	now := o.clock.Now()
	o.notUntil = started.Add(o.sink.Interval)
	var retry *RetryError
	var rejected *RejectedError
	switch {
	case err == nil:
		o.count("delivered", "told", batch)
		o.failing, o.lastErr, o.failures = time.Time{}, nil, 0
		o.singles = max(o.singles-1, 0)
		o.noteSent(context.WithoutCancel(ctx), started)
		for _, g := range batch {
			if !g.LeadTold {
				o.metrics.delay.WithLabelValues(o.sink.Name).Observe(now.Sub(g.Taken).Seconds())
			}
		}
		o.settle(ctx, batch, now)
		return
	case errors.As(err, &rejected):
		o.metrics.messages.WithLabelValues(o.sink.Name, "rejected").Inc()
		for _, g := range batch {
			g.InFlight = false
			g.Rejections++
		}
		if len(batch) > 1 {
			o.singles = len(batch) // one of them may be to blame
		} else if batch[0].Rejections >= maxRejections && o.bury(ctx, batch[0], rejected) {
			o.logger.Error("sink refuses a message; it goes to the dead letters",
				"finding", batch[0].LeadID, "attempts", batch[0].Attempts, "error", err)
			o.count("", "dead", batch)
			o.failures = 0
			o.singles = max(o.singles-1, 0)
			o.settle(ctx, batch, now)
			return
		}
	case errors.As(err, &retry):
		o.metrics.messages.WithLabelValues(o.sink.Name, "retry").Inc()
		for _, g := range batch {
			g.InFlight = false
		}
	default:
		o.metrics.messages.WithLabelValues(o.sink.Name, "uncertain").Inc()
		for _, g := range batch {
			g.InFlight, g.Uncertain = false, true
		}
	}

	if o.failing.IsZero() {
		o.failing = now
	}
	o.lastErr = err
	o.failures++
	pause := o.pause()
	if retry != nil && retry.After > 0 {
		pause = retry.After // the target knows better
	}
	o.notUntil = later(o.notUntil, now.Add(pause))
	o.logger.Warn("tell sink", "findings", len(batch), "attempt", a.Attempt, "again_in", pause, "error", err)
	o.persist(ctx, batch)
}

// pause returns how long to wait after attempts failed: twice as long after each,
// and spread over the upper half, so that many who fail together do not come back
// together.
func (o *outbox) pause() time.Duration {
	d := longestPause
	if n := o.failures - 1; n < 9 {
		d = min(firstPause<<n, longestPause)
	}
	return d/2 + time.Duration(o.random()*float64(d/2))
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

func (o *outbox) count(outcome, result string, batch []*group) {
	if outcome != "" {
		o.metrics.messages.WithLabelValues(o.sink.Name, outcome).Inc()
	}
	for _, g := range batch {
		o.metrics.findings.WithLabelValues(o.sink.Name, result).Add(float64(len(g.inMessage())))
	}
}

// settle writes down that a message needs no further attempt.
func (o *outbox) settle(ctx context.Context, batch []*group, now time.Time) {
	for _, g := range batch {
		for _, id := range g.inMessage() {
			delete(o.known, id)
		}
		g.settle(now, o.sink.Window)
	}
	o.countWaiting()
	o.persist(ctx, batch)
	for _, g := range batch {
		if err := o.clearMarks(ctx, g); err != nil {
			o.logger.Debug("clear marks", "error", err) // done when the group is forgotten or loaded
		}
	}
}

// persist writes groups, again and again until the bucket takes them: what they say
// has happened. It gives up when the process stops and the bucket stays away; then
// the next start says "possible repeat".
func (o *outbox) persist(ctx context.Context, batch []*group) {
	for _, g := range batch {
		for {
			writing, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
			err := o.putGroup(writing, g)
			cancel()
			if err == nil {
				break
			}
			o.logger.Warn("write down the outcome of an attempt", "error", err)
			if ctx.Err() != nil {
				return
			}
			select {
			case <-ctx.Done():
			case <-o.clock.After(bucketPause):
			}
		}
	}
}

// bury puts the findings of a refused message into the dead letters, and says
// whether it could.
func (o *outbox) bury(ctx context.Context, g *group, reason error) bool {
	sequences := map[string]uint64{g.LeadID: g.Sequence}
	for _, r := range g.Repeats {
		sequences[r.ID] = r.Sequence
	}
	for _, id := range g.inMessage() {
		body, err := o.bodyOf(ctx, id)
		if err == nil && body != nil {
			m := keptMessage{body: body, sequence: sequences[id]}
			err = stream.PublishDeadLetter(ctx, o.js, "notify", m, reason)
		}
		if err != nil {
			o.logger.Warn("keep dead letter", "finding", id, "error", err)
			return false
		}
	}
	return true
}

// keptMessage is a message of FINDINGS that was acknowledged when it was written to
// the bucket: what a dead letter says of its origin.
type keptMessage struct {
	jetstream.Msg // nil: only the methods below may be called
	body          []byte
	sequence      uint64
}

func (m keptMessage) Data() []byte    { return m.body }
func (m keptMessage) Subject() string { return stream.FindingSubject }

// Headers are none: the bucket does not keep them.
func (m keptMessage) Headers() nats.Header { return nil }

// Metadata says where it came from.
func (m keptMessage) Metadata() (*jetstream.MsgMetadata, error) {
	return &jetstream.MsgMetadata{
		Stream:   stream.FindingsStream,
		Sequence: jetstream.SequencePair{Stream: m.sequence},
	}, nil
}
