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

// RepeatWindow is how long after its last batch was inserted a batch of an agent's start is
// recognised if it comes again.
const RepeatWindow = 7 * 24 * time.Hour

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
	// Partitions is into how many partitions EVENTS is divided among ingest processes, 1
	// to MaxPartitions; 1 by default. It can be changed at any time.
	Partitions int
}

// Default limits, and room for buckets, that the embedded server has to offer.
const (
	defaultEventsBytes     = 8 << 30
	defaultFindingsBytes   = 256 << 20
	defaultDeadLetterBytes = 1 << 30
	defaultBucketBytes     = 256 << 20
	defaultDeadLetterAge   = 30 * 24 * time.Hour
	// ingestedBuckets is how much larger than others the bucket INGESTED may be: it has
	// an entry for each start of an agent in a week.
	ingestedBuckets = 2
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
	if l.Partitions == 0 {
		l.Partitions = 1
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
	case l.Partitions < 0 || l.Partitions > MaxPartitions:
		return fmt.Errorf("%d partitions: 1 to %d are possible, some for each ingest process", l.Partitions, MaxPartitions)
	case min(l.EventsBytes, l.FindingsBytes, l.DeadLetterBytes, l.BucketBytes, int64(l.EventsAge), int64(l.DeadLetterAge)) < 0:
		return errors.New("a limit is negative")
	}
	return nil
}

// Total returns the bytes that all streams and buckets may take together, on one server.
func (l Limits) Total() int64 {
	var total int64
	for _, s := range layout(l.withDefaults()) {
		total += s.config.MaxBytes
	}
	return total
}

// declared is a stream as it has to be. A bucket is a stream, too.
type declared struct {
	what   string // for people: stream EVENTS, bucket INGEST
	config jetstream.StreamConfig
	// consumers are its durable consumers.
	consumers []consumer
	// parts use it without a consumer.
	parts []string
	// keepDivision leaves the partitions as they are.
	keepDivision bool
}

// consumer is a durable consumer that a part uses.
type consumer struct {
	part string
	name string
	// subject is what it reads of the stream; empty for all.
	subject string
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
				// What is published, and how it is stored if there are partitions. With one
				// subject alone, the server would take the consumer of that subject for one
				// of all messages, and keep for it what it never reads.
				Subjects:         []string{eventPrefix + "*", eventPrefix + "*.*.*"},
				SubjectTransform: eventTransform(l.Partitions),
				Retention:        jetstream.InterestPolicy,
				Discard:          jetstream.DiscardNew,
				MaxBytes:         l.EventsBytes,
				MaxAge:           l.EventsAge,
				Duplicates:       duplicateWindow,
			},
			consumers: []consumer{{PartDetector, DetectorConsumer, ""}},
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
			consumers: []consumer{{PartIngest, IngestConsumer, ""}, {PartNotify, NotifyConsumer, ""}},
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
	for _, p := range eventPartitions(l.Partitions) {
		streams[0].consumers = append(streams[0].consumers, consumer{PartIngest, p.Consumer, p.Subject})
	}
	for i := range streams {
		streams[i].what = "stream " + streams[i].config.Name
	}
	for _, b := range []struct {
		name, description string
		parts             []string
	}{
		{BaselinesBucket, "The baseline of each job.", []string{PartDetector, PartServer, PartChecks}},
		{IngestBucket, "The ranges of the streams that are being inserted, and who works on what.", []string{PartIngest}},
		{IngestedBucket, "Which events of each start of an agent are in the tables.", []string{PartIngest}},
		{DetectorBucket, "The executions that the detector follows.", []string{PartDetector}},
		{VerdictsBucket, "The verdict on each execution of a job.", []string{PartDetector, PartServer, PartChecks}},
		{DecisionsBucket, "What people decided.", []string{PartServer, PartNotify, PartChecks}},
		{NotifyBucket, "What was delivered to whom.", []string{PartNotify}},
		{ChecksBucket, "The commits whose checks are kept up to date.", []string{PartChecks}},
		{TokensBucket, "Which OIDC tokens were exchanged.", []string{PartServer}},
		{EnrolmentsBucket, "Keys for enrolment, as digests, and who is enrolled.", []string{PartServer}},
		{RefusalsBucket, "Who was refused a credential.", []string{PartServer}},
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
		if streams[i].config.Name == bucketPrefix+IngestedBucket {
			streams[i].config.MaxBytes *= ingestedBuckets
			streams[i].config.MaxAge = RepeatWindow
		}
		if name := streams[i].config.Name; name == bucketPrefix+VerdictsBucket || name == bucketPrefix+ChecksBucket {
			streams[i].config.MaxAge = VerdictWindow
			streams[i].config.Discard = jetstream.DiscardOld
		}
		switch streams[i].config.Name {
		case bucketPrefix + TokensBucket:
			// Never DiscardOld: a token that is forgotten could be used again.
			streams[i].config.MaxAge = TokenWindow
		case bucketPrefix + RefusalsBucket:
			streams[i].config.MaxAge = RefusalWindow
			streams[i].config.Discard = jetstream.DiscardOld
		}
		streams[i].config.Storage = storage
		streams[i].config.Replicas = l.Replicas
	}
	return streams
}

// VerdictWindow is how long a verdict is kept.
const VerdictWindow = 90 * 24 * time.Hour

const (
	// TokenWindow is how long a token is remembered that was exchanged: longer than any is
	// accepted.
	TokenWindow = 26 * time.Hour
	// RefusalWindow is how long it is kept who was refused a credential.
	RefusalWindow = 90 * 24 * time.Hour
)

// bucketPrefix and a bucket's name make that of its stream.
const bucketPrefix = "KV_"

// durable is a consumer as it has to be.
func durable(c consumer) jetstream.ConsumerConfig {
	return jetstream.ConsumerConfig{
		Durable:       c.name,
		FilterSubject: c.subject,
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
	if err := l.keepPartitions(ctx, js); err != nil {
		return fmt.Errorf("declare stream %s: %w", EventsStream, err)
	}
	said := func(what, done string) {
		for _, t := range tell {
			t(what, done)
		}
	}
	defaults := layout(l.withDefaults())
	for i, s := range layout(l) {
		// The stream is divided anew when the consumers of its partitions are there: it
		// keeps a message only for those that it has.
		divided := s.config.SubjectTransform
		s.keepDivision = true
		done, err := s.declare(ctx, js, l, defaults[i].config)
		if err != nil {
			return fmt.Errorf("declare %s: %w", s.what, err)
		}
		for _, c := range s.consumers {
			what := fmt.Sprintf("consumer %s of %s", c.name, s.what)
			done, err := declareConsumer(ctx, js, s.config.Name, durable(c))
			if err != nil {
				return fmt.Errorf("declare %s: %w", what, err)
			}
			said(what, done)
		}
		if s.config.Name == EventsStream {
			s.keepDivision, s.config.SubjectTransform = false, divided
			again, err := s.declare(ctx, js, l, defaults[i].config)
			if err != nil {
				return fmt.Errorf("declare %s: %w", s.what, err)
			}
			if done == doneNothing {
				done = again
			}
			if err := removeEmptyPartitions(ctx, js, l.Partitions); err != nil {
				return err
			}
		}
		said(s.what, done)
	}
	return nil
}

// keepPartitions sets how many partitions there are to be, if nobody said, to what there
// are.
func (l *Limits) keepPartitions(ctx context.Context, js jetstream.JetStream) error {
	if l.Partitions > 0 {
		return nil
	}
	l.Partitions = 1
	events, err := js.Stream(ctx, EventsStream)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	for of := 2; of <= MaxPartitions; of++ {
		if sameTransform(events.CachedInfo().Config.SubjectTransform, eventTransform(of)) {
			l.Partitions = of
		}
	}
	return nil
}

func sameTransform(a, b *jetstream.SubjectTransformConfig) bool {
	return a == b || a != nil && b != nil && *a == *b
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
	if !s.keepDivision {
		w.SubjectTransform = s.config.SubjectTransform
	}
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
	if !sameTransform(w.SubjectTransform, have.SubjectTransform) {
		say(&differ, "subject_transform", transformText(have.SubjectTransform), transformText(w.SubjectTransform))
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

func transformText(t *jetstream.SubjectTransformConfig) string {
	if t == nil {
		return "none"
	}
	return t.Destination
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
	have.AckWait, have.MaxAckPending, have.FilterSubject = want.AckWait, want.MaxAckPending, want.FilterSubject
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
	if have.FilterSubject != want.FilterSubject {
		differ = append(differ, fmt.Sprintf("filter_subject is %q and has to be %q", have.FilterSubject, want.FilterSubject))
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
	if !slices.Contains([]string{PartNotify, PartServer, PartChecks}, part) { // they may not look at EVENTS
		if err := l.keepPartitions(ctx, js); err != nil {
			return fmt.Errorf("look at stream %s: %w", EventsStream, err)
		}
	}
	var wrong []error
	for _, s := range layout(l) {
		uses := part == PartUp || part == PartDeclare || slices.Contains(s.parts, part)
		consumers := slices.DeleteFunc(slices.Clone(s.consumers), func(c consumer) bool {
			return part != PartUp && part != PartDeclare && c.part != part
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
		for _, c := range consumers {
			consumer, err := js.Consumer(ctx, s.config.Name, c.name)
			if errors.Is(err, jetstream.ErrConsumerNotFound) {
				wrong = append(wrong, fmt.Errorf("consumer %s of %s: %w", c.name, s.what, ErrNotDeclared))
				continue
			}
			if err != nil {
				return fmt.Errorf("look at consumer %s of %s: %w", c.name, s.what, err)
			}
			if _, fixed := consumerDifferences(consumer.CachedInfo().Config, durable(c)); len(fixed) > 0 {
				wrong = append(wrong, fmt.Errorf("consumer %s of %s: %w: %s", c.name, s.what, ErrDiffers, strings.Join(fixed, ", ")))
			}
		}
	}
	return errors.Join(wrong...)
}
