package notify

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"google.golang.org/protobuf/proto"

	sallyportv1 "github.com/sallyport-ci/sallyport/proto/sallyport/v1"
	"github.com/sallyport-ci/sallyport/stream"
)

// binder is a Target that keeps something in the bucket NOTIFY, under "<sink>.".
type binder interface {
	bind(kv jetstream.KeyValue, sink string)
}

// settler is a Target that says what people decided about findings that it told.
type settler interface {
	settled(ctx context.Context, d *sallyportv1.Decision) error
}

const (
	// settleEvery is how often new decisions are looked for.
	settleEvery = 2 * time.Second
	// settlePause is the pause after a decision could not be told.
	settlePause = 5 * time.Second
)

// settle tells sinks of decisions, those of before first, until ctx ends. Telling one again
// changes nothing. It reads the bucket's messages one by one: a watch would need the right to
// make consumers.
func (n *Notifier) settle(ctx context.Context) {
	var targets []settler
	for _, o := range n.outboxes {
		if s, ok := o.sink.Target.(settler); ok {
			targets = append(targets, s)
		}
	}
	next, failing := uint64(1), false
	for len(targets) > 0 {
		err := n.readDecisions(ctx, &next, targets)
		if err != nil && ctx.Err() == nil && !failing {
			n.logger.Warn("tell sinks what people decided", "error", err)
		}
		failing = err != nil
		pause := settleEvery
		if failing {
			pause = settlePause
		}
		select {
		case <-ctx.Done():
			return
		case <-n.clock.After(pause):
		}
	}
}

// readDecisions tells of the decisions from next on, and moves it.
func (n *Notifier) readDecisions(ctx context.Context, next *uint64, targets []settler) error {
	s, err := n.js.Stream(ctx, "KV_"+stream.DecisionsBucket)
	if err != nil {
		return fmt.Errorf("open bucket %s: %w", stream.DecisionsBucket, err)
	}
	state := s.CachedInfo().State
	for *next = max(*next, state.FirstSeq); *next <= state.LastSeq; *next++ {
		m, err := s.GetMsg(ctx, *next)
		if errors.Is(err, jetstream.ErrMsgNotFound) {
			continue // an administrator removed it
		}
		if err != nil {
			return fmt.Errorf("read bucket %s: %w", stream.DecisionsBucket, err)
		}
		d := new(sallyportv1.Decision)
		if err := proto.Unmarshal(m.Data, d); err != nil {
			n.logger.Warn("leave a decision out that cannot be read", "subject", m.Subject, "error", err)
			continue
		}
		for _, t := range targets {
			if err := t.settled(ctx, d); err != nil {
				return err
			}
		}
	}
	return nil
}
