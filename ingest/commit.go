package ingest

import (
	"context"
	"errors"
	"time"

	"github.com/sallyport-ci/sallyport/store"
	"github.com/sallyport-ci/sallyport/stream"
)

// part is the name under which dead letters are kept.
const part = "ingest"

// errUnconfirmed says that it is not known whether the partition is still ours.
var errUnconfirmed = errors.New("NATS has not confirmed for some seconds that this process is alive")

// lostPause is how long after a repeated insert rows that are not there are looked for
// again.
const lostPause = 2 * time.Second

// refused is a message that cannot be used, and why.
type refused struct {
	message *message
	reason  error
}

// insertRange inserts a range that is in the journal, keeps what cannot be used
// as dead letters, and writes the range down as done. An error means that ctx
// ended; the range stays in the journal.
func (l *lane) insertRange(ctx context.Context, rows rowSet, sequences intervals, messages []*message, bad []refused) error {
	m := l.ingest.metrics
	prepare := func() error { return rows.prepare(ctx) }
	if err := l.ingest.retry(ctx, l.partition.Name, "prepare rows of "+l.partition.Name, prepare); err != nil {
		return err
	}
	for i, t := range rows.tables() {
		if t.Len() == 0 {
			continue
		}
		begin := time.Now()
		more, err := l.insertTable(ctx, i, t, sequences, messages)
		if err != nil {
			return err
		}
		bad = append(bad, more...)
		m.insert.WithLabelValues(l.partition.Name).Observe(time.Since(begin).Seconds())
		m.rows.WithLabelValues(l.partition.Name, t.Table()).Add(float64(t.Len()))
	}
	for _, b := range bad {
		err := l.ingest.retry(ctx, l.partition.Name, "keep dead letter", func() error {
			return stream.PublishDeadLetter(ctx, l.ingest.cfg.JS, part, b.message, b.reason)
		})
		if err != nil {
			return err
		}
		m.deadLetters.WithLabelValues(l.partition.Name).Inc()
		l.ingest.cfg.Logger.Warn("kept a dead letter", "stream", l.partition.Name, "sequence", b.message.sequence, "error", b.reason)
	}
	if err := l.note(ctx, messages, bad); err != nil {
		return err
	}
	err := l.ingest.retry(ctx, l.partition.Name, "finish range of "+l.partition.Name, func() error {
		return l.journal.finish(ctx, sequences, func() uint64 { return l.floor(ctx) })
	})
	if err != nil {
		return err
	}
	events, _ := rows.size()
	clamped, unknown := rows.oddities()
	m.events.WithLabelValues(l.partition.Name).Add(float64(events))
	m.batches.WithLabelValues(l.partition.Name).Add(float64(len(messages)))
	m.ranges.WithLabelValues(l.partition.Name).Inc()
	m.clamped.WithLabelValues(l.partition.Name).Add(float64(clamped))
	m.unknown.WithLabelValues(l.partition.Name).Add(float64(unknown))
	return nil
}

// note writes down which batches are in the tables.
func (l *lane) note(ctx context.Context, messages []*message, bad []refused) error {
	if l.repeats == nil {
		return nil
	}
	dead := make(map[uint64]bool, len(bad))
	for _, b := range bad {
		dead[b.message.sequence] = true
		l.repeats.drop(b.message)
	}
	batches := make([]batchRef, 0, len(messages))
	for _, m := range messages {
		if !m.repeated && !dead[m.sequence] {
			batches = append(batches, m.batch)
		}
	}
	return l.ingest.retry(ctx, l.partition.Name, "write down what agents have told", func() error {
		return l.repeats.note(ctx, batches)
	})
}

// insertTable inserts the rows of one table. Rows that ClickHouse refuses are
// halved by message until the message is found; the others go in. The halves are
// always the same, and each has a token of its own, so that a process that comes
// back in the middle of it repeats nothing.
func (l *lane) insertTable(ctx context.Context, table int, rows store.Rows, sequences intervals, messages []*message) ([]refused, error) {
	token := sequenceRange{l.partition.Stream, l.journal.created, sequences}.token(rows.Table())
	repeated := l.recovering
	err := l.ingest.retry(ctx, l.partition.Name, "insert into "+rows.Table(), func() error {
		confirmed := l.shares.isConfirmed()
		if l.lost.Load() {
			return errTaken
		}
		if !confirmed {
			// Others may take this process for dead, and have gone on: the tokens
			// of what it has in hand may be forgotten already.
			return errUnconfirmed
		}
		err := l.ingest.cfg.Store.Insert(ctx, token, rows)
		if err == nil && repeated {
			err = l.insertLost(ctx, token, rows)
		}
		repeated = true
		if errors.Is(err, store.ErrNoTable) {
			// Somebody dropped it, or this is another server than before.
			if err := l.ingest.cfg.Store.Migrate(ctx); err != nil {
				return err
			}
		}
		return err
	})
	if !errors.Is(err, store.ErrRefused) {
		return nil, err
	}
	if len(messages) <= 1 {
		var bad []refused
		for _, m := range messages {
			if !m.repeated {
				bad = append(bad, refused{m, err})
			}
		}
		return bad, nil
	}
	var bad []refused
	middle := len(messages) / 2
	for _, half := range [][]*message{messages[:middle], messages[middle:]} {
		more, err := l.insertHalf(ctx, table, half)
		if err != nil {
			return nil, err
		}
		bad = append(bad, more...)
	}
	return bad, nil
}

func (l *lane) insertHalf(ctx context.Context, table int, messages []*message) ([]refused, error) {
	half, err := l.newRows()
	if err != nil {
		return nil, err
	}
	var sequences intervals
	for _, m := range messages {
		sequences.add(m.sequence)
		if m.repeated {
			continue
		}
		if err := half.add(m); err != nil {
			continue // the whole range has it among its dead letters already
		}
	}
	err = l.ingest.retry(ctx, l.partition.Name, "prepare rows of "+l.partition.Name, func() error { return half.prepare(ctx) })
	if err != nil {
		return nil, err
	}
	t := half.tables()[table]
	if t.Len() == 0 {
		return nil, nil
	}
	return l.insertTable(ctx, table, t, sequences, messages)
}

// insertLost inserts rows again that a repeated insert took for done though they
// are not there (store.Lost says how that comes about).
func (l *lane) insertLost(ctx context.Context, token string, rows store.Rows) error {
	lost, err := l.ingest.cfg.Store.Lost(ctx, rows)
	if errors.Is(err, store.ErrHalfLost) {
		l.ingest.cfg.Logger.Error("ClickHouse lost rows when it was killed", "stream", l.partition.Name, "table", rows.Table(), "error", err)
		return nil
	}
	if err == nil && lost {
		// Perhaps its rows are on their way: of a process that was taken for dead.
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(lostPause):
		}
		lost, err = l.ingest.cfg.Store.Lost(ctx, rows)
	}
	if err != nil || !lost {
		return err
	}
	l.ingest.cfg.Logger.Warn("ClickHouse noted an insert and lost its rows when it was killed; inserting them again",
		"stream", l.partition.Name, "table", rows.Table(), "rows", rows.Len())
	return l.ingest.cfg.Store.Insert(ctx, token+".again", store.BaseOnly(rows))
}
