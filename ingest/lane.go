package ingest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/sallyport-ci/sallyport/store"
	"github.com/sallyport-ci/sallyport/stream"
)

// rowSet makes rows of the messages of one stream. What it makes is a function
// of the messages alone (findings: and of what the table has already).
type rowSet interface {
	// add takes a message; an error means that it can never be used.
	add(m *message) error
	// size returns the events taken and the memory of their rows, roughly.
	size() (events, bytes int)
	// oddities returns how many times were replaced and events passed over.
	oddities() (clamped, unknown int)
	// prepare is called before the rows are inserted, again before each new try.
	prepare(ctx context.Context) error
	// tables returns the rows in the order in which they are inserted.
	tables() []store.Rows
	reset()
}

// lane carries one partition of a stream into its tables.
type lane struct {
	ingest    *Ingest
	shares    *shares
	partition stream.Partition
	workers   int
	newRows   func() (rowSet, error)
	// lost is true when another process has the partition.
	lost atomic.Bool

	stream   jetstream.Stream
	consumer jetstream.Consumer
	journal  *journal
	// repeats recognises batches that came before; nil where messages are no batches.
	repeats *repeats
	// taken holds all messages that this process has taken in hand, so that one
	// delivered again is not inserted again. Only the collector uses it.
	taken intervals
	// recovering is true while ranges of an earlier process are inserted, before
	// the workers start: every insert may be a repeated one.
	recovering bool
	// eventBytes is the mean size of an event on the stream, in 1/256 bytes, from
	// which the collector guesses how many events it has.
	eventBytes atomic.Int64
}

// run works until ctx ends; what is in hand then is finished under work.
func (l *lane) run(ctx, work context.Context) error {
	if err := l.open(ctx); err != nil {
		if ctx.Err() != nil {
			return nil
		}
		return err
	}
	if err := l.recover(ctx, work); err != nil {
		if ctx.Err() != nil {
			return nil
		}
		return err
	}
	l.taken.addFloor(l.floor(ctx))
	groups := make(chan []*message)
	var workers sync.WaitGroup
	errs := make(chan error, l.workers)
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	// The last group is handed over only if all workers are there to take it.
	handing, fail := context.WithCancel(work)
	defer fail()
	for n := range l.workers {
		workers.Go(func() {
			if err := l.work(work, n, groups); err != nil {
				errs <- err
				fail()
				stop()
			}
		})
	}
	err := l.collect(ctx, handing, groups)
	close(groups)
	workers.Wait()
	close(errs)
	if failed := <-errs; failed != nil {
		return failed
	}
	return err
}

// open finds the stream, its consumer and the journal. What is missing may be
// missing because NATS has just started, so only a missing declaration is final.
func (l *lane) open(ctx context.Context) error {
	js := l.ingest.cfg.JS
	var final error
	err := l.ingest.retry(ctx, l.partition.Name, "open "+l.partition.Name, func() error {
		var err error
		if l.stream, err = js.Stream(ctx, l.partition.Stream); err != nil {
			return isFinal(&final, err, jetstream.ErrStreamNotFound)
		}
		if l.consumer, err = l.stream.Consumer(ctx, l.partition.Consumer); err != nil {
			return isFinal(&final, err, jetstream.ErrConsumerNotFound)
		}
		kv, err := js.KeyValue(ctx, stream.IngestBucket)
		if err != nil {
			return isFinal(&final, err, jetstream.ErrBucketNotFound)
		}
		info, err := l.stream.Info(ctx)
		if err != nil {
			return err
		}
		if l.partition.Stream == stream.EventsStream {
			ingested, err := js.KeyValue(ctx, stream.IngestedBucket)
			if err != nil {
				return isFinal(&final, err, jetstream.ErrBucketNotFound)
			}
			l.repeats = &repeats{kv: ingested, js: js, agents: make(map[agentStart]*told)}
		}
		l.journal, err = takeJournal(ctx, kv, l.partition.Name, l.ingest.self.Start, info)
		return err
	})
	if final != nil {
		return fmt.Errorf("ingest of %s: %w (stream.Declare makes it)", l.partition.Name, final)
	}
	return err
}

// floor returns the message of the stream up to which all of this partition's were
// acknowledged, 0 if it is not known.
func (l *lane) floor(ctx context.Context) uint64 {
	info, err := l.consumer.Info(ctx)
	if err != nil {
		return 0
	}
	return info.AckFloor.Stream
}

// isFinal keeps an error that trying again will not mend.
func isFinal(final *error, err, sentinel error) error {
	if errors.Is(err, sentinel) {
		*final = err
		return nil
	}
	return err
}

// recover finishes what an earlier process began. Ranges come first, as they were
// written down, under the tokens that they had; then the messages that were
// delivered to it and not begun, which the consumer would deliver again only
// after its AckWait.
func (l *lane) recover(ctx, work context.Context) error {
	rows, err := l.newRows()
	if err != nil {
		return err
	}
	var info *jetstream.ConsumerInfo
	err = l.ingest.retry(ctx, l.partition.Name, "ask consumer of "+l.partition.Name, func() (err error) {
		info, err = l.consumer.Info(ctx)
		return err
	})
	if err != nil {
		return err
	}
	l.recovering = true
	for _, b := range l.journal.unfinished {
		messages, err := l.readRange(ctx, b.sequences)
		if err != nil {
			return err
		}
		l.ingest.cfg.Logger.Info("finishing a range of an earlier start", "partition", l.partition.Name,
			"first", b.sequences[0][0], "last", b.sequences[len(b.sequences)-1][1], "messages", len(messages))
		rows.reset()
		var bad []refused
		for _, m := range messages {
			if m.repeated = b.repeated.contains(m.sequence); m.repeated {
				continue
			}
			if err := rows.add(m); err != nil {
				bad = append(bad, refused{m, err})
			}
		}
		if err := l.insertRange(work, rows, b.sequences, messages, bad); err != nil {
			return err
		}
	}
	l.recovering = false
	l.journal.forget(info.AckFloor.Stream)
	return l.catchUp(ctx, work, rows, info.AckFloor.Stream+1, info.Delivered.Stream)
}

// readRange reads the messages of a range again. A message that is gone can only
// have been purged; the range is inserted without it.
func (l *lane) readRange(ctx context.Context, sequences intervals) ([]*message, error) {
	var messages []*message
	var err error
	sequences.each(func(n uint64) {
		if err != nil {
			return
		}
		var m *message
		err = l.ingest.retry(ctx, l.partition.Name, fmt.Sprintf("read message %d of %s", n, l.partition.Name),
			func() (err error) { m, err = readStored(ctx, l.stream, n); return err })
		switch {
		case err != nil:
		case m == nil:
			l.ingest.metrics.missing.WithLabelValues(l.partition.Name).Inc()
		default:
			messages = append(messages, m)
		}
	})
	return messages, err
}

// catchUp inserts the messages from first to last that are not done.
func (l *lane) catchUp(ctx, work context.Context, rows rowSet, first, last uint64) error {
	var group []*message
	bytes := 0
	flush := func() error {
		err := l.process(work, 0, rows, group)
		group, bytes = nil, 0
		return err
	}
	for n := first; n <= last; n++ {
		if l.journal.isDone(n) {
			continue
		}
		var m *message
		err := l.ingest.retry(ctx, l.partition.Name, fmt.Sprintf("read message %d of %s", n, l.partition.Name),
			func() (err error) { m, err = readStored(ctx, l.stream, n); return err })
		if err != nil {
			return err
		}
		if m == nil || !l.partition.Has(m.Subject()) {
			continue
		}
		if !l.claim(ctx, m) {
			return ctx.Err()
		}
		group = append(group, m)
		if bytes += len(m.Data()); bytes >= maxGroupBytes || len(group) >= maxGroupMessages {
			if err := flush(); err != nil {
				return err
			}
		}
	}
	return flush()
}

// claim finds out whether a message's batch came before. It says false if ctx ended.
func (l *lane) claim(ctx context.Context, m *message) bool {
	if l.repeats == nil {
		return true
	}
	err := l.ingest.retry(ctx, l.partition.Name, "read what agents have told", func() error {
		fresh, err := l.repeats.claim(ctx, m)
		m.repeated = !fresh
		return err
	})
	if err != nil {
		return false
	}
	if m.repeated {
		l.ingest.metrics.repeated.WithLabelValues(l.partition.Name).Inc()
	}
	return true
}

// work inserts groups of messages until there are no more.
func (l *lane) work(ctx context.Context, worker int, groups <-chan []*message) error {
	rows, err := l.newRows()
	if err != nil {
		return err
	}
	for group := range groups {
		if err := l.process(ctx, worker, rows, group); err != nil {
			if ctx.Err() != nil && !errors.Is(err, errTaken) {
				// Stopped with a range in hand: the journal has it, and the next
				// start finishes it.
				l.ingest.cfg.Logger.Warn("stopped before a range was finished", "stream", l.partition.Name, "error", err)
				return nil // said above; nothing is lost
			}
			return err
		}
	}
	return nil
}

// process inserts a group as one range, or as several if it unpacks to more than
// a range may hold.
func (l *lane) process(ctx context.Context, worker int, rows rowSet, group []*message) error {
	cfg, m := l.ingest.cfg, l.ingest.metrics
	for len(group) > 0 {
		rows.reset()
		var bad []refused
		var b begun
		n, size := 0, 0
		for _, msg := range group {
			if events, bytes := rows.size(); events >= cfg.MaxEvents || bytes >= cfg.MaxBytes {
				break
			}
			b.sequences.add(msg.sequence)
			if msg.repeated {
				b.repeated.add(msg.sequence)
			} else if err := rows.add(msg); err != nil {
				bad = append(bad, refused{msg, err})
			}
			size += len(msg.Data())
			n++
		}
		part := group[:n]
		group = group[n:]
		if events, _ := rows.size(); events > 0 {
			l.eventBytes.Store(int64(size) * 256 / int64(events))
		}
		err := l.ingest.retry(ctx, l.partition.Name, "write range of "+l.partition.Name, func() error {
			return l.journal.begin(ctx, worker, b)
		})
		if err != nil {
			return err
		}
		if err := l.insertRange(ctx, rows, b.sequences, part, bad); err != nil {
			return err
		}
		for _, msg := range part {
			// An acknowledgement that is lost is made again when the message is
			// delivered again: the journal knows that it is done.
			if err := msg.Ack(); err != nil {
				l.ingest.cfg.Logger.Debug("acknowledge", "stream", l.partition.Name, "sequence", msg.sequence, "error", err)
			}
		}
		last := part[len(part)-1]
		m.lagMessages.WithLabelValues(l.partition.Name).Set(float64(last.waiting))
		m.lagSeconds.WithLabelValues(l.partition.Name).Set(time.Since(last.stored).Seconds())
	}
	return nil
}
