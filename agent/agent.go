package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/sallyport-ci/sallyport/bpf"
	sallyportv1 "github.com/sallyport-ci/sallyport/proto/sallyport/v1"
)

// Source is where records come from: a *bpf.Sensor.
type Source interface {
	// Read returns the next record, valid until the next call. It returns
	// os.ErrClosed when the source was closed and nothing is left.
	Read() (bpf.Record, error)
	// Lost returns how many records did not reach Read, by kind.
	Lost() (map[string]uint64, error)
	// BootOffset is what to add to a record's time to have Unix nanoseconds.
	BootOffset() int64
	// Close stops recording; Read then returns what is left.
	Close() error
}

// Sink takes batches. Publish is called by one goroutine; it may keep the batch.
// A sink that cannot pass a batch on keeps it itself: an error means that the batch
// is lost, and is counted.
type Sink interface {
	Publish(ctx context.Context, b *sallyportv1.EventBatch) error
}

// Config says how an agent works.
type Config struct {
	// AgentID identifies the machine: 1 to 64 characters of [A-Za-z0-9_-].
	AgentID string
	// Hostname is the machine's name, for people.
	Hostname string
	// Version of the program, for its status.
	Version string
	// Source gives the records. The agent closes it.
	Source Source
	// Sink takes the batches.
	Sink Sink
	// Command, if set, is given to everything below the worker processes instead of
	// what their environment says: `sallyport run` watches one command with it.
	Command *sallyportv1.Attribution
	// OnlyAttributed leaves out what happens outside of jobs.
	OnlyAttributed bool
	// Waiting returns the batches that wait for the network, for the status; none
	// if nil.
	Waiting func() uint64
	// Spilled returns the events that were lost because they could not be kept, for
	// the status; none if nil.
	Spilled func() uint64
	// Now tells the time; time.Now by default.
	Now func() time.Time
	// Registerer takes the metrics; none if nil.
	Registerer prometheus.Registerer
	// Logger is silent by default.
	Logger *slog.Logger
}

const (
	// maxBatchEvents and maxBatchAge bound a batch; whichever is reached first.
	maxBatchEvents = 512
	maxBatchAge    = 50 * time.Millisecond
	// tick is how often ages are looked at.
	tick = 25 * time.Millisecond
	// statusInterval is how often the agent gives account of itself.
	statusInterval = 10 * time.Second
	// outQueue is how many batches may wait for the sink. When it is full reading
	// stops, and what the kernel cannot keep is counted there.
	outQueue = 64
)

// Agent turns records into batches.
type Agent struct {
	cfg     Config
	log     *slog.Logger
	metrics *metrics
	kernel  string

	mu           sync.Mutex // guards all below; the reader and the ticker share it
	builder      *builder
	processes    *processTable
	environment  environmentBuffer
	names        *nameTable
	questions    *questionTable
	flows        map[uint64]*flow
	eventsSeen   uint64
	sinkLost     uint64
	nextStatus   time.Time
	malformedLog sync.Once

	out chan *sallyportv1.EventBatch
}

// New returns an agent. The error says which setting is missing or wrong.
func New(cfg Config) (*Agent, error) {
	if cfg.Source == nil || cfg.Sink == nil {
		return nil, errors.New("agent: no source or no sink given")
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	m, err := newMetrics(cfg.Registerer)
	if err != nil {
		return nil, fmt.Errorf("agent: register metrics: %w", err)
	}
	now := cfg.Now()
	return &Agent{
		cfg:       cfg,
		log:       cfg.Logger,
		metrics:   m,
		kernel:    kernelRelease(),
		builder:   newBuilder(cfg.AgentID, cfg.Hostname, uint64(now.UnixNano())),
		processes: newProcessTable(),
		names:     newNameTable(maxNames),
		questions: newQuestionTable(),
		flows:     make(map[uint64]*flow),
		out:       make(chan *sallyportv1.EventBatch, outQueue),
	}, nil
}

// Run reads records and publishes batches until ctx ends or the source does. It
// then takes what the source still holds, says that it stops, and returns when the
// sink has everything. It may be called once.
func (a *Agent) Run(ctx context.Context) error {
	var running sync.WaitGroup
	published := make(chan struct{})
	// Batches that are made go out even after ctx has ended.
	go func() {
		defer close(published)
		a.publish(context.WithoutCancel(ctx))
	}()
	stopTicking := make(chan struct{})
	running.Go(func() { a.tickUntil(stopTicking) })
	var closeErr error
	stopClosing := context.AfterFunc(ctx, func() { closeErr = a.cfg.Source.Close() })

	err := a.read()
	close(stopTicking)
	running.Wait()
	a.finish()
	close(a.out)
	<-published
	if stopClosing() { // the source ended by itself
		closeErr = a.cfg.Source.Close()
	}
	if err != nil {
		return err
	}
	if closeErr != nil {
		return fmt.Errorf("close kernel sensor: %w", closeErr)
	}
	return nil
}

func (a *Agent) read() error {
	for {
		r, err := a.cfg.Source.Read()
		switch {
		case err == nil:
			a.mu.Lock()
			a.record(r)
			a.mu.Unlock()
		case errors.Is(err, os.ErrClosed):
			return nil
		case errors.Is(err, bpf.ErrMalformed):
			a.metrics.malformed.Inc()
			a.malformedLog.Do(func() {
				a.log.Error("a record from the kernel is malformed; further ones are only counted", "error", err)
			})
		default:
			return fmt.Errorf("read from kernel: %w", err)
		}
	}
}

func (a *Agent) tickUntil(stop <-chan struct{}) {
	ticker := time.NewTicker(tick)
	defer ticker.Stop()
	for {
		select {
		case <-stop:
			return
		case <-ticker.C:
		}
		a.mu.Lock()
		a.age(a.cfg.Now())
		a.mu.Unlock()
	}
}

// age does what time alone brings about.
func (a *Agent) age(now time.Time) {
	boot := a.bootTime(now)
	for _, p := range a.processes.forkedBefore(boot - uint64(forkPatience)) {
		a.emitFork(p)
	}
	for _, q := range a.questions.unansweredSince(boot - uint64(answerPatience)) {
		a.emitUnanswered(q)
	}
	a.processes.forget(boot)
	if !now.Before(a.nextStatus) {
		a.nextStatus = now.Add(statusInterval)
		a.emitStatus(now, false)
	}
	if a.builder.age(now) >= maxBatchAge {
		a.flush()
	}
}

func (a *Agent) finish() {
	a.mu.Lock()
	defer a.mu.Unlock()
	now := a.cfg.Now()
	for _, p := range a.processes.forkedBefore(^uint64(0)) {
		a.emitFork(p)
	}
	for _, q := range a.questions.unansweredSince(^uint64(0)) {
		a.emitUnanswered(q)
	}
	a.processes.eachWorker(func(w *process) {
		a.endJobs(w, uint64(now.UnixNano()), sallyportv1.JobEndReason_JOB_END_REASON_AGENT_STOPPED)
	})
	a.emitStatus(now, true)
	a.flush()
}

func (a *Agent) publish(ctx context.Context) {
	for b := range a.out {
		if err := a.cfg.Sink.Publish(ctx, b); err != nil {
			a.metrics.lost.WithLabelValues("publish").Add(float64(len(b.GetEvents())))
			a.mu.Lock()
			a.sinkLost += uint64(len(b.GetEvents()))
			a.mu.Unlock()
			a.log.Error("publish batch", "error", err, "events", len(b.GetEvents()))
			continue
		}
		a.metrics.batches.Inc()
	}
}

// flush hands over the batch in the making.
func (a *Agent) flush() {
	if b := a.builder.take(); b != nil {
		a.out <- b
	}
}

// wall turns boot time into Unix nanoseconds, bootTime the other way.
func (a *Agent) wall(boot uint64) uint64 { return uint64(int64(boot) + a.cfg.Source.BootOffset()) }

func (a *Agent) bootTime(t time.Time) uint64 {
	return uint64(max(t.UnixNano()-a.cfg.Source.BootOffset(), 0))
}

// emit adds an event to the batch. p may be nil.
func (a *Agent) emit(e *sallyportv1.Event, p *process, at *attribution, kind string) {
	if at == nil && a.cfg.OnlyAttributed && e.GetAgentStatus() == nil {
		return
	}
	a.builder.add(e, p, at, a.cfg.Now())
	a.metrics.event(kind)
	if a.builder.events() >= maxBatchEvents {
		a.flush()
	}
}

func (a *Agent) record(r bpf.Record) {
	a.eventsSeen++
	switch r := r.(type) {
	case *bpf.Fork:
		a.fork(r)
	case *bpf.Environment:
		a.environment.add(r)
	case *bpf.Exec:
		a.exec(r)
	case *bpf.Exit:
		a.exit(r)
	case *bpf.Flow:
		a.flow(r)
	case *bpf.DNS:
		a.dns(r)
	case *bpf.Access:
		a.access(r)
	}
}

// actor returns the process of a record, or nil. A fork that was held back is told
// first: it did something of its own.
func (a *Agent) actor(h *bpf.Header) *process {
	p := a.processes.get(h.Process)
	if p != nil && p.forkHeld {
		a.emitFork(p)
	}
	return p
}

func (a *Agent) access(r *bpf.Access) {
	p := a.actor(r.Head())
	target := a.processes.get(r.Target)
	body := &sallyportv1.ProcessAccess{Kind: accessKinds[r.Kind], TargetIsWorker: r.TargetWorker}
	e := &sallyportv1.Event{TimeUnixNano: a.wall(r.Time), Body: &sallyportv1.Event_ProcessAccess{ProcessAccess: body}}
	at := p.attributed()
	if at == nil && a.cfg.OnlyAttributed {
		return
	}
	if target != nil {
		body.Target = a.builder.process(target)
	}
	a.emit(e, p, at, "access")
}

var accessKinds = map[bpf.AccessKind]sallyportv1.AccessKind{
	bpf.AccessMem:     sallyportv1.AccessKind_ACCESS_KIND_PROC_MEM,
	bpf.AccessMaps:    sallyportv1.AccessKind_ACCESS_KIND_PROC_MAPS,
	bpf.AccessEnviron: sallyportv1.AccessKind_ACCESS_KIND_PROC_ENVIRON,
	bpf.AccessPtrace:  sallyportv1.AccessKind_ACCESS_KIND_PTRACE,
	bpf.AccessVMRead:  sallyportv1.AccessKind_ACCESS_KIND_VM_READ,
	bpf.AccessVMWrite: sallyportv1.AccessKind_ACCESS_KIND_VM_WRITE,
}

func (a *Agent) emitStatus(now time.Time, stopping bool) {
	lost, err := a.cfg.Source.Lost()
	if err != nil {
		a.log.Warn("read losses from kernel", "error", err)
		lost = map[string]uint64{}
	}
	for kind, n := range lost {
		a.metrics.kernelLost(kind, n)
		if n == 0 {
			delete(lost, kind)
		}
	}
	if a.sinkLost > 0 {
		lost["publish"] = a.sinkLost
	}
	status := &sallyportv1.AgentStatus{
		Version: a.cfg.Version, Kernel: a.kernel, EventsSeen: a.eventsSeen, EventsLost: lost, Stopping: stopping,
	}
	if a.cfg.Waiting != nil {
		status.BatchesWaiting = a.cfg.Waiting()
	}
	if a.cfg.Spilled != nil {
		if n := a.cfg.Spilled(); n > 0 {
			lost["spool"] = n
		}
	}
	a.emit(&sallyportv1.Event{
		TimeUnixNano: uint64(now.UnixNano()),
		Body:         &sallyportv1.Event_AgentStatus{AgentStatus: status},
	}, nil, nil, "status")
}
