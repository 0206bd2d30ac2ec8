package detector

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"path"
	"slices"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	sallyportv1 "github.com/sallyport-ci/sallyport/proto/sallyport/v1"
)

// verdictPatience is how long after the end of a job its last events are waited for before
// the verdict is given without them.
const verdictPatience = 1500 * time.Millisecond

// maxReasons bounds the reasons of a verdict.
const maxReasons = 50

// conclusions returns the verdicts that are new: of executions that ended, and of those of
// which something came in since. They are in the order in which the executions ended.
func (e *Engine) conclusions() []*sallyportv1.Verdict {
	now := e.config.Now()
	var ended []*execution
	for _, x := range e.unsettled {
		if x.Finished || !x.seen() && now.Sub(time.Unix(0, x.Touched)) < verdictPatience {
			continue
		}
		ended = append(ended, x)
	}
	slices.SortFunc(ended, func(a, b *execution) int {
		return cmp.Or(cmp.Compare(a.EndedAt, b.EndedAt), cmp.Compare(a.id, b.id))
	})
	var out []*sallyportv1.Verdict
	for _, x := range ended {
		v := e.conclude(x)
		data, err := proto.MarshalOptions{Deterministic: true}.Marshal(v)
		if err != nil {
			continue // a verdict holds nothing that does not marshal
		}
		sum := sha256.Sum256(data)
		if said := hex.EncodeToString(sum[:8]); said != x.Said {
			x.Revision, x.Said, x.dirty = x.Revision+1, said, true
			v.Revision = x.Revision
			out = append(out, v)
		}
	}
	return out
}

// conclude makes the verdict of an execution. It depends on its events alone.
func (e *Engine) conclude(x *execution) *sallyportv1.Verdict {
	a := proto.CloneOf(x.attribution)
	a.Step, a.Action = "", ""
	v := &sallyportv1.Verdict{
		Attribution: a, Conclusion: sallyportv1.Conclusion_CONCLUSION_CLEAN, Incomplete: x.Incomplete,
		Started: timestamppb.New(time.Unix(0, x.StartedAt)), Ended: timestamppb.New(time.Unix(0, x.EndedAt)),
		Baseline:   e.known(x),
		Behaviours: uint32(len(x.judged)),
	}
	if v.GetIncomplete() == "" && !x.seen() {
		v.Incomplete = "events are missing"
	}
	findings := slices.Clone(x.Told)
	slices.SortFunc(findings, func(a, b told) int {
		return cmp.Or(cmp.Compare(b.Severity, a.Severity), cmp.Compare(a.Time, b.Time), cmp.Compare(a.ID, b.ID))
	})
	for i, f := range findings {
		if f.Threat {
			v.Conclusion = sallyportv1.Conclusion_CONCLUSION_THREAT
		}
		v.FindingIds = append(v.FindingIds, f.ID)
		if i < maxReasons {
			v.Reasons = append(v.Reasons, f.Message)
		}
		whole := new(sallyportv1.Finding)
		if len(f.Brief) > 0 && proto.Unmarshal(f.Brief, whole) == nil {
			v.Findings = append(v.Findings, whole)
		}
	}
	if n := len(findings) - maxReasons; n > 0 {
		v.Reasons = append(v.Reasons, fmt.Sprintf("%d more findings.", n))
	}
	switch b := v.GetBaseline(); {
	case v.GetConclusion() == sallyportv1.Conclusion_CONCLUSION_THREAT:
	case len(findings) > 0:
		v.Conclusion = sallyportv1.Conclusion_CONCLUSION_NEW_BEHAVIOUR
	case b.GetStable():
		v.Reasons = []string{fmt.Sprintf("Nothing that the %d clean runs before had not done.", b.GetRuns())}
	default:
		v.Reasons = []string{fmt.Sprintf("No policy found anything. What this job normally does is still being learned: %s.", clean(b.GetRuns()))}
	}
	v.Reasons = append(v.Reasons, x.Excepted...)
	v.TeachesNot = e.teachesNot(x)
	v.Teaches = v.GetTeachesNot() == "" && v.GetIncomplete() == ""
	if v.GetTeachesNot() == "" {
		v.TeachesNot = v.GetIncomplete()
	}
	return v
}

// known returns what the baseline knew of egress when the verdict was first given.
func (e *Engine) known(x *execution) *sallyportv1.BaselineFacts {
	f := new(sallyportv1.BaselineFacts)
	if len(x.Facts) > 0 && proto.Unmarshal(x.Facts, f) == nil {
		return f
	}
	f = facts(x.knowledge, e.config.RunsNeeded, &sallyportv1.Behaviour{Kind: kindEgress}, step{})
	if data, err := proto.Marshal(f); err == nil && len(data) > 0 {
		x.Facts = data
	}
	return f
}

func clean(runs uint32) string {
	if runs == 1 {
		return "1 clean run so far"
	}
	return fmt.Sprintf("%d clean runs so far", runs)
}

// teachesNot says why an execution does not teach, empty if it may: docs/baseline.md. What
// is missing of it is apart.
func (e *Engine) teachesNot(x *execution) string {
	a := x.attribution
	blocking := 0
	for _, f := range x.Told {
		if !f.Reopened {
			blocking++
		}
	}
	switch {
	case a.GetRepository() == "" || a.GetJob() == "":
		return "it is no job of a repository"
	case strings.HasPrefix(a.GetEvent(), "pull_request"):
		return "it was started by " + a.GetEvent() + ", by which a run can hold anybody's code"
	case !e.trusts(a):
		return "its reference " + a.GetRef() + " is neither protected nor one of the trusted ones"
	case x.knowledge != nil && x.knowledge.baseline.GetFrozen():
		return "the baseline is frozen"
	case blocking > 0:
		return "it has findings"
	}
	return ""
}

// trusts says whether a run's reference is one that nobody can write to without review.
func (e *Engine) trusts(a *sallyportv1.Attribution) bool {
	if a.GetRefProtected() {
		return true
	}
	for _, pattern := range e.config.TrustedRefs {
		if ok, err := path.Match(pattern, a.GetRef()); ok && err == nil {
			return true
		}
	}
	return false
}
