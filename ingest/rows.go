package ingest

import (
	"context"
	"fmt"
	"math"
	"strings"
	"time"

	sallyportv1 "github.com/sallyport-ci/sallyport/proto/sallyport/v1"
	"github.com/sallyport-ci/sallyport/store"
	"github.com/sallyport-ci/sallyport/stream"
)

// How far the time of an event may be from the time at which the stream stored
// it. What is further off comes from a clock that jumped; taken as it is, it
// would make a partition for each month of the past and the future.
const (
	maxPast   = 35 * 24 * time.Hour
	maxFuture = 24 * time.Hour
)

// batchRows makes rows of batches of events. It is not safe for concurrent use.
type batchRows struct {
	processEvents   store.ProcessEvents
	flowEvents      store.FlowEvents
	dns             store.DNS
	processAccesses store.ProcessAccesses
	fileAccesses    store.FileAccesses
	privileges      store.Privileges
	executables     store.Executables
	httpRequests    store.HTTPRequests
	jobEvents       store.JobEvents
	agentStatus     store.AgentStatus

	// events counts what was added, rows or not; clamped the times replaced;
	// unknown the events of a kind newer than this program; bytes is roughly the
	// size of the rows.
	events, clamped, unknown, bytes int

	// programs holds the base name of each process of the batch in hand, parents
	// the index of its parent, -1 if the batch has none.
	programs []string
	parents  []int
	byID     map[uint64]int
}

var noAttribution, noProcess = new(sallyportv1.Attribution), new(sallyportv1.Process)

// tables returns the rows in the order in which they are inserted.
func (r *batchRows) tables() []store.Rows {
	return []store.Rows{&r.processEvents, &r.flowEvents, &r.dns, &r.processAccesses, &r.fileAccesses, &r.privileges, &r.executables, &r.httpRequests, &r.jobEvents, &r.agentStatus}
}

func (r *batchRows) reset() {
	for _, t := range r.tables() {
		t.Reset()
	}
	r.events, r.clamped, r.unknown, r.bytes = 0, 0, 0, 0
}

// add appends the rows of a batch that stream.Decoder accepted and that the
// stream stored at the given time. The rows are a function of these two alone, so
// that a range read again makes the same rows.
func (r *batchRows) add(b *sallyportv1.EventBatch, stored time.Time) {
	r.prepareProcesses(b.GetProcesses())
	for i, e := range b.GetEvents() {
		c := r.context(b, e, i, stored)
		switch body := e.GetBody().(type) {
		case *sallyportv1.Event_ProcessForked:
			r.addProcess(c, kindForked)
		case *sallyportv1.Event_ProcessExecuted:
			r.addProcess(c, kindExecuted)
		case *sallyportv1.Event_ProcessExited:
			r.addProcess(c, kindExited)
		case *sallyportv1.Event_Flow:
			r.addFlow(c, body.Flow)
		case *sallyportv1.Event_DnsExchange:
			r.addDNS(c, body.DnsExchange)
		case *sallyportv1.Event_ProcessAccess:
			r.addAccess(c, body.ProcessAccess, b.GetProcesses())
		case *sallyportv1.Event_FileAccess:
			r.addFile(c, body.FileAccess)
		case *sallyportv1.Event_PrivilegeUse:
			r.addPrivilege(c, body.PrivilegeUse)
		case *sallyportv1.Event_ExecutableDigest:
			r.addExecutable(c, body.ExecutableDigest)
		case *sallyportv1.Event_HttpRequest:
			r.addRequest(c, body.HttpRequest)
		case *sallyportv1.Event_JobStarted:
			r.addJob(c, jobStarted, nil)
		case *sallyportv1.Event_JobEnded:
			r.addJob(c, jobEnded, body.JobEnded)
		case *sallyportv1.Event_AgentStatus:
			r.addStatus(c, body.AgentStatus)
		default:
			r.unknown++
		}
	}
	r.events += len(b.GetEvents())
}

// eventContext is what every row of an event needs.
type eventContext struct {
	batch       *sallyportv1.EventBatch
	event       *sallyportv1.Event
	sequence    uint64
	time        time.Time
	attribution *sallyportv1.Attribution
	process     *sallyportv1.Process
	program     string
	parent      string
}

func (r *batchRows) context(b *sallyportv1.EventBatch, e *sallyportv1.Event, i int, stored time.Time) eventContext {
	c := eventContext{
		batch: b, event: e, sequence: b.GetFirstSequence() + uint64(i),
		attribution: noAttribution, process: noProcess,
	}
	var clamped bool
	if c.time, clamped = clampTime(unixNano(e.GetTimeUnixNano()), stored); clamped {
		r.clamped++
	}
	if n := e.GetAttribution(); n > 0 {
		c.attribution = b.GetAttributions()[n-1]
	}
	if n := e.GetProcess(); n > 0 {
		c.process = b.GetProcesses()[n-1]
		c.program = r.programs[n-1]
		if p := r.parents[n-1]; p >= 0 {
			c.parent = r.programs[p]
		}
	}
	r.bytes += rowBytes
	return c
}

// rowBytes is roughly what the columns of one row take, without long arguments.
const rowBytes = 700

func clampTime(t, stored time.Time) (time.Time, bool) {
	if t.Before(stored.Add(-maxPast)) || t.After(stored.Add(maxFuture)) {
		return stored.UTC(), true
	}
	return t, false
}

// unixNano keeps times beyond DateTime64(9) at its end, the year 2262.
func unixNano(nano uint64) time.Time {
	return time.Unix(0, int64(min(nano, math.MaxInt64))).UTC()
}

func (r *batchRows) prepareProcesses(processes []*sallyportv1.Process) {
	if r.byID == nil {
		r.byID = make(map[uint64]int)
	}
	clear(r.byID)
	clear(r.programs)
	r.programs, r.parents = r.programs[:0], r.parents[:0]
	for i, p := range processes {
		r.programs = append(r.programs, baseName(p.GetExecutable()))
		if p.GetId() != 0 {
			r.byID[p.GetId()] = i
		}
	}
	for _, p := range processes {
		parent, ok := r.byID[p.GetParentId()]
		if !ok || p.GetParentId() == 0 {
			parent = -1
		}
		r.parents = append(r.parents, parent)
	}
}

// baseName is what follows the last slash, as a program is called.
func baseName(executable string) string {
	return executable[strings.LastIndexByte(executable, '/')+1:]
}

// eventRows decodes messages of EVENTS into rows.
type eventRows struct {
	batchRows
	decoder *stream.Decoder
	batch   sallyportv1.EventBatch
}

func newEventRows() (*eventRows, error) {
	d, err := stream.NewDecoder()
	if err != nil {
		return nil, err
	}
	return &eventRows{decoder: d}, nil
}

func (r *eventRows) add(m *message) error {
	if err := r.decoder.Decode(m.Data(), &r.batch); err != nil {
		return err
	}
	if stream.PublishedSubject(m.Subject()) != stream.EventSubject(r.batch.GetAgentId()) {
		return fmt.Errorf("%w: agent %s published on subject %s", stream.ErrMalformed, r.batch.GetAgentId(), m.Subject())
	}
	m.batch = newBatchRef(&r.batch)
	r.batchRows.add(&r.batch, m.stored)
	return nil
}

func (r *eventRows) size() (events, bytes int) { return r.events, r.bytes }

func (r *eventRows) oddities() (clamped, unknown int) { return r.clamped, r.unknown }

func (r *eventRows) prepare(context.Context) error { return nil }
