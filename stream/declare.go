package stream

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

var (
	// ErrNotDeclared says that a stream, a consumer or a bucket is not there.
	ErrNotDeclared = errors.New("not declared")
	// ErrDiffers says that a stream, a consumer or a bucket is not as it has to be, and
	// that it cannot be changed or nobody was asked to change it.
	ErrDiffers = errors.New("not as it has to be")
)

// duplicateWindow is how long a stream remembers message identities: an agent
// that lost its connection right after publishing has so long to try again
// before a batch could be stored twice.
const duplicateWindow = 30 * time.Minute

// Limits is what an operator decides about the streams and buckets: how much they keep,
// how often and where. Zero leaves what is there as it is, and is the default for what is
// not there yet.
type Limits struct {
	// EventsBytes bounds EVENTS; 8 GiB by default. When it is full, publishing
	// fails and agents spool.
	EventsBytes int64
	// FindingsBytes bounds FINDINGS; 256 MiB by default.
	FindingsBytes int64
	// DeadLetterBytes bounds DEADLETTERS; 1 GiB by default. When it is full,
	// the oldest are dropped.
	DeadLetterBytes int64
	// BucketBytes bounds each bucket; 256 MiB by default.
	BucketBytes int64
	// EventsAge is how long EVENTS keeps what ingest or the detector has not taken; for
	// ever by default. What is older is lost.
	EventsAge time.Duration
	// DeadLetterAge is how long DEADLETTERS keeps a message; 30 days by default.
	DeadLetterAge time.Duration
	// Replicas is on how many servers each message is, 1 to 5; 1 by default.
	Replicas int
	// Storage is "file" or "memory"; file by default. It cannot be changed later.
	Storage string
}

// Default limits, and room for buckets, that the embedded server has to offer.
const (
	defaultEventsBytes     = 8 << 30
	defaultFindingsBytes   = 256 << 20
	defaultDeadLetterBytes = 1 << 30
	defaultBucketBytes     = 256 << 20
	defaultDeadLetterAge   = 30 * 24 * time.Hour
)

func (l Limits) withDefaults() Limits {
	set := func(v *int64, d int64) {
		if *v == 0 {
			*v = d
		}
	}
	set(&l.EventsBytes, defaultEventsBytes)
	set(&l.FindingsBytes, defaultFindingsBytes)
	set(&l.DeadLetterBytes, defaultDeadLetterBytes)
	set(&l.BucketBytes, defaultBucketBytes)
	if l.DeadLetterAge == 0 {
		l.DeadLetterAge = defaultDeadLetterAge
	}
	if l.Replicas == 0 {
		l.Replicas = 1
	}
	if l.Storage == "" {
		l.Storage = "file"
	}
	return l
}

// Valid says which setting nobody can mean.
func (l Limits) Valid() error {
	switch {
	case l.Replicas < 0 || l.Replicas > 5:
		return fmt.Errorf("%d replicas: 1 to 5 are possible, 3 or 5 survive the loss of a server", l.Replicas)
	case l.Storage != "" && l.Storage != "file" && l.Storage != "memory":
		return fmt.Errorf("storage %q is not file or memory", l.Storage)
	case min(l.EventsBytes, l.FindingsBytes, l.DeadLetterBytes, l.BucketBytes, int64(l.EventsAge), int64(l.DeadLetterAge)) < 0:
		return errors.New("a limit is negative")
	}
	return nil
}

// Total returns the bytes that all streams and buckets may take together, on one server.
func (l Limits) Total() int64 {
	l = l.withDefaults()
	return l.EventsBytes + l.FindingsBytes + l.DeadLetterBytes + 4*l.BucketBytes
}

// declared is a stream as it has to be. A bucket is a stream, too.
type declared struct {
	what   string // for people: stream EVENTS, bucket INGEST
	config jetstream.StreamConfig
	// consumers are its durable consumers, named for the parts that use them.
	consumers []string
	// parts use it without a consumer.
	parts []string
}

// layout is all that there has to be.
func layout(l Limits) []declared {
	storage := jetstream.FileStorage
	if l.Storage == "memory" {
		storage = jetstream.MemoryStorage
	}
	streams := []declared{
		{
			config: jetstream.StreamConfig{
				Name:        EventsStream,
				Description: "Batches of events from agents, kept until ingest and detector have acknowledged them.",
				Subjects:    []string{eventPrefix + "*"},
				Retention:   jetstream.InterestPolicy,
				Discard:     jetstream.DiscardNew,
				MaxBytes:    l.EventsBytes,
				MaxAge:      l.EventsAge,
				Duplicates:  duplicateWindow,
			},
			consumers: []string{IngestConsumer, DetectorConsumer},
		},
		{
			config: jetstream.StreamConfig{
				Name:        FindingsStream,
				Description: "Findings from the detector, kept until ingest and notify have acknowledged them.",
				Subjects:    []string{FindingSubject},
				Retention:   jetstream.InterestPolicy,
				Discard:     jetstream.DiscardNew,
				MaxBytes:    l.FindingsBytes,
				Duplicates:  24 * time.Hour,
			},
			consumers: []string{IngestConsumer, NotifyConsumer},
		},
		{
			config: jetstream.StreamConfig{
				Name:        DeadLettersStream,
				Description: "Messages that a part could not use, with the reason.",
				Subjects:    []string{deadLetterPrefix + "*"},
				Retention:   jetstream.LimitsPolicy,
				Discard:     jetstream.DiscardOld,
				MaxBytes:    l.DeadLetterBytes,
				MaxAge:      l.DeadLetterAge,
				Duplicates:  24 * time.Hour,
			},
		},
	}
	for i := range streams {
		streams[i].what = "stream " + streams[i].config.Name
	}
	for _, b := range []struct {
		name, description string
		parts             []string
	}{
		{BaselinesBucket, "The baseline of each job.", []string{PartDetector, PartServer}},
		{IngestBucket, "The ranges of the streams that are being inserted.", []string{PartIngest}},
		{DetectorBucket, "The executions that the detector follows.", []string{PartDetector}},
		{NotifyBucket, "What was delivered to whom.", []string{PartNotify}},
	} {
		streams = append(streams, declared{
			what: "bucket " + b.name,
			config: jetstream.StreamConfig{
				Name:              bucketPrefix + b.name,
				Description:       b.description,
				Subjects:          []string{"$KV." + b.name + ".>"},
				Retention:         jetstream.LimitsPolicy,
				Discard:           jetstream.DiscardNew,
				MaxBytes:          l.BucketBytes,
				MaxMsgsPerSubject: 1,
				Duplicates:        2 * time.Minute,
				AllowRollup:       true,
				DenyDelete:        true,
				// Not AllowDirect: any replica would answer, also one that has not heard of
				// the last change yet, and what is in the buckets decides what is done again.
			},
			parts: b.parts,
		})
	}
	for i := range streams {
		streams[i].config.Storage = storage
		streams[i].config.Replicas = l.Replicas
	}
	return streams
}

// bucketPrefix and a bucket's name make that of its stream.
const bucketPrefix = "KV_"

// durable is a consumer as it has to be.
func durable(name string) jetstream.ConsumerConfig {
	return jetstream.ConsumerConfig{
		Durable:       name,
		AckPolicy:     jetstream.AckExplicitPolicy,
		AckWait:       time.Minute,
		MaxAckPending: 100_000,
	}
}

// Declare creates the streams, their durable consumers and the buckets, or
// brings them up to date. It is idempotent and safe to run from several
// processes. It has to be run before the first agent publishes: EVENTS keeps a
// message only for the consumers that it has. What cannot be changed is an error
// that wraps ErrDiffers. Each of tell hears what was done to what.
func Declare(ctx context.Context, js jetstream.JetStream, l Limits, tell ...func(what, done string)) error {
	if err := l.Valid(); err != nil {
		return fmt.Errorf("declare streams: %w", err)
	}
	defaults := layout(l.withDefaults())
	for i, s := range layout(l) {
		said := func(what, done string) {
			for _, t := range tell {
				t(what, done)
			}
		}
		done, err := s.declare(ctx, js, l, defaults[i].config)
		if err != nil {
			return fmt.Errorf("declare %s: %w", s.what, err)
		}
		said(s.what, done)
		for _, name := range s.consumers {
			what := fmt.Sprintf("consumer %s of %s", name, s.what)
			if done, err = declareConsumer(ctx, js, s.config.Name, durable(name)); err != nil {
				return fmt.Errorf("declare %s: %w", what, err)
			}
			said(what, done)
		}
	}
	return nil
}

// What Declare says that it did.
const (
	doneMade    = "made"
	doneNothing = "as it has to be"
)

func (s *declared) declare(ctx context.Context, js jetstream.JetStream, l Limits, fresh jetstream.StreamConfig) (done string, err error) {
	for try := 0; ; try++ {
		existing, err := js.Stream(ctx, s.config.Name)
		if errors.Is(err, jetstream.ErrStreamNotFound) {
			if _, err = js.CreateStream(ctx, fresh); err == nil {
				return doneMade, nil
			}
			var refused *jetstream.APIError
			if try == 2 || !errors.As(err, &refused) {
				return "", err
			}
			// Another process may be making it: then it is there already, or seems to take
			// its room twice for a moment.
			select {
			case <-ctx.Done():
				return "", err
			case <-time.After(100 * time.Millisecond):
			}
			continue
		}
		if err != nil {
			return "", err
		}
		differ, fixed := s.differences(l, existing.CachedInfo().Config)
		if len(fixed) > 0 {
			return "", fmt.Errorf("%w: %s; NATS cannot change that of a stream that is there: keep it as it is, or remove the stream when it is empty",
				ErrDiffers, strings.Join(fixed, ", "))
		}
		if len(differ) == 0 {
			return doneNothing, nil
		}
		if _, err := js.UpdateStream(ctx, s.wanted(l, existing.CachedInfo().Config)); err != nil {
			return "", fmt.Errorf("change %s: %w", strings.Join(differ, ", "), err)
		}
		return "changed: " + strings.Join(differ, ", "), nil
	}
}

// wanted is an existing configuration with what has to be in it; what else an operator
// has set (placement, compression) stays.
func (s *declared) wanted(l Limits, have jetstream.StreamConfig) jetstream.StreamConfig {
	w := have
	w.Description, w.Subjects, w.Retention, w.Discard = s.config.Description, s.config.Subjects, s.config.Retention, s.config.Discard
	w.Duplicates, w.MaxMsgsPerSubject = s.config.Duplicates, max(s.config.MaxMsgsPerSubject, -1)
	if s.config.MaxMsgsPerSubject == 0 {
		w.MaxMsgsPerSubject = have.MaxMsgsPerSubject
	}
	w.AllowRollup, w.DenyDelete, w.AllowDirect = s.config.AllowRollup, s.config.DenyDelete, s.config.AllowDirect
	if s.config.MaxBytes != 0 {
		w.MaxBytes = s.config.MaxBytes
	}
	if s.config.MaxAge != 0 {
		w.MaxAge = s.config.MaxAge
	}
	if s.config.Replicas != 0 {
		w.Replicas = s.config.Replicas
	}
	if l.Storage != "" {
		w.Storage = s.config.Storage
	}
	return w
}

// differences says in words what would have to change, and what of that cannot.
func (s *declared) differences(l Limits, have jetstream.StreamConfig) (differ, fixed []string) {
	w := s.wanted(l, have)
	say := func(to *[]string, name string, have, want any) {
		*to = append(*to, fmt.Sprintf("%s is %v and has to be %v", name, have, want))
	}
	if w.Storage != have.Storage {
		say(&fixed, "storage", have.Storage, w.Storage)
	}
	if w.Retention != have.Retention {
		say(&fixed, "retention", have.Retention, w.Retention)
	}
	if w.DenyDelete != have.DenyDelete {
		say(&fixed, "deny_delete", have.DenyDelete, w.DenyDelete)
	}
	if !slices.Equal(w.Subjects, have.Subjects) {
		say(&differ, "subjects", have.Subjects, w.Subjects)
	}
	if w.Discard != have.Discard {
		say(&differ, "discard", have.Discard, w.Discard)
	}
	if w.Duplicates != have.Duplicates {
		say(&differ, "duplicate_window", have.Duplicates, w.Duplicates)
	}
	if w.MaxMsgsPerSubject != have.MaxMsgsPerSubject {
		say(&differ, "max_msgs_per_subject", have.MaxMsgsPerSubject, w.MaxMsgsPerSubject)
	}
	if w.AllowRollup != have.AllowRollup {
		say(&differ, "allow_rollup_hdrs", have.AllowRollup, w.AllowRollup)
	}
	if w.AllowDirect != have.AllowDirect {
		say(&differ, "allow_direct", have.AllowDirect, w.AllowDirect)
	}
	if w.MaxBytes != have.MaxBytes {
		say(&differ, "max_bytes", have.MaxBytes, w.MaxBytes)
	}
	if w.MaxAge != have.MaxAge {
		say(&differ, "max_age", have.MaxAge, w.MaxAge)
	}
	if w.Replicas != have.Replicas {
		say(&differ, "replicas", have.Replicas, w.Replicas)
	}
	return differ, fixed
}

func declareConsumer(ctx context.Context, js jetstream.JetStream, stream string, want jetstream.ConsumerConfig) (done string, err error) {
	existing, err := js.Consumer(ctx, stream, want.Durable)
	if errors.Is(err, jetstream.ErrConsumerNotFound) {
		_, err = js.CreateOrUpdateConsumer(ctx, stream, want)
		return doneMade, err
	}
	if err != nil {
		return "", err
	}
	have := existing.CachedInfo().Config
	differ, fixed := consumerDifferences(have, want)
	if len(fixed) > 0 {
		return "", fmt.Errorf("%w: %s; NATS cannot change that of a consumer that is there", ErrDiffers, strings.Join(fixed, ", "))
	}
	if len(differ) == 0 {
		return doneNothing, nil
	}
	have.AckWait, have.MaxAckPending = want.AckWait, want.MaxAckPending
	if _, err := js.UpdateConsumer(ctx, stream, have); err != nil {
		return "", fmt.Errorf("change %s: %w", strings.Join(differ, ", "), err)
	}
	return "changed: " + strings.Join(differ, ", "), nil
}

func consumerDifferences(have, want jetstream.ConsumerConfig) (differ, fixed []string) {
	if have.AckPolicy != want.AckPolicy {
		fixed = append(fixed, fmt.Sprintf("ack_policy is %v and has to be %v", have.AckPolicy, want.AckPolicy))
	}
	if have.AckWait != want.AckWait {
		differ = append(differ, fmt.Sprintf("ack_wait is %v and has to be %v", have.AckWait, want.AckWait))
	}
	if have.MaxAckPending != want.MaxAckPending {
		differ = append(differ, fmt.Sprintf("max_ack_pending is %d and has to be %d", have.MaxAckPending, want.MaxAckPending))
	}
	return differ, fixed
}

// Check says what is missing or wrong of what a part uses (PartIngest and so on), and
// changes nothing. It asks only what the part may ask, too. The error wraps
// ErrNotDeclared or ErrDiffers, unless NATS did not answer.
func Check(ctx context.Context, js jetstream.JetStream, part string, l Limits) error {
	if err := l.Valid(); err != nil {
		return fmt.Errorf("check streams: %w", err)
	}
	var wrong []error
	for _, s := range layout(l) {
		uses := part == PartUp || part == PartDeclare || slices.Contains(s.parts, part)
		consumers := slices.DeleteFunc(slices.Clone(s.consumers), func(c string) bool {
			return part != PartUp && part != PartDeclare && c != part
		})
		if !uses && len(consumers) == 0 {
			continue
		}
		existing, err := js.Stream(ctx, s.config.Name)
		if errors.Is(err, jetstream.ErrStreamNotFound) {
			wrong = append(wrong, fmt.Errorf("%s: %w", s.what, ErrNotDeclared))
			continue
		}
		if err != nil {
			return fmt.Errorf("look at %s: %w", s.what, err)
		}
		if differ, fixed := s.differences(l, existing.CachedInfo().Config); len(differ)+len(fixed) > 0 {
			wrong = append(wrong, fmt.Errorf("%s: %w: %s", s.what, ErrDiffers, strings.Join(append(fixed, differ...), ", ")))
		}
		for _, name := range consumers {
			consumer, err := js.Consumer(ctx, s.config.Name, name)
			if errors.Is(err, jetstream.ErrConsumerNotFound) {
				wrong = append(wrong, fmt.Errorf("consumer %s of %s: %w", name, s.what, ErrNotDeclared))
				continue
			}
			if err != nil {
				return fmt.Errorf("look at consumer %s of %s: %w", name, s.what, err)
			}
			if _, fixed := consumerDifferences(consumer.CachedInfo().Config, durable(name)); len(fixed) > 0 {
				wrong = append(wrong, fmt.Errorf("consumer %s of %s: %w: %s", name, s.what, ErrDiffers, strings.Join(fixed, ", ")))
			}
		}
	}
	return errors.Join(wrong...)
}
