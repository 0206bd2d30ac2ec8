package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/sallyport-ci/sallyport/cmd/internal/process"
	sallyportv1 "github.com/sallyport-ci/sallyport/proto/sallyport/v1"
)

const (
	// probeInterval is how often what answers over the network is asked.
	probeInterval = 2 * time.Second
	// probeTimeout is how long it may take.
	probeTimeout = 5 * time.Second
	// insistPause is the pause before what failed at the start is tried again.
	insistPause = time.Second
)

// readiness is what a process stands on, and whether it may be used. It is safe for
// concurrent use.
type readiness struct {
	registry *prometheus.Registry

	mu       sync.Mutex
	starting error // why the start is not over; nil when it is
	names    []string
	ask      map[string]func() error
}

func newReadiness(registry *prometheus.Registry) *readiness {
	r := &readiness{registry: registry, ask: make(map[string]func() error), starting: errors.New("has just begun")}
	return r
}

// check adds a thing that says at once whether it can be used.
func (r *readiness) check(name string, ask func() error) {
	r.mu.Lock()
	r.names = append(r.names, name)
	r.ask[name] = ask
	r.mu.Unlock()
	r.registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "sallyport_ready", Help: "Whether what the process stands on can be used: 1, or 0.", ConstLabels: prometheus.Labels{"check": name},
	}, func() float64 {
		if ask() == nil {
			return 1
		}
		return 0
	}))
}

// setStarting notes why the start is not over; nil when it is.
func (r *readiness) setStarting(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.starting = err
}

// checks asks all.
func (r *readiness) checks() []process.Check {
	r.mu.Lock()
	names, starting := slices.Clone(r.names), r.starting
	r.mu.Unlock()
	checks := []process.Check{{Name: "start", Err: starting}}
	for _, name := range names {
		checks = append(checks, process.Check{Name: name, Err: r.get(name)})
	}
	return checks
}

// get asks one, which is there.
func (r *readiness) get(name string) error {
	r.mu.Lock()
	ask := r.ask[name]
	r.mu.Unlock()
	return ask()
}

// health is what the API tells of an engine.
func (r *readiness) health(name string) *sallyportv1.PartHealth {
	if err := r.get(name); err != nil {
		return &sallyportv1.PartHealth{Name: name, Detail: err.Error()}
	}
	return &sallyportv1.PartHealth{Name: name, Healthy: true, Detail: "runs"}
}

// probe adds a thing that has to be asked over the network, every two seconds.
func (s *stack) probe(name string, ask func(ctx context.Context) error) {
	var mu sync.Mutex
	last := errors.New("has not been asked yet")
	s.ready.check(name, func() error {
		mu.Lock()
		defer mu.Unlock()
		return last
	})
	s.parts.start("probe of "+name, func(ctx context.Context) error {
		ticker := time.NewTicker(probeInterval)
		defer ticker.Stop()
		for {
			call, cancel := context.WithTimeout(ctx, probeTimeout)
			err := ask(call)
			cancel()
			mu.Lock()
			last = err
			mu.Unlock()
			select {
			case <-ctx.Done():
				return nil
			case <-ticker.C:
			}
		}
	})
}

// insist tries something of the start again and again while NATS or ClickHouse cannot be
// reached or is not whole yet, and says so. Any other error is final.
func (s *stack) insist(ctx context.Context, what string, try func(ctx context.Context) error) error {
	said := make(map[string]bool)
	var last error
	for attempt := 0; ; attempt++ {
		err := try(ctx)
		if err == nil {
			if attempt > 0 {
				s.log.Info("works now", "what", what)
			}
			return nil
		}
		if ctx.Err() != nil {
			return over(ctx, what, last)
		}
		last = err
		if denied := s.denied(err); denied != nil {
			return fmt.Errorf("%s: NATS does not let this user do it: %w (docs/cluster.md says what each part may do; streams are declared by an administrator with `sallyport declare`, parts then start with --declare=false)", what, denied)
		}
		if !passing(err) {
			return fmt.Errorf("%s: %w", what, err)
		}
		s.ready.setStarting(fmt.Errorf("%s: %w", what, err))
		if attempt%60 == 0 { // every minute or so
			clear(said)
		}
		if !said[err.Error()] {
			said[err.Error()] = true
			s.log.Warn("cannot start yet, trying again until it works", "what", what, "error", err)
		}
		select {
		case <-ctx.Done():
			return over(ctx, what, last)
		case <-time.After(insistPause):
		}
	}
}

// over says why something was not done while there was time for it: last is what the last try said.
func over(ctx context.Context, what string, last error) error {
	if last == nil || !errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return ctx.Err()
	}
	return fmt.Errorf("%s: %w", what, last)
}

// denied returns what NATS said when it refused a request: whoever asks hears nothing but
// silence.
func (s *stack) denied(err error) error {
	if s.js == nil || !errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, nats.ErrTimeout) {
		return nil
	}
	if last := s.js.Conn().LastError(); errors.Is(last, nats.ErrPermissionViolation) {
		return last
	}
	return nil
}

// awayError says that something cannot be reached now.
type awayError struct{ err error }

func (e *awayError) Error() string { return e.err.Error() }
func (e *awayError) Unwrap() error { return e.err }

// passing says whether an error may go away by itself.
func passing(err error) bool {
	var away *awayError
	if errors.As(err, &away) {
		return true
	}
	for _, e := range []error{
		context.DeadlineExceeded, nats.ErrTimeout, nats.ErrNoResponders, nats.ErrDisconnected, nats.ErrConnectionReconnecting,
		nats.ErrReconnectBufExceeded, jetstream.ErrNoStreamResponse,
	} {
		if errors.Is(err, e) {
			return true
		}
	}
	// jsNoPeers is the answer while servers of a cluster are missing.
	const jsNoPeers = 10005
	var api *jetstream.APIError
	return errors.As(err, &api) && (api.Code == 503 || api.ErrorCode == jsNoPeers)
}
