package deadletter

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	sallyportv1 "github.com/sallyport-ci/sallyport/proto/sallyport/v1"
	"github.com/sallyport-ci/sallyport/stream"
)

// ErrStays is wrapped by the error about a dead letter that cannot go back.
var ErrStays = errors.New("it cannot be replayed")

// Stored returns which events of one start of an agent, from sequence first to last, are
// in the tables already.
type Stored func(ctx context.Context, agent string, epoch, first, last uint64) ([]uint64, error)

// Replay puts a dead letter back into the stream that it came from, for the part alone that
// could not use it, and removes it then. The error wraps ErrNone or ErrStays, or the letter
// is still there and Replay may be called again: the stream takes the same letter once.
//
// Of a batch that one table refused the others have their rows. Such a batch goes back
// without the events that are stored; without stored it stays.
func Replay(ctx context.Context, js jetstream.JetStream, stored Stored, id uint64) error {
	l, err := Get(ctx, js, id)
	if err != nil {
		return err
	}
	messageID, err := l.replayID()
	if err != nil {
		return fmt.Errorf("replay dead letter %d: %w", id, err)
	}
	if l.Part == "ingest" && l.Stream == stream.EventsStream {
		if err := l.leaveOut(ctx, stored); err != nil {
			return fmt.Errorf("replay dead letter %d: %w", id, err)
		}
	}
	m := &nats.Msg{Subject: l.Subject, Data: l.Body, Header: nats.Header{}}
	m.Header.Set(stream.OnlyHeader, l.Part)
	if _, err := js.PublishMsg(ctx, m, jetstream.WithMsgID(messageID)); err != nil {
		return fmt.Errorf("replay dead letter %d on %s: %w", id, l.Subject, err)
	}
	// Stored now, or by an earlier call that did not come this far.
	if err := Drop(ctx, js, id); err != nil && !errors.Is(err, ErrNone) {
		return fmt.Errorf("it went back: %w", err)
	}
	return nil
}

// replayID returns the Nats-Msg-Id under which a letter goes back. The stream must take it
// for new, since it may still know the identity that the message had; ingest must
// recognise the batch by it (docs/exactly-once.md). So it names the same agent, epoch and
// sequence in other digits: with a leading zero more for each time that it went back, in
// the sequence for ingest and in the epoch for the detector.
func (l *Letter) replayID() (string, error) {
	switch l.Stream {
	case stream.EventsStream:
		if !strings.HasPrefix(l.Subject, stream.EventSubject("")) || strings.ContainsAny(l.Subject, "*> \t") {
			return "", fmt.Errorf("%w: %q is no subject of events", ErrStays, l.Subject)
		}
		id := l.MessageID
		if id == "" {
			id = l.batchID()
		}
		parts := strings.Split(id, ".")
		if len(parts) != 3 || stream.EventSubject(parts[0]) != l.Subject {
			// Nothing that an agent published: nobody can recognise it.
			return fmt.Sprintf("replayed.%s.%s", l.Part, id+l.where()), nil
		}
		switch l.Part {
		case "ingest":
			parts[2] = "0" + parts[2]
		case "detector":
			parts[1] = "0" + parts[1]
		default:
			return "", fmt.Errorf("%w: part %q does not read stream %s", ErrStays, l.Part, l.Stream)
		}
		return strings.Join(parts, "."), nil
	case stream.FindingsStream:
		if l.Subject != stream.FindingSubject {
			return "", fmt.Errorf("%w: %q is no subject of findings", ErrStays, l.Subject)
		}
		f, err := stream.DecodeFinding(l.Body)
		if err == nil && l.Part == "notify" {
			return "", fmt.Errorf("%w: a receiver of alerts refused it, and it counts as told; the finding is stored (`sallyport findings %s`)", ErrStays, f.GetId())
		}
		return fmt.Sprintf("%s.%s%s", f.GetId(), l.Part, l.where()), nil
	default:
		return "", fmt.Errorf("%w: it does not say which stream it came from", ErrStays)
	}
}

// where tells a letter from all others: a message that becomes a dead letter again has
// another sequence.
func (l *Letter) where() string { return fmt.Sprintf(".%d", l.Sequence) }

// batchID is the identity of the batch in a letter that does not say which it had.
func (l *Letter) batchID() string {
	if b := l.batch(); b != nil {
		return stream.BatchID(b)
	}
	return ""
}

// batch returns the batch that a letter is, nil if it is none.
func (l *Letter) batch() *sallyportv1.EventBatch {
	d, err := stream.NewDecoder()
	if err != nil {
		return nil
	}
	b := new(sallyportv1.EventBatch)
	if err := d.Decode(l.Body, b); err != nil {
		return nil
	}
	return b
}

// leaveOut leaves of a batch empty places for the events that are stored.
func (l *Letter) leaveOut(ctx context.Context, stored Stored) error {
	b := l.batch()
	if b == nil || len(b.GetEvents()) == 0 {
		return nil
	}
	if stored == nil {
		return fmt.Errorf("%w without the tables: some of its events may be stored", ErrStays)
	}
	first := b.GetFirstSequence()
	there, err := stored(ctx, b.GetAgentId(), b.GetEpoch(), first, first+uint64(len(b.GetEvents()))-1)
	if err != nil {
		return err
	}
	if len(there) == 0 {
		return nil
	}
	stream.LeaveOut(b, there)
	e, err := stream.NewEncoder()
	if err != nil {
		return err
	}
	l.Body, err = e.Encode(nil, b)
	return err
}
