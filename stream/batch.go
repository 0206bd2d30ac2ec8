package stream

import (
	"errors"
	"fmt"

	"github.com/klauspost/compress/zstd"
	"google.golang.org/protobuf/proto"

	sallyportv1 "github.com/sallyport-ci/sallyport/proto/sallyport/v1"
)

// MaxBatchBytes bounds a decoded batch. A message that unpacks to more is
// malformed, however small it travelled.
const MaxBatchBytes = 64 << 20

// ErrMalformed is wrapped by every error about a message that can never be
// decoded, however often it is tried. Such messages become dead letters.
var ErrMalformed = errors.New("malformed message")

// BatchID returns the Nats-Msg-Id of a batch: the stream drops a batch that it
// already has.
func BatchID(b *sallyportv1.EventBatch) string {
	return fmt.Sprintf("%s.%d.%d", b.GetAgentId(), b.GetEpoch(), b.GetFirstSequence())
}

// Encoder packs batches. It is not safe for concurrent use.
type Encoder struct {
	zstd    *zstd.Encoder
	scratch []byte
}

// NewEncoder returns an encoder.
func NewEncoder() (*Encoder, error) {
	z, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(1))
	if err != nil {
		return nil, fmt.Errorf("new zstd encoder: %w", err)
	}
	return &Encoder{zstd: z}, nil
}

// Encode appends the packed batch to dst.
func (e *Encoder) Encode(dst []byte, b *sallyportv1.EventBatch) ([]byte, error) {
	var err error
	e.scratch, err = proto.MarshalOptions{}.MarshalAppend(e.scratch[:0], b)
	if err != nil {
		return dst, fmt.Errorf("encode batch %s: %w", BatchID(b), err)
	}
	return e.zstd.EncodeAll(e.scratch, dst), nil
}

// Decoder unpacks batches. It is not safe for concurrent use.
type Decoder struct {
	zstd    *zstd.Decoder
	scratch []byte
}

// NewDecoder returns a decoder.
func NewDecoder() (*Decoder, error) {
	z, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(MaxBatchBytes))
	if err != nil {
		return nil, fmt.Errorf("new zstd decoder: %w", err)
	}
	return &Decoder{zstd: z}, nil
}

// Decode unpacks a message into b, which is reset first, and checks it: the
// identity is complete, every index points into its table, and every attribution is one
// that the agent may speak for (ErrForeign). An error wraps ErrMalformed.
func (d *Decoder) Decode(data []byte, b *sallyportv1.EventBatch) error {
	var err error
	d.scratch, err = d.zstd.DecodeAll(data, d.scratch[:0])
	if err != nil {
		return fmt.Errorf("%w: unpack batch of %d bytes: %w", ErrMalformed, len(data), err)
	}
	if err := proto.Unmarshal(d.scratch, b); err != nil {
		return fmt.Errorf("%w: decode batch of %d bytes: %w", ErrMalformed, len(data), err)
	}
	if err := check(b); err != nil {
		return fmt.Errorf("%w: batch %s: %w", ErrMalformed, BatchID(b), err)
	}
	return nil
}

// Unpacked returns how many bytes the last message was that Decode has unpacked.
func (d *Decoder) Unpacked() int { return len(d.scratch) }

// LeaveOut leaves of a batch empty places for events, which are named by sequences of the
// batch.
func LeaveOut(b *sallyportv1.EventBatch, sequences []uint64) {
	for _, s := range sequences {
		b.Events[s-b.GetFirstSequence()] = new(sallyportv1.Event)
	}
}

func check(b *sallyportv1.EventBatch) error {
	switch {
	case !ValidAgentID(b.GetAgentId()):
		return errors.New("agent_id is not 1 to 64 characters of [A-Za-z0-9_-]")
	case b.GetEpoch() == 0:
		return errors.New("epoch is missing")
	case b.GetFirstSequence() == 0:
		return errors.New("first_sequence is missing")
	case b.GetFirstSequence()+uint64(len(b.GetEvents())) < b.GetFirstSequence():
		return errors.New("sequences overflow")
	}
	if err := checkBinding(b.GetAgentId(), b.GetAttributions()); err != nil {
		return err
	}
	processes, attributions := len(b.GetProcesses()), len(b.GetAttributions())
	for i, e := range b.GetEvents() {
		if int(e.GetProcess()) > processes {
			return fmt.Errorf("event %d: process %d of %d", i, e.GetProcess(), processes)
		}
		if int(e.GetAttribution()) > attributions {
			return fmt.Errorf("event %d: attribution %d of %d", i, e.GetAttribution(), attributions)
		}
		switch body := e.GetBody().(type) {
		case nil:
			// A kind of event newer than this reader: kept countable, never an error.
		case *sallyportv1.Event_ProcessAccess:
			if int(body.ProcessAccess.GetTarget()) > processes {
				return fmt.Errorf("event %d: target process %d of %d", i, body.ProcessAccess.GetTarget(), processes)
			}
		case *sallyportv1.Event_JobEnded:
			for _, n := range body.JobEnded.GetSurvivors() {
				if n == 0 || int(n) > processes {
					return fmt.Errorf("event %d: surviving process %d of %d", i, n, processes)
				}
			}
		case *sallyportv1.Event_Flow:
			f := body.Flow
			if !validAddress(f.GetSourceAddress()) || !validAddress(f.GetDestinationAddress()) {
				return fmt.Errorf("event %d: an address is neither 4 nor 16 bytes", i)
			}
			if f.GetSourcePort() > 65535 || f.GetDestinationPort() > 65535 {
				return fmt.Errorf("event %d: a port is above 65535", i)
			}
		case *sallyportv1.Event_DnsExchange:
			if !validAddress(body.DnsExchange.GetServerAddress()) || body.DnsExchange.GetServerPort() > 65535 {
				return fmt.Errorf("event %d: bad server address or port", i)
			}
			for _, a := range body.DnsExchange.GetAddresses() {
				if !validAddress(a) {
					return fmt.Errorf("event %d: an address is neither 4 nor 16 bytes", i)
				}
			}
		}
	}
	return nil
}

// validAddress accepts no address, too: the local one is not always known.
func validAddress(a []byte) bool { return len(a) == 0 || len(a) == 4 || len(a) == 16 }
