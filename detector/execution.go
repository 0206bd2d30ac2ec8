package detector

import (
	"slices"
	"time"

	"google.golang.org/protobuf/proto"

	sallyportv1 "github.com/sallyport-ci/sallyport/proto/sallyport/v1"
)

// Bounds of what is remembered of one execution. Beyond them an execution still is
// judged, but no longer teaches.
const (
	maxJudged   = 16384 // behaviours; further ones are judged each time
	maxDeeds    = maxBaselineBehaviours
	maxPipeEnds = 512  // the oldest are forgotten
	maxSenders  = 8192 // processes that sent to another machine, with ancestors
	maxAncestry = 32
	maxSpans    = 1024
	maxSteps    = 1024
	maxTold     = 1024 // findings; further ones are told, and may be told again
)

// pipeReuse is how long after the end of one program a pipe can still join it to
// a later one; inode numbers are used again.
const pipeReuse = 10 * time.Second

// execution is what is remembered of one execution of a job on the machines where
// it was seen. It is the unit of persistence.
type execution struct {
	// Attribution of the execution; that of its first event.
	Attribution []byte `json:"attribution"`
	// Agents are the positions of the agents that saw it.
	Agents map[string]*position `json:"agents"`
	// Judged are the hashes of the behaviours judged, ordered.
	Judged []uint64 `json:"judged,omitempty"`
	// Deeds are what a baseline would learn of it, in the order of their first time.
	Deeds []*deed `json:"deeds,omitempty"`
	// Volumes are the bytes sent.
	Volumes []volume `json:"volumes,omitempty"`
	// Questions are the names asked for.
	Questions []questioned `json:"questions,omitempty"`
	// Steps are its steps with their actions, in order.
	Steps []step `json:"steps,omitempty"`
	// Ends are the pipe ends of its programs.
	Ends []*pipeEnd `json:"ends,omitempty"`
	// Senders are the processes that sent to another machine, and their ancestors,
	// in the order in which they became so.
	Senders []processKey `json:"senders,omitempty"`
	// Told are the findings made.
	Told []told `json:"told,omitempty"`
	// Excepted are findings that were not made, as verdicts tell of them, ordered.
	Excepted []string `json:"excepted,omitempty"`
	// Incomplete says why the execution was not seen completely, if so.
	Incomplete string `json:"incomplete,omitempty"`
	// StartedAt is when its first event was, EndedAt when it ended, Unix time in
	// nanoseconds.
	StartedAt int64 `json:"started_at"`
	EndedAt   int64 `json:"ended_at"`
	// Ended says that the job has.
	Ended bool `json:"ended"`
	// Facts are what the baseline knew of egress at the first verdict: a later one must not
	// see what the execution itself has taught.
	Facts []byte `json:"facts,omitempty"`
	// Revision of the last verdict, 0 before the first, and what it said.
	Revision uint32 `json:"revision,omitempty"`
	Said     string `json:"said,omitempty"`
	// Settled says that it has taught or never will; it is judged still, for
	// processes that outlive the job.
	Settled bool `json:"settled"`
	// Taught says that it has taught.
	Taught bool `json:"taught,omitempty"`
	// Finished says that it is over: no more events of it are judged.
	Finished bool `json:"finished"`
	// Touched is when an event of it came in, by the detector's clock.
	Touched int64 `json:"touched"`

	id          string
	attribution *sallyportv1.Attribution
	knowledge   *knowledge
	judged      map[uint64]bool
	deeds       map[deedKey]*deed
	volumes     map[sender]uint64
	asked       map[question]*asked
	names       int // names asked for
	steps       map[step]bool
	told        map[string]bool
	senders     map[processKey]bool
	ends        map[processKey][]*pipeEnd // by the process that holds them
	pairs       []pair
	dirty       bool
}

// volume is the bytes that somebody sent.
type volume struct {
	Sender sender `json:"sender"`
	Bytes  uint64 `json:"bytes"`
}

// questioned is the names that somebody asked for.
type questioned struct {
	Question question `json:"question"`
	Asked    *asked   `json:"asked"`
}

// step is a step of a job with its action.
type step struct {
	Step   string `json:"step"`
	Action string `json:"action"`
}

// told is a finding that was made.
type told struct {
	ID       string               `json:"id"`
	Time     int64                `json:"time"`
	Severity sallyportv1.Severity `json:"severity"`
	Threat   bool                 `json:"threat,omitempty"`
	// Reopened says that it is new behaviour while learning was open again: the run teaches
	// all the same.
	Reopened bool   `json:"reopened,omitempty"`
	Message  string `json:"message"`
	// Brief is the finding as verdicts have it; empty of those that came when there were too many.
	Brief []byte `json:"brief,omitempty"`
}

// position is how far an agent's events were applied to an execution.
type position struct {
	Epoch   uint64 `json:"epoch"`
	Applied spans  `json:"applied"`
	// Lost is the agent's count of lost events when first heard of, -1 before.
	Lost int64 `json:"lost"`
	// Last is the sequence of the job's end, 0 before.
	Last uint64 `json:"last"`
}

// processKey identifies a process over all machines.
type processKey struct {
	Agent string `json:"a"`
	ID    uint64 `json:"p"`
}

// pipeEnd is a program that had a pipe as its standard output (a writer), or as
// its standard input or argument (a reader).
type pipeEnd struct {
	Agent    string   `json:"agent"`
	Inode    uint64   `json:"inode"`
	Writer   bool     `json:"writer"`
	Step     []byte   `json:"step"`     // its attribution
	Process  []byte   `json:"process"`  // itself
	Ancestry [][]byte `json:"ancestry"` // parent first
	Started  int64    `json:"started"`
	Exited   int64    `json:"exited"`

	process     *sallyportv1.Process
	ancestry    []*sallyportv1.Process
	attribution *sallyportv1.Attribution
}

// newExecution starts to follow an execution.
func newExecution(a *sallyportv1.Attribution, k *knowledge) (*execution, error) {
	data, err := proto.Marshal(a)
	if err != nil {
		return nil, err
	}
	x := &execution{
		Attribution: data, Agents: make(map[string]*position), id: a.GetExecutionId(), attribution: proto.CloneOf(a), knowledge: k,
	}
	x.index()
	return x, nil
}

// index makes the maps from the lists.
func (x *execution) index() {
	x.judged, x.senders = make(map[uint64]bool, len(x.Judged)), make(map[processKey]bool, len(x.Senders))
	x.deeds, x.told, x.steps = make(map[deedKey]*deed, len(x.Deeds)), make(map[string]bool, len(x.Told)), make(map[step]bool, len(x.Steps))
	x.volumes, x.asked = make(map[sender]uint64, len(x.Volumes)), make(map[question]*asked, len(x.Questions))
	x.ends = make(map[processKey][]*pipeEnd)
	for _, h := range x.Judged {
		x.judged[h] = true
	}
	for _, k := range x.Senders {
		x.senders[k] = true
	}
	for _, d := range x.Deeds {
		x.deeds[d.key()] = d
	}
	for _, t := range x.Told {
		x.told[t.ID] = true
	}
	for _, s := range x.Steps {
		x.steps[s] = true
	}
	for _, v := range x.Volumes {
		x.volumes[v.Sender] = v.Bytes
	}
	x.names = 0
	for _, q := range x.Questions {
		if q.Asked == nil {
			q.Asked = &asked{}
		}
		if q.Asked.Names == nil {
			q.Asked.Names = make(map[uint64]bool)
		}
		x.asked[q.Question] = q.Asked
		x.names += len(q.Asked.Names)
	}
}

// pack makes those lists that are kept as maps only.
func (x *execution) pack() {
	x.Volumes, x.Questions = nil, nil
	for k, n := range x.volumes {
		x.Volumes = append(x.Volumes, volume{k, n})
	}
	for q, a := range x.asked {
		x.Questions = append(x.Questions, questioned{q, a})
	}
}

// restore makes what is not persisted from what is.
func (x *execution) restore() error {
	x.attribution = new(sallyportv1.Attribution)
	if err := proto.Unmarshal(x.Attribution, x.attribution); err != nil {
		return err
	}
	x.id = x.attribution.GetExecutionId()
	if x.Agents == nil {
		x.Agents = make(map[string]*position)
	}
	x.Deeds = slices.DeleteFunc(x.Deeds, func(d *deed) bool { return d == nil })
	x.index()
	ends := x.Ends
	x.Ends = nil
	for _, e := range ends {
		e.process, e.attribution = new(sallyportv1.Process), new(sallyportv1.Attribution)
		if err := proto.Unmarshal(e.Process, e.process); err != nil {
			return err
		}
		if err := proto.Unmarshal(e.Step, e.attribution); err != nil {
			return err
		}
		for _, data := range e.Ancestry {
			p := new(sallyportv1.Process)
			if err := proto.Unmarshal(data, p); err != nil {
				return err
			}
			e.ancestry = append(e.ancestry, p)
		}
		x.hold(e)
	}
	return nil
}

// incomplete notes the first reason why the execution was not seen completely.
func (x *execution) incomplete(reason string) {
	if x.Incomplete == "" {
		x.Incomplete = reason
	}
	x.dirty = true
}

// remember says whether a behaviour is new, and remembers it.
func (x *execution) remember(hash uint64) bool {
	if x.judged[hash] {
		return false
	}
	if len(x.judged) >= maxJudged {
		x.incomplete("more behaviours than are remembered")
		return true
	}
	x.judged[hash] = true
	x.Judged = append(x.Judged, hash)
	return true
}

// did notes what a baseline would learn.
func (x *execution) did(b *sallyportv1.Behaviour, at int64) {
	k, ok := deedOf(b)
	if !ok || x.Settled {
		return
	}
	d := x.deeds[k]
	if d == nil {
		if len(x.Deeds) >= maxDeeds {
			x.incomplete("more behaviours than a baseline holds")
			return
		}
		d = &deed{
			Kind: k.kind, Target: k.target, Port: k.port, Protocol: k.protocol, Operation: k.operation,
			Category: k.category, Method: k.method, Path: k.path, First: at, Last: at,
		}
		x.deeds[k], x.Deeds = d, append(x.Deeds, d)
	}
	d.First, d.Last, d.Sent = min(d.First, at), max(d.Last, at), max(d.Sent, b.GetBytesSent())
	if p := b.GetProgram(); p != "" && !slices.Contains(d.Programs, p) && len(d.Programs) < maxPrograms {
		d.Programs = append(d.Programs, p)
	}
}

// within notes the step that something happened in.
func (x *execution) within(a *sallyportv1.Attribution) {
	k := step{a.GetStep(), a.GetAction()}
	if k.Step == "" || x.steps[k] {
		return
	}
	if len(x.Steps) >= maxSteps {
		x.incomplete("more steps than are remembered")
		return
	}
	x.steps[k], x.Steps = true, append(x.Steps, k)
}

// position returns an agent's position, new if the agent is.
func (x *execution) position(b *sallyportv1.EventBatch) *position {
	p := x.Agents[b.GetAgentId()]
	if p == nil {
		p = &position{Epoch: b.GetEpoch(), Lost: -1}
		x.Agents[b.GetAgentId()] = p
	}
	return p
}

// seen says whether all events up to the end of the job were applied.
func (x *execution) seen() bool {
	for _, p := range x.Agents {
		if p.Last == 0 || len(p.Applied) == 0 || p.Applied[0].Last < p.Last {
			return false
		}
	}
	return true
}

// forget drops what a finished execution needs no more; what stays keeps a
// redelivered event from starting it again.
func (x *execution) forget() {
	x.Settled, x.Finished, x.dirty = true, true, true
	x.Judged, x.Deeds, x.Volumes, x.Questions, x.Steps, x.Ends, x.Senders, x.Told = nil, nil, nil, nil, nil, nil, nil, nil
	x.index()
	x.names, x.pairs, x.knowledge = 0, nil, nil
}
