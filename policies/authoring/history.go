package authoring

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"
	"google.golang.org/protobuf/proto"

	"github.com/sallyport-ci/sallyport/detector"
	sallyportv1 "github.com/sallyport-ci/sallyport/proto/sallyport/v1"
	"github.com/sallyport-ci/sallyport/recording"
)

// History gives batches of past runs in the order in which they are judged. It calls each
// for every batch and ended when what follows has nothing to do with what came before.
type History func(each func(*sallyportv1.EventBatch) error, ended func()) error

// Recordings is the history in files of `sallyport record`, one after the other. Files that
// are cut off or damaged are an error.
func Recordings(files ...string) History {
	return func(each func(*sallyportv1.EventBatch) error, ended func()) error {
		for _, name := range files {
			if err := readRecording(name, each); err != nil {
				return err
			}
			ended()
		}
		return nil
	}
}

func readRecording(name string, each func(*sallyportv1.EventBatch) error) error {
	f, err := os.Open(name)
	if err != nil {
		return fmt.Errorf("open recording: %w", err)
	}
	defer func() { _ = f.Close() }() // it was only read
	r, err := recording.NewReader(f)
	for err == nil {
		var b *recording.Batch
		if b, err = r.Next(); err == nil {
			err = each(b.Events)
		}
	}
	if errors.Is(err, io.EOF) {
		return nil
	}
	return fmt.Errorf("%s: %w", name, err)
}

// Judgement is what came of judging a history.
type Judgement struct {
	// Findings in the order in which they were made.
	Findings []*sallyportv1.Finding
	// Verdicts on the executions that ended.
	Verdicts []*sallyportv1.Verdict
	// Counts of events, behaviours, findings and failed evaluations.
	Counts detector.EngineCounts
}

// Judge judges a history from its beginning: what earlier runs teach, later ones are
// measured against. Judging, if it is not nil, is told of every input that policies see.
func Judge(ctx context.Context, c detector.EngineConfig, h History) (*Judgement, error) {
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	j, err := detector.NewJudge(c)
	if err != nil {
		return nil, err
	}
	out := &Judgement{}
	err = h(func(b *sallyportv1.EventBatch) error {
		findings, err := j.Apply(ctx, b)
		out.Findings = append(out.Findings, findings...)
		return err
	}, j.End)
	out.Verdicts, out.Counts = j.Verdicts(), j.Counts()
	return out, err
}

// Inputs returns what policies see of a history, in order.
func Inputs(ctx context.Context, c detector.EngineConfig, h History) ([]*sallyportv1.PolicyInput, error) {
	var out []*sallyportv1.PolicyInput
	c.Judging = func(in *sallyportv1.PolicyInput) { out = append(out, proto.CloneOf(in)) }
	_, err := Judge(ctx, c, h)
	return out, err
}

// Difference is what another set of policies makes of the same history.
type Difference struct {
	// Appear are findings that only the new policies make, Disappear those that only the old
	// ones make, Changed those that both make with another severity or message, as the new
	// ones make them.
	Appear, Disappear, Changed []*sallyportv1.Finding
	// Verdicts are the executions whose verdict differs.
	Verdicts []VerdictChange
	// Findings made by the old and by the new policies.
	Old, New int
	// Runs judged.
	Runs int
}

// VerdictChange is an execution that comes to something else.
type VerdictChange struct {
	// Verdict by the new policies.
	Verdict *sallyportv1.Verdict
	// Before is the conclusion by the old ones; unspecified if there was none.
	Before sallyportv1.Conclusion
}

// Any says whether anything differs.
func (d *Difference) Any() bool {
	return len(d.Appear)+len(d.Disappear)+len(d.Changed)+len(d.Verdicts) > 0
}

// Diff judges a history by two sets of policies and compares what they find.
func Diff(ctx context.Context, before, after detector.EngineConfig, h History) (*Difference, error) {
	was, err := Judge(ctx, before, h)
	if err != nil {
		return nil, fmt.Errorf("judge by the old policies: %w", err)
	}
	is, err := Judge(ctx, after, h)
	if err != nil {
		return nil, fmt.Errorf("judge by the new policies: %w", err)
	}
	out := &Difference{Old: len(was.Findings), New: len(is.Findings), Runs: len(is.Verdicts)}
	old := make(map[string]*sallyportv1.Finding, len(was.Findings))
	for _, f := range was.Findings {
		old[f.GetId()] = f
	}
	for _, f := range is.Findings {
		o := old[f.GetId()]
		delete(old, f.GetId())
		switch {
		case o == nil:
			out.Appear = append(out.Appear, f)
		case o.GetMessage() != f.GetMessage() || o.GetPolicy().GetSeverity() != f.GetPolicy().GetSeverity() || o.GetPolicy().GetClass() != f.GetPolicy().GetClass():
			out.Changed = append(out.Changed, f)
		}
	}
	for _, f := range was.Findings {
		if old[f.GetId()] != nil {
			out.Disappear = append(out.Disappear, f)
		}
	}
	concluded := make(map[string]sallyportv1.Conclusion)
	for _, v := range was.Verdicts {
		concluded[v.GetAttribution().GetExecutionId()] = v.GetConclusion()
	}
	for _, v := range is.Verdicts {
		if c := concluded[v.GetAttribution().GetExecutionId()]; c != v.GetConclusion() {
			out.Verdicts = append(out.Verdicts, VerdictChange{v, c})
		}
	}
	return out, nil
}

// Timing is what one policy costs.
type Timing struct {
	// Policy is its identity.
	Policy string `json:"policy"`
	// Evaluations in one pass over the history: the behaviours that it looks at.
	Evaluations int `json:"evaluations"`
	// Each is the median of the passes, per evaluation.
	Each time.Duration `json:"each_ns"`
	// Share of the time of all, 0 to 1.
	Share float64 `json:"share"`
	// Violations in one pass.
	Violations int `json:"violations"`
}

// Bench evaluates policies, each apart, on what they see of a history, several times, and
// returns the dearest first. IDs are the policies to look at; all if there are none. The
// detector asks all policies of a kind at once, which is faster.
func Bench(ctx context.Context, inForce *detector.Policies, inputs []*sallyportv1.PolicyInput, passes int, ids ...string) ([]Timing, error) {
	documents := make(map[sallyportv1.BehaviourKind][]ast.Value)
	for _, in := range inputs {
		kind := in.GetBehaviour().GetKind()
		documents[kind] = append(documents[kind], detector.Document(in))
	}
	if len(ids) == 0 {
		ids = inForce.IDs()
	}
	var out []Timing
	var sum time.Duration
	for _, id := range ids {
		t := Timing{Policy: id}
		var took []time.Duration
		for range max(passes, 1) {
			t.Evaluations, t.Violations = 0, 0
			began := time.Now()
			for kind, all := range documents {
				if !slices.Contains(inForce.Looking(kind), id) {
					continue
				}
				for _, doc := range all {
					v, err := inForce.Evaluate(ctx, id, doc, false)
					if err != nil {
						return nil, err
					}
					if v.Message != "" {
						t.Violations++
					}
				}
				t.Evaluations += len(all)
			}
			took = append(took, time.Since(began))
		}
		slices.Sort(took)
		if t.Evaluations > 0 {
			median := took[len(took)/2]
			t.Each = median / time.Duration(t.Evaluations)
			sum += t.Each * time.Duration(t.Evaluations)
		}
		out = append(out, t)
	}
	for i := range out {
		if sum > 0 {
			out[i].Share = float64(out[i].Each*time.Duration(out[i].Evaluations)) / float64(sum)
		}
	}
	slices.SortFunc(out, func(a, b Timing) int {
		return cmp.Or(cmp.Compare(b.Share, a.Share), strings.Compare(a.Policy, b.Policy))
	})
	return out, nil
}
