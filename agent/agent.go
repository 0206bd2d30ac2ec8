package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/sallyport-ci/sallyport/agent/watchlist"
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
	// Clock returns the present time by the clock of the records, in nanoseconds, and
	// what to add to such a time to have Unix nanoseconds: it changes when the wall
	// clock is set.
	Clock() (boot uint64, offset int64, err error)
	// CatchUp waits until Read has returned, and was called again after, all that happened before
	// the call; or until ctx ends.
	CatchUp(ctx context.Context) error
	// Damage says what somebody did to the source's hold on the kernel; nil for nothing.
	Damage() []string
	// Close stops recording; Read then returns what is left. It may be called again,
	// and returns the same.
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
	// Watcher watches files and what is encrypted; nothing of that is seen if it is nil.
	// It is Source's.
	Watcher Watcher
	// WatchList says which; watchlist.Default if nil.
	WatchList *watchlist.List
	// Command, if set, is given to everything below the worker processes instead of
	// what their environment says: `sallyport run` watches one command with it.
	Command *sallyportv1.Attribution
	// Self is the identity of the agent's own process (Sensor.Self), 0 if it is not known.
	// A step may have started the agent: what it does itself is not the job's.
	Self uint64
	// BeginsJob says that the job one of whose steps started the agent had run no step
	// before: it is seen whole though its worker was there first.
	BeginsJob bool
	// EndsWithJobs closes Unused when the job one of whose steps started the agent has ended,
	// and all that came to count on it (Use).
	EndsWithJobs bool
	// Life is where the agent keeps what the next one is to know of it; not kept if nil.
	Life *Life
	// Beat takes a heartbeat every second and must not wait; none if nil.
	Beat func(*sallyportv1.Heartbeat) error
	// TellFrom is the time, by the clock of the records, before which another agent told
	// what happened: of that this one only takes note.
	TellFrom uint64
	// Redactor takes secrets out of what is told; the built-in rules without digests if
	// nil.
	Redactor *Redactor
	// RequestHosts are the hosts whose HTTP requests are read from within TLS: names, or
	// *. with a name for all below it. None if empty.
	RequestHosts []string
	// MachineRoot is the root folder of the machine, where container engines keep their
	// files. That of the machine's first process if empty.
	MachineRoot string
	// OnlyAttributed leaves out what happens outside of jobs.
	OnlyAttributed bool
	// Waiting returns the batches that wait for the network, for the status; none
	// if nil.
	Waiting func() uint64
	// Spilled returns the events that were lost because they could not be kept, for
	// the status; none if nil.
	Spilled func() uint64
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
	// firstStatus is when it does so first.
	firstStatus = 250 * time.Millisecond
	// outQueue is how many batches may wait for the sink. When it is full reading
	// stops, and what the kernel cannot keep is counted there.
	outQueue = 64
)

// Agent turns records into batches.
type Agent struct {
	armed   chan struct{} // closed when what is watched from the beginning is
	unused  chan struct{} // closed when no job counts on the agent any more
	cfg     Config
	log     *slog.Logger
	metrics *metrics
	kernel  string

	mu           sync.Mutex // guards all below; the reader and the ticker share it
	now          uint64     // by the clock of the records
	offset       int64      // of the wall clock against it
	builder      *builder
	processes    *processTable
	environment  environmentBuffer
	names        *nameTable
	questions    *questionTable
	flows        map[uint64]*flow
	gathering    int // flows whose payload is gathered
	files        fileTable
	containers   containerTable
	tallies      tallies
	eventsSeen   uint64
	nextStatus   uint64
	lastUrgent   uint64
	started      uint64
	lastTick     uint64
	nextBeat     uint64
	nextLife     uint64
	longestPause uint64 // since the last status
	damage       []string
	foundSelf    bool
	starter      *worker // of the job that started the agent, nil if none did
	found        sallyportv1.Inventory
	statuses     int
	tellUntil    uint64 // another agent goes on from then
	lifeFailed   bool
	foreign      map[string]bool // repositories that the agent may not speak for and that ran here
	malformedLog sync.Once
	unusedOnce   sync.Once

	out        chan *sallyportv1.EventBatch
	sinkLost   atomic.Uint64
	unwatched  atomic.Uint64 // files that the kernel had no room to watch
	ends       atomic.Bool   // nothing more is seen, or will not be in a moment
	workspaces *workspaces
	digests    *digests
	requests   *requests
	redactor   *Redactor
}

// New returns an agent. The error says which setting is missing or wrong.
func New(cfg Config) (*Agent, error) {
	if cfg.Source == nil || cfg.Sink == nil {
		return nil, errors.New("agent: no source or no sink given")
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	m, err := newMetrics(cfg.Registerer)
	if err != nil {
		return nil, fmt.Errorf("agent: register metrics: %w", err)
	}
	boot, offset, err := cfg.Source.Clock()
	if err != nil {
		return nil, fmt.Errorf("agent: %w", err)
	}
	if cfg.MachineRoot == "" {
		cfg.MachineRoot = machineRoot()
	}
	if cfg.WatchList == nil {
		cfg.WatchList = watchlist.Default()
	}
	a := &Agent{
		armed:     make(chan struct{}),
		unused:    make(chan struct{}),
		now:       boot,
		started:   boot,
		tellUntil: math.MaxUint64,
		// What was there before the agent is to be counted in its first status.
		nextStatus: boot + uint64(firstStatus),
		offset:     offset,
		cfg:        cfg,
		log:        cfg.Logger,
		metrics:    m,
		kernel:     kernelRelease(),
		builder:    newBuilder(cfg.AgentID, cfg.Hostname, uint64(int64(boot)+offset)),
		processes:  newProcessTable(),
		names:      newNameTable(maxNames),
		questions:  newQuestionTable(),
		flows:      make(map[uint64]*flow),
		files:      newFileTable(),

		containers: newContainerTable(cfg.MachineRoot),
		tallies:    newTallies(),
		out:        make(chan *sallyportv1.EventBatch, outQueue),
	}
	a.workspaces = newWorkspaces(a)
	a.digests = newDigests(a)
	if a.redactor = cfg.Redactor; a.redactor == nil {
		a.redactor = &Redactor{}
	}
	if a.requests, err = newRequests(a, cfg.RequestHosts); err != nil {
		return nil, fmt.Errorf("agent: %w", err)
	}
	return a, nil
}

// machineRoot is the root folder of the machine: of the agent itself, or, in a container
// that shares the machine's processes, that of the first of them.
func machineRoot() string {
	const first = "/proc/1/root"
	if _, err := os.Stat(first + "/"); err != nil {
		return "/" // not allowed to
	}
	return first
}

// Armed is closed when Run watches the files and libraries that are to be watched from the
// beginning: what starts after that is seen whole.
func (a *Agent) Armed() <-chan struct{} { return a.armed }

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
	if err := a.watchList(); err != nil {
		a.noRoom(err)
		a.log.Warn("not all files of the watch list are watched", "error", err)
	}
	running.Go(func() { a.workspaces.work(stopTicking) })
	running.Go(func() { a.digests.work(stopTicking) })
	running.Go(func() { a.containers.pods.answerQuestions(ctx, a.cfg.MachineRoot, a.log, stopTicking) })
	if err := a.requests.watchLibraries(); err != nil {
		a.log.Warn("not all requests are seen", "error", err)
	}
	close(a.armed)
	running.Go(func() { a.requests.work(stopTicking) })
	// Its error is that of the second call, below.
	stopClosing := context.AfterFunc(ctx, func() {
		a.ends.Store(true)
		_ = a.cfg.Source.Close()
	})
	defer stopClosing()

	err := a.read()
	close(stopTicking)
	running.Wait()
	a.finish()
	close(a.out)
	<-published
	closeErr := a.cfg.Source.Close()
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
		a.readClock()
		a.look()
		a.age()
		a.mu.Unlock()
	}
}

// minOffsetChange is how much the wall clock must have been moved before the agent
// follows it: a clock that is slewed is followed in steps.
const minOffsetChange = 10 * time.Millisecond

func (a *Agent) readClock() {
	boot, offset, err := a.cfg.Source.Clock()
	if err != nil {
		a.log.Error("time goes by the records alone", "error", err)
		return
	}
	a.now = max(a.now, boot)
	moved := time.Duration(offset - a.offset)
	if moved.Abs() < minOffsetChange {
		return
	}
	if moved.Abs() >= time.Second {
		a.log.Warn("the wall clock was set; events from now on go by it", "by", moved)
	}
	a.offset = offset
}

// age does what time alone brings about.
func (a *Agent) age() {
	for _, p := range a.processes.forkedBefore(before(a.now, forkPatience)) {
		a.emitFork(p)
	}
	for _, q := range a.questions.unansweredSince(before(a.now, answerPatience)) {
		a.emitUnanswered(q)
	}
	a.processes.forget(a.now)
	a.tallies.forget(a.wall(a.now))
	if a.now >= a.nextStatus {
		a.nextStatus = a.now + uint64(statusInterval)
		a.emitStatus(false)
	}
	if a.builder.age(a.now) >= maxBatchAge {
		a.flush()
	}
}

// before returns the time d before boot, 0 if the machine was not up yet.
func before(boot uint64, d time.Duration) uint64 { return boot - min(boot, uint64(d)) }

func (a *Agent) finish() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.readClock()
	for _, p := range a.processes.forkedBefore(^uint64(0)) {
		a.emitFork(p)
	}
	for _, q := range a.questions.unansweredSince(^uint64(0)) {
		a.emitUnanswered(q)
	}
	end := "replaced"
	if a.tellUntil == math.MaxUint64 {
		end = "stopped"
		a.processes.eachWorker(func(w *process) {
			a.endJobs(w, a.now, sallyportv1.JobEndReason_JOB_END_REASON_AGENT_STOPPED)
		})
	}
	a.emitStatus(true)
	a.flush()
	a.beat(true)
	if a.cfg.Life != nil {
		if err := a.cfg.Life.end(a.wall(a.now), end); err != nil {
			a.log.Warn("the next agent will not know how this one ended", "error", err)
		}
	}
}

func (a *Agent) publish(ctx context.Context) {
	for b := range a.out {
		if err := a.cfg.Sink.Publish(ctx, b); err != nil {
			a.metrics.lost.WithLabelValues("publish").Add(float64(len(b.GetEvents())))
			a.sinkLost.Add(uint64(len(b.GetEvents()))) // mu may be held by who waits for out
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

// wall turns a time by the clock of the records into Unix nanoseconds.
func (a *Agent) wall(boot uint64) uint64 { return uint64(int64(boot) + a.offset) }

// emit adds an event to the batch, and says whether it is told. p may be nil.
func (a *Agent) emit(e *sallyportv1.Event, p *process, at *attribution, kind string) (told bool) {
	if at == nil && a.cfg.OnlyAttributed && e.GetAgentStatus() == nil {
		return false
	}
	if boot := uint64(int64(e.GetTimeUnixNano()) - a.offset); e.GetAgentStatus() == nil && (boot < a.cfg.TellFrom || boot >= a.tellUntil) {
		return false // the agent before has told it, or the next one does
	}
	a.builder.add(e, p, at, a.now)
	a.metrics.event(kind)
	if s := a.tallyOf(at, e.GetTimeUnixNano()); s != nil {
		s.fold(e, p)
	}
	if a.builder.events() >= maxBatchEvents {
		a.flush()
	}
	return true
}

// urgentPause is the least time between batches that go out before they are full or
// old: what is urgent is rare, unless somebody makes it often.
const urgentPause = 5 * time.Millisecond

// urgent sends what may be an attack at once.
func (a *Agent) urgent() {
	if a.now-a.lastUrgent >= uint64(urgentPause) {
		a.lastUrgent = a.now
		a.flush()
	}
}

func (a *Agent) record(r bpf.Record) {
	a.eventsSeen++
	a.now = max(a.now, r.Head().Time)
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
	case *bpf.Payload:
		a.payload(r)
	case *bpf.File:
		a.file(r)
	case *bpf.Privilege:
		a.privilege(r)
	case *bpf.Cgroup:
		a.cgroup(r)
	case *bpf.Plaintext:
		a.plaintext(r)
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
	told := a.emit(e, p, at, "access")
	if s := a.tallyOf(at, e.GetTimeUnixNano()); told && s != nil {
		s.accessed(p, target, body)
	}
	a.urgent()
}

var accessKinds = map[bpf.AccessKind]sallyportv1.AccessKind{
	bpf.AccessMem:     sallyportv1.AccessKind_ACCESS_KIND_PROC_MEM,
	bpf.AccessMaps:    sallyportv1.AccessKind_ACCESS_KIND_PROC_MAPS,
	bpf.AccessEnviron: sallyportv1.AccessKind_ACCESS_KIND_PROC_ENVIRON,
	bpf.AccessPtrace:  sallyportv1.AccessKind_ACCESS_KIND_PTRACE,
	bpf.AccessVMRead:  sallyportv1.AccessKind_ACCESS_KIND_VM_READ,
	bpf.AccessVMWrite: sallyportv1.AccessKind_ACCESS_KIND_VM_WRITE,
}

// losses are the events that did not come through until now, by kind, and the files that
// there was no room to watch ("watch"); kinds without any are left out.
func (a *Agent) losses() map[string]uint64 {
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
	if n := a.unwatched.Load(); n > 0 {
		lost["watch"] = n
	}
	if n := a.sinkLost.Load(); n > 0 {
		lost["publish"] = n
	}
	if a.cfg.Spilled != nil {
		if n := a.cfg.Spilled(); n > 0 {
			lost["spool"] = n
		}
	}
	return lost
}

// Account returns how many events were seen, and how many were lost by kind, until now.
func (a *Agent) Account() (seen uint64, lost map[string]uint64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.eventsSeen, a.losses()
}

func (a *Agent) emitStatus(stopping bool) {
	lost := a.losses()
	status := &sallyportv1.AgentStatus{
		Version: a.cfg.Version, Kernel: a.kernel, EventsSeen: a.eventsSeen, EventsLost: lost, Stopping: stopping,
	}
	if a.cfg.Waiting != nil {
		status.BatchesWaiting = a.cfg.Waiting()
	}
	status.Damage, status.LongestPauseNano = a.damage, a.longestPause
	a.longestPause = 0
	if a.statuses++; a.statuses == 1 {
		status.Found = &sallyportv1.Inventory{Processes: a.found.GetProcesses(), Connections: a.found.GetConnections()}
		if a.cfg.Life != nil {
			status.PreviousEnd, status.PreviousSeenUnixNano = a.cfg.Life.PreviousEnd, a.cfg.Life.PreviousSeen
		}
	}
	a.emit(&sallyportv1.Event{
		TimeUnixNano: a.wall(a.now),
		Body:         &sallyportv1.Event_AgentStatus{AgentStatus: status},
	}, nil, nil, "status")
}
