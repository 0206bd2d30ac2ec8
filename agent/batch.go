package agent

import (
	"time"

	sallyportv1 "github.com/sallyport-ci/sallyport/proto/sallyport/v1"
)

// builder makes batches. Each holds all that its events point at.
type builder struct {
	agentID  string
	hostname string
	epoch    uint64
	next     uint64 // sequence of the next event
	batch    *sallyportv1.EventBatch
	number   uint64 // of the batch in the making, from 1
	since    uint64 // when its first event came in, by the clock of the records
}

func newBuilder(agentID, hostname string, epoch uint64) *builder {
	b := &builder{agentID: agentID, hostname: hostname, epoch: epoch, next: 1}
	b.begin()
	return b
}

func (b *builder) begin() {
	b.number++
	b.batch = &sallyportv1.EventBatch{
		AgentId: b.agentID, Hostname: b.hostname, Epoch: b.epoch, FirstSequence: b.next,
		Events: make([]*sallyportv1.Event, 0, 64),
	}
}

func (b *builder) events() int { return len(b.batch.Events) }

// age is how long the oldest event of the batch has waited.
func (b *builder) age(now uint64) time.Duration {
	if b.events() == 0 {
		return 0
	}
	return time.Duration(now - b.since)
}

func (b *builder) add(e *sallyportv1.Event, p *process, at *attribution, now uint64) {
	if b.events() == 0 {
		b.since = now
	}
	if p != nil {
		e.Process = b.process(p)
	}
	if at != nil {
		e.Attribution = b.attribution(at)
	}
	b.batch.Events = append(b.batch.Events, e)
	b.next++
}

// maxAncestors bounds how many ancestors of a process are told.
const maxAncestors = 64

// process returns the index of a process in the batch's table, and enters it with
// its ancestors up to the runner's worker: what is above that belongs to the
// machine, not to the job.
func (b *builder) process(p *process) uint32 {
	first := p
	for range maxAncestors {
		if p == nil || p.batch == b.number {
			break
		}
		b.batch.Processes = append(b.batch.Processes, p.message)
		p.batch, p.index = b.number, uint32(len(b.batch.Processes))
		if p.worker != nil {
			break
		}
		p = p.parent
	}
	return first.index
}

func (b *builder) attribution(at *attribution) uint32 {
	if at.batch != b.number {
		b.batch.Attributions = append(b.batch.Attributions, at.message)
		at.batch, at.index = b.number, uint32(len(b.batch.Attributions))
	}
	return at.index
}

// take returns the batch in the making and begins the next; nil if it is empty.
func (b *builder) take() *sallyportv1.EventBatch {
	if b.events() == 0 {
		return nil
	}
	batch := b.batch
	b.begin()
	return batch
}
