package detector

import (
	"context"
	"fmt"
	"slices"

	"github.com/sallyport-ci/sallyport/detector/scenario"
	sallyportv1 "github.com/sallyport-ci/sallyport/proto/sallyport/v1"
)

// Check judges the runs of a scenario in this process and returns what came out otherwise
// than the scenario expects, each beginning with NAME:LINE. Error is about the judging
// itself.
func Check(ctx context.Context, c EngineConfig, s *scenario.Script) (differences []error, err error) {
	j, err := NewJudge(c)
	if err != nil {
		return nil, err
	}
	differ := func(line int, format string, args ...any) {
		differences = append(differences, fmt.Errorf("%s:%d: %w", s.Name, line, fmt.Errorf(format, args...)))
	}
	for _, r := range s.Runs {
		findings, err := j.Apply(ctx, r.Batch)
		if err != nil {
			return differences, fmt.Errorf("%s:%d: %w", s.Name, r.Line, err)
		}
		a := r.Attribution
		if want, said := r.Findings(); said {
			if got := Lines(findings); !slices.Equal(got, want) {
				differ(r.Line, "findings of run %s are %q, want %q", a.GetRunId(), got, want)
			}
		}
		if want, line := r.Verdict(); want != "" {
			got := "none"
			for _, v := range j.Verdicts() {
				if v.GetAttribution().GetExecutionId() == a.GetExecutionId() {
					got = ConclusionName(v.GetConclusion())
				}
			}
			if got != want {
				differ(line, "the verdict on run %s is %s, want %s", a.GetRunId(), got, want)
			}
		}
		if want, line := r.Baseline(); want != "" {
			if got := Summary(j.Baseline(a.GetRepository(), a.GetWorkflow(), a.GetJob())); got != want {
				differ(line, "the baseline after run %s is %q, want %q", a.GetRunId(), got, want)
			}
		}
	}
	return differences, nil
}

// Lines are findings as scenarios expect them, "POLICY STEP" with "-" for no step,
// ordered.
func Lines(findings []*sallyportv1.Finding) []string {
	var out []string
	for _, f := range findings {
		step := f.GetAttribution().GetStep()
		if step == "" {
			step = "-"
		}
		out = append(out, f.GetPolicy().GetId()+" "+step)
	}
	slices.Sort(out)
	return out
}

// Summary is a baseline as scenarios expect it: "RUNS stable|learning ENDPOINTS".
func Summary(b *sallyportv1.Baseline) string {
	state := "learning"
	if b.GetStable() {
		state = "stable"
	}
	endpoints := 0
	for _, x := range b.GetBehaviours() {
		if x.GetKind() == kindEgress {
			endpoints++
		}
	}
	return fmt.Sprintf("%d %s %d", b.GetRuns(), state, endpoints)
}

// ConclusionName is a conclusion's short name: clean, new_behaviour or threat.
func ConclusionName(c sallyportv1.Conclusion) string { return enumName(c.Descriptor(), c.Number()) }
