package identity

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	sallyportv1 "github.com/sallyport-ci/sallyport/proto/sallyport/v1"
	"github.com/sallyport-ci/sallyport/stream"
)

// refusals is who was refused: one entry for a reason, a repository and an address.
type refusals struct {
	bucket jetstream.KeyValue
	js     jetstream.JetStream
}

// maxLook bounds how many places of the bucket are looked at for a list.
const maxLook = 20_000

// record counts a refusal. Of two servers that count at the same moment one may not be
// counted.
func (r *refusals) record(ctx context.Context, refused *RefusedError, address string, now time.Time) error {
	h := sha256.Sum256(fmt.Appendf(nil, "%q %q %q", refused.Reason, refused.Repository, address))
	key := hex.EncodeToString(h[:16])
	entry := &sallyportv1.Refusal{First: timestamppb.New(now)}
	if had, err := r.bucket.Get(ctx, key); err == nil {
		if err := proto.Unmarshal(had.Value(), entry); err != nil {
			return fmt.Errorf("read refusal %s: %w", key, err)
		}
	} else if !errors.Is(err, jetstream.ErrKeyNotFound) {
		return fmt.Errorf("read refusal %s: %w", key, err)
	}
	entry.Reason, entry.Detail = string(refused.Reason), refused.Detail
	entry.Repository, entry.RunId, entry.Address = refused.Repository, refused.RunID, address
	entry.Last = timestamppb.New(now)
	entry.Count++
	data, err := proto.Marshal(entry)
	if err != nil {
		return fmt.Errorf("encode refusal: %w", err)
	}
	if _, err := r.bucket.Put(ctx, key, data); err != nil {
		return fmt.Errorf("keep refusal: %w", err)
	}
	return nil
}

// list returns the newest refusals, at most n, newest first.
func (r *refusals) list(ctx context.Context, n int) ([]*sallyportv1.Refusal, error) {
	s, err := r.js.Stream(ctx, "KV_"+stream.RefusalsBucket)
	if err != nil {
		return nil, fmt.Errorf("list refusals: %w", err)
	}
	state := s.CachedInfo().State
	var all []*sallyportv1.Refusal
	for sequence, looked := state.LastSeq, 0; sequence >= max(state.FirstSeq, 1) && len(all) < n && looked < maxLook; sequence-- {
		looked++
		m, err := s.GetMsg(ctx, sequence)
		if errors.Is(err, jetstream.ErrMsgNotFound) {
			continue // counted again since
		}
		if err != nil {
			return nil, fmt.Errorf("list refusals: %w", err)
		}
		entry := new(sallyportv1.Refusal)
		if err := proto.Unmarshal(m.Data, entry); err != nil {
			return nil, fmt.Errorf("list refusals: entry %d: %w", sequence, err)
		}
		all = append(all, entry)
	}
	return all, nil
}
