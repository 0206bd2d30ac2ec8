package server

import (
	"context"
	"errors"
	"fmt"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/sallyport-ci/sallyport/detector"
	sallyportv1 "github.com/sallyport-ci/sallyport/proto/sallyport/v1"
	"github.com/sallyport-ci/sallyport/store"
)

// Teacher changes baselines when somebody decides so: *detector.Baselines.
type Teacher interface {
	detector.Approver
	Forget(ctx context.Context, repository, workflow, job, target string) (int, error)
	Freeze(ctx context.Context, repository, workflow, job string, frozen bool) error
	Import(ctx context.Context, baseline *sallyportv1.Baseline) error
}

// Decisions keeps what people decided: *detector.Decisions. List is newest first.
type Decisions interface {
	detector.Recorder
	List(ctx context.Context) ([]*sallyportv1.Decision, error)
}

// Verdicts gives the verdicts of a run: *detector.Verdicts.
type Verdicts interface {
	OfRun(ctx context.Context, repository, run string) ([]*sallyportv1.Verdict, error)
}

// maxReason bounds a reason's length in bytes.
const maxReason = 4096

// decided checks who decides and why: both are needed, as a decision without them explains
// nothing a year later.
func decided(person, reason string) error {
	if len(reason) > maxReason {
		return status.Errorf(codes.InvalidArgument, "reason is longer than %d bytes", maxReason)
	}
	return first(name("person", person, true), name("reason", reason[:min(len(reason), maxName)], true))
}

// record writes a decision down before it is carried out: what was done is never without
// its record. If carrying it out fails, the caller hears so and decides again.
func (s *service) record(ctx context.Context, d *sallyportv1.Decision) error {
	if err := s.decisions.Record(ctx, d, time.Now()); err != nil {
		return s.failed(ctx, err)
	}
	s.recorded(d)
	return nil
}

func (s *service) recorded(d *sallyportv1.Decision) {
	s.log.Info("decision", "kind", d.GetKind().String(), "person", d.GetPerson(), "repo", d.GetRepository(), "job", d.GetJob(), "finding", d.GetFindingId())
}

func (s *service) ListVerdicts(ctx context.Context, q *sallyportv1.ListVerdictsRequest) (*sallyportv1.ListVerdictsResponse, error) {
	if err := run(q.Repository, q.RunId, ""); err != nil {
		return nil, err
	}
	verdicts, err := s.verdicts.OfRun(ctx, q.Repository, q.RunId)
	if err != nil {
		return nil, s.failed(ctx, err)
	}
	return &sallyportv1.ListVerdictsResponse{Verdicts: verdicts}, nil
}

func (s *service) ApproveBehaviour(ctx context.Context, q *sallyportv1.ApproveBehaviourRequest) (*sallyportv1.ApproveBehaviourResponse, error) {
	if err := decided(q.Person, q.Reason); err != nil {
		return nil, err
	}
	d := &sallyportv1.Decision{
		Kind: sallyportv1.DecisionKind_DECISION_KIND_APPROVE, Person: q.Person, Reason: q.Reason,
		Repository: q.Repository, Workflow: q.Workflow, Job: q.Job,
	}
	x := q.Behaviour
	if q.FindingId != "" {
		if q.Repository != "" || q.Workflow != "" || q.Job != "" || x != nil {
			return nil, status.Error(codes.InvalidArgument, "finding_id stands alone: the finding names job and behaviour")
		}
		f, err := s.finding(ctx, q.FindingId)
		if err != nil {
			return nil, err
		}
		if d, x, err = detector.ApprovalOf(f, q.Person, q.Reason); err != nil {
			return nil, status.Errorf(codes.FailedPrecondition, "finding %s: %v; `sallyport findings resolve` settles it, an exception keeps it from being found", q.FindingId, err)
		}
		if d.GetRepository() == "" {
			return nil, status.Errorf(codes.FailedPrecondition, "finding %s is of no job of a repository", q.FindingId)
		}
	}
	if err := first(job(d.Repository, d.Workflow, d.Job)); err != nil {
		return nil, err
	}
	if x == nil {
		return nil, status.Error(codes.InvalidArgument, "behaviour is missing")
	}
	if d.Behaviour == nil {
		d.Behaviour = &sallyportv1.Behaviour{
			Kind: x.GetKind(), Target: x.GetTarget(), Port: x.GetPort(), Protocol: x.GetProtocol(), Operation: x.GetOperation(),
			Category: x.GetCategory(), Method: x.GetMethod(), Path: x.GetPath(),
		}
	}
	baseline, err := detector.Approve(ctx, s.decisions, s.teacher, d, x, time.Now())
	if d.GetId() != "" {
		s.recorded(d)
	}
	if err != nil {
		return nil, s.notDone(ctx, err)
	}
	return &sallyportv1.ApproveBehaviourResponse{Decision: d, Baseline: baseline}, nil
}

// finding returns a finding by its identity.
func (s *service) finding(ctx context.Context, id string) (*sallyportv1.Finding, error) {
	if err := name("finding_id", id, true); err != nil {
		return nil, err
	}
	f, err := s.store.Finding(ctx, id)
	if err != nil {
		return nil, s.failed(ctx, err) // it says which
	}
	return f, nil
}

func job(repo, workflow, key string) error {
	return first(repository(repo, true), name("workflow", workflow, true), name("job", key, true))
}

// notDone says that a decision was recorded and could not be carried out.
func (s *service) notDone(ctx context.Context, err error) error {
	switch {
	case errors.Is(err, detector.ErrInvalid), errors.Is(err, detector.ErrNotHeld):
		return status.Error(codes.InvalidArgument, err.Error())
	default:
		return s.failed(ctx, err)
	}
}

func (s *service) ForgetBaseline(ctx context.Context, q *sallyportv1.ForgetBaselineRequest) (*sallyportv1.ForgetBaselineResponse, error) {
	if err := first(decided(q.Person, q.Reason), job(q.Repository, q.Workflow, q.Job), name("target", q.Target, false)); err != nil {
		return nil, err
	}
	d := &sallyportv1.Decision{
		Kind: sallyportv1.DecisionKind_DECISION_KIND_FORGET, Person: q.Person, Reason: q.Reason,
		Repository: q.Repository, Workflow: q.Workflow, Job: q.Job,
	}
	if q.Target != "" {
		d.Behaviour = &sallyportv1.Behaviour{Target: q.Target}
	}
	if err := s.mustKnow(ctx, q.Repository, q.Workflow, q.Job); err != nil {
		return nil, err
	}
	if err := s.record(ctx, d); err != nil {
		return nil, err
	}
	n, err := s.teacher.Forget(ctx, q.Repository, q.Workflow, q.Job, q.Target)
	if err != nil {
		return nil, s.notDone(ctx, err)
	}
	return &sallyportv1.ForgetBaselineResponse{Decision: d, Forgotten: uint32(n)}, nil
}

// mustKnow fails if there is no baseline of a job.
func (s *service) mustKnow(ctx context.Context, repo, workflow, key string) error {
	if _, err := s.baselines.Get(ctx, repo, workflow, key); err != nil {
		return s.failed(ctx, fmt.Errorf("baseline of job %s in workflow %s of %s: %w", key, workflow, repo, err))
	}
	return nil
}

func (s *service) FreezeBaseline(ctx context.Context, q *sallyportv1.FreezeBaselineRequest) (*sallyportv1.FreezeBaselineResponse, error) {
	if err := first(decided(q.Person, q.Reason), job(q.Repository, q.Workflow, q.Job)); err != nil {
		return nil, err
	}
	kind := sallyportv1.DecisionKind_DECISION_KIND_UNFREEZE
	if q.Frozen {
		kind = sallyportv1.DecisionKind_DECISION_KIND_FREEZE
	}
	d := &sallyportv1.Decision{Kind: kind, Person: q.Person, Reason: q.Reason, Repository: q.Repository, Workflow: q.Workflow, Job: q.Job}
	if err := s.mustKnow(ctx, q.Repository, q.Workflow, q.Job); err != nil {
		return nil, err
	}
	if err := s.record(ctx, d); err != nil {
		return nil, err
	}
	if err := s.teacher.Freeze(ctx, q.Repository, q.Workflow, q.Job, q.Frozen); err != nil {
		return nil, s.notDone(ctx, err)
	}
	return &sallyportv1.FreezeBaselineResponse{Decision: d}, nil
}

func (s *service) ImportBaseline(ctx context.Context, q *sallyportv1.ImportBaselineRequest) (*sallyportv1.ImportBaselineResponse, error) {
	b := q.GetBaseline()
	if err := first(decided(q.Person, q.Reason), job(b.GetRepository(), b.GetWorkflow(), b.GetJob())); err != nil {
		return nil, err
	}
	if err := detector.Valid(b); err != nil {
		return nil, status.Error(codes.InvalidArgument, err.Error())
	}
	d := &sallyportv1.Decision{
		Kind: sallyportv1.DecisionKind_DECISION_KIND_IMPORT, Person: q.Person, Reason: q.Reason,
		Repository: b.GetRepository(), Workflow: b.GetWorkflow(), Job: b.GetJob(),
	}
	if err := s.record(ctx, d); err != nil {
		return nil, err
	}
	if err := s.teacher.Import(ctx, proto.CloneOf(b)); err != nil {
		return nil, s.notDone(ctx, err)
	}
	return &sallyportv1.ImportBaselineResponse{Decision: d}, nil
}

// outcomes are what a finding can turn out to be.
var outcomes = map[string]bool{"expected": true, "false-alarm": true, "fixed": true, "incident": true}

func (s *service) SettleFinding(ctx context.Context, q *sallyportv1.SettleFindingRequest) (*sallyportv1.SettleFindingResponse, error) {
	if err := decided(q.Person, q.Reason); err != nil {
		return nil, err
	}
	d := &sallyportv1.Decision{Kind: sallyportv1.DecisionKind_DECISION_KIND_ACKNOWLEDGE, Person: q.Person, Reason: q.Reason, FindingId: q.FindingId}
	switch {
	case q.Acknowledge && q.Outcome != "":
		return nil, status.Error(codes.InvalidArgument, "a finding that is only acknowledged has no outcome")
	case !q.Acknowledge && !outcomes[q.Outcome]:
		return nil, status.Errorf(codes.InvalidArgument, "outcome is %q: it must be expected, false-alarm, fixed or incident", q.Outcome)
	case !q.Acknowledge:
		d.Kind, d.Outcome = sallyportv1.DecisionKind_DECISION_KIND_RESOLVE, q.Outcome
	}
	f, err := s.finding(ctx, q.FindingId)
	if err != nil {
		return nil, err
	}
	if q.Acknowledge {
		before, err := s.about(ctx, map[string]bool{q.FindingId: true})
		if err != nil {
			return nil, s.failed(ctx, err)
		}
		for _, old := range standing(before) {
			if old.GetKind() != d.GetKind() {
				return nil, status.Errorf(codes.FailedPrecondition, "finding %s is settled already, by %s: %s; `sallyport findings resolve` decides anew", q.FindingId, old.GetPerson(), old.GetReason())
			}
		}
	}
	a := f.GetAttribution()
	d.Repository, d.Workflow, d.Job = a.GetRepository(), a.GetWorkflow(), a.GetJob()
	if err := s.record(ctx, d); err != nil {
		return nil, err
	}
	return &sallyportv1.SettleFindingResponse{Decision: d}, nil
}

func (s *service) ListDecisions(ctx context.Context, q *sallyportv1.ListDecisionsRequest) (*sallyportv1.ListDecisionsResponse, error) {
	size, err := pageSize(q.PageSize)
	if err = first(err, repository(q.Repository, false), name("finding_id", q.FindingId, false)); err != nil {
		return nil, err
	}
	list := listOf("decisions", q.Repository, q.FindingId)
	after, err := decodePage(list, q.PageToken)
	if err != nil {
		return nil, err
	}
	all, err := s.decisions.List(ctx)
	if err != nil {
		return nil, s.failed(ctx, err)
	}
	answer := &sallyportv1.ListDecisionsResponse{}
	for _, d := range all {
		if q.Repository != "" && d.GetRepository() != q.Repository || q.FindingId != "" && d.GetFindingId() != q.FindingId ||
			len(after.Keys) > 0 && d.GetId() >= after.Keys[0] {
			continue
		}
		if len(answer.Decisions) == size {
			answer.NextPageToken = encodePage(list, &store.Cursor{Keys: []string{answer.Decisions[size-1].GetId()}})
			break
		}
		answer.Decisions = append(answer.Decisions, d)
	}
	return answer, nil
}

// about returns the decisions about findings, newest first.
func (s *service) about(ctx context.Context, findings map[string]bool) ([]*sallyportv1.Decision, error) {
	all, err := s.decisions.List(ctx)
	if err != nil {
		return nil, err
	}
	var out []*sallyportv1.Decision
	for _, d := range all {
		if findings[d.GetFindingId()] {
			out = append(out, d)
		}
	}
	return out, nil
}

// standing keeps of the decisions, which are newest first, the one about each finding that counts.
func standing(decisions []*sallyportv1.Decision) []*sallyportv1.Decision {
	at := make(map[string]int)
	var out []*sallyportv1.Decision
	for _, d := range decisions {
		switch i, ok := at[d.GetFindingId()]; {
		case !ok:
			at[d.GetFindingId()] = len(out)
			out = append(out, d)
		case detector.Stands(d, out[i]):
			out[i] = d
		}
	}
	return out
}
