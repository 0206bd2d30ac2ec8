package ingest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// A group of messages is handed to a worker when it has one of these, or when
// its first message is as old as Config.MaxAge and a worker is free. They bound
// what the collector holds.
const (
	maxGroupMessages = 8192
	maxGroupBytes    = 8 << 20
	// What the client library fetches ahead; its bytes must hold the largest
	// message, 8 MiB.
	fetchMessages = 2000
	fetchBytes    = 16 << 20
	// maxTaken is how many intervals of messages in hand are remembered before those
	// that are done are joined.
	maxTaken = 1 << 16
)

// heartbeatTrouble ends the name of the trouble that NATS does not answer.
const heartbeatTrouble = ": heartbeat"

// collect gathers messages into groups until ctx ends, and hands over the last
// group then, unless handing has ended. The error is jetstream.ErrConsumerNotFound if the
// partition's consumer was deleted. While all workers are busy it fills one group and fetches no more.
func (l *lane) collect(ctx, handing context.Context, groups chan<- []*message) (err error) {
	var fetchErr error
	messages := make(chan *message)
	var fetching sync.WaitGroup
	fetching.Go(func() {
		defer close(messages)
		fetchErr = l.fetch(ctx, messages)
	})
	defer func() {
		fetching.Wait()
		err = fetchErr
	}()

	var group []*message
	bytes, aged := 0, false
	timer := time.NewTimer(time.Hour)
	timer.Stop()
	for {
		in, out := (<-chan *message)(messages), chan<- []*message(nil)
		if len(group) > 0 && (aged || l.full(len(group), bytes)) {
			out = groups
		}
		if l.full(len(group), bytes) {
			in = nil
		}
		select {
		case m, ok := <-in:
			if !ok {
				l.handLast(handing, groups, group)
				return nil
			}
			if !l.take(m) {
				continue
			}
			if !l.claim(ctx, m) {
				continue // stopped
			}
			if len(group) == 0 {
				timer.Reset(l.ingest.cfg.MaxAge)
			}
			group = append(group, m)
			bytes += len(m.Data())
		case out <- group:
			group, bytes, aged = nil, 0, false
			timer.Stop()
		case <-timer.C:
			aged = true
		case <-ctx.Done():
			l.handLast(handing, groups, group)
			return nil
		}
	}
}

func (l *lane) handLast(handing context.Context, groups chan<- []*message, group []*message) {
	if len(group) == 0 {
		return
	}
	select {
	case groups <- group:
	case <-handing.Done(): // not begun: it will be delivered again
	}
}

// full guesses the events of a group from the size of earlier ones.
func (l *lane) full(messages, bytes int) bool {
	if messages >= maxGroupMessages || bytes >= maxGroupBytes {
		return true
	}
	mean := l.eventBytes.Load()
	return mean > 0 && int64(bytes)*256/mean >= int64(l.ingest.cfg.MaxEvents)
}

// take says whether a message is to be inserted. One that was delivered again
// is not: it is done, and acknowledged once more, or it is still in hand.
func (l *lane) take(m *message) bool {
	if l.journal.isDone(m.sequence) {
		if err := m.Ack(); err != nil {
			l.ingest.cfg.Logger.Debug("acknowledge again", "stream", l.partition.Name, "sequence", m.sequence, "error", err)
		}
		return false
	}
	if l.taken.contains(m.sequence) {
		return false
	}
	l.taken.add(m.sequence)
	if len(l.taken) > maxTaken {
		// What is done needs no remembering here.
		l.taken.addFloor(l.journal.firstGap())
	}
	return true
}

// fetch reads the consumer until ctx ends or the consumer is deleted.
func (l *lane) fetch(ctx context.Context, messages chan<- *message) error {
	for ctx.Err() == nil {
		var it jetstream.MessagesContext
		err := l.ingest.retry(ctx, l.partition.Name, "read "+l.partition.Name, func() (err error) {
			it, err = l.consumer.Messages(jetstream.PullMaxMessagesWithBytesLimit(fetchMessages, fetchBytes))
			return err
		})
		if err != nil {
			return nil //nolint:nilerr // stopped
		}
		err = l.iterate(ctx, it, messages)
		it.Stop()
		if errors.Is(err, jetstream.ErrConsumerDeleted) || errors.Is(err, jetstream.ErrConsumerNotFound) {
			return fmt.Errorf("read %s: %w", l.partition.Name, jetstream.ErrConsumerNotFound)
		}
		if err != nil {
			l.ingest.cfg.Logger.Warn("reading the stream broke off, trying again", "stream", l.partition.Name, "error", err)
			select {
			case <-ctx.Done():
			case <-time.After(firstPause):
			}
		}
	}
	return nil
}

func (l *lane) iterate(ctx context.Context, it jetstream.MessagesContext, messages chan<- *message) error {
	for {
		msg, err := it.Next(jetstream.NextContext(ctx))
		switch {
		case ctx.Err() != nil:
			return nil //nolint:nilerr // stopped; whatever Next says of that
		case errors.Is(err, jetstream.ErrNoHeartbeat):
			// NATS is away; the client library reconnects and goes on.
			l.ingest.setTrouble(l.partition.Name+heartbeatTrouble, "NATS does not answer")
			continue
		case err != nil:
			return err
		}
		l.ingest.setTrouble(l.partition.Name+heartbeatTrouble, "")
		m, err := newMessage(msg)
		if err != nil {
			l.ingest.cfg.Logger.Warn("a message without metadata was passed over", "stream", l.partition.Name, "error", err)
			continue
		}
		select {
		case messages <- m:
		case <-ctx.Done():
			return nil
		}
	}
}
