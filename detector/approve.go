package detector

import (
	"context"
	"time"

	sallyportv1 "github.com/sallyport-ci/sallyport/proto/sallyport/v1"
)

// Recorder writes decisions down: *Decisions.
type Recorder interface {
	Record(ctx context.Context, decision *sallyportv1.Decision, now time.Time) error
}

// Approver puts behaviours into baselines: *Baselines.
type Approver interface {
	Approve(ctx context.Context, repository, workflow, job string, x *sallyportv1.BaselineBehaviour, person, reason string, now time.Time) (*sallyportv1.Baseline, error)
}

// ApprovalOf is somebody's decision that what a finding is about is normal for its job, and what a
// baseline will hold of it. ErrNotHeld if baselines do not hold such.
func ApprovalOf(f *sallyportv1.Finding, person, reason string) (*sallyportv1.Decision, *sallyportv1.BaselineBehaviour, error) {
	x, err := Held(f.GetBehaviour())
	if err != nil {
		return nil, nil, err
	}
	a := f.GetAttribution()
	return &sallyportv1.Decision{
		Kind: sallyportv1.DecisionKind_DECISION_KIND_APPROVE, Person: person, Reason: reason, FindingId: f.GetId(), Behaviour: f.GetBehaviour(),
		Repository: a.GetRepository(), Workflow: a.GetWorkflow(), Job: a.GetJob(),
	}, x, nil
}

// Approve carries out somebody's decision that a behaviour is normal for the job that the decision
// names, and returns the baseline. The decision is written down first, which gives it its identity
// and time: what was done is never without its record. If only the second half fails the decision
// stands with an identity, and whoever asked decides again. Errors wrap ErrNotHeld or ErrInvalid if
// the baseline cannot take the behaviour.
func Approve(ctx context.Context, decisions Recorder, baselines Approver, d *sallyportv1.Decision, x *sallyportv1.BaselineBehaviour, now time.Time) (*sallyportv1.Baseline, error) {
	if err := decisions.Record(ctx, d, now); err != nil {
		return nil, err
	}
	return baselines.Approve(ctx, d.GetRepository(), d.GetWorkflow(), d.GetJob(), x, d.GetPerson(), d.GetReason(), d.GetTime().AsTime())
}
