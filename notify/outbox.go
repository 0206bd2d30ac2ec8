package notify

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	sallyportv1 "github.com/sallyport-ci/sallyport/proto/sallyport/v1"
)

const (
	// maxWaiting bounds the findings that an outbox holds. Beyond it they stay in
	// the stream and are asked for again.
	maxWaiting = 10_000
	// maxRepeats bounds what one follow-up tells of; more make one at once.
	maxRepeats = 500
)

// errFull says that an outbox holds all it may.
var errFull = fmt.Errorf("%d findings wait already", maxWaiting)

// outbox holds what one sink is still to be told. Its state is in the bucket NOTIFY;
// what it has in memory is a copy.
type outbox struct {
	sink    Sink
	router  *Router
	js      jetstream.JetStream
	clock   Clock
	random  func() float64
	logger  *slog.Logger
	metrics *metrics
	kv      jetstream.KeyValue // set by load
	wake    chan struct{}      // of one place: there is something new

	// mu guards what follows. It is held while entries are written, so that their
	// order in the bucket is the order in memory; never while a message is sent.
	mu       sync.Mutex
	groups   map[string]*group
	known    map[string]bool // findings that wait
	failing  time.Time       // since when attempts fail; zero if the last did not
	lastErr  error
	failures int         // attempts in a row that failed
	singles  int         // messages to send alone, after one of several was rejected
	notUntil time.Time   // earliest next attempt
	sent     []time.Time // messages of the last hour, oldest first, where they are limited
}

func newOutbox(s Sink, cfg Config, m *metrics) *outbox {
	s.MaxItems = max(s.MaxItems, 1)
	return &outbox{
		sink: s, router: cfg.Router, js: cfg.JS, clock: cfg.Clock, random: cfg.Random, metrics: m,
		logger: cfg.Logger.With("sink", s.Name),
		wake:   make(chan struct{}, 1),
		groups: make(map[string]*group),
		known:  make(map[string]bool),
	}
}

func (o *outbox) groupEntry(key string) string { return o.sink.Name + ".group." + key }
func (o *outbox) markEntry(id string) string   { return o.sink.Name + ".finding." + id }

// load reads what the sink has been told, and what it had not when the process
// ended.
func (o *outbox) load(ctx context.Context, kv jetstream.KeyValue) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.kv = kv
	waiting := make(map[string]mark)
	err := each(ctx, kv, o.sink.Name+".>", func(e jetstream.KeyValueEntry) error {
		kind, name, _ := strings.Cut(strings.TrimPrefix(e.Key(), o.sink.Name+"."), ".")
		switch kind {
		case "group":
			g, err := decodeGroup(name, e.Value())
			if err != nil {
				// Its findings have marks that still hold them: start it anew.
				o.logger.Warn("forget a broken group", "error", err)
				return nil
			}
			if g.InFlight {
				g.InFlight, g.Uncertain = false, true
			}
			o.groups[name] = g
		case "sent":
			if err := json.Unmarshal(e.Value(), &o.sent); err != nil {
				o.logger.Warn("forget when messages were sent", "error", err)
			}
		case "finding":
			var m mark
			if err := json.Unmarshal(e.Value(), &m); err != nil {
				o.logger.Warn("forget a broken mark", "finding", name, "error", err)
				return nil
			}
			if m.Finding != nil {
				waiting[name] = m
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	for _, g := range o.groups {
		for _, id := range g.Told { // before clearMarks takes them off the list
			delete(waiting, id)
		}
		if err := o.clearMarks(ctx, g); err != nil {
			return err
		}
		if !g.LeadTold {
			o.known[g.LeadID] = true
		}
		for _, r := range g.Repeats {
			o.known[r.ID] = true
		}
	}
	// Findings whose mark was written, but not their group.
	var lost []string
	for id := range waiting {
		if !o.known[id] {
			lost = append(lost, id)
		}
	}
	slices.SortFunc(lost, func(a, b string) int { return int(int64(waiting[a].Sequence) - int64(waiting[b].Sequence)) })
	for _, id := range lost {
		m := waiting[id]
		f := new(sallyportv1.Finding)
		if err := proto.Unmarshal(m.Finding, f); err != nil {
			o.logger.Warn("forget a broken mark", "finding", id, "error", err)
			continue
		}
		if err := o.join(ctx, f, m.Finding, m.Sequence); err != nil {
			return err
		}
	}
	o.countWaiting()
	return nil
}

// each calls f for every entry whose key matches.
func each(ctx context.Context, kv jetstream.KeyValue, keys string, f func(jetstream.KeyValueEntry) error) error {
	w, err := kv.Watch(ctx, keys, jetstream.IgnoreDeletes())
	if err != nil {
		return fmt.Errorf("read entries %s: %w", keys, err)
	}
	defer func() { _ = w.Stop() }()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case e, ok := <-w.Updates():
			if !ok {
				return fmt.Errorf("read entries %s: connection closed", keys)
			}
			if e == nil {
				return nil
			}
			if err := f(e); err != nil {
				return err
			}
		}
	}
}

// accept writes a finding down, so that it will be told even if this process is
// killed. A finding that is known already changes nothing.
func (o *outbox) accept(ctx context.Context, f *sallyportv1.Finding, body []byte, sequence uint64) error {
	rules := o.router.Rules()
	if f.GetPolicy().GetSeverity() < o.sink.MinSeverity || rules != nil && !slices.Contains(rules.For(f), o.sink.Name) {
		o.metrics.findings.WithLabelValues(o.sink.Name, "filtered").Inc()
		return nil
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	entry, err := o.kv.Get(ctx, o.markEntry(f.GetId()))
	switch {
	case errors.Is(err, jetstream.ErrKeyNotFound):
		if len(o.known) >= maxWaiting {
			return errFull
		}
		if err := o.putMark(ctx, f.GetId(), mark{Sequence: sequence, Finding: body}); err != nil {
			return err
		}
	case err != nil:
		return fmt.Errorf("read mark of finding %s: %w", f.GetId(), err)
	default:
		var m mark
		if err := json.Unmarshal(entry.Value(), &m); err == nil && (m.Finding == nil || o.known[f.GetId()]) {
			o.metrics.findings.WithLabelValues(o.sink.Name, "duplicate").Inc()
			return nil
		}
		if g := o.groups[groupKey(f, o.sink.Window)]; g != nil && slices.Contains(g.Told, f.GetId()) {
			o.metrics.findings.WithLabelValues(o.sink.Name, "duplicate").Inc()
			return nil
		}
	}
	if err := o.join(ctx, f, body, sequence); err != nil {
		return err
	}
	o.metrics.findings.WithLabelValues(o.sink.Name, "taken").Inc()
	o.countWaiting()
	select {
	case o.wake <- struct{}{}:
	default:
	}
	return nil
}

// join puts a finding into its group. The caller holds mu.
func (o *outbox) join(ctx context.Context, f *sallyportv1.Finding, body []byte, sequence uint64) error {
	now := o.clock.Now()
	key := groupKey(f, o.sink.Window)
	old := o.groups[key]
	var g *group
	if old == nil || old.over(now) {
		if old != nil { // marks that could not be cleared have to be, before the list of them goes
			if err := o.clearMarks(ctx, old); err != nil {
				return err
			}
		}
		g = &group{
			key: key, Lead: body, LeadID: f.GetId(), Sequence: sequence, Taken: now,
			finding: proto.CloneOf(f),
		}
	} else {
		changed := *old
		g = &changed
		g.Repeats = append(slices.Clone(old.Repeats), Repeat{
			ID: f.GetId(), Sequence: sequence, RunID: f.GetAttribution().GetRunId(), Time: timeOf(f.GetTime()),
		})
	}
	if err := o.putGroup(ctx, g); err != nil {
		return err
	}
	if old != nil && !old.over(now) {
		*old = *g // the message in flight holds on to the same group
	} else {
		o.groups[key] = g
	}
	o.known[f.GetId()] = true
	return nil
}

func timeOf(t *timestamppb.Timestamp) time.Time {
	if t == nil {
		return time.Time{}
	}
	return t.AsTime()
}

func (o *outbox) putMark(ctx context.Context, id string, m mark) error {
	data, err := json.Marshal(m)
	if err != nil {
		return fmt.Errorf("encode mark of finding %s: %w", id, err)
	}
	if _, err := o.kv.Put(ctx, o.markEntry(id), data); err != nil {
		return fmt.Errorf("write mark of finding %s: %w", id, err)
	}
	return nil
}

func (o *outbox) putGroup(ctx context.Context, g *group) error {
	data, err := json.Marshal(g)
	if err != nil {
		return fmt.Errorf("encode group %s: %w", g.key, err)
	}
	if _, err := o.kv.Put(ctx, o.groupEntry(g.key), data); err != nil {
		return fmt.Errorf("write group %s: %w", g.key, err)
	}
	return nil
}

// noteSent counts a message, where messages are limited.
func (o *outbox) noteSent(ctx context.Context, now time.Time) {
	if rules := o.router.Rules(); rules == nil || !rules.limited(o.sink.Name) {
		return
	}
	o.sent = append(slices.DeleteFunc(o.sent, func(t time.Time) bool { return !t.After(now.Add(-time.Hour)) }), now)
	data, err := json.Marshal(o.sent)
	if err == nil {
		_, err = o.kv.Put(ctx, o.sink.Name+".sent.times", data)
	}
	if err != nil {
		o.logger.Debug("write down when a message was sent", "error", err) // a restart would allow more
	}
}

// clearMarks lets the marks of told findings say so. The group's own list stays in
// the bucket until the next change; doing this twice does no harm.
func (o *outbox) clearMarks(ctx context.Context, g *group) error {
	for len(g.Told) > 0 {
		if err := o.putMark(ctx, g.Told[0], mark{}); err != nil {
			return err
		}
		g.Told = g.Told[1:]
	}
	return nil
}

// forget removes a group that is over.
func (o *outbox) forget(ctx context.Context, g *group) error {
	if err := o.clearMarks(ctx, g); err != nil {
		return err
	}
	if err := o.kv.Delete(ctx, o.groupEntry(g.key)); err != nil {
		return fmt.Errorf("forget group %s: %w", g.key, err)
	}
	delete(o.groups, g.key)
	return nil
}

// sweep forgets marks of findings that were told long ago.
func (o *outbox) sweep(ctx context.Context) error {
	before := o.clock.Now().Add(-keepMarks)
	var old []string
	err := each(ctx, o.kv, o.sink.Name+".finding.*", func(e jetstream.KeyValueEntry) error {
		var m mark
		if json.Unmarshal(e.Value(), &m) != nil || (m.Finding == nil && e.Created().Before(before)) {
			old = append(old, e.Key())
		}
		return nil
	})
	if err != nil {
		return err
	}
	for _, what := range []string{"thread", "in"} {
		err := each(ctx, o.kv, o.sink.Name+"."+what+".*", func(e jetstream.KeyValueEntry) error {
			if e.Created().Before(o.clock.Now().Add(-keepThreads)) {
				old = append(old, e.Key())
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	for _, key := range old {
		if err := o.kv.Delete(ctx, key); err != nil {
			return fmt.Errorf("forget %s: %w", key, err)
		}
	}
	return nil
}

func (o *outbox) countWaiting() {
	o.metrics.waiting.WithLabelValues(o.sink.Name).Set(float64(len(o.known)))
}

// unhealthyAfter is how long attempts may fail before the sink is called unhealthy.
const unhealthyAfter = time.Minute

func (o *outbox) health() (bool, string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	detail := fmt.Sprintf("%d waiting", len(o.known))
	if o.failing.IsZero() {
		return true, detail
	}
	since := o.clock.Now().Sub(o.failing)
	return since < unhealthyAfter, fmt.Sprintf("%s, failing for %s: %v", detail, since.Round(time.Second), o.lastErr)
}

// bodyOf returns a finding that waits, as it came; nil if its mark is gone.
func (o *outbox) bodyOf(ctx context.Context, id string) ([]byte, error) {
	entry, err := o.kv.Get(ctx, o.markEntry(id))
	if errors.Is(err, jetstream.ErrKeyNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read mark of finding %s: %w", id, err)
	}
	var m mark
	if err := json.Unmarshal(entry.Value(), &m); err != nil {
		return nil, fmt.Errorf("decode mark of finding %s: %w", id, err)
	}
	return m.Finding, nil
}
