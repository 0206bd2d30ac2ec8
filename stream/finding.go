package stream

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"

	"github.com/nats-io/nats.go/jetstream"
	"google.golang.org/protobuf/proto"

	sallyportv1 "github.com/sallyport-ci/sallyport/proto/sallyport/v1"
)

// PublishFinding publishes a finding and waits until the stream has stored it. A
// finding whose id the stream has already is dropped there, without error.
func PublishFinding(ctx context.Context, js jetstream.JetStream, f *sallyportv1.Finding) error {
	if err := checkFinding(f); err != nil {
		return fmt.Errorf("publish finding: %w", err)
	}
	data, err := proto.Marshal(f)
	if err != nil {
		return fmt.Errorf("encode finding %s: %w", f.GetId(), err)
	}
	if _, err := js.Publish(ctx, FindingSubject, data, jetstream.WithMsgID(f.GetId())); err != nil {
		return fmt.Errorf("publish finding %s: %w", f.GetId(), err)
	}
	return nil
}

// DecodeFinding decodes a message of the stream FINDINGS. An error wraps
// ErrMalformed.
func DecodeFinding(data []byte) (*sallyportv1.Finding, error) {
	f := new(sallyportv1.Finding)
	if err := proto.Unmarshal(data, f); err != nil {
		return nil, fmt.Errorf("%w: decode finding of %d bytes: %w", ErrMalformed, len(data), err)
	}
	if err := checkFinding(f); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	return f, nil
}

func checkFinding(f *sallyportv1.Finding) error {
	if _, err := hex.DecodeString(f.GetId()); err != nil || len(f.GetId()) != 32 {
		return fmt.Errorf("finding id %q is not 32 hexadecimal digits", f.GetId())
	}
	if f.GetPolicy().GetId() == "" {
		return fmt.Errorf("finding %s names no policy", f.GetId())
	}
	if f.GetTime() == nil || f.GetTime().CheckValid() != nil {
		return errors.New("finding " + f.GetId() + " has no valid time")
	}
	return nil
}
