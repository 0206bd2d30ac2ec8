package recording

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"time"

	sallyportv1 "github.com/sallyport-ci/sallyport/proto/sallyport/v1"
	"github.com/sallyport-ci/sallyport/stream"
)

// Writer writes a recording. It is not safe for concurrent use.
type Writer struct {
	out     io.Writer
	encoder *stream.Encoder
	frame   []byte
	body    []byte
	bytes   int64
	batches uint64
	events  uint64
	failed  error
}

// NewWriter begins a recording. Each frame is handed to out in one Write, so that what was
// written before the process is killed can be read.
func NewWriter(out io.Writer, about About) (*Writer, error) {
	encoder, err := stream.NewEncoder()
	if err != nil {
		return nil, err
	}
	w := &Writer{out: out, encoder: encoder}
	text, err := json.Marshal(about)
	if err != nil {
		return nil, fmt.Errorf("write recording: encode what it is: %w", err)
	}
	if len(text) > maxAbout {
		return nil, fmt.Errorf("write recording: what it is takes %d bytes, at most %d fit", len(text), maxAbout)
	}
	header := binary.LittleEndian.AppendUint16([]byte(magic), majorVersion)
	header = binary.LittleEndian.AppendUint16(header, minorVersion)
	header = binary.LittleEndian.AppendUint32(header, crc32.Checksum(header, castagnoli))
	if err := w.write(header); err != nil {
		return nil, err
	}
	return w, w.put(kindAbout, text)
}

// Add writes a batch down, with the time at which it was recorded. After an error the
// writer is of no more use; what was added before is in the file.
func (w *Writer) Add(recorded time.Time, b *sallyportv1.EventBatch) error {
	w.body = binary.LittleEndian.AppendUint64(w.body[:0], uint64(recorded.UnixNano()))
	var err error
	if w.body, err = w.encoder.Encode(w.body, b); err != nil {
		return err
	}
	if len(w.body) > maxFrame {
		return fmt.Errorf("write recording: batch %s has %d bytes, at most %d fit", stream.BatchID(b), len(w.body), maxFrame)
	}
	if err := w.put(kindBatch, w.body); err != nil {
		return err
	}
	w.batches++
	w.events += uint64(len(b.GetEvents()))
	return nil
}

// Close writes the end; a recording without it counts as cut off. It does not close what
// is below.
func (w *Writer) Close() error {
	end := binary.LittleEndian.AppendUint64(nil, w.batches)
	return w.put(kindTrailer, binary.LittleEndian.AppendUint64(end, w.events))
}

// Totals returns what was written so far: batches, their events, and bytes of the file.
func (w *Writer) Totals() (batches, events uint64, bytes int64) { return w.batches, w.events, w.bytes }

func (w *Writer) put(kind byte, payload []byte) error {
	w.frame = binary.LittleEndian.AppendUint32(append(w.frame[:0], kind), uint32(len(payload)))
	w.frame = append(w.frame, payload...)
	w.frame = binary.LittleEndian.AppendUint32(w.frame, crc32.Checksum(w.frame, castagnoli))
	return w.write(w.frame)
}

func (w *Writer) write(p []byte) error {
	if w.failed != nil {
		return w.failed
	}
	n, err := w.out.Write(p)
	w.bytes += int64(n)
	if err != nil {
		w.failed = fmt.Errorf("write recording: %w", err)
	}
	return w.failed
}

// File is a recording that is being written to a file.
type File struct {
	*Writer
	file *os.File
}

// Create begins a recording in a new file, which only its owner may read: it holds command
// lines. A file that exists is an error, which wraps os.ErrExist.
func Create(path string, about About) (*File, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, fmt.Errorf("create recording: %w", err)
	}
	w, err := NewWriter(f, about)
	if err != nil {
		return nil, errors.Join(err, f.Close(), os.Remove(path))
	}
	return &File{w, f}, nil
}

// Close writes the end and makes sure that the file is on the disk.
func (f *File) Close() error {
	if err := errors.Join(f.Writer.Close(), f.file.Sync(), f.file.Close()); err != nil {
		return fmt.Errorf("finish recording %s: %w", f.file.Name(), err)
	}
	return nil
}
