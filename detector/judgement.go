package detector

import (
	"cmp"
	"errors"
	"net/url"
	"slices"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"

	sallyportv1 "github.com/sallyport-ci/sallyport/proto/sallyport/v1"
	"github.com/sallyport-ci/sallyport/stream"
)

// Bounds of a judgement, and of what waits for one. An answer has to fit into a message of
// NATS.
const (
	maxShownFindings       = 50
	maxJudgedDestinations  = 1024
	maxQuestions           = 256
	maxQuestionsOfAgent    = 4
	maxJudgementWait       = 2 * time.Second
	maxShownMessage        = 1024 // bytes, of a finding that is not remembered whole
	maxJudgementAnswerSize = 768 << 10
)

// errNotOfAgent says that an agent asks for what it did not tell of.
var errNotOfAgent = errors.New("no such execution of this agent, or it ended long ago")

// judgement returns what the engine thinks of an execution that an agent told of.
func (e *Engine) judgement(agent string, q *sallyportv1.JobJudgementRequest) (*sallyportv1.JobJudgement, error) {
	x := e.executions[q.GetExecutionId()]
	if x == nil || x.Agents[agent] == nil || x.Finished {
		return nil, errNotOfAgent
	}
	out := &sallyportv1.JobJudgement{Complete: x.reached(agent, q), Incomplete: x.Incomplete}
	if x.Ended {
		out.Baseline = e.known(x)
	} else {
		out.Baseline = facts(x.knowledge, e.config.RunsNeeded, &sallyportv1.Behaviour{Kind: kindEgress}, step{})
	}
	all := slices.Clone(x.Told)
	slices.SortFunc(all, func(a, b told) int {
		return cmp.Or(cmp.Compare(b.Severity, a.Severity), cmp.Compare(a.Time, b.Time), cmp.Compare(a.ID, b.ID))
	})
	for _, t := range all {
		if len(out.Findings) >= maxShownFindings {
			out.FindingsLeftOut++
			continue
		}
		f := new(sallyportv1.Finding)
		if len(t.Brief) == 0 || proto.Unmarshal(t.Brief, f) != nil {
			f = &sallyportv1.Finding{Id: t.ID, Message: clip(t.Message, maxShownMessage), Policy: &sallyportv1.Policy{Severity: t.Severity}}
		}
		out.Findings = append(out.Findings, f)
	}
	for _, d := range x.Deeds {
		if d.Kind != kindEgress || len(out.Destinations) >= maxJudgedDestinations {
			continue
		}
		out.Destinations = append(out.Destinations, &sallyportv1.JudgedDestination{
			Target: d.Target, Port: d.Port, Protocol: d.Protocol, Known: x.knowledge != nil && x.knowledge.find(d.key()) != nil,
		})
	}
	for proto.Size(out) > maxJudgementAnswerSize && len(out.Findings) > 0 {
		out.Findings = out.Findings[:len(out.Findings)-1]
		out.FindingsLeftOut++
	}
	return out, nil
}

// reached says whether all that an agent had sent when it asked was applied.
func (x *execution) reached(agent string, q *sallyportv1.JobJudgementRequest) bool {
	p := x.Agents[agent]
	return p != nil && p.Epoch == q.GetEpoch() && len(p.Applied) > 0 && p.Applied[0].Last >= q.GetSequence()
}

func clip(s string, limit int) string {
	if len(s) <= limit {
		return s
	}
	return strings.ToValidUTF8(s[:limit-len("…")], "") + "…"
}

// pendingQuestion is what an agent waits to be told.
type pendingQuestion struct {
	*stream.JudgementQuestion
	until time.Time
}

// questions wait until what their agents had sent is judged, or their time is over. They
// belong to the detector's loop.
type questions struct {
	waiting []pendingQuestion
	ofAgent map[string]int
}

// ask takes a question. Further ones of an agent that does not wait for its answers are
// dropped.
func (q *questions) ask(new *stream.JudgementQuestion, now time.Time) (taken bool) {
	if q.ofAgent[new.AgentID] >= maxQuestionsOfAgent || len(q.waiting) >= maxQuestions {
		return false
	}
	if q.ofAgent == nil {
		q.ofAgent = make(map[string]int)
	}
	q.ofAgent[new.AgentID]++
	wait := min(max(new.Request.GetWait().AsDuration(), 0), maxJudgementWait)
	q.waiting = append(q.waiting, pendingQuestion{new, now.Add(wait)})
	return true
}

// answerable takes out the questions that can be answered, or whose time is over.
func (q *questions) answerable(e *Engine, now time.Time) (out []*stream.JudgementQuestion) {
	q.waiting = slices.DeleteFunc(q.waiting, func(p pendingQuestion) bool {
		x := e.executions[p.Request.GetExecutionId()]
		if reached := x != nil && x.reached(p.AgentID, p.Request); !reached && now.Before(p.until) {
			return false
		}
		if q.ofAgent[p.AgentID]--; q.ofAgent[p.AgentID] == 0 {
			delete(q.ofAgent, p.AgentID)
		}
		out = append(out, p.JudgementQuestion)
		return true
	})
	return out
}

// answerQuestions answers what can be answered.
func (d *Detector) answerQuestions() {
	for _, q := range d.questions.answerable(d.engine, time.Now()) {
		a := new(sallyportv1.JobJudgementAnswer)
		j, err := d.engine.judgement(q.AgentID, q.Request)
		if err != nil {
			a.Error = err.Error()
		} else {
			j.Link = d.link(d.engine.executions[q.Request.GetExecutionId()].attribution)
			a.Judgement = j
		}
		if err := q.Answer(a); err != nil {
			d.log.Debug("an agent does not hear the judgement", "agent", q.AgentID, "error", err)
		}
	}
}

// link is the address of a run's page, empty if there is none.
func (d *Detector) link(a *sallyportv1.Attribution) string {
	if d.page == "" || a.GetRepository() == "" {
		return ""
	}
	owner, name, _ := strings.Cut(a.GetRepository(), "/")
	return strings.TrimSuffix(d.page, "/") + "/v1/repositories/" + url.PathEscape(owner) + "/" + url.PathEscape(name) + "/runs/" + url.PathEscape(a.GetRunId())
}
