package notify

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/sallyport-ci/sallyport/stream"
)

// Config says what a Notifier works with.
type Config struct {
	// JS reaches the streams and the bucket NOTIFY, which stream.Declare has made.
	JS jetstream.JetStream
	// Sinks are told. Without any, findings are acknowledged and told to nobody.
	Sinks []Sink
	// Router says who is told of what, and when; without it everybody is told of everything.
	Router *Router
	// Clock is the system's by default.
	Clock Clock
	// Random returns numbers in [0,1) that spread retries; math/rand/v2 by default.
	Random func() float64
	// Registerer takes the metrics; none if nil.
	Registerer prometheus.Registerer
	// Logger is silent by default.
	Logger *slog.Logger
}

// Notifier tells sinks of findings. Only one may run against a NATS at a time.
type Notifier struct {
	js       jetstream.JetStream
	clock    Clock
	logger   *slog.Logger
	metrics  *metrics
	outboxes []*outbox

	mu      sync.Mutex
	running bool
	problem error // why no findings come in, if so
}

// New returns a Notifier. The error says which sink or setting is wrong.
func New(cfg Config) (*Notifier, error) {
	if cfg.JS == nil {
		return nil, errors.New("notify: no JetStream given")
	}
	if err := checkSinks(cfg.Sinks); err != nil {
		return nil, fmt.Errorf("notify: %w", err)
	}
	if cfg.Clock == nil {
		cfg.Clock = systemClock{}
	}
	if cfg.Random == nil {
		cfg.Random = rand.Float64
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	m, err := newMetrics(cfg.Registerer)
	if err != nil {
		return nil, fmt.Errorf("notify: register metrics: %w", err)
	}
	n := &Notifier{js: cfg.JS, clock: cfg.Clock, logger: cfg.Logger, metrics: m}
	for _, s := range cfg.Sinks {
		n.outboxes = append(n.outboxes, newOutbox(s, cfg, m))
	}
	return n, nil
}

// Run tells sinks of findings until ctx ends. Then it finishes the attempt under
// way, writes down its outcome and returns nil; what waits goes on at the next
// start. It may be called once.
func (n *Notifier) Run(ctx context.Context) error {
	kv, err := n.js.KeyValue(ctx, stream.NotifyBucket)
	if err != nil {
		return fmt.Errorf("notify: open bucket %s: %w", stream.NotifyBucket, err)
	}
	for _, o := range n.outboxes {
		if b, ok := o.sink.Target.(binder); ok {
			b.bind(kv, o.sink.Name)
		}
		if err := o.load(ctx, kv); err != nil {
			return fmt.Errorf("notify: load what sink %s has been told: %w", o.sink.Name, err)
		}
	}
	n.setProblem(true, nil)
	defer n.setProblem(false, nil)

	var running sync.WaitGroup
	for _, o := range n.outboxes {
		running.Go(func() { o.run(ctx) })
	}
	running.Go(func() { n.sweep(ctx, kv) })
	running.Go(func() { n.settle(ctx) })
	n.consume(ctx)
	running.Wait()
	return nil
}

// prefetch is how many findings are on their way to this process. Few, because
// those that a kill leaves behind come again only after the consumer's AckWait.
const prefetch = 32

// consume reads findings until ctx ends, through every trouble with NATS.
func (n *Notifier) consume(ctx context.Context) {
	for ctx.Err() == nil {
		err := n.read(ctx)
		if ctx.Err() != nil {
			return
		}
		n.setProblem(true, err)
		n.logger.Warn("read findings", "error", err)
		select {
		case <-ctx.Done():
		case <-n.clock.After(time.Second):
		}
	}
}

// read reads findings until something breaks or ctx ends.
func (n *Notifier) read(ctx context.Context) error {
	consumer, err := n.js.Consumer(ctx, stream.FindingsStream, stream.NotifyConsumer)
	if err != nil {
		return fmt.Errorf("open consumer %s of stream %s: %w", stream.NotifyConsumer, stream.FindingsStream, err)
	}
	messages, err := consumer.Messages(jetstream.PullMaxMessages(prefetch))
	if err != nil {
		return fmt.Errorf("read stream %s: %w", stream.FindingsStream, err)
	}
	defer messages.Stop()
	defer context.AfterFunc(ctx, messages.Drain)()
	n.setProblem(true, nil)
	for {
		m, err := messages.Next()
		if err != nil {
			return fmt.Errorf("read stream %s: %w", stream.FindingsStream, err)
		}
		if ctx.Err() != nil {
			// Give it back, so that the next start need not wait for it.
			if err := m.Nak(); err != nil {
				n.logger.Debug("give a finding back", "error", err)
			}
			continue
		}
		n.take(ctx, m)
	}
}

// comeAgain is when a finding comes again that could not be written down.
const comeAgain = 2 * time.Second

// takeTimeout bounds how long writing down one finding may take, also while the
// process stops.
const takeTimeout = 10 * time.Second

// take puts one message into every outbox and acknowledges it.
func (n *Notifier) take(ctx context.Context, m jetstream.Msg) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), takeTimeout)
	defer cancel()
	again := func(what string, err error) {
		n.logger.Warn(what, "error", err)
		if err := m.NakWithDelay(comeAgain); err != nil {
			n.logger.Debug("give a finding back", "error", err)
		}
	}
	if stream.ForOther(m, "notify") {
		if err := m.DoubleAck(ctx); err != nil {
			n.logger.Debug("acknowledge a dead letter that came back to another part", "error", err)
		}
		return
	}
	f, err := stream.DecodeFinding(m.Data())
	if err != nil {
		n.metrics.findings.WithLabelValues("", "malformed").Inc()
		n.logger.Warn("finding goes to the dead letters", "error", err)
		if err := stream.PublishDeadLetter(ctx, n.js, "notify", m, err); err != nil {
			again("keep dead letter", err)
			return
		}
	} else {
		meta, err := m.Metadata()
		if err != nil {
			again("read metadata of finding "+f.GetId(), err)
			return
		}
		for _, o := range n.outboxes {
			if err := o.accept(ctx, f, m.Data(), meta.Sequence.Stream); err != nil {
				n.metrics.findings.WithLabelValues(o.sink.Name, "refused").Inc()
				again("write down finding "+f.GetId()+" for sink "+o.sink.Name, err)
				return
			}
		}
	}
	// If this fails the message comes again, and the marks tell that it is known.
	if err := m.DoubleAck(ctx); err != nil {
		n.logger.Debug("acknowledge a finding", "error", err)
	}
}

// Sweeping.
const (
	sweepEvery = time.Hour
	keepMarks  = 7 * 24 * time.Hour
	// keepThreads is how long what was posted can be changed when somebody decides.
	keepThreads = 30 * 24 * time.Hour
)

// sweep forgets old marks now and every hour until ctx ends.
func (n *Notifier) sweep(ctx context.Context, kv jetstream.KeyValue) {
	for {
		for _, o := range n.outboxes {
			if err := o.sweep(ctx); err != nil && ctx.Err() == nil {
				n.logger.Warn("forget old marks", "sink", o.sink.Name, "error", err)
			}
		}
		// Deleted entries leave markers. Those of the last half hour stay: a group
		// that comes back in this moment must not be purged with its marker.
		if err := kv.PurgeDeletes(ctx); err != nil && ctx.Err() == nil {
			n.logger.Warn("purge deleted entries", "bucket", stream.NotifyBucket, "error", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-n.clock.After(sweepEvery):
		}
	}
}

func (n *Notifier) setProblem(running bool, err error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.running, n.problem = running, err
}

// Health says whether findings come in and sinks take them, and in a few words
// what each is doing or what is wrong. It is safe for concurrent use.
func (n *Notifier) Health() (healthy bool, detail string) {
	n.mu.Lock()
	running, problem := n.running, n.problem
	n.mu.Unlock()
	if !running {
		return false, "not running"
	}
	healthy = problem == nil
	var parts []string
	if problem != nil {
		parts = append(parts, problem.Error())
	}
	for _, o := range n.outboxes {
		ok, detail := o.health()
		healthy = healthy && ok
		parts = append(parts, o.sink.Name+": "+detail)
	}
	if len(parts) == 0 {
		return healthy, "no sinks"
	}
	return healthy, strings.Join(parts, "; ")
}
