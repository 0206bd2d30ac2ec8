package ingest

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// errTaken says that another process has taken a partition over. What was in hand is
// that process's to finish.
var errTaken = errors.New("another ingest process has taken the partition over")

// journal is what ingest knows of one partition in the bucket INGEST: the range that
// each worker is inserting, under <partition>.range.<worker>, and the sequences that are
// in the tables, under <partition>.done. It is the authority on what is done;
// acknowledgements only tell the stream what it may forget.
//
// Every key names the process that wrote it last, and each write replaces the very entry
// that this process wrote or took over: one that has lost the partition and does not know
// it yet can write nothing more (errTaken). It is safe for concurrent use.
type journal struct {
	kv        jetstream.KeyValue
	partition string
	owner     string
	// created tells a stream from a later one of the same name, whose sequences
	// mean other messages.
	created time.Time

	finishing sync.Mutex // one finish at a time

	mu        sync.Mutex
	done      intervals
	revisions map[string]uint64 // of the entries that are ours; 0 if there is none yet
	// unfinished are the ranges that an earlier owner began, oldest first.
	unfinished []begun
}

// begun is a range that was begun.
type begun struct {
	sequences intervals
	// repeated are those of them whose batches are not inserted, because another message
	// has them, too.
	repeated intervals
}

// record is the value of a key.
type record struct {
	// Created is when the stream was created, Unix time in nanoseconds.
	Created int64 `json:"created"`
	// Owner is the process that wrote it.
	Owner string `json:"owner,omitempty"`
	// Sequences of the stream.
	Sequences intervals `json:"sequences"`
	// Repeated are those of them that are not inserted.
	Repeated intervals `json:"repeated,omitempty"`
}

// set makes a set of what was read.
func set(read intervals) (intervals, error) {
	var s intervals
	for _, v := range read {
		if v[0] == 0 || v[1] < v[0] {
			return nil, fmt.Errorf("interval %d to %d", v[0], v[1])
		}
		s.addInterval(v)
	}
	return s, nil
}

// sequenceRange is the identity of a range: all tokens are made of it.
type sequenceRange struct {
	stream    string
	created   time.Time
	sequences intervals
}

// token returns the deduplication token for a table.
func (r sequenceRange) token(table string) string {
	h := sha256.New()
	for _, v := range r.sequences {
		_ = binary.Write(h, binary.BigEndian, v) // a hash takes everything
	}
	first, last := r.sequences[0][0], r.sequences[len(r.sequences)-1][1]
	return fmt.Sprintf("%s.%d.%d-%d.%s.%s", r.stream, r.created.UnixNano(), first, last,
		hex.EncodeToString(h.Sum(nil)[:8]), table)
}

// takeJournal makes a partition's journal owner's. When it returns, no earlier owner can
// begin or finish a range any more.
func takeJournal(ctx context.Context, kv jetstream.KeyValue, partition, owner string, info *jetstream.StreamInfo) (*journal, error) {
	j := &journal{kv: kv, partition: partition, owner: owner, created: info.Created, revisions: make(map[string]uint64)}
	// Ranges first: whoever cannot begin one has none to finish. All keys that there can
	// be, also those that nobody has used: the earlier owner could begin with one.
	var ranges []begun
	for worker := range maxWorkers {
		b, err := j.take(ctx, j.rangeKey(worker))
		if err != nil {
			return nil, err
		}
		ranges = append(ranges, b)
	}
	done, err := j.take(ctx, j.doneKey())
	if err != nil {
		return nil, err
	}
	j.done = done.sequences
	for _, b := range ranges {
		// A range is finished as a whole, so one sequence speaks for all.
		if len(b.sequences) > 0 && !j.isDone(b.sequences[0][0]) {
			j.unfinished = append(j.unfinished, b)
		}
	}
	slices.SortFunc(j.unfinished, func(a, b begun) int {
		if a.sequences[0][0] < b.sequences[0][0] {
			return -1
		}
		return 1
	})
	return j, nil
}

// maxWorkers bounds how many workers a partition has.
const maxWorkers = 8

func (j *journal) rangeKey(worker int) string { return fmt.Sprintf("%s.range.%d", j.partition, worker) }

func (j *journal) doneKey() string { return j.partition + ".done" }

// take makes a key ours and returns what it has: nothing if the key is missing or speaks
// of an earlier stream of this name.
func (j *journal) take(ctx context.Context, key string) (begun, error) {
	for {
		r, revision, err := j.get(ctx, key)
		if err != nil {
			return begun{}, err
		}
		var b begun
		if r.Created == j.created.UnixNano() {
			var err, err2 error
			b.sequences, err = set(r.Sequences)
			b.repeated, err2 = set(r.Repeated)
			if err := errors.Join(err, err2); err != nil {
				return begun{}, fmt.Errorf("read %s of bucket %s: %w", key, j.kv.Bucket(), err)
			}
		}
		j.revisions[key] = revision
		err = j.write(ctx, key, b)
		if !errors.Is(err, errTaken) {
			return b, err
		}
		// The earlier owner has written once more meanwhile, or what was read was old.
		select {
		case <-ctx.Done():
			return begun{}, fmt.Errorf("take %s of bucket %s: %w", key, j.kv.Bucket(), ctx.Err())
		case <-time.After(firstPause):
		}
	}
}

// get returns the value of a key and its revision, 0 if there is none.
func (j *journal) get(ctx context.Context, key string) (record, uint64, error) {
	var r record
	entry, err := j.kv.Get(ctx, key)
	if errors.Is(err, jetstream.ErrKeyNotFound) {
		return r, 0, nil
	}
	if err != nil {
		return r, 0, fmt.Errorf("read %s of bucket %s: %w", key, j.kv.Bucket(), err)
	}
	if err := json.Unmarshal(entry.Value(), &r); err != nil {
		return r, 0, fmt.Errorf("read %s of bucket %s: %w", key, j.kv.Bucket(), err)
	}
	return r, entry.Revision(), nil
}

// write replaces our entry of a key. The error is errTaken if it is not ours any more.
// It may be called for different keys at the same time.
func (j *journal) write(ctx context.Context, key string, b begun) error {
	value, err := json.Marshal(record{Created: j.created.UnixNano(), Owner: j.owner, Sequences: b.sequences, Repeated: b.repeated})
	if err != nil {
		return fmt.Errorf("encode %s of bucket %s: %w", key, j.kv.Bucket(), err)
	}
	j.mu.Lock()
	revision := j.revisions[key]
	j.mu.Unlock()
	written, err := replace(ctx, j.kv, key, value, revision)
	if errors.Is(err, errReplaced) {
		// Perhaps our own: written by an earlier try whose answer was lost.
		entry, getErr := j.kv.Get(ctx, key)
		if getErr != nil && !errors.Is(getErr, jetstream.ErrKeyNotFound) {
			return fmt.Errorf("write %s of bucket %s: %w", key, j.kv.Bucket(), errors.Join(err, getErr))
		}
		switch {
		case getErr == nil && entry.Revision() > revision && string(entry.Value()) == string(value):
			written, err = entry.Revision(), nil
		case getErr == nil && entry.Revision() <= revision: // a replica that is behind: ask again
		default:
			err = errTaken
		}
	}
	if err != nil {
		return fmt.Errorf("write %s of bucket %s: %w", key, j.kv.Bucket(), err)
	}
	j.mu.Lock()
	j.revisions[key] = written
	j.mu.Unlock()
	return nil
}

// errReplaced says that an entry is not the one that was to be replaced.
var errReplaced = errors.New("another entry is there")

// replace writes an entry if the one of that revision is the last, or with revision 0 if
// there is none. The error is errReplaced if that is not so.
func replace(ctx context.Context, kv jetstream.KeyValue, key string, value []byte, revision uint64) (uint64, error) {
	if revision == 0 {
		written, err := kv.Create(ctx, key, value)
		if errors.Is(err, jetstream.ErrKeyExists) || errors.Is(err, jetstream.ErrKeyRevisionMismatch) {
			err = errReplaced
		}
		return written, err
	}
	written, err := kv.Update(ctx, key, value, revision)
	if errors.Is(err, jetstream.ErrKeyRevisionMismatch) {
		err = errReplaced
	}
	return written, err
}

// begin writes down that a worker starts to insert a range.
func (j *journal) begin(ctx context.Context, worker int, b begun) error {
	return j.write(ctx, j.rangeKey(worker), b)
}

// maxDone is how many intervals may be done before finish asks for the floor: a stream
// of one partition needs a few, one of several as many as other partitions have messages
// between them.
const maxDone = 64

// finish writes down that a range is in the tables or among the dead letters. floor
// returns the last message before which all were acknowledged, or 0.
func (j *journal) finish(ctx context.Context, sequences intervals, floor func() uint64) error {
	j.finishing.Lock()
	defer j.finishing.Unlock()
	j.mu.Lock()
	done := slices.Clone(j.done)
	j.mu.Unlock()
	for _, v := range sequences {
		done.addInterval(v)
	}
	if len(done) > maxDone {
		done.addFloor(floor())
	}
	if err := j.write(ctx, j.doneKey(), begun{sequences: done}); err != nil {
		return err
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	j.done = done
	return nil
}

// isDone says whether a message is in the tables or among the dead letters.
func (j *journal) isDone(sequence uint64) bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.done.contains(sequence)
}

// forget lets the set of what is done shrink: below the floor all is done, also
// what somebody purged.
func (j *journal) forget(floor uint64) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.done.addFloor(floor)
}

// firstGap returns the last sequence before which all are done, 0 if there is none.
func (j *journal) firstGap() uint64 {
	j.mu.Lock()
	defer j.mu.Unlock()
	if len(j.done) == 0 {
		return 0
	}
	return j.done[0][1]
}
