package detector

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	sallyportv1 "github.com/sallyport-ci/sallyport/proto/sallyport/v1"
	"github.com/sallyport-ci/sallyport/stream"
)

// Decisions keeps what people decided in the bucket DECISIONS: entries are added and never
// changed. It is safe for concurrent use, also by several processes.
type Decisions struct {
	js     jetstream.JetStream
	bucket jetstream.KeyValue

	mu    sync.Mutex
	known map[string]*sallyportv1.Decision // by identity; they do not change
}

// OpenDecisions opens the bucket, which stream.Declare has made.
func OpenDecisions(ctx context.Context, js jetstream.JetStream) (*Decisions, error) {
	bucket, err := js.KeyValue(ctx, stream.DecisionsBucket)
	if err != nil {
		return nil, fmt.Errorf("open bucket %s: %w", stream.DecisionsBucket, err)
	}
	return &Decisions{js: js, bucket: bucket, known: make(map[string]*sallyportv1.Decision)}, nil
}

// Record writes a decision down, giving it an identity that sorts by time.
func (d *Decisions) Record(ctx context.Context, decision *sallyportv1.Decision, now time.Time) error {
	var random [8]byte
	if _, err := rand.Read(random[:]); err != nil {
		return fmt.Errorf("record decision: %w", err)
	}
	decision.Id = fmt.Sprintf("%016x%s", now.UnixNano(), hex.EncodeToString(random[:]))
	decision.Time = timestamppb.New(now)
	data, err := proto.Marshal(decision)
	if err != nil {
		return fmt.Errorf("encode decision: %w", err)
	}
	if _, err := d.bucket.Create(ctx, decision.GetId(), data); err != nil {
		return fmt.Errorf("record decision: %w", err)
	}
	return nil
}

// Stands says whether of two decisions about a finding the first is the one that counts: the later
// one, but that somebody looks at a finding (acknowledge) takes back nothing that was decided about
// it. Old may be nil.
func Stands(d, old *sallyportv1.Decision) bool {
	if a, b := decides(d), decides(old); a != b {
		return a
	}
	return d.GetId() > old.GetId()
}

// decides says whether a decision says what a finding is.
func decides(d *sallyportv1.Decision) bool {
	return d != nil && d.GetKind() != sallyportv1.DecisionKind_DECISION_KIND_ACKNOWLEDGE
}

// List returns all decisions, newest first.
func (d *Decisions) List(ctx context.Context) ([]*sallyportv1.Decision, error) {
	keys, err := stream.Keys(ctx, d.js, stream.DecisionsBucket)
	if err != nil {
		return nil, fmt.Errorf("list decisions: %w", err)
	}
	out := make([]*sallyportv1.Decision, 0, len(keys))
	for _, k := range keys {
		decision, err := d.get(ctx, k)
		if err != nil {
			return nil, err
		}
		if decision != nil {
			out = append(out, decision)
		}
	}
	slices.SortFunc(out, func(a, b *sallyportv1.Decision) int { return strings.Compare(b.GetId(), a.GetId()) })
	return out, nil
}

func (d *Decisions) get(ctx context.Context, key string) (*sallyportv1.Decision, error) {
	d.mu.Lock()
	known := d.known[key]
	d.mu.Unlock()
	if known != nil {
		return known, nil
	}
	entry, err := d.bucket.Get(ctx, key)
	if errors.Is(err, jetstream.ErrKeyNotFound) { // an administrator removed it
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("get decision %s: %w", key, err)
	}
	decision := new(sallyportv1.Decision)
	if err := proto.Unmarshal(entry.Value(), decision); err != nil {
		return nil, fmt.Errorf("decode decision %s: %w", key, err)
	}
	d.mu.Lock()
	d.known[key] = decision
	d.mu.Unlock()
	return decision, nil
}
