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
	maxJudged    = 16384 // behaviours; further ones are judged each time
	maxEndpoints = maxBaselineEndpoints
	maxPipeEnds  = 512  // the oldest are forgotten
	maxSenders   = 8192 // processes that sent to another machine, with ancestors
	maxAncestry  = 32
	maxSpans     = 1024
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
	// Endpoints contacted, in order of first contact.
	Endpoints []endpoint `json:"endpoints,omitempty"`
	// Ends are the pipe ends of its programs.
	Ends []*pipeEnd `json:"ends,omitempty"`
	// Senders are the processes that sent to another machine, and their ancestors,
	// in the order in which they became so.
	Senders []processKey `json:"senders,omitempty"`
	// Findings made.
	Findings int `json:"findings"`
	// Incomplete says why the execution was not seen completely, if so.
	Incomplete string `json:"incomplete,omitempty"`
	// Ended, and when, Unix time in nanoseconds.
	Ended   bool  `json:"ended"`
	EndedAt int64 `json:"ended_at"`
	// Settled says that it has taught or never will; it is judged still, for
	// processes that outlive the job.
	Settled bool `json:"settled"`
	// Finished says that it is over: no more events of it are judged.
	Finished bool `json:"finished"`
	// Touched is when an event of it came in, by the detector's clock.
	Touched int64 `json:"touched"`

	attribution *sallyportv1.Attribution
	baseline    *sallyportv1.Baseline
	judged      map[uint64]bool
	senders     map[processKey]bool
	ends        map[processKey][]*pipeEnd // by the process that holds them
	pairs       []pair
	dirty       bool
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
func newExecution(a *sallyportv1.Attribution, baseline *sallyportv1.Baseline) (*execution, error) {
	data, err := proto.Marshal(a)
	if err != nil {
		return nil, err
	}
	return &execution{
		Attribution: data, Agents: make(map[string]*position), attribution: proto.CloneOf(a), baseline: baseline,
		judged: make(map[uint64]bool), senders: make(map[processKey]bool), ends: make(map[processKey][]*pipeEnd),
	}, nil
}

// restore makes what is not persisted from what is.
func (x *execution) restore() error {
	x.attribution = new(sallyportv1.Attribution)
	if err := proto.Unmarshal(x.Attribution, x.attribution); err != nil {
		return err
	}
	if x.Agents == nil {
		x.Agents = make(map[string]*position)
	}
	x.judged, x.senders = make(map[uint64]bool, len(x.Judged)), make(map[processKey]bool, len(x.Senders))
	for _, h := range x.Judged {
		x.judged[h] = true
	}
	for _, k := range x.Senders {
		x.senders[k] = true
	}
	for i := range x.Endpoints {
		x.Endpoints[i].First, x.Endpoints[i].Last = time.Unix(0, x.Endpoints[i].FirstNano), time.Unix(0, x.Endpoints[i].LastNano)
	}
	ends := x.Ends
	x.Ends, x.ends = nil, make(map[processKey][]*pipeEnd)
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

// contact notes an endpoint for the baseline.
func (x *execution) contact(b *sallyportv1.Behaviour, at int64) {
	if b.GetAddressScope() == scopeLoopback {
		return
	}
	for i := range x.Endpoints {
		e := &x.Endpoints[i]
		if e.Target != b.GetTarget() || e.Port != b.GetPort() || e.Protocol != b.GetProtocol() {
			continue
		}
		e.FirstNano, e.LastNano = min(e.FirstNano, at), max(e.LastNano, at)
		e.First, e.Last = time.Unix(0, e.FirstNano), time.Unix(0, e.LastNano)
		if !slices.Contains(e.Programs, b.GetProgram()) && len(e.Programs) < maxEndpointPrograms {
			e.Programs = append(e.Programs, b.GetProgram())
		}
		return
	}
	if len(x.Endpoints) >= maxEndpoints {
		x.incomplete("more endpoints than are remembered")
		return
	}
	x.Endpoints = append(x.Endpoints, endpoint{
		Target: b.GetTarget(), Port: b.GetPort(), Protocol: b.GetProtocol(), Programs: []string{b.GetProgram()},
		First: time.Unix(0, at), Last: time.Unix(0, at), FirstNano: at, LastNano: at,
	})
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
	x.Judged, x.judged = nil, nil
	x.Endpoints, x.Ends, x.Senders, x.senders = nil, nil, nil, nil
	x.ends, x.pairs, x.baseline = nil, nil, nil
}
