package stream

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// RemoveKey removes an entry of a bucket without a trace. A deletion as usual leaves a marker,
// which is listed as a key for as long as the bucket keeps things.
func RemoveKey(ctx context.Context, js jetstream.JetStream, bucket, key string) error {
	s, err := js.Stream(ctx, bucketPrefix+bucket)
	if err == nil {
		err = s.Purge(ctx, jetstream.WithPurgeSubject("$KV."+bucket+"."+key))
	}
	if err != nil {
		return fmt.Errorf("remove %s from bucket %s: %w", key, bucket, err)
	}
	return nil
}

// Follow calls heard with each value that is put into a bucket from now on, in order, until ctx
// ends; one that is replaced at once may be left out. It looks every interval, and needs no consumer:
// whoever may make one could have what is in the bucket delivered to anybody. While NATS is away
// it waits, and tells trouble, which may be nil.
func Follow(ctx context.Context, js jetstream.JetStream, bucket string, interval time.Duration, heard func(value []byte), trouble func(error)) error {
	if trouble == nil {
		trouble = func(error) {}
	}
	s, err := js.Stream(ctx, bucketPrefix+bucket)
	if err != nil {
		return fmt.Errorf("follow bucket %s: %w", bucket, err)
	}
	last := s.CachedInfo().State.LastSeq
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(interval):
		}
		info, err := s.Info(ctx)
		if err != nil {
			trouble(fmt.Errorf("follow bucket %s: %w", bucket, err))
			continue
		}
		if info.State.LastSeq < last { // another stream by the same name
			last = 0
		}
		for last < info.State.LastSeq {
			m, err := s.GetMsg(ctx, last+1)
			if err != nil && !errors.Is(err, jetstream.ErrMsgNotFound) {
				trouble(fmt.Errorf("follow bucket %s: %w", bucket, err))
				break
			}
			last++
			if err == nil && len(m.Data) > 0 {
				heard(m.Data)
			}
		}
	}
}
