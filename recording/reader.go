package recording

import (
	"bufio"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"time"

	sallyportv1 "github.com/sallyport-ci/sallyport/proto/sallyport/v1"
	"github.com/sallyport-ci/sallyport/stream"
)

// Batch is one batch of a recording.
type Batch struct {
	// Recorded is when the recorder had it.
	Recorded time.Time
	// Events as the agent sent them.
	Events *sallyportv1.EventBatch
}

// Reader reads a recording from its beginning. It is not safe for concurrent use.
type Reader struct {
	in      *bufio.Reader
	about   About
	decoder *stream.Decoder
	offset  int64
	batches uint64
	events  uint64
	err     error
}

// NewReader reads the beginning of a recording. An error wraps ErrNotRecording, ErrNewer,
// ErrTruncated or ErrDamaged, or comes from in.
func NewReader(in io.Reader) (*Reader, error) {
	decoder, err := stream.NewDecoder()
	if err != nil {
		return nil, err
	}
	r := &Reader{in: bufio.NewReaderSize(in, 64<<10), decoder: decoder}
	header := make([]byte, headerBytes)
	n, err := io.ReadFull(r.in, header)
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		return nil, fmt.Errorf("read recording: %w", err)
	}
	switch {
	case n < len(magic) || string(header[:len(magic)]) != magic:
		return nil, ErrNotRecording
	case n < headerBytes:
		return nil, fmt.Errorf("%w in its first %d bytes", ErrTruncated, headerBytes)
	case binary.LittleEndian.Uint32(header[headerBytes-4:]) != crc32.Checksum(header[:headerBytes-4], castagnoli):
		return nil, fmt.Errorf("%w in its first %d bytes", ErrDamaged, headerBytes)
	}
	if major := binary.LittleEndian.Uint16(header[len(magic):]); major != majorVersion {
		return nil, fmt.Errorf("%w: its format is %d, this program reads %d", ErrNewer, major, majorVersion)
	}
	r.offset = int64(headerBytes)
	kind, payload, err := r.frame()
	if err != nil {
		return nil, err
	}
	if kind != kindAbout || len(payload) > maxAbout {
		return nil, r.damaged("it does not say what it is")
	}
	if err := json.Unmarshal(payload, &r.about); err != nil {
		return nil, r.damaged("what it says that it is: " + err.Error())
	}
	return r, nil
}

// About returns what the recording says of itself.
func (r *Reader) About() About { return r.about }

// Next returns the next batch, which is the caller's, and io.EOF after the last one of a
// recording that is whole. Other errors wrap ErrTruncated or ErrDamaged or come from the
// file; they come again at each further call.
func (r *Reader) Next() (*Batch, error) {
	for r.err == nil {
		var kind byte
		var payload []byte
		if kind, payload, r.err = r.frame(); r.err != nil {
			break
		}
		switch kind {
		case kindBatch:
			b, err := r.batch(payload)
			if err != nil {
				r.err = err
				return nil, err
			}
			return b, nil
		case kindTrailer:
			r.err = r.end(payload)
		}
	}
	return nil, r.err
}

// Totals returns what was read so far: batches, their events, and bytes of the file.
func (r *Reader) Totals() (batches, events uint64, bytes int64) { return r.batches, r.events, r.offset }

func (r *Reader) batch(payload []byte) (*Batch, error) {
	if len(payload) < batchPrefix {
		return nil, r.damaged("a batch is too short")
	}
	b := &Batch{
		Recorded: time.Unix(0, int64(binary.LittleEndian.Uint64(payload))), Events: new(sallyportv1.EventBatch),
	}
	if err := r.decoder.Decode(payload[batchPrefix:], b.Events); err != nil {
		return nil, fmt.Errorf("%w: %w", r.damaged("a batch cannot be read"), err)
	}
	r.batches++
	r.events += uint64(len(b.Events.GetEvents()))
	return b, nil
}

func (r *Reader) end(payload []byte) error {
	if len(payload) < trailerBytes {
		return r.damaged("its end is too short")
	}
	batches, events := binary.LittleEndian.Uint64(payload), binary.LittleEndian.Uint64(payload[8:])
	if batches != r.batches || events != r.events {
		return r.damaged(fmt.Sprintf("it should have %d batches and %d events, and has %d and %d", batches, events, r.batches, r.events))
	}
	if _, err := r.in.ReadByte(); err == nil {
		return r.damaged("something follows its end")
	} else if !errors.Is(err, io.EOF) {
		return fmt.Errorf("read recording: %w", err)
	}
	return io.EOF
}

// frame reads one frame. The payload is valid until the next call.
func (r *Reader) frame() (kind byte, payload []byte, err error) {
	head := make([]byte, prefixBytes)
	if err := r.full(head); err != nil {
		return 0, nil, err
	}
	length := binary.LittleEndian.Uint32(head[1:])
	if length > maxFrame {
		return 0, nil, r.damaged(fmt.Sprintf("a frame says that it has %d bytes", length))
	}
	// Read in steps: a damaged length must not take memory that the file has no bytes for.
	body := make([]byte, 0, min(int(length)+4, 64<<10))
	for rest := int(length) + 4; rest > 0; {
		n := min(rest, 1<<20)
		at := len(body)
		body = append(body, make([]byte, n)...)
		if err := r.full(body[at:]); err != nil {
			return 0, nil, err
		}
		rest -= n
	}
	sum := crc32.Update(crc32.Checksum(head, castagnoli), castagnoli, body[:length])
	if binary.LittleEndian.Uint32(body[length:]) != sum {
		return 0, nil, r.damaged("a checksum is wrong")
	}
	r.offset += int64(prefixBytes) + int64(length) + 4
	return head[0], body[:length], nil
}

func (r *Reader) full(p []byte) error {
	_, err := io.ReadFull(r.in, p)
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("%w after byte %d; the %d batches before that are good", ErrTruncated, r.offset, r.batches)
	}
	if err != nil {
		return fmt.Errorf("read recording: %w", err)
	}
	return nil
}

func (r *Reader) damaged(what string) error {
	return fmt.Errorf("%w after byte %d (%s); the %d batches before that are good", ErrDamaged, r.offset, what, r.batches)
}
