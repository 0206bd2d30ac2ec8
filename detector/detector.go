package detector

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"

	sallyportv1 "github.com/sallyport-ci/sallyport/proto/sallyport/v1"
	"github.com/sallyport-ci/sallyport/stream"
)

const (
	tickInterval = 250 * time.Millisecond
	// saveShare bounds what of the time goes into saving: after a save of d the next one
	// waits saveShare*d at least.
	saveShare   = 4
	maxUnsaved  = 4096 // messages applied and not acknowledged yet
	retryPause  = 500 * time.Millisecond
	callTimeout = 10 * time.Second
)

// Config says how a detector runs. JetStream and Policies are needed.
type Config struct {
	// JetStream of the NATS on which stream.Declare has run.
	JetStream jetstream.JetStream
	// Policies in force. The caller reloads or watches them.
	Policies *Policies
	// RunsNeeded is how many clean runs make a baseline stable; DefaultRunsNeeded
	// if zero.
	RunsNeeded uint32
	// TrustedRefs as in EngineConfig.
	TrustedRefs []string
	// Now is the clock by which executions time out; time.Now by default.
	Now func() time.Time
	// Page is the address of the API or of what stands before it, under which people find
	// runs, for instance https://sallyport.example.test. Empty: agents are told of no page.
	Page string
	// Logger; slog.Default() by default.
	Logger *slog.Logger
	// Metrics takes the detector's metrics; none by default.
	Metrics prometheus.Registerer
}

// Detector reads EVENTS, publishes FINDINGS and teaches BASELINES. Only one may
// run on a NATS at a time. Health is safe for concurrent use.
type Detector struct {
	js        jetstream.JetStream
	log       *slog.Logger
	engine    *Engine
	baselines *Baselines
	snapshots *snapshots
	decoder   *stream.Decoder
	unsaved   []jetstream.Msg
	published *Verdicts
	verdicts  []*sallyportv1.Verdict // not published yet
	questions questions              // of agents
	page      string

	messages, deadLetters, taught prometheus.Counter

	mu     sync.Mutex
	ok     bool
	detail string
}

// New returns a detector that goes on where the last one stopped.
func New(ctx context.Context, c Config) (*Detector, error) {
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	baselines, err := OpenBaselines(ctx, c.JetStream)
	if err != nil {
		return nil, fmt.Errorf("new detector: %w", err)
	}
	engine, err := NewEngine(EngineConfig{
		Policies: c.Policies, Baseline: baselines.Get, RunsNeeded: c.RunsNeeded, TrustedRefs: c.TrustedRefs, Now: c.Now, Logger: c.Logger,
	})
	if err != nil {
		return nil, fmt.Errorf("new detector: %w", err)
	}
	published, err := OpenVerdicts(ctx, c.JetStream)
	if err != nil {
		return nil, fmt.Errorf("new detector: %w", err)
	}
	snapshots, err := openSnapshots(ctx, c.JetStream)
	if err != nil {
		return nil, fmt.Errorf("new detector: %w", err)
	}
	executions, problems, err := snapshots.load(ctx)
	if err != nil {
		return nil, fmt.Errorf("new detector: %w", err)
	}
	for _, p := range problems {
		c.Logger.Error("the detector forgot an execution", "error", p)
	}
	for id, x := range executions {
		if a := x.attribution; !x.Finished && a.GetRepository() != "" {
			b, err := baselines.Get(ctx, a.GetRepository(), a.GetWorkflow(), a.GetJob())
			if err != nil && !errors.Is(err, ErrNoBaseline) {
				return nil, fmt.Errorf("new detector: execution %s: %w", id, err)
			}
			x.knowledge = know(b, engine.rules)
		}
	}
	engine.restore(executions)
	decoder, err := stream.NewDecoder()
	if err != nil {
		return nil, fmt.Errorf("new detector: %w", err)
	}
	d := &Detector{
		js: c.JetStream, log: c.Logger, engine: engine, baselines: baselines, snapshots: snapshots, decoder: decoder, published: published, page: c.Page,
		detail: "not running",
	}
	return d, d.register(c.Metrics)
}

func (d *Detector) register(r prometheus.Registerer) error {
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Namespace: "sallyport", Subsystem: "detector", Name: name, Help: help})
	}
	total := func(name, help string, value func(EngineCounts) uint64) prometheus.Collector {
		return prometheus.NewCounterFunc(prometheus.CounterOpts{Namespace: "sallyport", Subsystem: "detector", Name: name, Help: help},
			func() float64 { return float64(value(d.engine.Counts())) })
	}
	d.messages = counter("messages_total", "Batches read from the stream.")
	d.deadLetters = counter("dead_letters_total", "Messages that could not be decoded.")
	d.taught = counter("runs_learned_total", "Clean executions that taught a baseline.")
	if r == nil {
		return nil
	}
	for _, c := range []prometheus.Collector{
		d.messages, d.deadLetters, d.taught,
		total("events_total", "Events folded.", func(c EngineCounts) uint64 { return c.Events }),
		total("behaviours_total", "Behaviours judged.", func(c EngineCounts) uint64 { return c.Behaviours }),
		total("findings_total", "Findings made.", func(c EngineCounts) uint64 { return c.Findings }),
		total("excepted_total", "Findings that were not made because of an exception.", func(c EngineCounts) uint64 { return c.Excepted }),
		total("policy_errors_total", "Evaluations of policies that failed.", func(c EngineCounts) uint64 { return c.PolicyErrors }),
	} {
		if err := r.Register(c); err != nil {
			return fmt.Errorf("register the detector's metrics: %w", err)
		}
	}
	return nil
}

// Health says whether the detector works, and what it is doing or what is wrong.
func (d *Detector) Health() (ok bool, detail string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.ok, d.detail
}

func (d *Detector) healthy(ok bool, detail string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.ok, d.detail = ok, detail
}

// Run detects until ctx ends, then saves and acknowledges what it has applied.
func (d *Detector) Run(ctx context.Context) error {
	defer d.healthy(false, "not running")
	consumer, err := d.js.Consumer(ctx, stream.EventsStream, stream.DetectorConsumer)
	if err != nil {
		return fmt.Errorf("open consumer %s of %s: %w", stream.DetectorConsumer, stream.EventsStream, err)
	}
	messages, err := consumer.Messages(jetstream.PullMaxMessages(512))
	if err != nil {
		return fmt.Errorf("read %s: %w", stream.EventsStream, err)
	}
	d.healthy(true, "watching")
	asked := make(chan *stream.JudgementQuestion, maxQuestions)
	asking, err := stream.SubscribeJudgements(d.js.Conn(), func(q *stream.JudgementQuestion) {
		select {
		case asked <- q:
		default: // whoever asks that much gets no answer
		}
	}, func(err error) { d.log.Debug("a question for a judgement is not answered", "error", err) })
	if err != nil {
		messages.Stop()
		return fmt.Errorf("answer agents: %w", err)
	}
	defer func() { _ = asking.Unsubscribe() }() // fails when the connection is gone, and with it the subscription
	incoming := make(chan jetstream.Msg)
	done := make(chan struct{})
	var readErr error
	go func() {
		defer close(done)
		for {
			m, err := messages.Next()
			if errors.Is(err, jetstream.ErrMsgIteratorClosed) {
				return
			}
			if err != nil {
				if errors.Is(err, jetstream.ErrNoHeartbeat) {
					d.healthy(false, "no word from NATS")
					continue
				}
				readErr = fmt.Errorf("read %s: %w", stream.EventsStream, err)
				return
			}
			select {
			case incoming <- m:
			case <-ctx.Done():
				return
			}
		}
	}()
	err = d.loop(ctx, incoming, asked, done)
	messages.Stop()
	<-done
	// What was applied is saved even though ctx has ended; otherwise the next
	// start would do it again, which is right too, only slower.
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), callTimeout)
	defer cancel()
	return errors.Join(err, readErr, d.save(last))
}

func (d *Detector) loop(ctx context.Context, incoming <-chan jetstream.Msg, asked <-chan *stream.JudgementQuestion, done <-chan struct{}) error {
	tick := time.NewTicker(tickInterval)
	defer tick.Stop()
	var nextSave time.Time
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-done:
			return nil
		case m := <-incoming:
			if err := d.handle(ctx, m); err != nil {
				return err
			}
			d.answerQuestions()
			if len(d.unsaved) < maxUnsaved {
				continue
			}
			if err := d.insist(ctx, "save", d.save); err != nil {
				return nil // ctx ended; Run saves once more
			}
		case q := <-asked:
			d.questions.ask(q, time.Now())
			d.answerQuestions()
		case <-tick.C:
			d.answerQuestions()
			if err := d.conclude(ctx); err != nil {
				d.failed(ctx, err)
				continue
			}
			if time.Now().Before(nextSave) {
				continue
			}
			began := time.Now()
			if err := d.save(ctx); err != nil && ctx.Err() == nil {
				d.failed(ctx, err)
				continue
			}
			nextSave = time.Now().Add(saveShare * time.Since(began))
			if ok, _ := d.Health(); !ok {
				d.log.Info("the detector works again")
			}
			d.healthy(true, fmt.Sprintf("watching, %d executions", len(d.engine.executions)))
		}
	}
}

// failed says what fails, and once; the attempts are many.
func (d *Detector) failed(ctx context.Context, err error) {
	level := slog.LevelDebug
	if ok, _ := d.Health(); ok {
		level = slog.LevelWarn
	}
	d.healthy(false, err.Error())
	d.log.Log(ctx, level, "the detector tries again until it works", "error", err)
}

// insist tries until it works; it returns an error only when ctx ends.
func (d *Detector) insist(ctx context.Context, what string, try func(context.Context) error) error {
	for {
		err := try(ctx)
		if err == nil {
			return nil
		}
		if ctx.Err() != nil {
			return fmt.Errorf("%s: %w", what, ctx.Err())
		}
		d.failed(ctx, err)
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s: %w", what, ctx.Err())
		case <-time.After(retryPause):
		}
	}
}

// handle applies a message and publishes its findings at once. It returns nil also
// when ctx ended in between: the message then stays unacknowledged, comes again
// after a restart, and its findings keep their identities.
func (d *Detector) handle(ctx context.Context, m jetstream.Msg) error {
	d.messages.Inc()
	if stream.ForOther(m, "detector") { // a dead letter of ingest; it was judged when it first came
		d.unsaved = append(d.unsaved, m)
		return nil
	}
	batch := new(sallyportv1.EventBatch) // not reused: what is remembered points into it
	if err := d.decode(m, batch); err != nil {
		d.deadLetters.Inc()
		d.log.Warn("malformed batch becomes a dead letter", "subject", m.Subject(), "error", err)
		if f := foreignFinding(batch, err, d.engine.config.Now()); f != nil && d.insist(ctx, "publish finding", func(ctx context.Context) error {
			return d.call(ctx, func(ctx context.Context) error { return stream.PublishFinding(ctx, d.js, f) })
		}) != nil {
			return d.dropUnsaved()
		}
		if d.insist(ctx, "keep dead letter", func(ctx context.Context) error {
			return d.call(ctx, func(ctx context.Context) error {
				return stream.PublishDeadLetter(ctx, d.js, "detector", m, err)
			})
		}) == nil {
			d.unsaved = append(d.unsaved, m)
		}
		return nil
	}
	var findings []*sallyportv1.Finding
	if d.insist(ctx, "apply batch", func(ctx context.Context) error {
		return d.call(ctx, func(ctx context.Context) (err error) {
			findings, err = d.engine.Apply(ctx, batch)
			return err
		})
	}) != nil {
		return d.dropUnsaved()
	}
	for _, f := range findings {
		if d.insist(ctx, "publish finding", func(ctx context.Context) error {
			return d.call(ctx, func(ctx context.Context) error { return stream.PublishFinding(ctx, d.js, f) })
		}) != nil {
			return d.dropUnsaved()
		}
		a := f.GetAttribution()
		d.log.Info("finding", "policy", f.GetPolicy().GetId(), "message", f.GetMessage(),
			"repo", a.GetRepository(), "run", a.GetRunId(), "job", a.GetJob(), "step", a.GetStep(), "agent", f.GetAgentId())
	}
	if ended(batch) && d.insist(ctx, "conclude", d.conclude) != nil {
		// Not concluded: the execution is unsettled in its snapshot, and is taken up later.
		d.log.Debug("stopped before the verdict")
	}
	d.unsaved = append(d.unsaved, m)
	return nil
}

// dropUnsaved gives up what is not saved when ctx ended in the middle of a batch:
// the state says that a finding was made which may not be published, so it must
// not be kept.
func (d *Detector) dropUnsaved() error {
	d.unsaved = nil
	for _, x := range d.engine.executions {
		x.dirty = false
	}
	d.log.Info("the detector stops; batches not yet saved will be judged again")
	return nil
}

func (d *Detector) call(ctx context.Context, f func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	return f(ctx)
}

// ended says whether a batch holds the end of a job.
func ended(b *sallyportv1.EventBatch) bool {
	for _, e := range b.GetEvents() {
		if e.GetJobEnded() != nil {
			return true
		}
	}
	return false
}

// conclude publishes the verdicts that are new, and lets clean executions teach.
func (d *Detector) conclude(ctx context.Context) error {
	d.verdicts = append(d.verdicts, d.engine.conclusions()...)
	for len(d.verdicts) > 0 {
		v := d.verdicts[0]
		if err := d.call(ctx, func(ctx context.Context) error { return d.published.Put(ctx, v) }); err != nil {
			return err
		}
		a := v.GetAttribution()
		d.log.Info("verdict", "verdict", enumName(v.GetConclusion().Descriptor(), v.GetConclusion().Number()), "revision", v.GetRevision(),
			"findings", len(v.GetFindingIds()), "repo", a.GetRepository(), "run", a.GetRunId(), "job", a.GetJob())
		d.verdicts = d.verdicts[1:]
	}
	return d.teach(ctx)
}

// teach lets executions that ended clean teach their baselines.
func (d *Detector) teach(ctx context.Context) error {
	for _, l := range d.engine.settle() {
		err := d.call(ctx, func(ctx context.Context) error {
			return d.baselines.teach(ctx, l.attribution, l.run, d.engine.config.RunsNeeded, d.engine.rules)
		})
		if err != nil {
			return err
		}
		l.x.settled()
		l.x.Taught = true
		d.taught.Inc()
		d.log.Info("learned a clean run", "repo", l.attribution.GetRepository(), "run", l.attribution.GetRunId(), "job", l.attribution.GetJob())
	}
	return nil
}

// save writes down what has changed, then acknowledges the messages behind it.
func (d *Detector) save(ctx context.Context) error {
	for id, x := range d.engine.executions {
		if !x.dirty {
			continue
		}
		if err := d.call(ctx, func(ctx context.Context) error { return d.snapshots.save(ctx, id, x) }); err != nil {
			return err
		}
		x.dirty = false
	}
	for i, m := range d.unsaved {
		if err := m.Ack(); err != nil {
			d.unsaved = d.unsaved[i:]
			return fmt.Errorf("acknowledge batch: %w", err)
		}
	}
	d.unsaved = d.unsaved[:0]
	for _, id := range d.engine.expired() {
		if err := d.call(ctx, func(ctx context.Context) error { return d.snapshots.remove(ctx, id) }); err != nil {
			return err
		}
	}
	return nil
}
