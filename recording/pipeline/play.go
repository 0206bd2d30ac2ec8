package pipeline

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	sallyportv1 "github.com/sallyport-ci/sallyport/proto/sallyport/v1"
	"github.com/sallyport-ci/sallyport/recording"
	"github.com/sallyport-ci/sallyport/stream"
)

const (
	// underway is how many batches may be on their way to the stream at once.
	underway = 64
	// ackTimeout is how long the stream may take to say that it has a batch.
	ackTimeout = 10 * time.Second
	// retryPause is how long to wait before a stream that is full or away is tried again.
	retryPause = 500 * time.Millisecond
	// maxWait bounds a pause between two batches: a machine that slept while it was
	// recorded is not waited for.
	maxWait = time.Hour
)

// AsFast is the speed at which nothing is waited for.
var AsFast = math.Inf(1)

// PlayConfig says how recordings are played. JetStream is needed.
type PlayConfig struct {
	JetStream jetstream.JetStream
	// Speed is how many seconds of the recording pass in a second; AsFast waits for
	// nothing. More than 0.
	Speed float64
	// Identity, if set, gives everything new identities (recording.Identity).
	Identity recording.Identity
	// Now shifts times so that the last event of a recording happens when it has been played.
	Now bool
	// Progress is called after each batch, at most every 200 ms.
	Progress func(PlayCounts)
	// Waiting is called when the stream cannot take a batch for the first time, with the
	// reason, and with nil when it can again.
	Waiting func(error)
}

// PlayCounts are what a Player has done.
type PlayCounts struct {
	// Batches and Events that were played, those among them that the stream knew (as far
	// back as it remembers), and how many bytes travelled.
	Batches, Events, Known, Bytes uint64
}

// Summary is what is known of a recording before it is played.
type Summary struct {
	// Batches and Events in it, and bytes read of the file.
	Batches, Events uint64
	Bytes           int64
	// Recorded: when the first and the last batch were.
	RecordedFirst, RecordedLast time.Time
	// Times of the first and the last event; zero if none has one.
	First, Last time.Time
	// Starts of agents: the time of the last event of each.
	Starts map[Start]time.Time
}

// Start is one start of an agent.
type Start struct {
	Agent string
	Epoch uint64
}

// Summarise reads a recording to its end. At an error that wraps recording.ErrTruncated or
// recording.ErrDamaged the summary is of what comes before it.
func Summarise(r *recording.Reader, each func(*recording.Batch)) (s Summary, err error) {
	s.Starts = make(map[Start]time.Time)
	for {
		b, err := r.Next()
		s.Batches, s.Events, s.Bytes = r.Totals()
		if err != nil {
			return s, err
		}
		if s.RecordedFirst.IsZero() {
			s.RecordedFirst = b.Recorded
		}
		s.RecordedLast = b.Recorded
		first, last, ok := recording.Span(b.Events)
		if ok && (s.First.IsZero() || first.Before(s.First)) {
			s.First = first
		}
		if ok && last.After(s.Last) {
			s.Last = last
		}
		at := Start{b.Events.GetAgentId(), b.Events.GetEpoch()}
		if old := s.Starts[at]; ok && last.After(old) {
			s.Starts[at] = last
		} else if !ok && old.IsZero() {
			s.Starts[at] = time.Time{}
		}
		if each != nil {
			each(b)
		}
	}
}

// Player publishes batches on EVENTS, in order. It is not safe for concurrent use.
type Player struct {
	c       PlayConfig
	encoder *stream.Encoder
	counts  PlayCounts
	sent    []sent
	told    time.Time
	away    bool
}

// sent is a batch that is on its way.
type sent struct {
	m      *nats.Msg
	id     string
	events uint64
	ack    jetstream.PubAckFuture
}

// NewPlayer returns a player that has played nothing.
func NewPlayer(c PlayConfig) (*Player, error) {
	if !(c.Speed > 0) { // not a number either
		return nil, fmt.Errorf("play: speed %g is not more than 0", c.Speed)
	}
	encoder, err := stream.NewEncoder()
	if err != nil {
		return nil, err
	}
	return &Player{c: c, encoder: encoder}, nil
}

// Counts returns what was played so far.
func (p *Player) Counts() PlayCounts { return p.counts }

// Play plays one recording, of which s is the summary, to the end or to the last of
// s.Batches. While the stream is full or away it waits; an error is one of the recording,
// or ctx ended. Then everything that Counts counts is in the stream.
func (p *Player) Play(ctx context.Context, r *recording.Reader, s Summary) error {
	began := time.Now()
	var shift time.Duration
	if p.c.Now && !s.Last.IsZero() {
		takes := time.Duration(float64(s.RecordedLast.Sub(s.RecordedFirst)) / p.c.Speed)
		shift = began.Add(takes).Sub(s.Last)
	}
	for n := uint64(0); n < s.Batches; n++ {
		b, err := r.Next()
		if errors.Is(err, io.EOF) {
			err = errors.New("the recording became shorter while it was played")
		}
		if err != nil {
			return errors.Join(err, p.flush(ctx))
		}
		due := began.Add(time.Duration(float64(b.Recorded.Sub(s.RecordedFirst)) / p.c.Speed))
		if err := p.pause(ctx, min(time.Until(due), maxWait)); err != nil {
			return err
		}
		if p.c.Identity != "" {
			p.c.Identity.Renew(b.Events)
		}
		recording.Shift(b.Events, shift)
		if err := p.publish(ctx, b.Events); err != nil {
			return err
		}
	}
	return p.flush(ctx)
}

// Send publishes a batch as it is. Like Play it waits while the stream is full or away; what
// Counts counts is in the stream, and Flush waits for the rest.
func (p *Player) Send(ctx context.Context, b *sallyportv1.EventBatch) error { return p.publish(ctx, b) }

// Flush waits until the stream has everything that was sent.
func (p *Player) Flush(ctx context.Context) error { return p.flush(ctx) }

// pause waits, and first for what is on its way, since there is time.
func (p *Player) pause(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return ctx.Err()
	}
	end := time.NewTimer(d)
	defer end.Stop()
	if d > 50*time.Millisecond {
		if err := p.flush(ctx); err != nil {
			return err
		}
	}
	select {
	case <-end.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (p *Player) publish(ctx context.Context, b *sallyportv1.EventBatch) error {
	data, err := p.encoder.Encode(nil, b)
	if err != nil {
		return err
	}
	m := sent{m: &nats.Msg{Subject: stream.EventSubject(b.GetAgentId()), Data: data}, id: stream.BatchID(b), events: uint64(len(b.GetEvents()))}
	if len(p.sent) >= underway {
		if err := p.settle(ctx); err != nil {
			return err
		}
	}
	if m.ack, err = p.c.JetStream.PublishMsgAsync(m.m, jetstream.WithMsgID(m.id)); err != nil {
		m.ack = nil // settle tries again
	}
	p.sent = append(p.sent, m)
	return nil
}

func (p *Player) flush(ctx context.Context) error {
	for len(p.sent) > 0 {
		if err := p.settle(ctx); err != nil {
			return err
		}
	}
	return nil
}

// settle waits until the stream has the oldest batch that is on its way.
func (p *Player) settle(ctx context.Context) error {
	m := p.sent[0]
	ack, err := p.wait(ctx, m)
	for tries := 0; err != nil; tries++ {
		if ctx.Err() != nil {
			return fmt.Errorf("publish batch %s: %w", m.id, ctx.Err())
		}
		if errors.Is(err, nats.ErrMaxPayload) || errors.Is(err, nats.ErrPermissionViolation) || errors.Is(err, nats.ErrAuthorization) {
			return fmt.Errorf("publish batch %s: %w", m.id, err)
		}
		if !p.away && p.c.Waiting != nil {
			p.c.Waiting(err)
		}
		p.away = true
		if tries > 0 { // those behind the first one failed with it, and need not wait
			select {
			case <-ctx.Done():
				return fmt.Errorf("publish batch %s: %w", m.id, ctx.Err())
			case <-time.After(retryPause):
			}
		}
		try, cancel := context.WithTimeout(ctx, ackTimeout)
		// Under the same identity: the stream drops it if the first try came through.
		ack, err = p.c.JetStream.PublishMsg(try, &nats.Msg{Subject: m.m.Subject, Data: m.m.Data}, jetstream.WithMsgID(m.id))
		cancel()
	}
	if p.away && p.c.Waiting != nil {
		p.c.Waiting(nil)
	}
	p.away = false
	p.sent = p.sent[1:]
	p.counts.Batches++
	p.counts.Events += m.events
	p.counts.Bytes += uint64(len(m.m.Data))
	if ack.Duplicate {
		p.counts.Known++
	}
	if p.c.Progress != nil && time.Since(p.told) > 200*time.Millisecond {
		p.told = time.Now()
		p.c.Progress(p.counts)
	}
	return nil
}

func (p *Player) wait(ctx context.Context, m sent) (*jetstream.PubAck, error) {
	if m.ack == nil {
		return nil, nats.ErrConnectionClosed
	}
	timeout := time.NewTimer(ackTimeout)
	defer timeout.Stop()
	select {
	case ack := <-m.ack.Ok():
		return ack, nil
	case err := <-m.ack.Err():
		return nil, err
	case <-timeout.C:
		return nil, nats.ErrTimeout
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// Ingested says whether ingest remembers that events of an agent's start are in the tables:
// it recognises those that come again for stream.RepeatWindow after the last of them.
func Ingested(ctx context.Context, js jetstream.JetStream, s Start) (bool, error) {
	kv, err := js.KeyValue(ctx, stream.IngestedBucket)
	if err != nil {
		return false, fmt.Errorf("open bucket %s: %w", stream.IngestedBucket, err)
	}
	_, err = kv.Get(ctx, fmt.Sprintf("%s.%d", s.Agent, s.Epoch))
	if errors.Is(err, jetstream.ErrKeyNotFound) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("ask for agent %s in bucket %s: %w", s.Agent, stream.IngestedBucket, err)
	}
	return true, nil
}

// WaitRead waits until everybody who reads EVENTS has acknowledged what is in it now.
func WaitRead(ctx context.Context, js jetstream.JetStream) error {
	var last uint64
	for first := true; ; first = false {
		s, err := js.Stream(ctx, stream.EventsStream)
		if err != nil {
			return fmt.Errorf("wait for readers of %s: %w", stream.EventsStream, err)
		}
		// The stream forgets a message when all have acknowledged it; an empty one begins
		// after its last.
		state := s.CachedInfo().State
		if first {
			last = state.LastSeq
		}
		if state.FirstSeq > last || state.Msgs == 0 {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(50 * time.Millisecond):
		}
	}
}
