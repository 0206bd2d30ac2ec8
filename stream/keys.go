package stream

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/nats-io/nats.go/jetstream"
)

// Keys returns the keys of a bucket in order, also those that were deleted a while ago. It
// asks the leader of the bucket, so that a key that was written is there, and it needs no
// consumer: who may make one may have it deliver to any subject.
func Keys(ctx context.Context, js jetstream.JetStream, bucket string) ([]string, error) {
	return KeysLike(ctx, js, bucket, ">")
}

// KeysLike is Keys of those keys that a filter in the manner of subjects matches, for
// instance "a.*".
func KeysLike(ctx context.Context, js jetstream.JetStream, bucket, filter string) ([]string, error) {
	s, err := js.Stream(ctx, bucketPrefix+bucket)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		err = jetstream.ErrBucketNotFound
	}
	if err != nil {
		return nil, fmt.Errorf("list keys of bucket %s: %w", bucket, err)
	}
	prefix := "$KV." + bucket + "."
	info, err := s.Info(ctx, jetstream.WithSubjectFilter(prefix+filter))
	if err != nil {
		return nil, fmt.Errorf("list keys of bucket %s: %w", bucket, err)
	}
	keys := make([]string, 0, len(info.State.Subjects))
	for subject := range info.State.Subjects {
		keys = append(keys, strings.TrimPrefix(subject, prefix))
	}
	slices.Sort(keys)
	return keys, nil
}
