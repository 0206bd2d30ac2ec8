package agent

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/sallyport-ci/sallyport/bpf"
	sallyportv1 "github.com/sallyport-ci/sallyport/proto/sallyport/v1"
)

// tallying is an agent whose records the test gives it itself.
type tallying struct {
	*Agent
	s    *script
	next uint64
}

func newTallying(t testing.TB) *tallying {
	t.Helper()
	s := newScript()
	a, err := New(Config{AgentID: "test", Hostname: "host", Version: "1", Source: s, Sink: &discard{}})
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		for range a.out {
		}
	}()
	t.Cleanup(func() { close(a.out) })
	return &tallying{Agent: a, s: s, next: 1 << 10}
}

func (a *tallying) id() uint64 { a.next += 1 << 10; return a.next }

func (a *tallying) head(process uint64, pid uint32) bpf.Header {
	return bpf.Header{Process: process, PID: pid, Time: a.s.boot + a.next}
}

// start starts a job with one step, and returns the step's process.
func (a *tallying) start(run string, worker, pid uint32) uint64 {
	w, p := a.id(), a.id()
	a.record(&bpf.Exec{Header: a.head(w, worker), Worker: true, Executable: "/opt/runner/bin/Runner.Worker"})
	a.record(&bpf.Fork{Header: a.head(p, pid), Parent: w, ParentPID: worker})
	environment := []byte("GITHUB_REPOSITORY=acme/shop\x00GITHUB_RUN_ID=" + run + "\x00GITHUB_JOB=build\x00GITHUB_ACTION=test\x00")
	q := a.id()
	a.record(&bpf.Environment{Header: a.head(q, pid), Data: environment, Size: uint32(len(environment))})
	a.record(&bpf.Exec{Header: a.head(q, pid), Previous: p, Parent: w, Step: true, Executable: "/bin/bash"})
	return q
}

func (a *tallying) flowOf(process uint64, pid uint32, id uint64, state bpf.FlowState, to string, sent uint64) {
	a.record(&bpf.Flow{
		Header: a.head(process, pid), ID: id, State: state, Protocol: 6, Source: netip.MustParseAddrPort("192.0.2.1:40000"),
		Destination: netip.MustParseAddrPort(to), Started: a.s.boot + a.next, Sent: sent, Direction: bpf.FlowOutbound,
	})
}

func (a *tallying) mustReport(t testing.TB, pid uint32) *sallyportv1.JobReport {
	t.Helper()
	r, _, err := a.report(Asker{PID: pid, UID: 1000}, "")
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// TestWhoMayAsk: a process hears of its own job, root outside of jobs of all, others of none.
func TestWhoMayAsk(t *testing.T) {
	a := newTallying(t)
	a.start("1", 10, 11)
	a.start("2", 20, 21)
	a.record(&bpf.Exec{Header: a.head(a.id(), 98), Executable: "/bin/bash"}) // of no job
	one := a.mustReport(t, 11).GetJob().GetExecutionId()
	two := a.mustReport(t, 21).GetJob().GetExecutionId()
	if one == two || one == "" {
		t.Fatalf("%q and %q", one, two)
	}
	for _, c := range []struct {
		who       Asker
		execution string
		want      string // execution, or what the error says
		is        error
	}{
		{Asker{11, 1000}, one, one, nil},
		{Asker{11, 1000}, two, "may only ask for its own", ErrNotYours},
		{Asker{11, 0}, two, "may only ask for its own", ErrNotYours}, // root within a job is the job
		{Asker{99, 1000}, one, "only root may ask", ErrNotYours},
		{Asker{99, 1000}, "", "only root may ask", ErrNotYours},
		{Asker{0, 1000}, one, "does not see it", ErrNotYours},
		{Asker{0, 0}, one, "does not see it", ErrNotYours}, // it may be root of some container
		{Asker{98, 0}, two, two, nil},
		{Asker{98, 0}, "", "2 jobs run here", nil},
		{Asker{98, 0}, "no", "no such job", ErrNoJob},
		{Asker{99, 0}, two, two, nil},
		{Asker{99, 0}, "", "not seen to start", ErrNoJob}, // it may be of another job than the only one
	} {
		r, q, err := a.report(c.who, c.execution)
		if err != nil {
			if !strings.Contains(err.Error(), c.want) || c.is != nil && !errors.Is(err, c.is) {
				t.Errorf("%v %q: %v, want %s", c.who, c.execution, err, c.want)
			}
			continue
		}
		if r.GetJob().GetExecutionId() != c.want || q.GetExecutionId() != c.want || q.GetSequence() == 0 {
			t.Errorf("%v %q: %v, want %s", c.who, c.execution, r.GetJob(), c.want)
		}
	}
}

// TestTallyIsBounded: whatever a job does, its tally stays small, and says what it left out.
func TestTallyIsBounded(t *testing.T) {
	a := newTallying(t)
	p := a.start("1", 10, 11)
	const many = 2000
	long := strings.Repeat("n", 4000)
	for i := range many {
		a.flowOf(p, 11, uint64(i+1), bpf.FlowStarted, fmt.Sprintf("203.0.%d.%d:443", i/250, i%250+1), 0)
		a.flowOf(p, 11, uint64(i+1), bpf.FlowEnded, fmt.Sprintf("203.0.%d.%d:443", i/250, i%250+1), 10)
		child := a.id()
		a.record(&bpf.Fork{Header: a.head(child, uint32(1000+i)), Parent: p, ParentPID: 11})
		q := a.id()
		a.record(&bpf.Exec{Header: a.head(q, uint32(1000+i)), Previous: child, Parent: p, InMemory: true, Executable: fmt.Sprintf("/memfd:%d%s", i, long)})
		a.record(&bpf.Privilege{Header: a.head(q, uint32(1000+i)), Kind: bpf.PrivilegeModule, Name: fmt.Sprint(i, long)})
		a.record(&bpf.Exit{Header: a.head(q, uint32(1000+i))})
	}
	r := a.mustReport(t, 11)
	if n := proto.Size(r); n > 100<<10 {
		t.Errorf("%d bytes", n)
	}
	destinations, left := 0, uint64(0)
	for _, s := range r.GetSteps() {
		destinations += len(s.GetDestinations())
		left += s.GetFlowsLeftOut()
	}
	if destinations != maxTalliedDestinations || left != many-maxTalliedDestinations {
		t.Errorf("%d destinations, %d flows left out", destinations, left)
	}
	if c := r.GetCounts(); c.GetFlows() != many || c.GetBytesSent() != many*10 || c.GetProcesses() != many+1 || c.GetPrograms() != many+1 {
		t.Errorf("counts %v", c)
	}
	kinds := make(map[sallyportv1.JobRemarkKind]uint64)
	for _, m := range r.GetRemarks() {
		kinds[m.GetKind()] += m.GetTimes()
	}
	for _, k := range []sallyportv1.JobRemarkKind{sallyportv1.JobRemarkKind_JOB_REMARK_KIND_HIDDEN_PROGRAM, sallyportv1.JobRemarkKind_JOB_REMARK_KIND_PRIVILEGE} {
		if kinds[k] != maxRemarks || r.GetRemarksLeftOut()[uint32(k)] != many-maxRemarks {
			t.Errorf("%s: %d kept, %d left out", k, kinds[k], r.GetRemarksLeftOut()[uint32(k)])
		}
	}
}

// TestManyJobs: jobs that end make room, jobs that run are not driven out.
func TestManyJobs(t *testing.T) {
	a := newTallying(t)
	a.start("first", 2, 3)
	for i := range 3 * maxTallies {
		a.start(fmt.Sprint("run", i), uint32(1000+2*i), uint32(1001+2*i))
	}
	if r := a.mustReport(t, 3); r.GetJob().GetRunId() != "first" {
		t.Errorf("the first job is %v", r.GetJob())
	}
	if len(a.tallies.jobs) != maxTallies {
		t.Errorf("%d tallies", len(a.tallies.jobs))
	}
	if _, _, err := a.report(Asker{PID: 1001 + 2*(3*maxTallies-1)}, ""); !errors.Is(err, ErrNoJob) {
		t.Errorf("a job without room: %v", err)
	}
	// One of those that found no room is seen again later: not the whole of it.
	for id, j := range a.tallies.jobs {
		if j.message.GetRunId() != "first" {
			delete(a.tallies.jobs, id)
			break
		}
	}
	for id := range a.tallies.turnedAway {
		s := a.tallies.step(&sallyportv1.Attribution{ExecutionId: id, Step: "later"}, a.wall(a.now), a.losses)
		if s.job == nil || !s.job.joined || a.tallies.turnedAway[id] {
			t.Errorf("it is held to be whole: %+v", s.job)
		}
		break
	}
	// All end.
	a.processes.eachWorker(func(w *process) { a.endJobs(w, a.s.boot+a.next, sallyportv1.JobEndReason_JOB_END_REASON_WORKER_EXITED) })
	if r := a.mustReport(t, 3); r.GetEnded() == nil {
		t.Error("the first job has not ended")
	}
	a.tallies.forget(a.wall(a.now))
	if n := len(a.tallies.jobs); n != maxEndedTallies {
		t.Errorf("%d ended tallies", n)
	}
	a.tallies.forget(a.wall(a.now) + uint64(endedTallyKept) + uint64(time.Minute))
	if n := len(a.tallies.jobs); n != 0 {
		t.Errorf("%d tallies of long ago", n)
	}
}

// TestNameComesLater: a flow whose name is known only after its first packet is one
// destination, by its name.
func TestNameComesLater(t *testing.T) {
	a := newTallying(t)
	p := a.start("1", 10, 11)
	a.flowOf(p, 11, 7, bpf.FlowStarted, "203.0.113.5:443", 0)
	a.names.learn(a.processes.get(p), p, netip.MustParseAddr("203.0.113.5"), "Late.example.test", a.s.boot+a.next)
	a.flowOf(p, 11, 7, bpf.FlowEnded, "203.0.113.5:443", 99)
	// Neither what stays on the machine nor what comes in is a destination.
	a.flowOf(p, 11, 8, bpf.FlowStarted, "127.0.0.1:80", 0)
	a.record(&bpf.Flow{Header: a.head(p, 11), ID: 9, State: bpf.FlowStarted, Protocol: 6, Direction: bpf.FlowInbound,
		Source: netip.MustParseAddrPort("192.0.2.1:80"), Destination: netip.MustParseAddrPort("203.0.113.9:5"), Started: a.s.boot})
	a.flowOf(p, 11, 10, bpf.FlowStarted, "10.0.0.2:53", 0)
	r := a.mustReport(t, 11)
	var got []string
	for _, s := range r.GetSteps() {
		for _, d := range s.GetDestinations() {
			got = append(got, fmt.Sprint(d.GetDomain(), " ", d.GetAddress(), " ", d.GetPort(), " ", d.GetFlows(), " ", d.GetBytesSent(), " ", d.GetResolver()))
		}
	}
	if want := "[late.example.test 203.0.113.5 443 1 99 false  10.0.0.2 53 1 0 true]"; fmt.Sprint(got) != want {
		t.Errorf("%v, want %s", got, want)
	}
	if r.GetCounts().GetFlows() != 2 {
		t.Errorf("counts %v", r.GetCounts())
	}
}

func TestMarks(t *testing.T) {
	destinations := func() []*sallyportv1.JobStep {
		return []*sallyportv1.JobStep{{Destinations: []*sallyportv1.JobDestination{
			{Domain: "known.test", Port: 443, Protocol: "tcp"}, {Domain: "known.test", Port: 80, Protocol: "tcp"}, {Address: "203.0.113.1", Port: 443, Protocol: "udp"},
			{Address: "168.63.129.16", Port: 53, Protocol: "udp"}, {Domain: "other.test", Port: 443, Protocol: "tcp"},
		}}}
	}
	judged := []*sallyportv1.JudgedDestination{
		{Target: "known.test", Port: 443, Protocol: "tcp", Known: true}, {Target: "known.test", Port: 80, Protocol: "tcp"}, {Target: "203.0.113.1", Port: 443, Protocol: "udp"},
	}
	for _, c := range []struct {
		stable bool
		want   string
	}{{true, "KNOWN FIRST_SEEN FIRST_SEEN UNSPECIFIED/resolver UNSPECIFIED "}, {false, "KNOWN LEARNING LEARNING UNSPECIFIED/resolver UNSPECIFIED "}} {
		r := &sallyportv1.JobReport{Steps: destinations(), Judgement: &sallyportv1.JobJudgement{
			Complete: true, Baseline: &sallyportv1.BaselineFacts{Stable: c.stable}, Destinations: judged,
		}}
		mark(r)
		got := ""
		for _, d := range r.GetSteps()[0].GetDestinations() {
			got += strings.TrimPrefix(d.GetMark().String(), "DESTINATION_MARK_")
			if d.GetResolver() {
				got += "/resolver"
			}
			got += " "
		}
		if got != c.want {
			t.Errorf("stable %t: %s, want %s", c.stable, got, c.want)
		}
	}
}

// BenchmarkTally adds what a build mostly does to its job's tally: a program, and a
// connection that begins and ends.
func BenchmarkTally(b *testing.B) {
	a := newTallying(b)
	p := a.processes.get(a.start("1", 10, 11))
	f := &flow{process: p, destination: netip.MustParseAddrPort("198.51.100.7:443")}
	executed := &sallyportv1.Event{TimeUnixNano: 1, Body: &sallyportv1.Event_ProcessExecuted{ProcessExecuted: &sallyportv1.ProcessExecuted{}}}
	exited := &sallyportv1.Event{TimeUnixNano: 1, Body: &sallyportv1.Event_ProcessExited{ProcessExited: &sallyportv1.ProcessExited{}}}
	began := &sallyportv1.Flow{Phase: sallyportv1.FlowPhase_FLOW_PHASE_STARTED, Protocol: sallyportv1.Protocol_PROTOCOL_TCP, Domain: "registry.example.test"}
	ended := &sallyportv1.Flow{Phase: sallyportv1.FlowPhase_FLOW_PHASE_ENDED, Protocol: sallyportv1.Protocol_PROTOCOL_TCP, Domain: "registry.example.test", BytesSent: 100}
	events := [2]*sallyportv1.Event{{TimeUnixNano: 1, Body: &sallyportv1.Event_Flow{Flow: began}}, {TimeUnixNano: 1, Body: &sallyportv1.Event_Flow{Flow: ended}}}
	b.ReportAllocs()
	n := 0
	for b.Loop() {
		a.tallyOf(p.at, 1).fold(executed, p)
		f.tally = nil
		a.tallyOf(p.at, 1).fold(events[0], p)
		a.tallyOf(p.at, 1).flowed(began, f, p)
		a.tallyOf(p.at, 1).fold(events[1], p)
		a.tallyOf(p.at, 1).flowed(ended, f, p)
		a.tallyOf(p.at, 1).fold(exited, p)
		n += 4
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(n), "ns/event")
}
