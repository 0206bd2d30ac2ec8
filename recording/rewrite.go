package recording

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"strconv"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	sallyportv1 "github.com/sallyport-ci/sallyport/proto/sallyport/v1"
)

// Identity makes new identities out of recorded ones: the same name gives the same, so
// that a replay that was cut off can be repeated, and another name gives others.
type Identity string

// hash of what an identity was.
func (n Identity) hash(what, old string) [sha256.Size]byte {
	return sha256.Sum256([]byte(strconv.Quote(string(n)) + strconv.Quote(what) + strconv.Quote(old)))
}

// Renew gives a batch, in place, another agent, other executions and other runs. Epoch and
// sequences stay: with the agent they make an identity that never was. What is the same in
// two batches stays the same in both.
func (n Identity) Renew(b *sallyportv1.EventBatch) {
	b.AgentId = n.Agent(b.GetAgentId())
	for _, a := range b.GetAttributions() {
		// Before the run, which it is told apart by.
		if a.GetExecutionId() != "" {
			h := n.hash("execution", a.GetExecutionId())
			a.ExecutionId = hex.EncodeToString(h[:8])
		}
		if a.GetRunId() != "" {
			a.RunId = n.Run(a.GetRepository(), a.GetRunId())
		}
	}
}

// Agent returns the agent that stands for a recorded one: "replay-" and 16 digits.
func (n Identity) Agent(old string) string {
	h := n.hash("agent", old)
	return "replay-" + hex.EncodeToString(h[:8])
}

// Run returns the run that stands for a recorded one: a number, as GitHub's are, of 15
// digits, which no run of GitHub has.
func (n Identity) Run(repository, old string) string {
	h := n.hash("run "+repository, old)
	const digits = 100_000_000_000_000 // 10^14
	return strconv.FormatUint(9*digits+binary.BigEndian.Uint64(h[:8])%digits, 10)
}

// Shift moves, in place, all times of a batch by d; what is zero stays so. The epoch stays:
// it is part of the identity.
func Shift(b *sallyportv1.EventBatch, d time.Duration) {
	if d != 0 {
		shift(b.ProtoReflect(), int64(d))
	}
}

// shift moves all fields that are fixed64, which in this contract are times, in m and below.
func shift(m protoreflect.Message, d int64) {
	m.Range(func(f protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		switch {
		case f.IsMap(): // none holds a time
		case f.Kind() == protoreflect.Fixed64Kind && !f.IsList():
			if old := v.Uint(); old != 0 {
				m.Set(f, protoreflect.ValueOfUint64(uint64(max(int64(old)+d, 1))))
			}
		case f.Message() == nil:
		case f.IsList():
			for i := range v.List().Len() {
				shift(v.List().Get(i).Message(), d)
			}
		default:
			shift(v.Message(), d)
		}
		return true
	})
}

// Span returns the times of the first and the last event of a batch; false if none has one.
func Span(b *sallyportv1.EventBatch) (first, last time.Time, ok bool) {
	var low, high uint64
	for _, e := range b.GetEvents() {
		if t := e.GetTimeUnixNano(); t != 0 {
			if low == 0 || t < low {
				low = t
			}
			high = max(high, t)
		}
	}
	return time.Unix(0, int64(low)), time.Unix(0, int64(high)), low != 0
}

// Only returns a copy of a batch with nothing in it but the events that belong to a kept
// attribution, what they point at, and what the agent says of itself. The other events
// stay as empty places, so that sequences keep their meaning and have no gaps. any says
// whether an event of a kept attribution is among them.
func Only(b *sallyportv1.EventBatch, keep func(*sallyportv1.Attribution) bool) (out *sallyportv1.EventBatch, any bool) {
	kept := make([]uint32, len(b.GetAttributions())+1)
	out = &sallyportv1.EventBatch{AgentId: b.GetAgentId(), Epoch: b.GetEpoch(), FirstSequence: b.GetFirstSequence(), Hostname: b.GetHostname()}
	for i, a := range b.GetAttributions() {
		if keep(a) {
			out.Attributions = append(out.Attributions, proto.CloneOf(a))
			kept[i+1] = uint32(len(out.Attributions))
		}
	}
	t := &processTable{from: b.GetProcesses(), to: out, byID: make(map[uint64]uint32), places: make(map[uint32]uint32)}
	for i, p := range b.GetProcesses() {
		t.byID[p.GetId()] = uint32(i + 1)
	}
	for _, e := range b.GetEvents() {
		n := e.GetAttribution()
		mine := n > 0 && int(n) < len(kept) && kept[n] > 0
		if !mine && e.GetAgentStatus() == nil {
			out.Events = append(out.Events, new(sallyportv1.Event))
			continue
		}
		any = any || mine
		e = proto.CloneOf(e)
		e.Process = t.place(e.GetProcess())
		if n > 0 {
			e.Attribution = kept[n]
		}
		if a := e.GetProcessAccess(); a != nil {
			a.Target = t.place(a.GetTarget())
		}
		if j := e.GetJobEnded(); j != nil {
			for k, p := range j.GetSurvivors() {
				j.Survivors[k] = t.place(p)
			}
		}
		out.Events = append(out.Events, e)
	}
	return out, any
}

// processTable takes over the processes that something points at, with their ancestors.
type processTable struct {
	from   []*sallyportv1.Process
	to     *sallyportv1.EventBatch
	byID   map[uint64]uint32
	places map[uint32]uint32
}

// place returns where in the new table the process is that was at n, both from 1.
func (t *processTable) place(n uint32) uint32 {
	if n == 0 || int(n) > len(t.from) {
		return 0
	}
	if there := t.places[n]; there > 0 {
		return there
	}
	p := proto.CloneOf(t.from[n-1])
	t.to.Processes = append(t.to.Processes, p)
	there := uint32(len(t.to.Processes))
	t.places[n] = there
	t.place(t.byID[p.GetParentId()])
	return there
}
