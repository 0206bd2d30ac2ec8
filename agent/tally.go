package agent

import (
	"fmt"
	"net/netip"
	"path"
	"slices"
	"strings"
	"time"

	sallyportv1 "github.com/sallyport-ci/sallyport/proto/sallyport/v1"
)

// Bounds of what is tallied. A job cannot take more than some 400 KiB here, whatever it does.
// dnsPort is where resolvers answer.
const dnsPort = 53

const (
	// maxTallies bounds the jobs that run, maxEndedTallies those that ended.
	maxTallies      = 64
	maxEndedTallies = 16
	// endedTallyKept is how long after its end a job can be reported, silentTallyKept how
	// long a job may do nothing until another one may have its room.
	endedTallyKept  = 10 * time.Minute
	silentTallyKept = time.Hour

	maxTurnedAway          = 1024
	maxTalliedSteps        = 128
	maxTalliedDestinations = 256
	maxTalliedPrograms     = 4  // of a destination
	maxRemarks             = 48 // of each kind
	// maxTalliedName and maxTalliedPath bound names of programs and steps, and paths.
	maxTalliedName = 96
	maxTalliedPath = 256
)

// tallies are what jobs did, in short, for whoever asks (report.go). The Agent's mu guards
// all of it.
type tallies struct {
	jobs map[string]*tally // by execution
	// refused counts steps that found no room for their job; of turnedAway jobs a tally that
	// begins later is not of the whole.
	refused    uint64
	turnedAway map[string]bool
}

// tally is what one execution of a job did.
type tally struct {
	message *sallyportv1.Attribution // without a step
	// began and last are Unix nanoseconds of its first and last event, ended of its end,
	// 0 before.
	began, last, ended uint64
	// joined says that it ran already when the agent began to watch.
	joined bool
	// lost is what the agent had lost before it.
	lost map[string]uint64

	processes, programs, flows, failed, sent, received, lookups, requests, events uint64

	steps        []*stepTally
	stepsLeft    uint64 // events of steps without room
	destinations int
	remarks      []*remark
	byRemark     map[remark]*remark // by all but times
	remarksOf    map[sallyportv1.JobRemarkKind]int
	remarksLeft  map[sallyportv1.JobRemarkKind]uint64
}

// stepTally is what a step did. Its job is nil if there was no room for it, its name is not
// used then.
type stepTally struct {
	job          *tally
	leftOut      bool // the job has no room for the step
	name, action string
	began        uint64
	programs     uint64
	destinations []*destinationTally
	byKey        map[destinationKey]*destinationTally
	flowsLeft    uint64
}

type destinationKey struct {
	domain   string
	address  netip.Addr // the zero one if there is a domain
	port     uint16
	protocol sallyportv1.Protocol
}

type destinationTally struct {
	destinationKey
	first                         netip.Addr
	sent, received, flows, failed uint64
	programs                      []string
	morePrograms                  bool
}

// remark is something worth knowing.
type remark struct {
	kind                                sallyportv1.JobRemarkKind
	step, program, deed, object, reason string
	times                               uint64
}

func newTallies() tallies {
	return tallies{jobs: make(map[string]*tally), turnedAway: make(map[string]bool)}
}

// tallyOf returns the tally of a step, which may be nil.
func (a *Agent) tallyOf(at *attribution, now uint64) *stepTally {
	if at == nil {
		return nil
	}
	if at.tally == nil {
		at.tally = a.tallies.step(at.message, now, a.losses)
	}
	if at.tally.job == nil {
		return nil
	}
	return at.tally
}

// step makes the tally of a step, or finds it: one step may have several attributions.
func (t *tallies) step(m *sallyportv1.Attribution, now uint64, lost func() map[string]uint64) *stepTally {
	j := t.jobs[m.GetExecutionId()]
	if j == nil {
		if !t.room(now) {
			t.refused++
			if len(t.turnedAway) < maxTurnedAway {
				t.turnedAway[m.GetExecutionId()] = true
			}
			return &stepTally{}
		}
		j = &tally{
			joined:  t.turnedAway[m.GetExecutionId()] || len(t.turnedAway) >= maxTurnedAway,
			message: m, began: now, lost: lost(), byRemark: make(map[remark]*remark),
			remarksOf: make(map[sallyportv1.JobRemarkKind]int), remarksLeft: make(map[sallyportv1.JobRemarkKind]uint64),
		}
		t.jobs[m.GetExecutionId()] = j
		delete(t.turnedAway, m.GetExecutionId())
	}
	name, action := shortened(m.GetStep(), maxTalliedName), shortened(m.GetAction(), maxTalliedName)
	for _, s := range j.steps {
		if s.name == name && s.action == action {
			return s
		}
	}
	s := &stepTally{job: j, name: name, action: action, began: now}
	if len(j.steps) >= maxTalliedSteps {
		s.leftOut = true
		return s
	}
	s.byKey = make(map[destinationKey]*destinationTally)
	j.steps = append(j.steps, s)
	return s
}

// room makes room for one more job, if there is some to be had.
func (t *tallies) room(now uint64) bool {
	running := 0
	oldest, silent := "", uint64(0)
	for id, j := range t.jobs {
		if j.ended != 0 {
			continue
		}
		running++
		if oldest == "" || j.last < silent {
			oldest, silent = id, j.last
		}
	}
	if running < maxTallies {
		return true
	}
	if silent+uint64(silentTallyKept) > now {
		return false
	}
	delete(t.jobs, oldest)
	return true
}

// forget drops jobs that ended long ago, and the oldest of too many.
func (t *tallies) forget(now uint64) {
	for {
		oldest, ended := "", 0
		for id, j := range t.jobs {
			if j.ended == 0 {
				continue
			}
			ended++
			if oldest == "" || j.ended < t.jobs[oldest].ended {
				oldest = id
			}
		}
		if oldest == "" || ended <= maxEndedTallies && t.jobs[oldest].ended+uint64(endedTallyKept) > now {
			return
		}
		delete(t.jobs, oldest)
	}
}

// fold adds an event that was told. Flows, accesses and the job's end are added where they
// are known better (flowed, accessed, endedBy).
func (s *stepTally) fold(e *sallyportv1.Event, p *process) {
	j := s.job
	j.events++
	j.last = max(j.last, e.GetTimeUnixNano())
	if s.leftOut {
		j.stepsLeft++
	}
	if p != nil && !p.counted && p.worker == nil {
		p.counted = true
		j.processes++
	}
	switch body := e.GetBody().(type) {
	case *sallyportv1.Event_ProcessExecuted:
		j.programs++
		s.programs++
		if p.message.GetExecutableInMemory() || p.message.GetExecutableDeleted() {
			r := remark{kind: sallyportv1.JobRemarkKind_JOB_REMARK_KIND_HIDDEN_PROGRAM, deed: "ran though its file was deleted", object: p.message.GetExecutable()}
			if p.message.GetExecutableInMemory() {
				r.deed = "ran from memory"
			}
			s.remark(r, p, 1)
		}
	case *sallyportv1.Event_DnsExchange:
		j.lookups++
	case *sallyportv1.Event_HttpRequest:
		j.requests++
	case *sallyportv1.Event_FileAccess:
		f := body.FileAccess
		s.remark(remark{
			kind: sallyportv1.JobRemarkKind_JOB_REMARK_KIND_FILE, deed: fileDeeds[f.GetOperation()], object: f.GetPath(), reason: f.GetCategory(),
		}, p, f.GetTimes())
	case *sallyportv1.Event_PrivilegeUse:
		deed, object := privilegeDeed(body.PrivilegeUse)
		s.remark(remark{kind: sallyportv1.JobRemarkKind_JOB_REMARK_KIND_PRIVILEGE, deed: deed, object: object}, p, 1)
	default:
	}
}

var fileDeeds = map[sallyportv1.FileOperation]string{
	sallyportv1.FileOperation_FILE_OPERATION_READ:    "read",
	sallyportv1.FileOperation_FILE_OPERATION_WRITTEN: "wrote",
	sallyportv1.FileOperation_FILE_OPERATION_ENTERED: "put there",
	sallyportv1.FileOperation_FILE_OPERATION_LEFT:    "took away",
}

func privilegeDeed(u *sallyportv1.PrivilegeUse) (deed, object string) {
	switch u.GetKind() {
	case sallyportv1.PrivilegeKind_PRIVILEGE_KIND_GAINED:
		const few = 3
		object = strings.Join(u.GetCapabilities()[:min(few, len(u.GetCapabilities()))], " ")
		if n := len(u.GetCapabilities()) - few; n > 0 {
			object += fmt.Sprintf(" and %d more", n)
		}
		if u.GetEffectiveUidBefore() != u.GetEffectiveUid() {
			return fmt.Sprintf("became user %d, gaining", u.GetEffectiveUid()), object
		}
		return "gained", object
	case sallyportv1.PrivilegeKind_PRIVILEGE_KIND_NAMESPACES:
		return "entered other namespaces:", strings.Join(u.GetNamespaces(), " ")
	case sallyportv1.PrivilegeKind_PRIVILEGE_KIND_MODULE:
		return "loaded the kernel module", u.GetObject()
	case sallyportv1.PrivilegeKind_PRIVILEGE_KIND_BPF:
		return "loaded the eBPF program", u.GetObject()
	case sallyportv1.PrivilegeKind_PRIVILEGE_KIND_SIGNAL:
		return fmt.Sprintf("sent signal %d to", u.GetSignal()), "the agent"
	case sallyportv1.PrivilegeKind_PRIVILEGE_KIND_PACKETS:
		return "sent frames by a packet socket", ""
	default:
		return "used a privilege", u.GetObject()
	}
}

var accessDeeds = map[sallyportv1.AccessKind]string{
	sallyportv1.AccessKind_ACCESS_KIND_PROC_MEM:     "opened the memory of",
	sallyportv1.AccessKind_ACCESS_KIND_PROC_MAPS:    "read the memory map of",
	sallyportv1.AccessKind_ACCESS_KIND_PROC_ENVIRON: "read the environment of",
	sallyportv1.AccessKind_ACCESS_KIND_PTRACE:       "traced",
	sallyportv1.AccessKind_ACCESS_KIND_VM_READ:      "read the memory of",
	sallyportv1.AccessKind_ACCESS_KIND_VM_WRITE:     "wrote to the memory of",
}

// accessed adds that a process reached into another one, either of which may be nil.
func (s *stepTally) accessed(p, target *process, u *sallyportv1.ProcessAccess) {
	r := remark{kind: sallyportv1.JobRemarkKind_JOB_REMARK_KIND_ACCESS, deed: accessDeeds[u.GetKind()], object: "a process"}
	if target != nil {
		r.object = programName(target)
	}
	if u.GetTargetIsWorker() {
		r.reason = "the runner's worker, which holds the job's secrets"
	}
	s.remark(r, p, 1)
}

// survived adds a process that runs on though the job is over.
func (s *stepTally) survived(p *process) {
	s.remark(remark{kind: sallyportv1.JobRemarkKind_JOB_REMARK_KIND_SURVIVOR, deed: "still ran when the job was over"}, p, 1)
}

func (s *stepTally) remark(r remark, p *process, times uint64) {
	j := s.job
	r.step, r.program, r.object = s.name, programName(p), shortened(r.object, maxTalliedPath)
	if known := j.byRemark[r]; known != nil {
		known.times += times
		return
	}
	if j.remarksOf[r.kind] >= maxRemarks {
		j.remarksLeft[r.kind] += times
		return
	}
	j.remarksOf[r.kind]++
	added := r
	added.times = times
	j.byRemark[r] = &added
	j.remarks = append(j.remarks, &added)
}

// flowed adds a flow's event. f.tally is where its flow is counted.
func (s *stepTally) flowed(m *sallyportv1.Flow, f *flow, p *process) {
	if m.GetDirection() > sallyportv1.Direction_DIRECTION_OUTBOUND {
		return // what came in, and what listens, is no destination
	}
	address := f.destination.Addr().WithZone("")
	if address.IsLoopback() || address.IsUnspecified() {
		return
	}
	j := s.job
	j.sent += m.GetBytesSent()
	j.received += m.GetBytesReceived()
	failed := false
	switch m.GetOutcome() {
	case sallyportv1.FlowOutcome_FLOW_OUTCOME_REFUSED, sallyportv1.FlowOutcome_FLOW_OUTCOME_TIMED_OUT, sallyportv1.FlowOutcome_FLOW_OUTCOME_UNREACHABLE:
		failed = true
		j.failed++
	default:
	}
	began := m.GetPhase() == sallyportv1.FlowPhase_FLOW_PHASE_STARTED
	if began {
		j.flows++
	}
	d := f.tally
	used := m.GetPhase() == sallyportv1.FlowPhase_FLOW_PHASE_USED
	if d == nil || d.domain != m.GetDomain() || began || used {
		next := s.destination(destinationKey{m.GetDomain(), address, f.destination.Port(), m.GetProtocol()})
		switch {
		case next == nil:
			if began {
				s.flowsLeft++
			}
			return
		case used:
			if next != d {
				next.flows++ // in another step than began it
			}
			next.by(programName(p))
			return
		case began:
			next.flows++
		case d != nil && d != next && d.flows > 0:
			// The name came after the first packet: it was never without one.
			d.flows--
			next.flows++
		}
		next.by(programName(p))
		d, f.tally = next, next
	}
	d.sent += m.GetBytesSent()
	d.received += m.GetBytesReceived()
	if failed {
		d.failed++
	}
}

// destination returns where a step sends, nil if there is no room for it.
func (s *stepTally) destination(k destinationKey) *destinationTally {
	address := k.address
	if k.domain != "" {
		k.address = netip.Addr{}
	}
	d := s.byKey[k]
	if d == nil && !s.leftOut && s.job.destinations < maxTalliedDestinations {
		s.job.destinations++
		d = &destinationTally{destinationKey: k, first: address}
		s.byKey[k] = d
		s.destinations = append(s.destinations, d)
	}
	return d
}

func (d *destinationTally) by(program string) {
	if slices.Contains(d.programs, program) {
		return
	}
	if len(d.programs) >= maxTalliedPrograms {
		d.morePrograms = true
		return
	}
	d.programs = append(d.programs, program)
}

// resolver says whether it looks like the machine's own resolver: questions to it are
// judged as such, not as egress.
func (d *destinationTally) resolver() bool {
	a := d.first
	return d.port == dnsPort && (a.IsPrivate() || a.IsLinkLocalUnicast() || a.IsMulticast() || sharedSpace.Contains(a))
}

// sharedSpace is that of RFC 6598.
var sharedSpace = netip.MustParsePrefix("100.64.0.0/10")

// programName is the base name by which people know a process, which may be nil.
func programName(p *process) string {
	if p == nil {
		return "a process that is gone"
	}
	if e := strings.TrimSuffix(p.message.GetExecutable(), " (deleted)"); e != "" {
		return shortened(path.Base(e), maxTalliedName)
	}
	if args := p.message.GetArguments(); len(args) > 0 && args[0] != "" {
		return shortened(path.Base(args[0]), maxTalliedName)
	}
	return "an unknown program"
}

// shortened cuts a text in the middle of nothing: whole characters.
func shortened(s string, limit int) string {
	if len(s) <= limit {
		return s
	}
	return strings.ToValidUTF8(s[:limit-len("…")], "") + "…"
}
