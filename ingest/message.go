package ingest

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// message is a message of a stream with what ingest needs of its metadata.
type message struct {
	jetstream.Msg
	sequence uint64
	// stored is when the stream stored it: the same however often it is read.
	stored time.Time
	// waiting is how many messages were behind it when it was delivered.
	waiting uint64
	// repeated is true if another message has the same batch, which is inserted.
	repeated bool
	// batch is what was in it; known once it is among rows.
	batch batchRef
}

func newMessage(m jetstream.Msg) (*message, error) {
	meta, err := m.Metadata()
	if err != nil {
		return nil, fmt.Errorf("read metadata of %s: %w", m.Subject(), err)
	}
	return &message{Msg: m, sequence: meta.Sequence.Stream, stored: meta.Timestamp, waiting: meta.NumPending}, nil
}

// storedMsg is a message read from the stream by its sequence. It was not
// delivered, so acknowledging it does nothing: its delivery comes by later and is
// acknowledged then, since the journal says that it is done.
type storedMsg struct {
	raw    *jetstream.RawStreamMsg
	stream string
}

var _ jetstream.Msg = storedMsg{}

func (m storedMsg) Metadata() (*jetstream.MsgMetadata, error) {
	return &jetstream.MsgMetadata{
		Stream:    m.stream,
		Sequence:  jetstream.SequencePair{Stream: m.raw.Sequence},
		Timestamp: m.raw.Time,
	}, nil
}

func (m storedMsg) Data() []byte                     { return m.raw.Data }
func (m storedMsg) Headers() nats.Header             { return m.raw.Header }
func (m storedMsg) Subject() string                  { return m.raw.Subject }
func (m storedMsg) Reply() string                    { return "" }
func (m storedMsg) Ack() error                       { return nil }
func (m storedMsg) DoubleAck(context.Context) error  { return nil }
func (m storedMsg) Nak() error                       { return nil }
func (m storedMsg) NakWithDelay(time.Duration) error { return nil }
func (m storedMsg) InProgress() error                { return nil }
func (m storedMsg) Term() error                      { return nil }
func (m storedMsg) TermWithReason(string) error      { return nil }

// readStored reads a message by its sequence, nil if the stream does not have it
// any more.
func readStored(ctx context.Context, s jetstream.Stream, sequence uint64) (*message, error) {
	raw, err := s.GetMsg(ctx, sequence)
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return nil, nil //nolint:nilnil // no message is no error here
	}
	name := s.CachedInfo().Config.Name
	if err != nil {
		return nil, fmt.Errorf("read message %d of stream %s: %w", sequence, name, err)
	}
	return &message{Msg: storedMsg{raw, name}, sequence: sequence, stored: raw.Time}, nil
}
