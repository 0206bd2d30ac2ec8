package deadletter

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/sallyport-ci/sallyport/stream"
)

// ErrNone says that there is no dead letter of that number (any more).
var ErrNone = errors.New("no such dead letter")

// Letter is a message that a part could not use.
type Letter struct {
	// ID is its number in the stream DEADLETTERS.
	ID uint64 `json:"id"`
	// Part that could not use it: ingest, detector or notify.
	Part string `json:"part"`
	// Kept is when.
	Kept time.Time `json:"kept"`
	// Reason is why.
	Reason string `json:"reason"`
	// Stream, Sequence and Subject are where it came from.
	Stream   string `json:"origin_stream"`
	Sequence uint64 `json:"origin_sequence"`
	Subject  string `json:"origin_subject"`
	// MessageID is the Nats-Msg-Id that it had there; letters of older versions do not say.
	MessageID string `json:"origin_message_id,omitempty"`
	// Size of the body in bytes.
	Size int `json:"size"`
	// Body, which List leaves out.
	Body []byte `json:"-"`
}

func newLetter(subject string, sequence uint64, kept time.Time, h nats.Header) Letter {
	origin, _ := strconv.ParseUint(h.Get(stream.OriginSequenceHeader), 10, 64)
	return Letter{
		ID: sequence, Part: stream.DeadLetterPart(subject), Kept: kept.UTC(), Reason: h.Get(stream.ReasonHeader),
		Stream: h.Get(stream.OriginStreamHeader), Sequence: origin, Subject: h.Get(stream.OriginSubjectHeader),
		MessageID: h.Get(stream.OriginIDHeader),
	}
}

// List calls each for every dead letter that is there now, oldest first, without bodies. If
// part is not empty, only those of that part.
func List(ctx context.Context, js jetstream.JetStream, part string, each func(Letter) error) error {
	s, err := js.Stream(ctx, stream.DeadLettersStream)
	if err != nil {
		return fmt.Errorf("list dead letters: %w", err)
	}
	config := jetstream.OrderedConsumerConfig{HeadersOnly: true}
	if part != "" {
		config.FilterSubjects = []string{stream.DeadLetterSubject(part)}
	}
	c, err := s.OrderedConsumer(ctx, config)
	if err != nil {
		return fmt.Errorf("list dead letters: %w", err)
	}
	info, err := c.Info(ctx)
	if err != nil {
		return fmt.Errorf("list dead letters: %w", err)
	}
	rest := info.NumPending
	if rest == 0 {
		return nil
	}
	messages, err := c.Messages()
	if err != nil {
		return fmt.Errorf("list dead letters: %w", err)
	}
	defer messages.Stop()
	for rest > 0 {
		m, err := messages.Next(jetstream.NextContext(ctx))
		if err != nil {
			return fmt.Errorf("list dead letters: %w", err)
		}
		meta, err := m.Metadata()
		if err != nil {
			return fmt.Errorf("list dead letters: %w", err)
		}
		l := newLetter(m.Subject(), meta.Sequence.Stream, meta.Timestamp, m.Headers())
		l.Size, _ = strconv.Atoi(m.Headers().Get("Nats-Msg-Size"))
		if err := each(l); err != nil {
			return err
		}
		// Fewer than at the beginning if some were removed meanwhile.
		rest = min(rest-1, meta.NumPending)
	}
	return nil
}

// Get returns one dead letter with its body. The error wraps ErrNone if there is none.
func Get(ctx context.Context, js jetstream.JetStream, id uint64) (Letter, error) {
	s, err := js.Stream(ctx, stream.DeadLettersStream)
	if err != nil {
		return Letter{}, fmt.Errorf("get dead letter %d: %w", id, err)
	}
	m, err := s.GetMsg(ctx, id)
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return Letter{}, fmt.Errorf("%w: %d", ErrNone, id)
	}
	if err != nil {
		return Letter{}, fmt.Errorf("get dead letter %d: %w", id, err)
	}
	l := newLetter(m.Subject, m.Sequence, m.Time, m.Header)
	l.Body, l.Size = m.Data, len(m.Data)
	return l, nil
}

// Drop removes a dead letter for good. The error wraps ErrNone if there is none.
func Drop(ctx context.Context, js jetstream.JetStream, id uint64) error {
	s, err := js.Stream(ctx, stream.DeadLettersStream)
	if err != nil {
		return fmt.Errorf("drop dead letter %d: %w", id, err)
	}
	err = s.DeleteMsg(ctx, id)
	if err != nil {
		// The client does not pass on why.
		if _, e := s.GetMsg(ctx, id); errors.Is(e, jetstream.ErrMsgNotFound) {
			return fmt.Errorf("%w: %d", ErrNone, id)
		}
	}
	if err != nil {
		return fmt.Errorf("drop dead letter %d: %w", id, err)
	}
	return nil
}
