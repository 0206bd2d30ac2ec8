package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"

	sallyportv1 "github.com/sallyport-ci/sallyport/proto/sallyport/v1"
	"github.com/sallyport-ci/sallyport/stream"
)

// PublisherConfig says how batches reach the stream EVENTS.
type PublisherConfig struct {
	// JS reaches the streams. Its connection should not buffer while it is away
	// (nats.ReconnectBufSize(-1)): the spool does that, on disk.
	// If neither it nor Conn is given, everything stays in the spool.
	JS jetstream.JetStream
	// Conn takes the place of JS where nothing may wait for the network: it returns the
	// connection while there is one, nil while there is none, and at once.
	Conn func() *nats.Conn
	// AgentID is the identity that all batches carry.
	AgentID string
	// Dir holds the spool.
	Dir string
	// MaxSpoolBytes bounds the spool; 1 GiB by default. What does not fit is lost
	// and counted.
	MaxSpoolBytes int64
	// Registerer takes the metrics; none if nil.
	Registerer prometheus.Registerer
	// Logger is silent by default.
	Logger *slog.Logger
}

const (
	defaultSpoolBytes = 1 << 30
	// window is how many batches are on their way at once.
	window = 64
	// ackTimeout is how long the stream may take to say that it has a batch.
	ackTimeout = 5 * time.Second
	// retryInterval is how long to wait before the stream is tried again.
	retryInterval = 500 * time.Millisecond
	// drainTimeout bounds the last attempt when the agent stops.
	drainTimeout = 3 * time.Second
)

// errAway says that there is no connection.
var errAway = errors.New("no connection to NATS")

// packed is an encoded batch.
type packed struct {
	id     string
	epoch  uint64
	first  uint64
	events int
	data   []byte
	file   string // in the spool; empty if it is not there
}

// Publisher is a Sink that publishes on JetStream. While the stream cannot take
// batches they are kept on disk, in order, and go out when it can again. The stream
// recognises a batch that it has already.
type Publisher struct {
	cfg     PublisherConfig
	nc      *nats.Conn          // of js; send's
	js      jetstream.JetStream // nil before the first connection; send's
	log     *slog.Logger
	encoder *stream.Encoder
	queue   chan packed
	done    chan struct{}
	cancel  context.CancelFunc
	waiting atomic.Uint64
	spilled atomic.Uint64

	mu    sync.Mutex // guards spool
	spool *spool
}

// NewPublisher opens the spool and starts to send what is in it. Close it.
func NewPublisher(cfg PublisherConfig) (*Publisher, error) {
	if cfg.MaxSpoolBytes <= 0 {
		cfg.MaxSpoolBytes = defaultSpoolBytes
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if !stream.ValidAgentID(cfg.AgentID) {
		return nil, fmt.Errorf("agent identity %q is not 1 to 64 characters of [A-Za-z0-9_-]", cfg.AgentID)
	}
	encoder, err := stream.NewEncoder()
	if err != nil {
		return nil, err
	}
	s, err := openSpool(cfg.Dir, cfg.MaxSpoolBytes)
	if err != nil {
		return nil, err
	}
	if cfg.Conn == nil {
		cfg.Conn = func() *nats.Conn {
			if cfg.JS == nil {
				return nil
			}
			return cfg.JS.Conn()
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	p := &Publisher{
		cfg: cfg, log: cfg.Logger, encoder: encoder, spool: s, cancel: cancel,
		queue: make(chan packed, window), done: make(chan struct{}),
	}
	if cfg.Registerer != nil {
		for _, c := range []prometheus.Collector{
			prometheus.NewCounterFunc(prometheus.CounterOpts{
				Name: "sallyport_agent_spool_lost_total", Help: "Events lost because the spool was full or could not be written.",
			}, func() float64 { return float64(p.spilled.Load()) }),
			prometheus.NewGaugeFunc(prometheus.GaugeOpts{
				Name: "sallyport_agent_spool_bytes", Help: "Bytes of batches that wait on disk for the network.",
			}, func() float64 {
				p.mu.Lock()
				defer p.mu.Unlock()
				return float64(p.spool.bytes)
			}),
		} {
			if err := cfg.Registerer.Register(c); err != nil {
				cancel()
				return nil, fmt.Errorf("register publisher metrics: %w", err)
			}
		}
	}
	p.waiting.Store(uint64(s.len()))
	go func() {
		defer close(p.done)
		p.send(ctx)
	}()
	return p, nil
}

// Publish encodes a batch and takes charge of it. It waits only while the disk or
// the network is slow and the spool is not yet used.
func (p *Publisher) Publish(ctx context.Context, b *sallyportv1.EventBatch) error {
	data, err := p.encoder.Encode(nil, b)
	if err != nil {
		return err
	}
	item := packed{id: stream.BatchID(b), epoch: b.GetEpoch(), first: b.GetFirstSequence(), events: len(b.GetEvents()), data: data}
	p.waiting.Add(1)
	select {
	case p.queue <- item:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Waiting returns how many batches have not reached the stream.
func (p *Publisher) Waiting() uint64 { return p.waiting.Load() }

// Spilled returns how many events were lost because the spool was full or could not
// be written.
func (p *Publisher) Spilled() uint64 { return p.spilled.Load() }

// Close sends what it can in a few seconds and leaves the rest in the spool. Publish
// must not be called any more.
func (p *Publisher) Close() { p.CloseWithin(drainTimeout) }

// CloseWithin is Close that takes no longer than patience, but for the writing of what is
// left to the disk.
func (p *Publisher) CloseWithin(patience time.Duration) {
	close(p.queue)
	timeout := time.AfterFunc(patience, p.cancel)
	<-p.done
	timeout.Stop()
	p.cancel()
}

// send is the one goroutine that talks to the stream and to the disk.
func (p *Publisher) send(ctx context.Context) {
	open, away := true, false
	for open || p.spool.len() > 0 {
		var batches []packed
		if p.spool.len() > 0 {
			// In order: what is on disk is older. What comes meanwhile joins it there.
			open = p.divert() && open
			var err error
			if batches, err = p.spool.oldest(window, p.cfg.AgentID); err != nil {
				p.log.Error("read spool", "error", err)
				if !p.pause(ctx, &open) {
					return
				}
				continue
			}
		} else if batches, open = p.gather(); len(batches) == 0 {
			continue
		}
		failed, err := p.publish(ctx, batches)
		if err == nil {
			if away {
				away = false
				p.log.Info("the stream takes events again")
			}
			continue
		}
		for _, b := range failed {
			if b.file == "" {
				p.keep(b)
			}
		}
		if !away && ctx.Err() == nil {
			away = true
			p.log.Warn("the stream does not take events; they are kept on disk", "error", err, "spool", p.cfg.Dir)
		}
		if !open && !errors.Is(err, nats.ErrTimeout) && ctx.Err() == nil {
			// Stopping, and nobody there: the next start goes on.
			return
		}
		if !p.pause(ctx, &open) {
			return
		}
	}
}

// gather waits for a batch and takes those behind it, up to a window.
func (p *Publisher) gather() (batches []packed, open bool) {
	first, open := <-p.queue
	if !open {
		return nil, false
	}
	batches = append(batches, first)
	for len(batches) < window {
		select {
		case b, open := <-p.queue:
			if !open {
				return batches, false
			}
			batches = append(batches, b)
		default:
			return batches, true
		}
	}
	return batches, true
}

// divert puts what waits in the queue behind what is in the spool.
func (p *Publisher) divert() (open bool) {
	for {
		select {
		case b, open := <-p.queue:
			if !open {
				return false
			}
			p.keep(b)
		default:
			return true
		}
	}
}

// pause waits before the next attempt, and keeps what comes meanwhile.
func (p *Publisher) pause(ctx context.Context, open *bool) bool {
	timer := time.NewTimer(retryInterval)
	defer timer.Stop()
	queue := p.queue
	if !*open {
		queue = nil
	}
	for {
		select {
		case <-ctx.Done():
			for *open { // Close has closed the queue, or will
				b, more := <-p.queue
				if !more {
					break
				}
				p.keep(b)
			}
			return false
		case <-timer.C:
			return true
		case b, more := <-queue:
			if !more {
				*open, queue = false, nil
				if p.cfg.Conn() == nil {
					return false // stopping, and nobody there: the next start goes on
				}
				continue
			}
			p.keep(b)
		}
	}
}

func (p *Publisher) keep(b packed) {
	p.mu.Lock()
	err := p.spool.put(b)
	p.mu.Unlock()
	if err != nil {
		p.spilled.Add(uint64(b.events))
		p.waiting.Add(^uint64(0))
		p.log.Error("events are lost", "events", b.events, "error", err)
	}
}

// publish sends batches side by side and returns those that the stream does not
// certainly have.
func (p *Publisher) publish(ctx context.Context, batches []packed) (failed []packed, err error) {
	nc := p.cfg.Conn()
	if nc == nil {
		return batches, errAway
	}
	if p.nc != nc { // the first, or another that has taken its place
		// The library counts what was not acknowledged among what is on its way, and takes
		// no more when that is much: it has to give up when send does.
		js, err := jetstream.New(nc, jetstream.WithPublishAsyncTimeout(ackTimeout))
		if err != nil {
			return batches, fmt.Errorf("use JetStream: %w", err)
		}
		p.nc, p.js = nc, js
	}
	subject := stream.EventSubject(p.cfg.AgentID)
	futures := make([]jetstream.PubAckFuture, len(batches))
	for i, b := range batches {
		future, e := p.js.PublishMsgAsync(&nats.Msg{Subject: subject, Data: b.data}, jetstream.WithMsgID(b.id))
		if e != nil {
			err = fmt.Errorf("publish batch %s: %w", b.id, e)
			break
		}
		futures[i] = future
	}
	timeout := time.NewTimer(ackTimeout)
	defer timeout.Stop()
	for i, b := range batches {
		if futures[i] == nil {
			failed = append(failed, b)
			continue
		}
		var e error
		select {
		case <-futures[i].Ok():
		case e = <-futures[i].Err():
		case <-timeout.C:
			timeout.Reset(0) // for all that follow
			e = nats.ErrTimeout
		case <-ctx.Done():
			e = ctx.Err()
		}
		if e != nil {
			err = fmt.Errorf("publish batch %s: %w", b.id, e)
			failed = append(failed, b)
			continue
		}
		if b.file != "" {
			p.mu.Lock()
			e = p.spool.remove(b)
			p.mu.Unlock()
			if e != nil {
				p.log.Error("spool", "error", e)
			}
		}
		p.waiting.Add(^uint64(0)) // last: Waiting never counts fewer than the spool holds
	}
	return failed, err
}
