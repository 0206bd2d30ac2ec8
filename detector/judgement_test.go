package detector

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	sallyportv1 "github.com/sallyport-ci/sallyport/proto/sallyport/v1"
	"github.com/sallyport-ci/sallyport/stream"
)

// toldJob is a job of an agent as its batches say it.
type toldJob struct {
	agent    string
	epoch    uint64
	sequence uint64 // of the last event
	at       *sallyportv1.Attribution
}

func (j *toldJob) batch(events ...*sallyportv1.Event) *sallyportv1.EventBatch {
	b := &sallyportv1.EventBatch{
		AgentId: j.agent, Epoch: j.epoch, FirstSequence: j.sequence + 1, Hostname: "host",
		Attributions: []*sallyportv1.Attribution{j.at},
		Processes:    []*sallyportv1.Process{{Id: 1 << 12, Pid: 7, Executable: "/usr/bin/curl", Arguments: []string{"curl", "-s", "https://x"}}},
		Events:       events,
	}
	for _, e := range events {
		j.sequence++
		e.TimeUnixNano, e.Process, e.Attribution = uint64(time.Now().UnixNano()), 1, 1
	}
	return b
}

func to(domain string, address byte) *sallyportv1.Event {
	return &sallyportv1.Event{Body: &sallyportv1.Event_Flow{Flow: &sallyportv1.Flow{
		Id: uint64(address), Phase: sallyportv1.FlowPhase_FLOW_PHASE_STARTED, Protocol: sallyportv1.Protocol_PROTOCOL_TCP,
		DestinationAddress: []byte{203, 0, 113, address}, DestinationPort: 443, Domain: domain,
	}}}
}

func over() *sallyportv1.Event {
	return &sallyportv1.Event{Body: &sallyportv1.Event_JobEnded{JobEnded: &sallyportv1.JobEnded{Reason: sallyportv1.JobEndReason_JOB_END_REASON_WORKER_EXITED}}}
}

func job(run int) *toldJob {
	return &toldJob{agent: "runner-1", epoch: 5, at: &sallyportv1.Attribution{
		Repository: "acme/shop", Workflow: "CI", RunId: fmt.Sprint(run), RunAttempt: 1, Job: "build", ExecutionId: fmt.Sprintf("%016x", run),
		Step: "test", Event: "push", Ref: "refs/heads/main",
	}}
}

// ask asks as the agent of a job does.
func (s *story) ask(t *testing.T, j *toldJob, agent string, sequence uint64, wait time.Duration) (*sallyportv1.JobJudgement, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	for {
		got, err := stream.AskJudgement(ctx, s.js.Conn(), agent, &sallyportv1.JobJudgementRequest{
			ExecutionId: j.at.GetExecutionId(), Epoch: j.epoch, Sequence: sequence, Wait: durationpb.New(wait),
		})
		if err == nil || !strings.Contains(err.Error(), "no detector runs") {
			return got, err
		}
		time.Sleep(10 * time.Millisecond) // it is starting
	}
}

func judgedAs(j *sallyportv1.JobJudgement) string {
	var out []string
	for _, d := range j.GetDestinations() {
		out = append(out, fmt.Sprintf("%s:%d %s %t", d.GetTarget(), d.GetPort(), d.GetProtocol(), d.GetKnown()))
	}
	slices.Sort(out)
	return strings.Join(out, ", ")
}

// TestJudgement: an agent is told what its job did that was new, once all that it had sent
// is judged; also of findings, and by a detector that was started again.
func TestJudgement(t *testing.T) {
	s := tell(t)
	sequence := uint64(0)
	for run := 1; run <= 5; run++ {
		j := job(run)
		j.sequence = sequence
		s.publish(t, j.batch(to("registry.example.test", 1)))
		got, err := s.ask(t, j, j.agent, j.sequence, 5*time.Second)
		if err != nil {
			t.Fatal(err)
		}
		if b := got.GetBaseline(); !got.GetComplete() || b.GetStable() || int(b.GetRuns()) != run-1 || b.GetRunsNeeded() != 5 {
			t.Errorf("run %d: complete %t, baseline %v", run, got.GetComplete(), b)
		}
		if want := fmt.Sprintf("registry.example.test:443 tcp %t", run > 1); judgedAs(got) != want {
			t.Errorf("run %d: %s, want %s", run, judgedAs(got), want)
		}
		s.publish(t, j.batch(over()))
		s.waitDone(t)
		deadline := time.Now().Add(20 * time.Second)
		for baselines, err := OpenBaselines(t.Context(), s.js); ; time.Sleep(10 * time.Millisecond) {
			if err != nil {
				t.Fatal(err)
			}
			if b, err := baselines.Get(t.Context(), "acme/shop", "CI", "build"); err == nil && int(b.GetRuns()) == run {
				break
			}
			if time.Now().After(deadline) {
				t.Fatalf("run %d was not learned", run)
			}
		}
		sequence = j.sequence
	}

	j := job(6)
	j.sequence = sequence
	s.publish(t, j.batch(to("registry.example.test", 1), to("gist.example.test", 66)))
	check := func(when string) {
		t.Helper()
		got, err := s.ask(t, j, j.agent, j.sequence, 5*time.Second)
		if err != nil {
			t.Fatal(when, err)
		}
		if want := "gist.example.test:443 tcp false, registry.example.test:443 tcp true"; judgedAs(got) != want || !got.GetBaseline().GetStable() {
			t.Errorf("%s: %s, want %s; baseline %v", when, judgedAs(got), want, got.GetBaseline())
		}
		if len(got.GetFindings()) != 1 || got.GetFindings()[0].GetPolicy().GetId() != "new_endpoint" ||
			len(got.GetFindings()[0].GetRemedies()) == 0 || got.GetFindings()[0].GetPolicy().GetRemediation() == "" || got.GetFindingsLeftOut() != 0 {
			t.Errorf("%s: findings %v and %d", when, got.GetFindings(), got.GetFindingsLeftOut())
		}
	}
	check("while it runs")
	s.waitDone(t)
	s.stop()
	s.start(t)
	check("after a restart")

	// What has not come is waited for, and then said not to have come.
	begin := time.Now()
	got, err := s.ask(t, j, j.agent, j.sequence+1, 300*time.Millisecond)
	if err != nil || got.GetComplete() || time.Since(begin) < 250*time.Millisecond {
		t.Errorf("%v after %s, %v", got.GetComplete(), time.Since(begin), err)
	}
	// Nobody else is told, nor of what does not exist.
	if _, err := s.ask(t, j, "runner-2", j.sequence, 0); err == nil || !strings.Contains(err.Error(), "no such execution of this agent") {
		t.Errorf("another agent: %v", err)
	}
	if _, err := s.ask(t, job(77), "runner-1", 1, 0); err == nil || !strings.Contains(err.Error(), "no such execution of this agent") {
		t.Errorf("no such execution: %v", err)
	}
	s.publish(t, j.batch(over()))
	check("after its end")
}

// TestJudgementGoesToNobodyElse: who asks cannot have the detector publish elsewhere.
func TestJudgementGoesToNobodyElse(t *testing.T) {
	s := tell(t)
	j := job(1)
	s.publish(t, j.batch(to("registry.example.test", 1)))
	s.waitDone(t)
	nc := s.js.Conn()
	heard, err := nc.SubscribeSync(">")
	if err != nil {
		t.Fatal(err)
	}
	q, err := proto.Marshal(&sallyportv1.JobJudgementRequest{ExecutionId: j.at.GetExecutionId(), Epoch: 5, Sequence: 1})
	if err != nil {
		t.Fatal(err)
	}
	for _, reply := range []string{stream.FindingSubject, "_INBOX.agent.runner-2.x", "_INBOX.agent.runner-1", "_INBOX.agent.runner-1.", "$KV.BASELINES.x", ""} {
		if err := nc.PublishMsg(&nats.Msg{Subject: "sallyport.reports.runner-1", Reply: reply, Data: q}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := s.ask(t, j, "runner-1", j.sequence, time.Second); err != nil { // behind the others
		t.Fatal(err)
	}
	answers := 0
	for {
		m, err := heard.NextMsg(50 * time.Millisecond)
		if err != nil {
			break
		}
		a := new(sallyportv1.JobJudgementAnswer)
		if m.Subject != "sallyport.reports.runner-1" && m.Reply == "" && proto.Unmarshal(m.Data, a) == nil && a.GetJudgement().GetBaseline() != nil {
			answers++
			if !strings.HasPrefix(m.Subject, stream.AgentInbox("runner-1")+".") {
				t.Errorf("an answer went to %s", m.Subject)
			}
		}
	}
	if answers != 1 {
		t.Errorf("%d answers, want one", answers)
	}
}

// TestManyQuestions: one agent that asks and asks holds nobody up.
func TestManyQuestions(t *testing.T) {
	var q questions
	now := time.Now()
	question := func(agent string) *stream.JudgementQuestion {
		return &stream.JudgementQuestion{AgentID: agent, Request: &sallyportv1.JobJudgementRequest{ExecutionId: "x", Wait: durationpb.New(time.Hour)}}
	}
	taken := 0
	for range 100 {
		if q.ask(question("greedy"), now) {
			taken++
		}
	}
	if taken != maxQuestionsOfAgent || !q.ask(question("other"), now) {
		t.Errorf("%d questions of one agent wait, want %d", taken, maxQuestionsOfAgent)
	}
	e := &Engine{}
	if got := q.answerable(e, now); len(got) != 0 {
		t.Errorf("%d are answered at once", len(got))
	}
	if got := q.answerable(e, now.Add(maxJudgementWait)); len(got) != maxQuestionsOfAgent+1 {
		t.Errorf("%d are answered in the end", len(got))
	}
	if len(q.waiting) != 0 || len(q.ofAgent) != 0 || !q.ask(question("greedy"), now) {
		t.Errorf("it still waits for %v %v", q.waiting, q.ofAgent)
	}
}

// TestJudgementNamesAllFindings: the severest first, also those that are not kept whole, and
// within what a message may be.
func TestJudgementNamesAllFindings(t *testing.T) {
	a := &sallyportv1.Attribution{Repository: "acme/shop", Job: "build", ExecutionId: "x"}
	x, err := newExecution(a, nil)
	if err != nil {
		t.Fatal(err)
	}
	x.Agents["runner-1"] = &position{Epoch: 5}
	for n := range 100 {
		x.tell(&sallyportv1.Finding{
			Id: fmt.Sprintf("%032d", n), Message: fmt.Sprint(n, strings.Repeat("ü", 1<<16)),
			Policy: &sallyportv1.Policy{Severity: sallyportv1.Severity_SEVERITY_LOW},
		})
	}
	x.tell(&sallyportv1.Finding{Id: fmt.Sprintf("%032d", 100), Policy: &sallyportv1.Policy{Title: "Whole", Severity: sallyportv1.Severity_SEVERITY_CRITICAL}})
	e := &Engine{config: EngineConfig{RunsNeeded: 5}, executions: map[string]*execution{"x": x}}
	j, err := e.judgement("runner-1", &sallyportv1.JobJudgementRequest{ExecutionId: "x", Epoch: 5, Sequence: 1})
	if err != nil {
		t.Fatal(err)
	}
	if n := len(j.GetFindings()); n != maxShownFindings || j.GetFindingsLeftOut() != 101-maxShownFindings {
		t.Errorf("%d findings and %d", n, j.GetFindingsLeftOut())
	}
	if f := j.GetFindings()[0]; f.GetPolicy().GetTitle() != "Whole" {
		t.Errorf("first %v", f)
	}
	if f := j.GetFindings()[1]; f.GetId() != fmt.Sprintf("%032d", 0) || !strings.HasPrefix(f.GetMessage(), "0ü") || len(f.GetMessage()) > maxShownMessage {
		t.Errorf("second %.50v", f)
	}
	if n := proto.Size(j); n > maxJudgementAnswerSize || j.GetComplete() {
		t.Errorf("%d bytes, complete %t", n, j.GetComplete())
	}
}
