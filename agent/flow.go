package agent

import (
	"net/netip"
	"syscall"
	"time"

	"github.com/sallyport-ci/sallyport/bpf"
	sallyportv1 "github.com/sallyport-ci/sallyport/proto/sallyport/v1"
)

// maxFlows bounds how many open flows are remembered; of further ones the name is
// looked up at each report.
const maxFlows = 1 << 17

// nameGrace is how long after a flow's beginning a name may still be learned for it.
const nameGrace = 2 * time.Second

// flow is an open flow.
type flow struct {
	process      *process
	domain       string
	domainSource sallyportv1.DomainSource

	protocol            sallyportv1.Protocol
	source, destination netip.AddrPort
	started             uint64
	payload             *gathered // nil if none is
	tally               *destinationTally
}

func (a *Agent) flow(r *bpf.Flow) {
	f := a.flows[r.ID]
	if f == nil {
		f = &flow{
			process: a.actor(r.Head()), protocol: sallyportv1.Protocol(r.Protocol),
			source: r.Source, destination: r.Destination, started: r.Started,
		}
		f.domain, f.domainSource = a.names.find(f.process, r.Process, r.Destination.Addr(), r.Time)
		if r.State != bpf.FlowEnded && len(a.flows) < maxFlows {
			a.flows[r.ID] = f
		}
	}
	if r.Direction == bpf.FlowListening {
		r.Destination = netip.AddrPort{}
	}
	if f.domain == "" && r.Time < f.started+uint64(nameGrace) {
		// An answer that was read after the first packet: A and AAAA are often asked for
		// at once, and the connection does not wait for both.
		f.domain, f.domainSource = a.names.find(f.process, r.Process, r.Destination.Addr(), r.Time)
	}
	m := &sallyportv1.Flow{
		Direction: sallyportv1.Direction(r.Direction),
		Id:        r.ID, Phase: flowPhases[r.State], Protocol: sallyportv1.Protocol(r.Protocol),
		SourceAddress: r.Source.Addr().AsSlice(), SourcePort: uint32(r.Source.Port()),
		DestinationAddress: r.Destination.Addr().AsSlice(), DestinationPort: uint32(r.Destination.Port()),
		Domain: a.redactor.domain(f.domain, f.process.secrets()), DomainSource: f.domainSource, BytesSent: r.Sent, BytesReceived: r.Received,
		StartTimeUnixNano: a.wall(r.Started),
	}
	if r.State == bpf.FlowEnded {
		m.Outcome = outcome(r)
		if f.payload != nil {
			a.gathering--
		}
		delete(a.flows, r.ID)
	}
	if r.State == bpf.FlowFound {
		a.found.Connections++
	}
	p := f.process
	if r.State == bpf.FlowUsed {
		p = a.actor(r.Head())
	}
	told := a.emit(&sallyportv1.Event{
		TimeUnixNano: a.wall(r.Time),
		Body:         &sallyportv1.Event_Flow{Flow: m},
	}, p, p.attributed(), "flow")
	if s := a.tallyOf(p.attributed(), a.wall(r.Time)); told && s != nil {
		s.flowed(m, f, p)
	}
}

var flowPhases = map[bpf.FlowState]sallyportv1.FlowPhase{
	bpf.FlowStarted: sallyportv1.FlowPhase_FLOW_PHASE_STARTED,
	bpf.FlowActive:  sallyportv1.FlowPhase_FLOW_PHASE_ACTIVE,
	bpf.FlowEnded:   sallyportv1.FlowPhase_FLOW_PHASE_ENDED,
	bpf.FlowFound:   sallyportv1.FlowPhase_FLOW_PHASE_ACTIVE,
	bpf.FlowUsed:    sallyportv1.FlowPhase_FLOW_PHASE_USED,
}

func outcome(r *bpf.Flow) sallyportv1.FlowOutcome {
	switch syscall.Errno(r.Errno) {
	case syscall.ECONNREFUSED:
		return sallyportv1.FlowOutcome_FLOW_OUTCOME_REFUSED
	case syscall.ETIMEDOUT:
		return sallyportv1.FlowOutcome_FLOW_OUTCOME_TIMED_OUT
	case syscall.ECONNRESET, syscall.EPIPE:
		return sallyportv1.FlowOutcome_FLOW_OUTCOME_RESET
	case syscall.EHOSTUNREACH, syscall.ENETUNREACH:
		return sallyportv1.FlowOutcome_FLOW_OUTCOME_UNREACHABLE
	default:
		return sallyportv1.FlowOutcome_FLOW_OUTCOME_CLOSED
	}
}
