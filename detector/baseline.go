package detector

import (
	"cmp"
	"slices"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	sallyportv1 "github.com/sallyport-ci/sallyport/proto/sallyport/v1"
)

// DefaultRunsNeeded is how many clean runs a baseline needs to be stable.
const DefaultRunsNeeded = 5

// Bounds of a baseline.
const (
	maxBaselineExecutions = 64
	maxBaselineEndpoints  = 4096
	maxEndpointPrograms   = 32
)

// cleanRun is what a run that ended clean has to teach.
type cleanRun struct {
	execution string
	ended     time.Time
	endpoints []endpoint
}

// endpoint is what one execution did with one endpoint.
type endpoint struct {
	Target      string    `json:"target"`
	Port        uint32    `json:"port"`
	Protocol    string    `json:"protocol"`
	Programs    []string  `json:"programs"`
	First, Last time.Time `json:"-"`
	FirstNano   int64     `json:"first"`
	LastNano    int64     `json:"last"`
}

// learn returns the baseline after one more clean run. It is a pure function of
// its arguments: b, which may be nil, is not changed. A run that b has learned
// from before, or that has more endpoints than a baseline holds, changes nothing.
func learn(b *sallyportv1.Baseline, repository, workflow, job string, run cleanRun, runsNeeded uint32) *sallyportv1.Baseline {
	if b == nil {
		b = &sallyportv1.Baseline{Repository: repository, Workflow: workflow, Job: job}
	}
	if slices.Contains(b.GetExecutionIds(), run.execution) {
		return b
	}
	b = proto.CloneOf(b)
	changed := false
	for _, e := range run.endpoints {
		known := findEndpoint(b, e.Target, e.Port, e.Protocol)
		if known == nil {
			if len(b.GetEndpoints()) >= maxBaselineEndpoints {
				// Never stable any more, rather than half learned.
				changed = true
				continue
			}
			known = &sallyportv1.BaselineEndpoint{
				Target: e.Target, Port: e.Port, Protocol: e.Protocol,
				FirstSeen: timestamppb.New(e.First), LastSeen: timestamppb.New(e.Last),
			}
			b.Endpoints = append(b.Endpoints, known)
			changed = true
		}
		known.Runs++
		if e.First.Before(known.GetFirstSeen().AsTime()) {
			known.FirstSeen = timestamppb.New(e.First)
		}
		if e.Last.After(known.GetLastSeen().AsTime()) {
			known.LastSeen = timestamppb.New(e.Last)
		}
		for _, p := range e.Programs {
			if i, ok := slices.BinarySearch(known.GetPrograms(), p); !ok && len(known.GetPrograms()) < maxEndpointPrograms {
				known.Programs = slices.Insert(known.Programs, i, p)
			}
		}
	}
	slices.SortFunc(b.Endpoints, func(x, y *sallyportv1.BaselineEndpoint) int {
		return cmp.Or(cmp.Compare(x.GetTarget(), y.GetTarget()), cmp.Compare(x.GetPort(), y.GetPort()), cmp.Compare(x.GetProtocol(), y.GetProtocol()))
	})
	b.Runs++
	b.RunsWithoutChange++
	if changed {
		b.RunsWithoutChange = 0
	}
	b.RunsNeeded = runsNeeded
	// Once stable a baseline stays so: a clean run of a stable job cannot bring
	// anything new but by exception, and must not open the gate to more of it.
	b.Stable = b.GetStable() || (b.GetRuns() >= runsNeeded && b.GetRunsWithoutChange() >= 1)
	b.LearnedAt = timestamppb.New(run.ended)
	b.ExecutionIds = append(b.ExecutionIds, run.execution)
	if n := len(b.GetExecutionIds()) - maxBaselineExecutions; n > 0 {
		b.ExecutionIds = slices.Clone(b.GetExecutionIds()[n:])
	}
	return b
}

func findEndpoint(b *sallyportv1.Baseline, target string, port uint32, protocol string) *sallyportv1.BaselineEndpoint {
	for _, e := range b.GetEndpoints() {
		if e.GetTarget() == target && e.GetPort() == port && e.GetProtocol() == protocol {
			return e
		}
	}
	return nil
}

// facts says what a baseline, maybe nil, knows of a behaviour.
func facts(b *sallyportv1.Baseline, runsNeeded uint32, behaviour *sallyportv1.Behaviour) *sallyportv1.BaselineFacts {
	return &sallyportv1.BaselineFacts{
		Stable: b.GetStable(),
		Known: behaviour.GetKind() == sallyportv1.BehaviourKind_BEHAVIOUR_KIND_EGRESS &&
			findEndpoint(b, behaviour.GetTarget(), behaviour.GetPort(), behaviour.GetProtocol()) != nil,
		Runs:              b.GetRuns(),
		RunsWithoutChange: b.GetRunsWithoutChange(),
		RunsNeeded:        runsNeeded,
		Endpoints:         uint32(len(b.GetEndpoints())),
	}
}
