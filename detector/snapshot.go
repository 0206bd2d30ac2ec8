package detector

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/klauspost/compress/zstd"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/sallyport-ci/sallyport/stream"
)

// maxSnapshot bounds a packed execution in the bucket; NATS refuses 1 MiB.
const maxSnapshot = 900 << 10

// snapshots keeps executions in the bucket DETECTOR.
type snapshots struct {
	snapshotCodec
	js     jetstream.JetStream
	bucket jetstream.KeyValue
}

// snapshotCodec packs entries.
type snapshotCodec struct {
	pack   *zstd.Encoder
	unpack *zstd.Decoder
}

// snapshot is one entry.
type snapshot struct {
	ID        string     `json:"id"`
	Execution *execution `json:"execution"`
}

func openSnapshots(ctx context.Context, js jetstream.JetStream) (*snapshots, error) {
	bucket, err := js.KeyValue(ctx, stream.DetectorBucket)
	if err != nil {
		return nil, fmt.Errorf("open bucket %s: %w", stream.DetectorBucket, err)
	}
	codec, err := newSnapshotCodec()
	if err != nil {
		return nil, err
	}
	return &snapshots{snapshotCodec: codec, js: js, bucket: bucket}, nil
}

func newSnapshotCodec() (c snapshotCodec, err error) {
	c.pack, err = zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(1))
	if err != nil {
		return c, fmt.Errorf("new zstd encoder: %w", err)
	}
	c.unpack, err = zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(256<<20))
	if err != nil {
		return c, fmt.Errorf("new zstd decoder: %w", err)
	}
	return c, nil
}

// snapshotKey is a key that any execution id, even a foreign one, fits in.
func snapshotKey(id string) string {
	h := sha256.Sum256([]byte(id))
	return hex.EncodeToString(h[:16])
}

func (s *snapshots) save(ctx context.Context, id string, x *execution) error {
	data, err := s.encode(id, x)
	if err != nil {
		return err
	}
	for len(data) > maxSnapshot && len(x.Ends) > 0 {
		// Half of the pipes are forgotten rather than the execution.
		x.dropOldest((len(x.Ends) + 1) / 2)
		x.incomplete("more than a snapshot holds")
		if data, err = s.encode(id, x); err != nil {
			return err
		}
	}
	if _, err := s.bucket.Put(ctx, snapshotKey(id), data); err != nil {
		return fmt.Errorf("save execution %s: %w", id, err)
	}
	return nil
}

func (c snapshotCodec) encode(id string, x *execution) ([]byte, error) {
	x.pack()
	data, err := json.Marshal(snapshot{ID: id, Execution: x})
	if err != nil {
		return nil, fmt.Errorf("encode execution %s: %w", id, err)
	}
	return c.pack.EncodeAll(data, nil), nil
}

func (c snapshotCodec) decode(data []byte) (*snapshot, error) {
	raw, err := c.unpack.DecodeAll(data, nil)
	if err != nil {
		return nil, fmt.Errorf("unpack execution: %w", err)
	}
	out := new(snapshot)
	if err := json.Unmarshal(raw, out); err != nil {
		return nil, fmt.Errorf("decode execution: %w", err)
	}
	if out.Execution == nil {
		return nil, errors.New("decode execution: it is empty")
	}
	if err := out.Execution.restore(); err != nil {
		return nil, fmt.Errorf("restore execution %s: %w", out.ID, err)
	}
	return out, nil
}

// load reads all executions. Entries that cannot be read are returned as problems.
func (s *snapshots) load(ctx context.Context) (map[string]*execution, []error, error) {
	names, err := stream.Keys(ctx, s.js, stream.DetectorBucket)
	if err != nil {
		return nil, nil, fmt.Errorf("list executions: %w", err)
	}
	out := make(map[string]*execution, len(names))
	var problems []error
	for _, k := range names {
		entry, err := s.bucket.Get(ctx, k)
		if errors.Is(err, jetstream.ErrKeyNotFound) { // forgotten
			continue
		}
		if err != nil {
			return nil, nil, fmt.Errorf("get execution %s: %w", k, err)
		}
		x, err := s.decode(entry.Value())
		if err != nil {
			problems = append(problems, fmt.Errorf("execution %s: %w", k, err))
			continue
		}
		out[x.ID] = x.Execution
	}
	return out, problems, nil
}

func (s *snapshots) remove(ctx context.Context, id string) error {
	if err := s.bucket.Purge(ctx, snapshotKey(id)); err != nil {
		return fmt.Errorf("remove execution %s: %w", id, err)
	}
	return nil
}
