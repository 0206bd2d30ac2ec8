package detector

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/nats-io/nats.go/jetstream"
	"google.golang.org/protobuf/proto"

	sallyportv1 "github.com/sallyport-ci/sallyport/proto/sallyport/v1"
	"github.com/sallyport-ci/sallyport/stream"
)

// Verdicts keeps verdicts in the bucket VERDICTS, the last of each execution. It is safe
// for concurrent use.
type Verdicts struct {
	js     jetstream.JetStream
	bucket jetstream.KeyValue
}

// OpenVerdicts opens the bucket, which stream.Declare has made.
func OpenVerdicts(ctx context.Context, js jetstream.JetStream) (*Verdicts, error) {
	bucket, err := js.KeyValue(ctx, stream.VerdictsBucket)
	if err != nil {
		return nil, fmt.Errorf("open bucket %s: %w", stream.VerdictsBucket, err)
	}
	return &Verdicts{js: js, bucket: bucket}, nil
}

// runKey is a run's key: names hold characters that keys cannot.
func runKey(repository, run string) string { return hashOf(repository, run) }

// Put keeps a verdict in the place of the one before on the same execution.
func (v *Verdicts) Put(ctx context.Context, verdict *sallyportv1.Verdict) error {
	data, err := proto.Marshal(verdict)
	if err != nil {
		return fmt.Errorf("encode verdict: %w", err)
	}
	a := verdict.GetAttribution()
	if _, err := v.bucket.Put(ctx, runKey(a.GetRepository(), a.GetRunId())+"."+hashOf(a.GetExecutionId()), data); err != nil {
		return fmt.Errorf("publish verdict on execution %s: %w", a.GetExecutionId(), err)
	}
	return nil
}

// OfRun returns the verdicts on a run's jobs, ordered by job and execution.
func (v *Verdicts) OfRun(ctx context.Context, repository, run string) ([]*sallyportv1.Verdict, error) {
	keys, err := stream.KeysLike(ctx, v.js, stream.VerdictsBucket, runKey(repository, run)+".*")
	if err != nil {
		return nil, fmt.Errorf("list verdicts of run %s of %s: %w", run, repository, err)
	}
	var out []*sallyportv1.Verdict
	for _, k := range keys {
		entry, err := v.bucket.Get(ctx, k)
		if errors.Is(err, jetstream.ErrKeyNotFound) { // too old meanwhile
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("get verdict %s: %w", k, err)
		}
		verdict := new(sallyportv1.Verdict)
		if err := proto.Unmarshal(entry.Value(), verdict); err != nil {
			return nil, fmt.Errorf("decode verdict %s: %w", k, err)
		}
		out = append(out, verdict)
	}
	slices.SortFunc(out, func(a, b *sallyportv1.Verdict) int {
		return cmp.Or(cmp.Compare(a.GetAttribution().GetJob(), b.GetAttribution().GetJob()),
			cmp.Compare(a.GetAttribution().GetExecutionId(), b.GetAttribution().GetExecutionId()))
	})
	return out, nil
}
