package checks

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/sallyport-ci/sallyport/detector"
	sallyportv1 "github.com/sallyport-ci/sallyport/proto/sallyport/v1"
	"github.com/sallyport-ci/sallyport/report/markdown"
)

// Baselines are changed when somebody approves: *detector.Baselines.
type Baselines interface {
	detector.Approver
	List(ctx context.Context) ([]*sallyportv1.Baseline, error)
}

// Decisions keeps what people decided: *detector.Decisions.
type Decisions interface {
	detector.Recorder
	List(ctx context.Context) ([]*sallyportv1.Decision, error)
}

// approve puts what a finding is about into the baseline of its job, or of all jobs of its
// repository; what baselines do not hold is settled as expected.
// recorded says that an earlier try wrote the decision down.
func (s *Service) approve(ctx context.Context, f *sallyportv1.Finding, everywhere bool, person, reason string, recorded bool) error {
	d, held, err := detector.ApprovalOf(f, person, reason)
	if f.GetBehaviour() == nil || errors.Is(err, detector.ErrNotHeld) {
		return s.resolve(ctx, f, outcomeExpected, person, reason)
	}
	now := s.config.Now()
	switch {
	case err != nil:
	case recorded:
		_, err = s.config.Baselines.Approve(ctx, d.GetRepository(), d.GetWorkflow(), d.GetJob(), held, person, reason, now)
	default:
		_, err = detector.Approve(ctx, s.config.Decisions, s.config.Baselines, d, held, now)
	}
	if err != nil {
		return fmt.Errorf("approve finding %s: %w", f.GetId(), err)
	}
	if !everywhere {
		return nil
	}
	all, err := s.config.Baselines.List(ctx)
	if err != nil {
		return fmt.Errorf("approve finding %s for all jobs: %w", f.GetId(), err)
	}
	for _, b := range all {
		if b.GetRepository() != d.GetRepository() || b.GetWorkflow() == d.GetWorkflow() && b.GetJob() == d.GetJob() {
			continue
		}
		if _, err := s.config.Baselines.Approve(ctx, b.GetRepository(), b.GetWorkflow(), b.GetJob(), held, person, reason, now); err != nil {
			return fmt.Errorf("approve finding %s for job %s: %w", f.GetId(), b.GetJob(), err)
		}
	}
	return nil
}

// resolve settles a finding, or says that it is an incident.
func (s *Service) resolve(ctx context.Context, f *sallyportv1.Finding, outcome, person, reason string) error {
	a := f.GetAttribution()
	return s.config.Decisions.Record(ctx, &sallyportv1.Decision{
		Kind: sallyportv1.DecisionKind_DECISION_KIND_RESOLVE, Person: person, Reason: reason, FindingId: f.GetId(), Behaviour: f.GetBehaviour(), Outcome: outcome,
		Repository: a.GetRepository(), Workflow: a.GetWorkflow(), Job: a.GetJob(),
	}, s.config.Now())
}

// carryOut does what a button says, for those who may. It returns why it did nothing.
func (s *Service) carryOut(ctx context.Context, c *commit, x click, r *result, rules *Rules) (refused string, err error) {
	who := "@" + x.Login
	verb, offer, ok := strings.Cut(x.Identifier, ":")
	if !ok {
		return "", nil // not one of ours
	}
	ids, ok := c.Offers[offer]
	if !ok {
		return fmt.Sprintf("What %s settled is not what is shown any more: look at it again.", markdown.Text(who)), nil
	}
	client, err := s.clientOf(ctx, c)
	if err != nil {
		return "", err
	}
	role, err := client.Role(ctx, c.Repository, x.Login)
	if err != nil {
		return "", err
	}
	needed := rules.Check.Approvers.New
	if verb+":" == doSettle {
		needed = rules.Check.Approvers.Threat
	}
	if !may(role, needed) {
		return fmt.Sprintf("%s has the role %s here, and this needs %s.", markdown.Text(who), markdown.Code(role), markdown.Code(needed)), nil
	}
	shown := make(map[string]bool, len(ids))
	for _, id := range ids {
		shown[id] = true
	}
	reason := fmt.Sprintf("pressed in the check on %s of %s", c.SHA, c.Repository)
	full := ""
	// An earlier try may have written it down and not carried it out.
	for _, z := range r.settled {
		d, f := z.decision, z.finding
		if verb+":" != doApproveJob && verb+":" != doApproveAll && verb+":" != doSettle || !shown[f.GetId()] ||
			d.GetKind() != sallyportv1.DecisionKind_DECISION_KIND_APPROVE || d.GetFindingId() != f.GetId() ||
			d.GetPerson() != x.Login || d.GetReason() != reason || d.GetTime().AsTime().Before(x.Time) {
			continue
		}
		switch err := s.approve(ctx, f, verb+":" == doApproveAll, x.Login, reason, true); {
		case errors.Is(err, detector.ErrInvalid):
			full = err.Error()
		case err != nil:
			return "", err
		}
	}
	for i := range r.jobs {
		j := &r.jobs[i]
		if j.state != notObserved && j.state != notSeenWhole || verb+":" != doSettle || !shown[j.identity()] {
			continue
		}
		err := s.config.Decisions.Record(ctx, &sallyportv1.Decision{
			Kind: sallyportv1.DecisionKind_DECISION_KIND_RESOLVE, Outcome: outcomeExpected, Person: x.Login, Reason: j.state + "; " + reason,
			Repository: c.Repository, Workflow: j.run.Name, Job: j.name,
		}, s.config.Now())
		if err != nil {
			return "", err
		}
		if c.Agreed == nil {
			c.Agreed = make(map[string]string)
		}
		c.Agreed[j.identity()] = x.Login
	}
	for _, f := range r.open {
		switch {
		case !shown[f.GetId()]: // came in meanwhile
		case verb+":" == doReport:
			err = s.resolve(ctx, f, outcomeIncident, x.Login, reason)
		case r.grave(f) && verb+":" == doSettle:
			err = s.resolve(ctx, f, outcomeExpected, x.Login, reason)
		case r.grave(f):
		case verb+":" == doApproveJob || verb+":" == doSettle:
			err = s.approve(ctx, f, false, x.Login, reason, false)
		case verb+":" == doApproveAll:
			err = s.approve(ctx, f, true, x.Login, reason, false)
		}
		if errors.Is(err, detector.ErrInvalid) {
			full, err = err.Error(), nil
		}
		if err != nil {
			return "", err
		}
	}
	s.log.Info("decision", "button", verb, "person", x.Login, "role", role, "repo", c.Repository, "commit", c.SHA, "findings", len(r.open), "unobserved", len(r.missing))
	if full != "" {
		return "It is settled, and will be told of again in the next run: " + markdown.Text(markdown.Shorten(full, 300)), nil
	}
	return "", nil
}
