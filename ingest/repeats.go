package ingest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	sallyportv1 "github.com/sallyport-ci/sallyport/proto/sallyport/v1"
	"github.com/sallyport-ci/sallyport/stream"
)

// noteTimeout is how long the bucket may take to say that it has what was written.
const noteTimeout = 5 * time.Second

// maxRemembered is of how many agents repeats keeps in memory what the bucket has.
const maxRemembered = 1 << 14

// repeats recognises batches that are in the stream twice: the stream itself forgets the
// identity of a batch after half an hour, and when it is killed also of those that it has
// delivered already. The bucket INGESTED has, for each start of an agent, which of its
// events are in the tables or among the dead letters.
type repeats struct {
	kv jetstream.KeyValue
	js jetstream.JetStream

	mu     sync.Mutex
	agents map[agentStart]*told

	noting sync.Mutex // one note at a time
}

// agentStart is one start of an agent.
type agentStart struct {
	agent string
	epoch uint64
}

// key is its key in the bucket.
func (a agentStart) key() string { return a.agent + "." + strconv.FormatUint(a.epoch, 10) }

// told is what ingest has of one start of an agent.
type told struct {
	done     intervals // sequences of events
	revision uint64    // of the entry that says so
	inHand   map[uint64]bool
}

// batchRef is the identity of a batch: which of an agent's events are in it.
type batchRef struct {
	agentStart
	first, last uint64
}

func newBatchRef(b *sallyportv1.EventBatch) batchRef {
	first := b.GetFirstSequence()
	return batchRef{agentStart{b.GetAgentId(), b.GetEpoch()}, first, first + uint64(len(b.GetEvents())) - 1}
}

// some says whether there are any events in it.
func (b batchRef) some() bool { return b.first > 0 && b.last >= b.first }

// identity reads a batch's identity from its message without unpacking it; the last event
// is not known then. A message that has none is never taken for a repeated one.
func identity(m jetstream.Msg) (batchRef, bool) {
	parts := strings.Split(m.Headers().Get(nats.MsgIdHdr), ".")
	if len(parts) != 3 || stream.EventSubject(parts[0]) != stream.PublishedSubject(m.Subject()) {
		return batchRef{}, false
	}
	epoch, err := strconv.ParseUint(parts[1], 10, 64)
	first, err2 := strconv.ParseUint(parts[2], 10, 64)
	if err != nil || err2 != nil || first == 0 || !stream.ValidAgentID(parts[0]) {
		return batchRef{}, false
	}
	return batchRef{agentStart{parts[0], epoch}, first, first}, true
}

// claim says whether a message is to be inserted: false if its batch is in the tables or
// in another message that is in hand.
func (r *repeats) claim(ctx context.Context, m jetstream.Msg) (bool, error) {
	b, ok := identity(m)
	if !ok {
		return true, nil
	}
	t, err := r.load(ctx, b.agentStart)
	if err != nil {
		return false, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if t.done.contains(b.first) || t.inHand[b.first] {
		return false, nil
	}
	if t.inHand == nil {
		t.inHand = make(map[uint64]bool)
	}
	t.inHand[b.first] = true
	return true, nil
}

// load returns what is known of a start of an agent.
func (r *repeats) load(ctx context.Context, a agentStart) (*told, error) {
	r.mu.Lock()
	t := r.agents[a]
	if len(r.agents) >= maxRemembered {
		for other, t := range r.agents {
			if len(t.inHand) == 0 && other != a {
				delete(r.agents, other) // the bucket has it
			}
		}
	}
	r.mu.Unlock()
	if t != nil {
		return t, nil
	}
	t = &told{}
	if err := r.read(ctx, a, t); err != nil {
		return nil, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if other := r.agents[a]; other != nil {
		return other, nil // another worker has read it meanwhile
	}
	r.agents[a] = t
	return t, nil
}

// read adds what the bucket has.
func (r *repeats) read(ctx context.Context, a agentStart, t *told) error {
	entry, err := r.kv.Get(ctx, a.key())
	if errors.Is(err, jetstream.ErrKeyNotFound) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read %s of bucket %s: %w", a.key(), r.kv.Bucket(), err)
	}
	var done intervals
	if err := json.Unmarshal(entry.Value(), &done); err != nil {
		return fmt.Errorf("read %s of bucket %s: %w", a.key(), r.kv.Bucket(), err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, v := range done {
		if v[0] > 0 && v[1] >= v[0] {
			t.done.addInterval(v)
		}
	}
	t.revision = entry.Revision()
	return nil
}

// drop forgets that a message was in hand: it is a dead letter, and may be mended and
// come again.
func (r *repeats) drop(m jetstream.Msg) {
	b, ok := identity(m)
	if !ok {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if t := r.agents[b.agentStart]; t != nil {
		delete(t.inHand, b.first)
	}
}

// note writes down that batches are in the tables or among the dead letters. It must
// come before their range is written down as done. It may be repeated.
func (r *repeats) note(ctx context.Context, batches []batchRef) error {
	r.noting.Lock()
	defer r.noting.Unlock()
	touched := make(map[agentStart]*told)
	for _, b := range batches {
		if !b.some() {
			continue
		}
		t, err := r.load(ctx, b.agentStart)
		if err != nil {
			return err
		}
		r.mu.Lock()
		t.done.addInterval(interval{b.first, b.last})
		delete(t.inHand, b.first)
		r.mu.Unlock()
		touched[b.agentStart] = t
	}
	type write struct {
		told  *told
		agent agentStart
		ack   jetstream.PubAckFuture
	}
	var writes []write
	for a, t := range touched {
		r.mu.Lock()
		value, err := json.Marshal(t.done)
		revision := t.revision
		r.mu.Unlock()
		if err != nil {
			return fmt.Errorf("encode %s of bucket %s: %w", a.key(), r.kv.Bucket(), err)
		}
		// As the bucket's own Update does it, but without waiting for each.
		m := &nats.Msg{Subject: "$KV." + r.kv.Bucket() + "." + a.key(), Data: value, Header: nats.Header{}}
		ack, err := r.js.PublishMsgAsync(m, jetstream.WithExpectLastSequencePerSubject(revision))
		if err != nil {
			return fmt.Errorf("write %s of bucket %s: %w", a.key(), r.kv.Bucket(), err)
		}
		writes = append(writes, write{t, a, ack})
	}
	var errs []error
	timeout := time.NewTimer(noteTimeout)
	defer timeout.Stop()
	for _, w := range writes {
		select {
		case ack := <-w.ack.Ok():
			r.mu.Lock()
			w.told.revision = ack.Sequence
			r.mu.Unlock()
		case err := <-w.ack.Err():
			errs = append(errs, fmt.Errorf("write %s of bucket %s: %w", w.agent.key(), r.kv.Bucket(), err))
			// Written by an earlier try whose answer was lost, or by another process
			// before the stream was divided anew: the next try is on top of that.
			errs = append(errs, r.read(ctx, w.agent, w.told))
		case <-timeout.C:
			timeout.Reset(0) // for all that follow
			errs = append(errs, fmt.Errorf("write %s of bucket %s: %w", w.agent.key(), r.kv.Bucket(), nats.ErrTimeout))
			errs = append(errs, r.read(ctx, w.agent, w.told))
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return errors.Join(errs...)
}
