package detector

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/nats-io/nats.go/jetstream"
	"google.golang.org/protobuf/proto"

	sallyportv1 "github.com/sallyport-ci/sallyport/proto/sallyport/v1"
	"github.com/sallyport-ci/sallyport/stream"
)

// ErrNoBaseline says that no clean run of a job was seen.
var ErrNoBaseline = errors.New("no baseline")

// Baselines reads and teaches the baselines in the bucket BASELINES. It is safe
// for concurrent use, also by several processes.
type Baselines struct {
	js     jetstream.JetStream
	bucket jetstream.KeyValue
}

// OpenBaselines opens the bucket, which stream.Declare has made.
func OpenBaselines(ctx context.Context, js jetstream.JetStream) (*Baselines, error) {
	bucket, err := js.KeyValue(ctx, stream.BaselinesBucket)
	if err != nil {
		return nil, fmt.Errorf("open bucket %s: %w", stream.BaselinesBucket, err)
	}
	return &Baselines{js: js, bucket: bucket}, nil
}

// baselineKey is a job's key: names hold characters that keys cannot.
func baselineKey(repository, workflow, job string) string {
	h := sha256.Sum256([]byte(fmt.Sprintf("%q%q%q", repository, workflow, job)))
	return hex.EncodeToString(h[:])
}

// Get returns the baseline of a job, or ErrNoBaseline.
func (b *Baselines) Get(ctx context.Context, repository, workflow, job string) (*sallyportv1.Baseline, error) {
	baseline, _, err := b.get(ctx, baselineKey(repository, workflow, job))
	return baseline, err
}

func (b *Baselines) get(ctx context.Context, key string) (*sallyportv1.Baseline, uint64, error) {
	entry, err := b.bucket.Get(ctx, key)
	if errors.Is(err, jetstream.ErrKeyNotFound) {
		return nil, 0, ErrNoBaseline
	}
	if err != nil {
		return nil, 0, fmt.Errorf("get baseline %s: %w", key, err)
	}
	out := new(sallyportv1.Baseline)
	if err := proto.Unmarshal(entry.Value(), out); err != nil {
		return nil, 0, fmt.Errorf("decode baseline %s: %w", key, err)
	}
	return out, entry.Revision(), nil
}

// List returns all baselines, ordered by repository, workflow and job.
func (b *Baselines) List(ctx context.Context) ([]*sallyportv1.Baseline, error) {
	names, err := stream.Keys(ctx, b.js, stream.BaselinesBucket)
	if err != nil {
		return nil, fmt.Errorf("list baselines: %w", err)
	}
	var out []*sallyportv1.Baseline
	for _, k := range names {
		baseline, _, err := b.get(ctx, k)
		if errors.Is(err, ErrNoBaseline) { // forgotten
			continue
		}
		if err != nil {
			return nil, err
		}
		out = append(out, baseline)
	}
	slices.SortFunc(out, func(x, y *sallyportv1.Baseline) int {
		return strings.Compare(
			fmt.Sprintf("%q%q%q", x.GetRepository(), x.GetWorkflow(), x.GetJob()),
			fmt.Sprintf("%q%q%q", y.GetRepository(), y.GetWorkflow(), y.GetJob()))
	})
	return out, nil
}

// Forget deletes the baseline of a job, so that it is learned again.
func (b *Baselines) Forget(ctx context.Context, repository, workflow, job string) error {
	if err := b.bucket.Delete(ctx, baselineKey(repository, workflow, job)); err != nil {
		return fmt.Errorf("forget baseline of %s, %s, %s: %w", repository, workflow, job, err)
	}
	return nil
}

// teach learns a clean run by compare and swap, trying again when another run of
// the job was learned meanwhile.
func (b *Baselines) teach(ctx context.Context, a *sallyportv1.Attribution, run cleanRun, runsNeeded uint32) error {
	key := baselineKey(a.GetRepository(), a.GetWorkflow(), a.GetJob())
	for {
		old, revision, err := b.get(ctx, key)
		if err != nil && !errors.Is(err, ErrNoBaseline) {
			return err
		}
		baseline := learn(old, a.GetRepository(), a.GetWorkflow(), a.GetJob(), run, runsNeeded)
		if baseline == old {
			return nil
		}
		data, err := proto.Marshal(baseline)
		if err != nil {
			return fmt.Errorf("encode baseline %s: %w", key, err)
		}
		if old == nil {
			_, err = b.bucket.Create(ctx, key, data)
		} else {
			_, err = b.bucket.Update(ctx, key, data, revision)
		}
		if err == nil {
			return nil
		}
		var api *jetstream.APIError
		wrongRevision := errors.As(err, &api) && api.ErrorCode == jetstream.JSErrCodeStreamWrongLastSequence
		if !wrongRevision && !errors.Is(err, jetstream.ErrKeyExists) {
			return fmt.Errorf("save baseline %s: %w", key, err)
		}
	}
}
