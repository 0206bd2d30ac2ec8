package stream

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// duplicateWindow is how long a stream remembers message identities: an agent
// that lost its connection right after publishing has so long to try again
// before a batch could be stored twice.
const duplicateWindow = 30 * time.Minute

// RepeatWindow is how long after its last batch was inserted a batch of an agent's start is
// recognised if it comes again.
const RepeatWindow = 7 * 24 * time.Hour

// Limits bounds what the streams keep, in bytes. Zero means the default.
type Limits struct {
	// EventsBytes bounds EVENTS; 8 GiB by default. When it is full, publishing
	// fails and agents spool.
	EventsBytes int64
	// FindingsBytes bounds FINDINGS; 256 MiB by default.
	FindingsBytes int64
	// DeadLetterBytes bounds DEADLETTERS; 1 GiB by default. When it is full,
	// the oldest are dropped.
	DeadLetterBytes int64
	// EventPartitions is into how many partitions EVENTS is divided among ingest
	// processes, 1 to MaxPartitions; 1 by default. It can be changed at any time.
	EventPartitions int
}

// Default limits, and room for buckets, that the embedded server has to offer.
const (
	defaultEventsBytes     = 8 << 30
	defaultFindingsBytes   = 256 << 20
	defaultDeadLetterBytes = 1 << 30
	bucketBytes            = 256 << 20
)

func (l Limits) withDefaults() Limits {
	if l.EventPartitions == 0 {
		l.EventPartitions = 1
	}
	if l.EventsBytes == 0 {
		l.EventsBytes = defaultEventsBytes
	}
	if l.FindingsBytes == 0 {
		l.FindingsBytes = defaultFindingsBytes
	}
	if l.DeadLetterBytes == 0 {
		l.DeadLetterBytes = defaultDeadLetterBytes
	}
	return l
}

// Total returns the bytes that all streams and buckets may take together.
func (l Limits) Total() int64 {
	l = l.withDefaults()
	return l.EventsBytes + l.FindingsBytes + l.DeadLetterBytes + 6*bucketBytes
}

// Declare creates the streams, their durable consumers and the buckets, or
// brings them up to date. It is idempotent and safe to run from several
// processes. It has to be run before the first agent publishes: EVENTS keeps a
// message only for the consumers that it has.
func Declare(ctx context.Context, js jetstream.JetStream, l Limits) error {
	l = l.withDefaults()
	if l.EventPartitions < 0 || l.EventPartitions > MaxPartitions {
		return fmt.Errorf("declare stream %s: %d partitions, want 1 to %d", EventsStream, l.EventPartitions, MaxPartitions)
	}
	streams := []struct {
		config    jetstream.StreamConfig
		consumers []string
	}{
		{jetstream.StreamConfig{
			Name:        EventsStream,
			Description: "Batches of events from agents, kept until ingest and detector have acknowledged them.",
			// What is published, and how it is stored if there are partitions. With one
			// subject alone, the server would take the consumer of that subject for one
			// of all messages, and keep for it what it never reads.
			Subjects:   []string{eventPrefix + "*", eventPrefix + "*.*.*"},
			Retention:  jetstream.InterestPolicy,
			Discard:    jetstream.DiscardNew,
			MaxBytes:   l.EventsBytes,
			Duplicates: duplicateWindow,
		}, []string{DetectorConsumer}},
		{jetstream.StreamConfig{
			Name:        FindingsStream,
			Description: "Findings from the detector, kept until ingest and notify have acknowledged them.",
			Subjects:    []string{FindingSubject},
			Retention:   jetstream.InterestPolicy,
			Discard:     jetstream.DiscardNew,
			MaxBytes:    l.FindingsBytes,
			Duplicates:  24 * time.Hour,
		}, []string{IngestConsumer, NotifyConsumer}},
		{jetstream.StreamConfig{
			Name:        DeadLettersStream,
			Description: "Messages that a part could not use, with the reason.",
			Subjects:    []string{deadLetterPrefix + "*"},
			Retention:   jetstream.LimitsPolicy,
			Discard:     jetstream.DiscardOld,
			MaxBytes:    l.DeadLetterBytes,
			MaxAge:      30 * 24 * time.Hour,
			Duplicates:  24 * time.Hour,
		}, nil},
	}
	for _, s := range streams {
		s.config.Storage = jetstream.FileStorage
		if s.config.Name == EventsStream {
			if err := declareEvents(ctx, js, s.config, l.EventPartitions); err != nil {
				return err
			}
		} else if _, err := js.CreateOrUpdateStream(ctx, s.config); err != nil {
			return fmt.Errorf("declare stream %s: %w", s.config.Name, err)
		}
		for _, name := range s.consumers {
			if err := declareConsumer(ctx, js, s.config.Name, name, ""); err != nil {
				return err
			}
		}
	}
	for _, bucket := range []string{BaselinesBucket, IngestBucket, IngestedBucket, DetectorBucket, NotifyBucket} {
		config := jetstream.KeyValueConfig{Bucket: bucket, History: 1, MaxBytes: bucketBytes}
		if bucket == IngestedBucket {
			config.TTL, config.MaxBytes = RepeatWindow, 2*bucketBytes
		}
		if _, err := js.CreateOrUpdateKeyValue(ctx, config); err != nil {
			return fmt.Errorf("declare bucket %s: %w", bucket, err)
		}
	}
	return nil
}

// declareEvents declares EVENTS with the consumers of its partitions. They come before
// messages are stored for them: EVENTS keeps a message only for the consumers that it has.
func declareEvents(ctx context.Context, js jetstream.JetStream, config jetstream.StreamConfig, partitions int) error {
	_, err := js.Stream(ctx, EventsStream)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		_, err = js.CreateStream(ctx, config)
		if errors.Is(err, jetstream.ErrStreamNameAlreadyInUse) {
			err = nil // another process has just made it
		}
	}
	if err != nil {
		return fmt.Errorf("declare stream %s: %w", EventsStream, err)
	}
	for _, p := range eventPartitions(partitions) {
		if err := declareConsumer(ctx, js, EventsStream, p.Consumer, p.Subject); err != nil {
			return err
		}
	}
	config.SubjectTransform = eventTransform(partitions)
	s, err := js.CreateOrUpdateStream(ctx, config)
	if err != nil {
		return fmt.Errorf("declare stream %s: %w", EventsStream, err)
	}
	return removeEmptyPartitions(ctx, s, partitions)
}

// declareConsumer declares a durable consumer of all messages, or of those that match a
// subject.
func declareConsumer(ctx context.Context, js jetstream.JetStream, streamName, name, subject string) error {
	_, err := js.CreateOrUpdateConsumer(ctx, streamName, jetstream.ConsumerConfig{
		Durable:       name,
		AckPolicy:     jetstream.AckExplicitPolicy,
		AckWait:       time.Minute,
		MaxAckPending: 100_000,
		FilterSubject: subject,
	})
	if err != nil {
		return fmt.Errorf("declare consumer %s of stream %s: %w", name, streamName, err)
	}
	return nil
}
