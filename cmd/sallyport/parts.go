package main

import (
	"context"
	"errors"
	"fmt"
)

// parts are components that run side by side and stop one after the other, in
// the reverse of the order in which they were started: what feeds stops before
// what is fed.
type parts struct {
	running []*part
	failed  chan error
}

type part struct {
	name   string
	cancel context.CancelFunc
	done   chan struct{}
	err    error
}

func newParts() *parts { return &parts{failed: make(chan error, 64)} }

// start runs a component until its context ends. One that returns earlier, with
// or without an error, is a failure of the whole.
func (p *parts) start(name string, run func(ctx context.Context) error) {
	// Not the caller's context: parts end in order, not all at once.
	ctx, cancel := context.WithCancel(context.Background())
	q := &part{name: name, cancel: cancel, done: make(chan struct{})}
	p.running = append(p.running, q)
	go func() {
		defer close(q.done)
		err := run(ctx)
		switch {
		case ctx.Err() != nil:
			if err != nil && !errors.Is(err, context.Canceled) {
				q.err = fmt.Errorf("stop %s: %w", name, err)
			}
		case err == nil:
			p.failed <- fmt.Errorf("%s ended by itself", name)
		default:
			p.failed <- fmt.Errorf("%s: %w", name, err)
		}
	}()
}

// onStop runs a function in its turn when all stop.
func (p *parts) onStop(name string, stop func() error) {
	p.start(name, func(ctx context.Context) error {
		<-ctx.Done()
		return stop()
	})
}

// wait returns nil when the context ends, or the error of the first part that
// fails.
func (p *parts) wait(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return nil
	case err := <-p.failed:
		return err
	}
}

// stop stops all parts in order and returns what went wrong in doing so.
func (p *parts) stop() error {
	var errs []error
	for i := len(p.running) - 1; i >= 0; i-- {
		q := p.running[i]
		q.cancel()
		<-q.done
		errs = append(errs, q.err)
	}
	return errors.Join(errs...)
}
