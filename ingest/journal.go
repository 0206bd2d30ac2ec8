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
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// journal is what ingest knows of one stream in the bucket INGEST: the range
// that each worker is inserting, under <stream>.range.<worker>, and the sequences
// that are in the tables, under <stream>.done. It is the authority on what is
// done; acknowledgements only tell the stream what it may forget. It is safe for
// concurrent use.
type journal struct {
	kv     jetstream.KeyValue
	stream string
	// created tells a stream from a later one of the same name, whose sequences
	// mean other messages.
	created time.Time

	mu   sync.Mutex
	done intervals
}

// record is the value of a key.
type record struct {
	// Created is when the stream was created, Unix time in nanoseconds.
	Created int64 `json:"created"`
	// Sequences of the stream.
	Sequences intervals `json:"sequences"`
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

func openJournal(ctx context.Context, kv jetstream.KeyValue, info *jetstream.StreamInfo) (*journal, error) {
	j := &journal{kv: kv, stream: info.Config.Name, created: info.Created}
	done, err := j.read(ctx, j.stream+".done")
	if err != nil {
		return nil, err
	}
	j.done = done
	return j, nil
}

// read returns the sequences under a key, none if the key is missing or speaks of
// an earlier stream of this name.
func (j *journal) read(ctx context.Context, key string) (intervals, error) {
	entry, err := j.kv.Get(ctx, key)
	if errors.Is(err, jetstream.ErrKeyNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read %s of bucket %s: %w", key, j.kv.Bucket(), err)
	}
	var r record
	if err := json.Unmarshal(entry.Value(), &r); err != nil {
		return nil, fmt.Errorf("read %s of bucket %s: %w", key, j.kv.Bucket(), err)
	}
	if r.Created != j.created.UnixNano() {
		return nil, nil
	}
	var s intervals
	for _, v := range r.Sequences {
		if v[0] == 0 || v[1] < v[0] {
			return nil, fmt.Errorf("read %s of bucket %s: interval %d to %d", key, j.kv.Bucket(), v[0], v[1])
		}
		s.addInterval(v)
	}
	return s, nil
}

func (j *journal) write(ctx context.Context, key string, s intervals) error {
	value, err := json.Marshal(record{Created: j.created.UnixNano(), Sequences: s})
	if err != nil {
		return fmt.Errorf("encode %s of bucket %s: %w", key, j.kv.Bucket(), err)
	}
	if _, err := j.kv.Put(ctx, key, value); err != nil {
		return fmt.Errorf("write %s of bucket %s: %w", key, j.kv.Bucket(), err)
	}
	return nil
}

// begin writes down that a worker starts to insert a range.
func (j *journal) begin(ctx context.Context, worker int, sequences intervals) error {
	return j.write(ctx, fmt.Sprintf("%s.range.%d", j.stream, worker), sequences)
}

// finish writes down that a range is in the tables or among the dead letters.
func (j *journal) finish(ctx context.Context, sequences intervals) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	done := slices.Clone(j.done)
	for _, v := range sequences {
		done.addInterval(v)
	}
	if err := j.write(ctx, j.stream+".done", done); err != nil {
		return err
	}
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
	if floor == 0 {
		return
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	j.done.addInterval(interval{1, floor})
}

// pending returns the ranges that were begun and not finished, oldest first.
func (j *journal) pending(ctx context.Context) ([]intervals, error) {
	lister, err := j.kv.ListKeysFiltered(ctx, j.stream+".range.*")
	if err != nil {
		return nil, fmt.Errorf("list ranges in bucket %s: %w", j.kv.Bucket(), err)
	}
	var keys []string
	for key := range lister.Keys() {
		keys = append(keys, key)
	}
	slices.SortFunc(keys, strings.Compare)
	var ranges []intervals
	for _, key := range keys {
		s, err := j.read(ctx, key)
		if err != nil {
			return nil, err
		}
		// A range is finished as a whole, so one sequence speaks for all.
		if len(s) > 0 && !j.isDone(s[0][0]) {
			ranges = append(ranges, s)
		}
	}
	slices.SortFunc(ranges, func(a, b intervals) int {
		if a[0][0] < b[0][0] {
			return -1
		}
		return 1
	})
	return ranges, nil
}
