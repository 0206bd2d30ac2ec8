package ingest

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nuid"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/sallyport-ci/sallyport/store"
	"github.com/sallyport-ci/sallyport/stream"
)

// Config says what ingest works on. All but JS and Store has a default.
type Config struct {
	// JS is where the streams are; stream.Declare has been run there.
	JS jetstream.JetStream
	// Store is where the rows go. Ingest migrates it.
	Store *store.Store
	// Name tells this process from others that work on the same streams, also after it
	// was started again: what a process of this name had it takes up at once. The
	// host's name by default.
	Name string
	// Logger takes what operators should know; discarded by default.
	Logger *slog.Logger
	// Registerer takes the metrics; none by default.
	Registerer prometheus.Registerer
	// Workers decode and insert ranges of events side by side, for each partition, 8 at
	// most; 2 by default, 1 if there are several partitions.
	Workers int
	// MaxEvents ends a range; 40,000 by default. With a backlog a process has some 10 KiB
	// for each: two workers, a copy that the driver makes, and what the garbage
	// collector leaves.
	MaxEvents int
	// MaxBytes ends a range by the memory of its rows; 40 MiB by default.
	MaxBytes int
	// MaxAge is how long the first message of a range waits for others; 500 ms by
	// default.
	MaxAge time.Duration
	// DrainTimeout is how long Run goes on, after its context ended, with the
	// range in hand; 10 s by default. A range that is not finished then is
	// finished at the next start.
	DrainTimeout time.Duration
}

// Ingest turns the streams EVENTS and FINDINGS into rows. Several, in one process or in
// many, share the partitions of the streams; when one dies the others take its over.
type Ingest struct {
	cfg     Config
	self    holder
	metrics *metrics

	mu         sync.Mutex
	started    bool
	partitions int // that it works on
	processes  int // that share the work
	troubles   map[string]string
}

// New checks the configuration and registers the metrics.
func New(cfg Config) (*Ingest, error) {
	if cfg.JS == nil || cfg.Store == nil {
		return nil, errors.New("configure ingest: JS and Store are needed")
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.Workers > maxWorkers {
		return nil, fmt.Errorf("configure ingest: %d workers, want %d at most", cfg.Workers, maxWorkers)
	}
	if cfg.Name == "" {
		host, err := os.Hostname()
		if err != nil {
			return nil, fmt.Errorf("configure ingest: find a name: %w", err)
		}
		cfg.Name = strings.Map(func(r rune) rune {
			if notInName(r) {
				return '-'
			}
			return r
		}, host[:min(len(host), maxName)])
	}
	if strings.IndexFunc(cfg.Name, notInName) >= 0 || len(cfg.Name) > maxName {
		return nil, fmt.Errorf("configure ingest: name %q is not 1 to %d characters of [A-Za-z0-9_-]", cfg.Name, maxName)
	}
	if cfg.MaxEvents <= 0 {
		cfg.MaxEvents = 40_000
	}
	if cfg.MaxBytes <= 0 {
		cfg.MaxBytes = 40 << 20
	}
	if cfg.MaxAge <= 0 {
		cfg.MaxAge = 500 * time.Millisecond
	}
	if cfg.DrainTimeout <= 0 {
		cfg.DrainTimeout = 10 * time.Second
	}
	m, err := newMetrics(cfg.Registerer)
	if err != nil {
		return nil, fmt.Errorf("register metrics of ingest: %w", err)
	}
	self := holder{Name: cfg.Name, Start: nuid.Next()}
	return &Ingest{cfg: cfg, self: self, metrics: m, troubles: make(map[string]string)}, nil
}

// maxName bounds a process's name, in bytes.
const maxName = 64

func notInName(r rune) bool {
	return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '_' && r != '-'
}

// Run works until ctx ends, then finishes the ranges in hand and returns nil. It
// waits for ClickHouse and NATS as long as they are away, at the start and later.
// An error means that ingest cannot go on by itself: a stream or the bucket is
// not declared, or its journal cannot be read.
func (in *Ingest) Run(ctx context.Context) error {
	// What is in hand is finished after ctx ended, but not for ever.
	work, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	stop := context.AfterFunc(ctx, func() {
		timer := time.NewTimer(in.cfg.DrainTimeout)
		defer timer.Stop()
		select {
		case <-timer.C:
			cancel()
		case <-work.Done():
		}
	})
	defer stop()

	if err := in.retry(ctx, "clickhouse", "migrate ClickHouse", func() error { return in.cfg.Store.Migrate(ctx) }); err != nil {
		return nil // stopped before ClickHouse came: nothing was begun
	}
	var kv jetstream.KeyValue
	var final error
	err := in.retry(ctx, "shares", "open bucket "+stream.IngestBucket, func() (err error) {
		kv, err = in.cfg.JS.KeyValue(ctx, stream.IngestBucket)
		return isFinal(&final, err, jetstream.ErrBucketNotFound)
	})
	if final != nil {
		return fmt.Errorf("ingest: bucket %s: %w (stream.Declare makes it)", stream.IngestBucket, final)
	}
	if err != nil {
		return nil // stopped before NATS came
	}
	in.setStarted()
	return newShares(in, kv).run(ctx, work)
}

// newLane returns what carries a partition into its tables.
func (in *Ingest) newLane(p stream.Partition, s *shares) *lane {
	l := &lane{ingest: in, shares: s, partition: p, workers: 1}
	if p.Stream == stream.FindingsStream {
		l.newRows = func() (rowSet, error) { return &findingRows{store: in.cfg.Store}, nil }
		return l
	}
	l.newRows = func() (rowSet, error) { return newEventRows() }
	switch {
	case in.cfg.Workers > 0:
		l.workers = in.cfg.Workers
	case p.Consumer == stream.IngestConsumer:
		l.workers = 2
	}
	return l
}

// Health says whether ingest works, and if not, what it waits for. It is safe for
// concurrent use.
func (in *Ingest) Health() (ok bool, detail string) {
	in.mu.Lock()
	defer in.mu.Unlock()
	for _, trouble := range in.troubles {
		return false, trouble
	}
	if !in.started {
		return false, "starting"
	}
	if in.partitions == 0 {
		return true, "standing by"
	}
	return true, "inserting"
}

// setPartitions notes how many partitions it works on, of how many processes.
func (in *Ingest) setPartitions(partitions, processes int) {
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.partitions != partitions || in.processes != processes {
		in.cfg.Logger.Info("sharing the work", "partitions", partitions, "processes", processes)
	}
	in.partitions, in.processes = partitions, processes
}

func (in *Ingest) setStarted() {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.started = true
}

// setTrouble notes that something fails, or with an empty text that it works
// again, and returns whether that is news.
func (in *Ingest) setTrouble(key, text string) bool {
	in.mu.Lock()
	defer in.mu.Unlock()
	_, had := in.troubles[key]
	if text == "" {
		delete(in.troubles, key)
		return had
	}
	in.troubles[key] = text
	return !had
}

// forgetTroubles forgets what failed in a partition that is no longer worked on.
func (in *Ingest) forgetTroubles(partition string) {
	in.mu.Lock()
	defer in.mu.Unlock()
	maps.DeleteFunc(in.troubles, func(key, _ string) bool { return strings.HasPrefix(key, partition+": ") })
}

const (
	firstPause = 50 * time.Millisecond
	lastPause  = 5 * time.Second
)

// retry calls f until it succeeds or ctx ends; only then it returns an error. It
// logs the first failure and the recovery. An error that wraps store.ErrRefused or
// errTaken is returned at once.
func (in *Ingest) retry(ctx context.Context, key, what string, f func() error) error {
	trouble := key + ": " + what
	for pause := firstPause; ; pause = min(2*pause, lastPause) {
		err := f()
		if err == nil {
			if in.setTrouble(trouble, "") {
				in.cfg.Logger.Info("works again", "what", what)
			}
			return nil
		}
		if errors.Is(err, store.ErrRefused) || errors.Is(err, errTaken) {
			in.setTrouble(trouble, "")
			return err
		}
		if ctx.Err() != nil {
			return fmt.Errorf("%s: stopped: %w", what, err)
		}
		in.metrics.retries.WithLabelValues(key).Inc()
		if in.setTrouble(trouble, err.Error()) {
			in.cfg.Logger.Warn("fails, trying again until it works", "what", what, "error", err)
		}
		timer := time.NewTimer(pause)
		select {
		case <-ctx.Done():
			timer.Stop()
			return fmt.Errorf("%s: stopped: %w", what, err)
		case <-timer.C:
		}
	}
}
