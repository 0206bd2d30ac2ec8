package agent

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	sallyportv1 "github.com/sallyport-ci/sallyport/proto/sallyport/v1"
)

// Why there is no report.
var (
	// ErrNoJob says that who asks belongs to no job, and named none or one that is not known.
	ErrNoJob = errors.New("no such job is known to this agent")
	// ErrNotYours says that who asks may not know of the job.
	ErrNotYours = errors.New("a job may only ask for its own report")
)

// Asker is who asks for a report.
type Asker struct {
	// PID in the first PID namespace, of a process that is alive.
	PID uint32
	// UID is its user.
	UID uint32
}

// OwnExecution names the execution of who asks, and no other, for root, too. Identities of
// executions are hexadecimal.
const OwnExecution = "own"

// Reports makes reports of jobs for who asks on the machine. It is safe for concurrent use.
type Reports struct {
	// Agent that sees the jobs.
	Agent *Agent
	// Judge asks the server, within ctx; nil if there is none to ask. An error says why it
	// cannot be asked.
	Judge func(ctx context.Context, q *sallyportv1.JobJudgementRequest) (*sallyportv1.JobJudgement, error)
}

const (
	// beside is within which has come what does not come through the kernel's ring, such as what
	// fanotify tells.
	beside = 50 * time.Millisecond
	// catchUpPatience bounds the wait for the agent to have heard of what happened: on a machine
	// that does far more than it can, it is behind.
	catchUpPatience = 2 * time.Second
)

// catchUp waits until the agent has heard of all that happened before, as far as it can be waited for.
func (a *Agent) catchUp(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, catchUpPatience)
	defer cancel()
	moment := time.After(beside)
	if err := a.cfg.Source.CatchUp(ctx); err != nil {
		a.log.Warn("the agent is behind; what is told now may lack what was seen last", "error", err)
	}
	select {
	case <-moment:
	case <-ctx.Done():
	}
}

// FlushAll sends what an agent has seen until now and waits until it has arrived, or ctx
// ends.
func FlushAll(ctx context.Context, a *Agent, publisher *Publisher) error {
	a.catchUp(ctx)
	a.Flush()
	for {
		select {
		case <-ctx.Done():
			return fmt.Errorf("%d batches have not arrived: %w", publisher.Waiting(), ctx.Err())
		case <-time.After(10 * time.Millisecond):
		}
		if publisher.Waiting() == 0 {
			return nil
		}
	}
}

// Of returns the report of the job of who asks: of the execution it belongs to, or, if it
// belongs to none and is root, of the one that it names or the only one that runs. It takes
// the server up to wait to judge it. ErrNoJob, ErrNotYours and ErrEnds are wrapped: the report
// of an agent that does not look any more would lack what its job does meanwhile.
func (r *Reports) Of(ctx context.Context, who Asker, execution string, wait time.Duration) (*sallyportv1.JobReport, error) {
	r.Agent.catchUp(ctx)
	if r.Agent.ends.Load() {
		return nil, fmt.Errorf("report of a job: %w", ErrEnds)
	}
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("report of a job: %w", err)
	}
	report, q, err := r.Agent.report(who, execution)
	if err != nil {
		return nil, err
	}
	r.judge(ctx, report, q, wait)
	if r.Agent.cfg.Waiting != nil {
		report.Gaps.BatchesWaiting = r.Agent.cfg.Waiting()
	}
	return report, nil
}

func (r *Reports) judge(ctx context.Context, report *sallyportv1.JobReport, q *sallyportv1.JobJudgementRequest, wait time.Duration) {
	if r.Judge == nil {
		report.Unasked = "this agent has no server"
		return
	}
	// What is on its way takes time, too.
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	q.Wait = durationpb.New(wait * 3 / 4)
	judgement, err := r.Judge(ctx, q)
	if err != nil {
		report.Unasked = shortened(text(err.Error()), maxTalliedPath)
		return
	}
	report.Judgement = judgement
	mark(report)
}

// mark says of each destination whether the job is known to send there.
func mark(report *sallyportv1.JobReport) {
	j := report.GetJudgement()
	type key struct {
		target, protocol string
		port             uint32
	}
	known := make(map[key]bool)
	for _, d := range j.GetDestinations() {
		known[key{d.GetTarget(), d.GetProtocol(), d.GetPort()}] = d.GetKnown()
	}
	for _, s := range report.GetSteps() {
		for _, d := range s.GetDestinations() {
			target := d.GetDomain()
			if target == "" {
				target = d.GetAddress()
			}
			holds, judged := known[key{target, d.GetProtocol(), d.GetPort()}]
			switch {
			case !judged:
				// The detector knows more resolvers: it passes over all.
				d.Resolver = d.GetResolver() || d.GetPort() == dnsPort && j.GetComplete()
			case holds:
				d.Mark = sallyportv1.DestinationMark_DESTINATION_MARK_KNOWN
			case j.GetBaseline().GetStable():
				d.Mark = sallyportv1.DestinationMark_DESTINATION_MARK_FIRST_SEEN
			default:
				d.Mark = sallyportv1.DestinationMark_DESTINATION_MARK_LEARNING
			}
			d.Resolver = d.GetResolver() && !judged
		}
	}
}

// report sends what was seen until now and makes the report of the same, with the question
// for the server's judgement of it.
func (a *Agent) report(who Asker, execution string) (*sallyportv1.JobReport, *sallyportv1.JobJudgementRequest, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.readClock()
	if who.PID == 0 {
		return nil, nil, fmt.Errorf("who asks runs where this agent does not see it: %w", ErrNotYours)
	}
	switch own := a.executionOfProcess(who.PID); {
	case own != "":
		if execution != "" && execution != OwnExecution && execution != own {
			return nil, nil, fmt.Errorf("report of execution %q: %w", execution, ErrNotYours)
		}
		execution = own
	case who.UID != 0:
		return nil, nil, fmt.Errorf("process %d belongs to no job of which anything was seen, and only root may ask for others: %w", who.PID, ErrNotYours)
	case execution == OwnExecution:
		return nil, nil, fmt.Errorf("process %d belongs to no job of which anything was seen: %w", who.PID, ErrNoJob)
	case execution == "" && a.processes.byPID(who.PID) == nil:
		// It may be of a job, whose report another one's must not be taken for.
		return nil, nil, fmt.Errorf("process %d, which asks, was not seen to start: say which job by --execution: %w", who.PID, ErrNoJob)
	case execution == "":
		var err error
		if execution, err = a.tallies.onlyOne(); err != nil {
			return nil, nil, err
		}
	}
	t := a.tallies.jobs[execution]
	if t == nil {
		return nil, nil, fmt.Errorf("report of execution %q: %w (%d steps were of jobs too many to keep account of)", execution, ErrNoJob, a.tallies.refused)
	}
	a.flush()
	r := t.report()
	r.AgentId, r.Hostname, r.AgentVersion = a.cfg.AgentID, a.cfg.Hostname, a.cfg.Version
	r.Made = timestamp(a.wall(a.now))
	r.Gaps = &sallyportv1.JobGaps{EventsLost: make(map[string]uint64), BeganBefore: t.joined, Damage: slices.Clone(a.damage)}
	for kind, n := range a.losses() {
		if before := t.lost[kind]; n > before {
			r.Gaps.EventsLost[kind] = n - before
		}
	}
	if t.joined && a.cfg.Life != nil {
		r.Gaps.PreviousEnd = a.cfg.Life.PreviousEnd
		if a.cfg.Life.PreviousSeen != 0 {
			r.Gaps.PreviousSeen = timestamp(a.cfg.Life.PreviousSeen)
		}
	}
	return r, &sallyportv1.JobJudgementRequest{ExecutionId: execution, Epoch: a.builder.epoch, Sequence: a.builder.next - 1}, nil
}

// executionOfProcess returns the execution that a process belongs to, empty if none.
func (a *Agent) executionOfProcess(pid uint32) string {
	return a.processes.byPID(pid).attributed().execution()
}

// execution of an attribution that may be nil.
func (a *attribution) execution() string {
	if a == nil {
		return ""
	}
	return a.message.GetExecutionId()
}

// onlyOne returns the one execution that runs, or, if none does, the one that ended last.
func (t *tallies) onlyOne() (string, error) {
	var running []string
	last := ""
	for id, j := range t.jobs {
		switch {
		case j.ended == 0:
			running = append(running, id)
		case last == "" || j.ended > t.jobs[last].ended:
			last = id
		}
	}
	switch {
	case len(running) == 1:
		return running[0], nil
	case len(running) > 1:
		slices.Sort(running)
		return "", fmt.Errorf("%d jobs run here, say which by --execution: %s", len(running), strings.Join(running, " "))
	case last != "":
		return last, nil
	default:
		return "", fmt.Errorf("none runs, and none ended in the last %s: %w", endedTallyKept, ErrNoJob)
	}
}

func timestamp(unixNano uint64) *timestamppb.Timestamp {
	return timestamppb.New(time.Unix(0, int64(unixNano)))
}

// report makes what of a report the tally knows.
func (t *tally) report() *sallyportv1.JobReport {
	job := proto.CloneOf(t.message)
	job.Step, job.Action = "", ""
	r := &sallyportv1.JobReport{
		Job: job, Started: timestamp(t.began), StepsLeftOut: t.stepsLeft, RemarksLeftOut: make(map[uint32]uint64),
		Counts: &sallyportv1.JobCounts{
			Processes: t.processes, Programs: t.programs, Flows: t.flows, Failed: t.failed, BytesSent: t.sent, BytesReceived: t.received,
			Lookups: t.lookups, Requests: t.requests, Events: t.events,
		},
	}
	if t.ended != 0 {
		r.Ended = timestamp(t.ended)
	}
	different := make(map[destinationKey]bool)
	for _, s := range t.steps {
		out := &sallyportv1.JobStep{Step: s.name, Action: s.action, Started: timestamp(s.began), Programs: s.programs, FlowsLeftOut: s.flowsLeft}
		for _, d := range s.destinations {
			if d.flows == 0 && d.sent == 0 && d.received == 0 {
				continue // its name came later
			}
			different[d.destinationKey] = true
			out.Destinations = append(out.Destinations, &sallyportv1.JobDestination{
				Domain: strings.ToLower(strings.TrimSuffix(d.domain, ".")), Address: d.first.String(), Port: uint32(d.port), Protocol: d.protocol.Name(),
				BytesSent: d.sent, BytesReceived: d.received, Flows: d.flows, Failed: d.failed,
				Programs: slices.Clone(d.programs), MorePrograms: d.morePrograms, Resolver: d.resolver(),
			})
		}
		r.Steps = append(r.Steps, out)
	}
	r.Counts.Destinations = uint32(len(different))
	for _, m := range t.remarks {
		r.Remarks = append(r.Remarks, &sallyportv1.JobRemark{
			Kind: m.kind, Step: m.step, Program: m.program, Deed: m.deed, Object: m.object, Because: m.reason, Times: m.times,
		})
	}
	for kind, n := range t.remarksLeft {
		r.RemarksLeftOut[uint32(kind)] = n
	}
	return r
}
