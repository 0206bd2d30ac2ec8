package stream

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/nats-io/nats.go/jetstream"
)

// MaxPartitions bounds into how many partitions EVENTS can be divided.
const MaxPartitions = 64

// Partition is a share of a stream that one ingest process at a time works on: with all
// events of some agents, in the order in which the stream stored them.
type Partition struct {
	// Stream has the messages.
	Stream string
	// Consumer is the durable consumer that reads this partition alone.
	Consumer string
	// Name tells the partition from all others: "EVENTS", or "EVENTS.4-1" for the
	// second of four. It can stand in a key of a bucket.
	Name string
	// Subject is what all its messages match, with wildcards.
	Subject string
}

// Has says whether a message of the stream belongs to the partition.
func (p Partition) Has(subject string) bool {
	prefix, wildcard := strings.CutSuffix(p.Subject, "*")
	if !wildcard {
		return subject == p.Subject
	}
	rest, ok := strings.CutPrefix(subject, prefix)
	return ok && !strings.Contains(rest, ".")
}

// The stream stores what an agent publishes under a subject that says to which of how
// many partitions the agent belongs, sallyport.events.<of>.<number>.<agent>: how many
// there are can change, and each message still belongs to one partition.

func eventPartitions(of int) []Partition {
	if of <= 1 {
		return []Partition{{Stream: EventsStream, Consumer: IngestConsumer, Name: EventsStream, Subject: eventPrefix + "*"}}
	}
	var all []Partition
	for n := range of {
		all = append(all, eventPartition(of, n))
	}
	return all
}

func eventPartition(of, n int) Partition {
	return Partition{
		Stream:   EventsStream,
		Consumer: fmt.Sprintf("%s-%d-%d", IngestConsumer, of, n),
		Name:     fmt.Sprintf("%s.%d-%d", EventsStream, of, n),
		Subject:  fmt.Sprintf("%s%d.%d.*", eventPrefix, of, n),
	}
}

func eventTransform(of int) *jetstream.SubjectTransformConfig {
	if of <= 1 {
		return nil
	}
	return &jetstream.SubjectTransformConfig{
		Source:      eventPrefix + "*",
		Destination: fmt.Sprintf("%s%d.{{partition(%d,1)}}.{{wildcard(1)}}", eventPrefix, of, of),
	}
}

// partitionOf returns the partition of EVENTS that a consumer reads, false if it is
// another part's consumer.
func partitionOf(consumer string) (Partition, bool) {
	if consumer == IngestConsumer {
		return eventPartitions(1)[0], true
	}
	rest, ok := strings.CutPrefix(consumer, IngestConsumer+"-")
	if !ok {
		return Partition{}, false
	}
	of, n, _ := strings.Cut(rest, "-")
	count, err := strconv.Atoi(of)
	number, err2 := strconv.Atoi(n)
	if err != nil || err2 != nil || count < 2 || number < 0 || number >= count {
		return Partition{}, false
	}
	return eventPartition(count, number), true
}

// IngestPartitions returns what ingest processes share among them: the partitions of
// EVENTS that there are, also those of an earlier division that are not yet empty, and
// FINDINGS as a whole.
func IngestPartitions(ctx context.Context, js jetstream.JetStream) ([]Partition, error) {
	s, err := js.Stream(ctx, EventsStream)
	if err != nil {
		return nil, fmt.Errorf("list partitions of stream %s: %w", EventsStream, err)
	}
	all := []Partition{{Stream: FindingsStream, Consumer: IngestConsumer, Name: FindingsStream, Subject: FindingSubject}}
	names := s.ConsumerNames(ctx)
	for name := range names.Name() {
		if p, ok := partitionOf(name); ok {
			all = append(all, p)
		}
	}
	if err := names.Err(); err != nil {
		return nil, fmt.Errorf("list partitions of stream %s: %w", EventsStream, err)
	}
	return all, nil
}

// removeEmptyPartitions deletes the consumers of an earlier division that have nothing
// left to read. What is not empty stays for the next time.
func removeEmptyPartitions(ctx context.Context, js jetstream.JetStream, of int) error {
	s, err := js.Stream(ctx, EventsStream)
	if err != nil {
		return fmt.Errorf("look at stream %s: %w", EventsStream, err)
	}
	present := make(map[string]bool)
	for _, p := range eventPartitions(of) {
		present[p.Consumer] = true
	}
	consumers := s.ListConsumers(ctx)
	var empty []string
	for info := range consumers.Info() {
		if _, ok := partitionOf(info.Name); ok && !present[info.Name] && info.NumPending == 0 && info.NumAckPending == 0 {
			empty = append(empty, info.Name)
		}
	}
	if err := consumers.Err(); err != nil {
		return fmt.Errorf("list consumers of stream %s: %w", EventsStream, err)
	}
	for _, name := range empty {
		if err := s.DeleteConsumer(ctx, name); err != nil {
			return fmt.Errorf("delete consumer %s of stream %s: %w", name, EventsStream, err)
		}
	}
	return nil
}

// PublishedSubject returns the subject on which a message was published, of that under
// which EVENTS stores it.
func PublishedSubject(stored string) string {
	rest, ok := strings.CutPrefix(stored, eventPrefix)
	if i := strings.LastIndexByte(rest, '.'); ok && i >= 0 {
		return eventPrefix + rest[i+1:]
	}
	return stored
}
