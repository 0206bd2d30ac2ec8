package checks

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"
	"pgregory.net/rapid"

	"github.com/sallyport-ci/sallyport/github"
	sallyportv1 "github.com/sallyport-ci/sallyport/proto/sallyport/v1"
)

// Whatever is run again, cancelled and observed, in whichever way GitHub lists it: what counts is
// what each job did when it ran last.
func TestReruns(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		names := rapid.SampledFrom([][]string{{"build", "lint", "deploy"}, {"build (1)", "build (2)", "build (3)"}, {"Build it", "call / build", "build"}, {"a", "a", "a"}}).Draw(t, "names")
		copies := rapid.SampledFrom([]string{"new", "old", "none", "new, alone"}).Draw(t, "copies")
		if names[0] == names[1] {
			copies = "new" // without them nobody can tell which were run again
		}
		own := rapid.Bool().Draw(t, "one's own machine")
		keys := []string{"k0", "k1", "k2"}
		w := &run{Listed: true, Jobs: make(map[int64]*github.Job)}
		w.ID, w.Status, w.Path = 1, "completed", workflowFile
		var verdicts []*sallyportv1.Verdict
		clock := time.Unix(1_900_000_000, 0)
		last := make([]*github.Job, len(names))   // as it ran last
		listed := make([]*github.Job, len(names)) // as the attempt before lists it
		expected := make([]string, len(names))    // its finding; none, or not observed
		attempts := rapid.IntRange(1, 4).Draw(t, "attempts")
		id := int64(0)
		add := func(j github.Job) *github.Job {
			id++
			j.ID, j.RunID = id, 1
			w.Jobs[id] = &j
			return &j
		}
		for attempt := 1; attempt <= attempts; attempt++ {
			clock = clock.Add(time.Hour)
			w.Attempt, w.Began = attempt, clock
			if copies == "new, alone" {
				w.Jobs = make(map[int64]*github.Job)
			}
			for i, name := range names {
				what := "runs"
				if attempt > 1 {
					what = rapid.SampledFrom([]string{"runs", "stands", "cancelled", "skipped"}).Draw(t, fmt.Sprint("what ", attempt, i))
				}
				if what == "stands" && last[i] == nil || copies == "new, alone" && what != "stands" && what != "runs" && last[i] != nil {
					what = "runs" // GitHub's last list alone cannot tell of what ran before
				}
				switch what {
				case "runs":
					clock = clock.Add(10 * time.Minute)
					runner := "mine"
					if !own {
						runner = fmt.Sprint("r", attempt, i)
					}
					listed[i] = add(github.Job{Attempt: attempt, Name: name, Status: "completed", Conclusion: "success", Runner: runner, Started: clock, Completed: clock.Add(time.Minute)})
					last[i], expected[i] = listed[i], notObserved
					if seen := rapid.SampledFrom([]string{"threat", "clean", ""}).Draw(t, fmt.Sprint("seen ", attempt, i)); seen != "" {
						v := &sallyportv1.Verdict{
							Attribution: &sallyportv1.Attribution{RunId: "1", RunAttempt: uint32(attempt), Job: keys[i], Runner: runner},
							Started:     timestamppb.New(clock.Add(2 * time.Second)), Ended: timestamppb.New(clock.Add(50 * time.Second)),
							Baseline: &sallyportv1.BaselineFacts{Stable: true},
						}
						expected[i] = ""
						if seen == "threat" {
							expected[i] = found(v, 10*attempt+i, true, "").Id
						}
						verdicts = append(verdicts, v)
					}
				case "stands":
					j := *listed[i]
					switch copies {
					case "new", "new, alone":
						j.Attempt = attempt
						listed[i] = add(j)
					case "old":
						add(j)
					}
				default:
					listed[i] = add(github.Job{Attempt: attempt, Name: name, Status: "completed", Conclusion: what})
				}
			}
		}
		c := newCommit("acme/shop", "", clock)
		c.Runs[1] = w
		r := evaluate(facts{commit: c, verdicts: map[int64][]*sallyportv1.Verdict{1: rapid.Permutation(verdicts).Draw(t, "order")}, rules: noRules(), now: clock.Add(time.Hour)})
		var got, want []string
		for _, f := range r.open {
			got = append(got, f.Id)
		}
		for _, j := range r.jobs {
			if j.state == notObserved {
				got = append(got, notObserved)
			}
		}
		for _, x := range expected {
			if x != "" {
				want = append(want, x)
			}
		}
		if names[0] == names[1] || copies == "new, alone" { // more than what counts may be told, and never less
			got = slices.DeleteFunc(got, func(x string) bool { return !slices.Contains(want, x) })
			slices.Sort(got)
			got, want = slices.Compact(got), slices.Compact(slices.Sorted(slices.Values(want)))
		}
		slices.Sort(got)
		slices.Sort(want)
		if !slices.Equal(got, want) {
			for _, j := range r.jobs {
				t.Logf("%s, attempt %d: %s", j.name, j.attempt, j.state)
			}
			t.Fatalf("got %v, want %v", got, want)
		}
	})
}
