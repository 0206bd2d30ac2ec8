package ingest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/sallyport-ci/sallyport/stream"
)

const (
	// beat is how often a process says that it lives.
	beat = time.Second
	// deadBeats is after how many of its own beats a process takes another, of which
	// it heard nothing since, for dead. A process whose own beats do not arrive judges
	// nobody.
	deadBeats = 5
	// confirmedFor is how long after its last beat a process may go on as the one that
	// others take to be alive: less than deadBeats.
	confirmedFor = 4 * beat
	// forgetBeats is after how many beats a dead process is forgotten.
	forgetBeats = 600
	// relistBeats is how often the partitions are listed again.
	relistBeats = 10
)

// errNameTaken says that a process has started that has this one's name.
var errNameTaken = errors.New("another ingest process of this name has started; give each a name of its own")

// keys of the bucket INGEST that all processes watch: what each last said of itself, and
// who has which partition.
const (
	memberPrefix = "member."
	leasePrefix  = "lease."
)

// holder is the value of both: a name, and which start of it.
type holder struct {
	Name  string `json:"name"`
	Start string `json:"start"`
}

// lease says who has a partition.
type lease struct {
	holder   holder
	revision uint64
}

// member is another process that shares the work.
type member struct {
	holder   holder
	lastBeat uint64 // of ours, when we last heard of it
}

// shares decides which partitions this process works on. The processes agree by compare
// and swap on leases in the bucket INGEST; each takes its part, gives away what is above
// that, and takes over what those have who are dead. All is done by one goroutine, but
// confirmed.
type shares struct {
	ingest *Ingest
	kv     jetstream.KeyValue
	self   holder
	log    *slog.Logger

	partitions map[string]stream.Partition
	leases     map[string]lease
	members    map[string]member
	beats      uint64 // of ours that have arrived
	listed     uint64 // beat at which the partitions were listed; 0 if that is to be done
	running    map[string]*running
	ended      chan ended

	mu        sync.Mutex
	confirmed time.Time // when the last beat of ours that arrived was sent
	sent      time.Time
}

// running is a partition that this process works on.
type running struct {
	lane *lane
	stop context.CancelFunc
	// giving is true while it is being stopped so that another process can have it.
	giving bool
}

// ended is a lane that has ended.
type ended struct {
	partition string
	err       error
}

func newShares(in *Ingest, kv jetstream.KeyValue) *shares {
	return &shares{
		ingest: in, kv: kv, self: in.self, log: in.cfg.Logger,
		leases: make(map[string]lease), members: make(map[string]member), running: make(map[string]*running),
		ended: make(chan ended),
	}
}

// run works until ctx ends; what is in hand then is finished under work.
func (s *shares) run(ctx, work context.Context) error {
	err := s.share(ctx, work)
	for _, r := range s.running {
		r.stop()
	}
	for len(s.running) > 0 {
		e := <-s.ended
		delete(s.running, e.partition)
		if e.err != nil && !errors.Is(e.err, errTaken) && err == nil {
			err = e.err
		}
		s.release(work, e.partition)
	}
	if err == nil || !errors.Is(err, errNameTaken) {
		// Others need not wait until we are dead.
		if err := s.kv.Delete(work, memberPrefix+s.self.Name); err != nil {
			s.log.Debug("say that this process ends", "error", err)
		}
	}
	return err
}

func (s *shares) share(ctx, work context.Context) error {
	if err := s.list(ctx); err != nil {
		return stopped(ctx, err)
	}
	for {
		if err := s.follow(ctx, work); err != nil || ctx.Err() != nil {
			return stopped(ctx, err)
		}
		select { // the watch broke off
		case <-ctx.Done():
			return nil
		case <-time.After(firstPause):
		}
	}
}

// stopped leaves out what comes of being stopped.
func stopped(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return nil //nolint:nilerr // whatever it was
	}
	return err
}

// follow watches what the others say until the watch breaks off.
func (s *shares) follow(ctx, work context.Context) error {
	watching, stop := context.WithCancel(ctx)
	defer stop()
	var watcher jetstream.KeyWatcher
	err := s.ingest.retry(ctx, "shares", "watch bucket "+s.kv.Bucket(), func() (err error) {
		watcher, err = s.kv.WatchFiltered(watching, []string{memberPrefix + ">", leasePrefix + ">"})
		return err
	})
	if err != nil {
		return err
	}
	defer func() { _ = watcher.Stop() }() // it ends with its context, too
	ticker := time.NewTicker(beat)
	defer ticker.Stop()
	complete := false
	for {
		select {
		case <-ctx.Done():
			return nil
		case e := <-s.ended:
			if err := s.laneEnded(work, e); err != nil {
				return err
			}
		case entry, ok := <-watcher.Updates():
			switch {
			case !ok:
				return nil
			case entry == nil: // all that was there before
				complete = true
				if err := s.beat(ctx); err != nil {
					return err
				}
				s.decide(ctx, work)
				continue
			}
			if err := s.heard(entry); err != nil {
				return err
			}
		case <-ticker.C:
			if !complete {
				continue
			}
			if err := s.beat(ctx); err != nil {
				return err
			}
			if s.listed == 0 || s.beats-s.listed >= relistBeats {
				if err := s.list(ctx); err != nil {
					return err
				}
			}
			s.decide(ctx, work)
		}
	}
}

// list asks which partitions there are.
func (s *shares) list(ctx context.Context) error {
	var all []stream.Partition
	var final error
	err := s.ingest.retry(ctx, "shares", "list partitions", func() (err error) {
		all, err = stream.IngestPartitions(ctx, s.ingest.cfg.JS)
		return isFinal(&final, err, jetstream.ErrStreamNotFound)
	})
	if err = errors.Join(final, err); err != nil {
		return fmt.Errorf("ingest: %w (stream.Declare makes it)", err)
	}
	s.listed = max(s.beats, 1)
	s.partitions = make(map[string]stream.Partition, len(all))
	for _, p := range all {
		s.partitions[p.Name] = p
	}
	for name, r := range s.running {
		if _, ok := s.partitions[name]; !ok {
			r.stop() // it was empty, and its consumer has gone
		}
	}
	if len(s.partitions) < 2 {
		return fmt.Errorf("ingest of %s: %w (stream.Declare makes it)", stream.EventsStream, jetstream.ErrConsumerNotFound)
	}
	return nil
}

// beat says that this process lives.
func (s *shares) beat(ctx context.Context) error {
	value, err := json.Marshal(s.self)
	if err != nil {
		return fmt.Errorf("encode a holder: %w", err)
	}
	sent := time.Now()
	err = s.ingest.retry(ctx, "shares", "write to bucket "+s.kv.Bucket(), func() error {
		_, err := s.kv.Put(ctx, memberPrefix+s.self.Name, value)
		return err
	})
	s.mu.Lock()
	s.sent = sent
	s.mu.Unlock()
	return err
}

// heard notes what a process has said.
func (s *shares) heard(entry jetstream.KeyValueEntry) error {
	var h holder
	if entry.Operation() == jetstream.KeyValuePut {
		if err := json.Unmarshal(entry.Value(), &h); err != nil {
			s.log.Warn("an entry that is not ingest's own is passed over", "bucket", s.kv.Bucket(), "key", entry.Key(), "error", err)
			return nil
		}
	}
	if partition, ok := strings.CutPrefix(entry.Key(), leasePrefix); ok {
		if s.leases[partition].revision < entry.Revision() {
			s.leases[partition] = lease{h, entry.Revision()}
		}
		// An entry that is older than our own comes from the time before.
		if r := s.running[partition]; r != nil && s.leases[partition].holder != s.self {
			r.lane.lost.Store(true)
			r.stop()
		}
		return nil
	}
	name := strings.TrimPrefix(entry.Key(), memberPrefix)
	switch {
	case name != s.self.Name && entry.Operation() == jetstream.KeyValuePut:
		s.members[name] = member{h, s.beats}
	case name != s.self.Name:
		delete(s.members, name)
	case h == s.self:
		s.beats++
		s.mu.Lock()
		s.confirmed = s.sent
		s.mu.Unlock()
	case s.beats > 0 && entry.Operation() == jetstream.KeyValuePut:
		return fmt.Errorf("ingest process %s: %w", s.self.Name, errNameTaken)
	}
	return nil
}

// isConfirmed says whether this process may take itself to be alive in the eyes of the
// others. The entries of a bucket come in order: a lane that is not lost when this is so
// was not lost when the last beat was sent. It is safe for concurrent use.
func (s *shares) isConfirmed() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return time.Since(s.confirmed) < confirmedFor
}

// alive says whether a holder still works.
func (s *shares) alive(h holder) bool {
	if h.Name == s.self.Name {
		return h == s.self
	}
	m, ok := s.members[h.Name]
	return ok && m.holder == h && s.beats-m.lastBeat <= deadBeats
}

// quota returns how many partitions each of the processes that are alive should have, by
// the order of their names: as many as any other, or one more.
func quota(partitions int, names []string, self string) int {
	slices.Sort(names)
	n := partitions / len(names)
	if slices.Index(names, self) < partitions%len(names) {
		n++
	}
	return n
}

// decide takes partitions that are free, or gives some away.
func (s *shares) decide(ctx, work context.Context) {
	names := []string{s.self.Name}
	for name, m := range s.members {
		if s.alive(m.holder) {
			names = append(names, name)
		} else if s.beats-m.lastBeat > forgetBeats {
			delete(s.members, name)
			if err := s.kv.Delete(ctx, memberPrefix+name); err != nil {
				s.log.Debug("forget a process that ended", "name", name, "error", err)
			}
		}
	}
	want := quota(len(s.partitions), names, s.self.Name)
	have := 0
	for _, r := range s.running {
		if !r.giving {
			have++
		}
	}
	order := make([]string, 0, len(s.partitions))
	for name := range s.partitions {
		order = append(order, name)
	}
	slices.Sort(order)
	for _, name := range order {
		r, l := s.running[name], s.leases[name]
		switch {
		case r != nil && !r.giving && have > want:
			r.giving = true
			r.stop()
			have--
		case r == nil && have < want && !s.alive(l.holder):
			if s.take(ctx, work, s.partitions[name], l) {
				have++
			}
		}
	}
	s.ingest.metrics.partitions.Set(float64(have))
	s.ingest.setPartitions(have, len(names))
}

// take takes a partition that nobody has, and starts to work on it.
func (s *shares) take(ctx, work context.Context, p stream.Partition, l lease) bool {
	value, err := json.Marshal(s.self)
	if err != nil {
		return false
	}
	revision, err := replace(ctx, s.kv, leasePrefix+p.Name, value, l.revision)
	if err != nil {
		// Somebody was faster, or NATS is away: the next beat sees.
		s.log.Debug("take a partition", "partition", p.Name, "error", err)
		return false
	}
	if l.holder.Name != "" && l.holder.Name != s.self.Name {
		s.log.Warn("taking over a partition from a process that is dead", "partition", p.Name, "process", l.holder.Name)
	}
	s.leases[p.Name] = lease{s.self, revision}
	laneCtx, stop := context.WithCancel(ctx)
	lane := s.ingest.newLane(p, s)
	s.running[p.Name] = &running{lane: lane, stop: stop}
	go func() {
		err := lane.run(laneCtx, work)
		stop()
		s.ended <- ended{p.Name, err}
	}()
	return true
}

// laneEnded goes on after a lane was stopped, taken by another process, or failed.
func (s *shares) laneEnded(work context.Context, e ended) error {
	r := s.running[e.partition]
	delete(s.running, e.partition)
	s.ingest.forgetTroubles(e.partition)
	switch {
	case errors.Is(e.err, errTaken):
		s.log.Warn("another process has taken a partition over", "partition", e.partition)
		return nil
	case errors.Is(e.err, jetstream.ErrConsumerNotFound) && e.partition != stream.FindingsStream:
		// It was empty, and went; unless it is there again.
		delete(s.partitions, e.partition)
		s.listed = 0
	case e.err != nil:
		return e.err
	}
	if r.giving || s.leases[e.partition].holder == s.self {
		s.release(work, e.partition)
	}
	return nil
}

// release lets others have a partition at once.
func (s *shares) release(ctx context.Context, partition string) {
	l := s.leases[partition]
	if l.holder != s.self {
		return
	}
	revision, err := replace(ctx, s.kv, leasePrefix+partition, []byte("{}"), l.revision)
	if err != nil {
		s.log.Debug("release a partition", "partition", partition, "error", err)
		return // it is free when we are dead
	}
	s.leases[partition] = lease{revision: revision}
}
