package stream_test

import (
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/sallyport-ci/sallyport/stream"
	"github.com/sallyport-ci/sallyport/stream/natsserver"
	"github.com/sallyport-ci/sallyport/stream/natsserver/natstest"
)

func TestKeysOfABucket(t *testing.T) {
	_, js := natstest.StartDeclared(t, natsserver.Config{})
	ctx := t.Context()
	if keys, err := stream.Keys(ctx, js, stream.BaselinesBucket); err != nil || len(keys) != 0 {
		t.Errorf("keys of an empty bucket: %v, %v", keys, err)
	}
	kv, err := js.KeyValue(ctx, stream.BaselinesBucket)
	if err != nil {
		t.Fatal(err)
	}
	var want []string
	for i := range 300 {
		key := fmt.Sprintf("a.%03d", i)
		if _, err := kv.Put(ctx, key, []byte("x")); err != nil {
			t.Fatal(err)
		}
		want = append(want, key)
	}
	if keys, err := stream.Keys(ctx, js, stream.BaselinesBucket); err != nil || !slices.Equal(keys, want) {
		t.Errorf("keys: %v, %v", keys, err)
	}
	if _, err := stream.Keys(ctx, js, "NONE"); !errors.Is(err, jetstream.ErrBucketNotFound) {
		t.Errorf("keys of a bucket that is not there: %v", err)
	}
}
