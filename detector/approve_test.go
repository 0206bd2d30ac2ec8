package detector_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/sallyport-ci/sallyport/detector"
	sallyportv1 "github.com/sallyport-ci/sallyport/proto/sallyport/v1"
)

// desk notes what is written down and what is approved, in order.
type desk struct {
	did             []string
	record, approve error
}

func (d *desk) Record(_ context.Context, decision *sallyportv1.Decision, now time.Time) error {
	d.did = append(d.did, "record "+decision.GetFindingId())
	if d.record == nil {
		decision.Id, decision.Time = "1", timestamppb.New(now)
	}
	return d.record
}

func (d *desk) Approve(_ context.Context, repository, workflow, job string, x *sallyportv1.BaselineBehaviour, person, reason string, _ time.Time) (*sallyportv1.Baseline, error) {
	d.did = append(d.did, "approve "+repository+" "+workflow+" "+job+" "+x.GetTarget()+" "+person+" "+reason)
	return &sallyportv1.Baseline{Job: job}, d.approve
}

// Nothing is approved without a record, and a record without an approval is an error.
func TestApprove(t *testing.T) {
	f := &sallyportv1.Finding{
		Id: "f", Attribution: &sallyportv1.Attribution{Repository: "acme/shop", Workflow: "CI", Job: "build"},
		Behaviour: &sallyportv1.Behaviour{Kind: sallyportv1.BehaviourKind_BEHAVIOUR_KIND_EGRESS, Target: "x.example.test", Port: 443},
	}
	broken := errors.New("broken")
	for _, c := range []struct {
		desk    desk
		did     int
		fails   error
		decided bool
	}{
		{desk{}, 2, nil, true},
		{desk{record: broken}, 1, broken, false},
		{desk{approve: detector.ErrInvalid}, 2, detector.ErrInvalid, true},
	} {
		d, x, err := detector.ApprovalOf(f, "ann", "a mirror")
		if err != nil {
			t.Fatal(err)
		}
		_, err = detector.Approve(t.Context(), &c.desk, &c.desk, d, x, time.Now())
		if !errors.Is(err, c.fails) || len(c.desk.did) != c.did || (d.GetId() != "") != c.decided || c.desk.did[0] != "record f" {
			t.Errorf("%v %v %v", c.desk.did, err, d)
		}
		if c.did == 2 && c.desk.did[1] != "approve acme/shop CI build x.example.test ann a mirror" {
			t.Error(c.desk.did)
		}
	}
	f.Behaviour.Kind = sallyportv1.BehaviourKind_BEHAVIOUR_KIND_PROCESS_ACCESS
	if _, _, err := detector.ApprovalOf(f, "ann", ""); !errors.Is(err, detector.ErrNotHeld) {
		t.Error(err)
	}
}

// Of all decisions about a finding the same one counts, in whatever order they are heard of.
func TestStands(t *testing.T) {
	ack := func(id string) *sallyportv1.Decision {
		return &sallyportv1.Decision{Id: id, Kind: sallyportv1.DecisionKind_DECISION_KIND_ACKNOWLEDGE}
	}
	resolve := func(id string) *sallyportv1.Decision {
		return &sallyportv1.Decision{Id: id, Kind: sallyportv1.DecisionKind_DECISION_KIND_RESOLVE}
	}
	for _, c := range []struct {
		all  []*sallyportv1.Decision
		want string
	}{
		{[]*sallyportv1.Decision{ack("1")}, "1"},
		{[]*sallyportv1.Decision{ack("1"), ack("2")}, "2"},
		{[]*sallyportv1.Decision{ack("1"), resolve("2")}, "2"},
		{[]*sallyportv1.Decision{resolve("1"), ack("2")}, "1"},
		{[]*sallyportv1.Decision{resolve("1"), ack("2"), resolve("3"), ack("4")}, "3"},
	} {
		for range 20 {
			rand.Shuffle(len(c.all), func(i, j int) { c.all[i], c.all[j] = c.all[j], c.all[i] })
			var last *sallyportv1.Decision
			for _, d := range c.all {
				if detector.Stands(d, last) {
					last = d
				}
			}
			if last.GetId() != c.want {
				t.Errorf("of %v %s counts, want %s", c.all, last.GetId(), c.want)
			}
		}
	}
}
