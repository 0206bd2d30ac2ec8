package pipeline

import (
	"context"
	"errors"
	"fmt"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
	"github.com/nats-io/nats.go/jetstream"

	sallyportv1 "github.com/sallyport-ci/sallyport/proto/sallyport/v1"
	"github.com/sallyport-ci/sallyport/recording"
	"github.com/sallyport-ci/sallyport/stream"
)

const (
	// abandoned is how long after a recorder was killed the stream goes on to keep
	// messages for it.
	abandoned = time.Minute
	// unwritten is how many messages may be on their way to a recorder.
	unwritten = 1000
	// remembered is how many batches back a message is recognised that comes again.
	remembered = 1 << 14
	// deleteTimeout bounds how long the consumer's end may take.
	deleteTimeout = 5 * time.Second
)

// RecordConfig says what is recorded. JetStream and To are needed.
type RecordConfig struct {
	JetStream jetstream.JetStream
	// To takes the batches.
	To *recording.Writer
	// Keep, if set, says which attributions are recorded; all else is left out. Otherwise
	// everything is.
	Keep func(*sallyportv1.Attribution) bool
	// Settle, with Keep, ends the recording when every job that it saw has ended and
	// nothing more of it came for so long. 0: it goes on until the context ends.
	Settle time.Duration
	// Ready is called when nothing is missed any more.
	Ready func()
	// Progress is called after each message, at most every 200 ms.
	Progress func()
	// Unreadable is called for each message that is no batch.
	Unreadable func(error)
}

// Record writes down what goes through EVENTS from now on, until ctx ends or Settle says
// so; then it returns nil. What came before is not in the stream any more: it keeps only
// what somebody has yet to read. It does not close the writer.
func Record(ctx context.Context, c RecordConfig) (err error) {
	// Explicit acknowledgements: the stream keeps a message until it is in the file.
	consumer, err := c.JetStream.CreateConsumer(ctx, stream.EventsStream, jetstream.ConsumerConfig{
		Description: "sallyport record", DeliverPolicy: jetstream.DeliverNewPolicy, AckPolicy: jetstream.AckExplicitPolicy,
		AckWait: abandoned, InactiveThreshold: abandoned, MaxAckPending: unwritten, MemoryStorage: true,
	})
	if err != nil {
		return fmt.Errorf("record stream %s: %w", stream.EventsStream, err)
	}
	defer func() {
		last, cancel := context.WithTimeout(context.WithoutCancel(ctx), deleteTimeout)
		defer cancel()
		e := c.JetStream.DeleteConsumer(last, stream.EventsStream, consumer.CachedInfo().Name)
		if e != nil && !errors.Is(e, jetstream.ErrConsumerNotFound) {
			err = errors.Join(err, fmt.Errorf("give up the consumer of the recording (the stream forgets it after %s): %w", abandoned, e))
		}
	}()
	messages, err := consumer.Messages(jetstream.PullMaxMessages(256))
	if err != nil {
		return fmt.Errorf("record stream %s: %w", stream.EventsStream, err)
	}
	defer messages.Stop()
	decoder, err := stream.NewDecoder()
	if err != nil {
		return err
	}
	known, err := lru.New[string, struct{}](remembered)
	if err != nil {
		return fmt.Errorf("record stream %s: %w", stream.EventsStream, err)
	}
	if c.Ready != nil {
		c.Ready()
	}
	r := &recorder{c: c, executions: make(map[string]bool), starts: make(map[start]bool)}
	for {
		m, err := r.next(ctx, messages)
		if err != nil || m == nil {
			return err
		}
		b := new(sallyportv1.EventBatch)
		if err := decoder.Decode(m.Data(), b); err != nil {
			if c.Unreadable != nil {
				c.Unreadable(err)
			}
		} else if id := stream.BatchID(b); !known.Contains(id) {
			if err := r.take(b); err != nil {
				return err
			}
			known.Add(id, struct{}{})
		}
		if err := m.Ack(); err != nil {
			// It comes again, and is known then.
			continue
		}
	}
}

// start is one start of an agent.
type start struct {
	agent string
	epoch uint64
}

type recorder struct {
	c RecordConfig
	// executions that were seen, and whether they have ended.
	executions map[string]bool
	// starts of agents that something was kept of.
	starts   map[start]bool
	lastKept time.Time
	told     time.Time
}

// next waits for a message; it returns nil when the recording is to end.
func (r *recorder) next(ctx context.Context, messages jetstream.MessagesContext) (jetstream.Msg, error) {
	for {
		waiting, cancel := context.WithTimeout(ctx, time.Second)
		m, err := messages.Next(jetstream.NextContext(waiting))
		timedOut := waiting.Err() != nil
		cancel()
		switch {
		case err == nil:
			return m, nil
		case ctx.Err() != nil:
			return nil, nil //nolint:nilerr // told to end; whatever Next says of that
		case timedOut:
			if r.settled() {
				return nil, nil
			}
		case errors.Is(err, jetstream.ErrNoHeartbeat): // NATS is away; the client library goes on
		default:
			return nil, fmt.Errorf("record stream %s: %w", stream.EventsStream, err)
		}
	}
}

func (r *recorder) settled() bool {
	if r.c.Keep == nil || r.c.Settle <= 0 || len(r.executions) == 0 || time.Since(r.lastKept) < r.c.Settle {
		return false
	}
	for _, ended := range r.executions {
		if !ended {
			return false
		}
	}
	return true
}

func (r *recorder) take(b *sallyportv1.EventBatch) error {
	if r.c.Keep != nil {
		only, any := recording.Only(b, r.c.Keep)
		from := start{b.GetAgentId(), b.GetEpoch()}
		if !any && !r.starts[from] {
			return nil // nothing of the run has happened there
		}
		// From then on empty places too, so that sequences have no gaps.
		r.starts[from] = true
		if b = only; any {
			r.lastKept = time.Now()
		}
		for _, e := range b.GetEvents() {
			if n := e.GetAttribution(); n > 0 {
				id := b.GetAttributions()[n-1].GetExecutionId()
				r.executions[id] = r.executions[id] || e.GetJobEnded() != nil
			}
		}
	}
	if err := r.c.To.Add(time.Now(), b); err != nil {
		return err
	}
	if r.c.Progress != nil && time.Since(r.told) > 200*time.Millisecond {
		r.told = time.Now()
		r.c.Progress()
	}
	return nil
}
