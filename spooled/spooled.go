package spooled

import (
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"time"

	sallyportv1 "github.com/sallyport-ci/sallyport/proto/sallyport/v1"
	"github.com/sallyport-ci/sallyport/recording"
	"github.com/sallyport-ci/sallyport/stream"
)

// ErrTwice is wrapped by the refusal of a batch whose events another one tells otherwise.
var ErrTwice = errors.New("another file tells the same events otherwise")

// MaxRefusals is after how many refused files Examine gives up: what they are is no spool, and
// may be made to keep it busy.
const MaxRefusals = 100

// Batch is one that may be sent.
type Batch struct {
	// AgentID, Epoch and First are its identity; Events is how many it has.
	AgentID string
	stream.SpoolName
	// Bytes is its size, packed.
	Bytes int
	// Last is the time of its last event; zero if none has one.
	Last time.Time
	// Jobs are those that it speaks of.
	Jobs []Job

	place  place
	digest [sha256.Size]byte
	proven bool
}

// Job is what an attribution says, without the step.
type Job struct {
	Repository, RunID string
	Attempt           uint32
	Job               string
}

// Where says in which file a batch is.
func (b *Batch) Where() string { return b.place.shown }

// Refusal is a file that is not sent, and why: the error wraps ErrForeign, ErrTooLarge,
// ErrTwice, ErrNotTheirs or stream.ErrMalformed.
type Refusal struct {
	Where string
	Err   error
}

// Found is what Examine found.
type Found struct {
	// Batches are in the order of agents and, of each, in that in which they were made. None
	// is there twice.
	Batches []Batch
	Refused []Refusal
	// Same is how many files were left out because another one has the very same content.
	Same int

	files  opener
	reader reader
}

// Close ends the reading.
func (f *Found) Close() { f.files.close() }

// errGivenUp ends a search.
var errGivenUp = fmt.Errorf("more than %d files are no batches that may be sent: this is no spool", MaxRefusals)

// Examine reads the batches in folders, zip files and files. An error says that something
// could not be read, or that there is too much that is refused; Found then has what came
// before. Close it.
func Examine(ctx context.Context, paths []string, rules Rules) (*Found, error) {
	f := &Found{}
	var err error
	if f.reader, err = newReader(rules); err != nil {
		return f, err
	}
	refuse := func(shown string, err error) error {
		if len(f.Refused) >= MaxRefusals {
			return errGivenUp
		}
		f.Refused = append(f.Refused, Refusal{shown, err})
		return nil
	}
	files := 0
	for _, path := range paths {
		err := find(path, func(p place) error {
			if err := ctx.Err(); err != nil {
				return err
			}
			if files++; files > MaxFiles {
				return fmt.Errorf("more than %d files: send them in parts", MaxFiles)
			}
			b, _, err := f.reader.read(&f.files, p)
			if err != nil {
				return refuse(p.shown, err)
			}
			f.Batches = append(f.Batches, b)
			return nil
		}, refuse)
		if err != nil {
			return f, err
		}
	}
	return f, f.settle(rules, refuse)
}

// settle orders the batches and leaves out those that cannot be sent beside others.
func (f *Found) settle(rules Rules, refuse func(string, error) error) error {
	slices.SortStableFunc(f.Batches, func(a, b Batch) int {
		return cmp.Or(cmp.Compare(a.AgentID, b.AgentID), cmp.Compare(a.Epoch, b.Epoch), cmp.Compare(a.First, b.First))
	})
	proven := make(map[string]bool)
	for _, b := range f.Batches {
		proven[b.AgentID] = proven[b.AgentID] || b.proven
	}
	kept := f.Batches[:0]
	var said string // of which agent it was said that it is not believed
	for _, b := range f.Batches {
		if err := rules.believes(b.AgentID, proven[b.AgentID]); err != nil {
			if said != b.AgentID {
				said = b.AgentID
				if err := refuse(b.place.shown, err); err != nil {
					return err
				}
			}
			continue
		}
		if n := len(kept); n > 0 && kept[n-1].AgentID == b.AgentID && kept[n-1].Epoch == b.Epoch {
			last := kept[n-1]
			if last.digest == b.digest {
				f.Same++
				continue
			}
			if b.First-last.First < uint64(max(last.Events, 1)) {
				if err := refuse(b.place.shown, fmt.Errorf("%w: %s", ErrTwice, last.place.shown)); err != nil {
					return err
				}
				continue
			}
		}
		kept = append(kept, b)
	}
	clear(f.Batches[len(kept):])
	f.Batches = kept
	return nil
}

// Read reads a batch of Batches again, and checks it as before.
func (f *Found) Read(b *Batch) (*sallyportv1.EventBatch, error) {
	again, batch, err := f.reader.read(&f.files, b.place)
	if err == nil && again.digest != b.digest {
		err = errors.New("it became another one meanwhile")
	}
	if err != nil {
		return nil, fmt.Errorf("read batch %s: %w", b.place.shown, err)
	}
	return batch, nil
}

// reader reads and checks one batch.
type reader struct {
	rules   Rules
	decoder *stream.Decoder
}

func newReader(rules Rules) (reader, error) {
	d, err := stream.NewDecoder()
	return reader{rules, d}, err
}

func (r reader) read(files *opener, p place) (Batch, *sallyportv1.EventBatch, error) {
	data, err := files.read(p)
	if err != nil {
		return Batch{}, nil, err
	}
	b, batch, err := r.check(p.name, data)
	b.place = p
	return b, batch, err
}

// dense bounds to how much a batch unpacks, beside how large it is: what agents make is far from
// it, and what is made to keep a reader busy is far beyond.
func dense(packed int) int { return 4<<20 + 100*packed }

// check holds a packed batch against its name and the rules.
func (r reader) check(name stream.SpoolName, data []byte) (Batch, *sallyportv1.EventBatch, error) {
	b := new(sallyportv1.EventBatch)
	if err := r.decoder.Decode(data, b); err != nil {
		if errors.Is(err, stream.ErrForeign) {
			err = fmt.Errorf("%w: %w", ErrNotTheirs, err)
		}
		return Batch{}, nil, err
	}
	if n := r.decoder.Unpacked(); n > dense(len(data)) {
		return Batch{}, nil, fmt.Errorf("%w: %d bytes unpack to %d", ErrTooLarge, len(data), n)
	}
	if is := (stream.SpoolName{Epoch: b.GetEpoch(), First: b.GetFirstSequence(), Events: len(b.GetEvents())}); is != name {
		return Batch{}, nil, fmt.Errorf("%w: what is in it would have the name %s", ErrForeign, is)
	}
	if err := r.rules.speaks(b); err != nil {
		return Batch{}, nil, err
	}
	out := Batch{
		AgentID: b.GetAgentId(), SpoolName: name, Bytes: len(data), digest: sha256.Sum256(data),
		// Decode has held each attribution against the agent's identity.
		proven: stream.BoundToRun(b.GetAgentId()) && len(b.GetAttributions()) > 0,
	}
	if _, last, ok := recording.Span(b); ok {
		out.Last = last
	}
	for _, a := range b.GetAttributions() {
		j := Job{a.GetRepository(), a.GetRunId(), a.GetRunAttempt(), a.GetJob()}
		if !slices.Contains(out.Jobs, j) {
			out.Jobs = append(out.Jobs, j)
		}
	}
	return out, b, nil
}
