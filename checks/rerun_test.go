package checks

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	sallyportv1 "github.com/sallyport-ci/sallyport/proto/sallyport/v1"
	"github.com/sallyport-ci/sallyport/test/githubfake"
)

// rerun is the next attempt of a run, which runs some of its jobs again. Of the others GitHub has
// copies, with the number of the attempt that is told, or of neither attempt any.
func rerun(r githubfake.Run, copies string, jobs ...int) githubfake.Run {
	out := r
	out.Attempt, out.Began, out.Jobs = r.Attempt+1, time.Now().Add(time.Duration(r.Attempt)*time.Hour), nil
	out.Past = slices.Clone(r.Past)
	for i, j := range r.Jobs {
		if j.Attempt == 0 {
			j.Attempt = r.Attempt
		}
		if j.Conclusion == "" {
			j.Status, j.Conclusion = "completed", "success"
		}
		out.Past = append(out.Past, j)
		j.ID += 1000
		switch {
		case slices.Contains(jobs, i):
			j.Attempt, j.Status, j.Conclusion, j.Started = out.Attempt, "queued", "", out.Began.Add(time.Minute)
			j.Runner = fmt.Sprint("again-", out.Attempt, "-", i)
		case copies == "none":
			continue
		case copies == "new", copies == "new, alone":
			j.Attempt = out.Attempt
		}
		out.Jobs = append(out.Jobs, j)
	}
	if copies == "new, alone" {
		out.Past = nil
	}
	return out
}

// Of jobs that were not run again what they did stays, whichever way GitHub lists them; of those
// that were it does not.
func TestFailedJobsAgain(t *testing.T) {
	for n, copies := range []string{"new", "old", "none", "new, alone"} {
		t.Run(copies, func(t *testing.T) {
			w := newWorld(t)
			sha := w.head("a")
			r := ci(1, sha)
			began := time.Now().Add(-time.Hour)
			r.Began, r.Jobs[0].Started, r.Jobs[1].Started = began, began.Add(time.Minute), began.Add(time.Minute)
			w.requested(r)
			w.judged(r, 0, func(v *sallyportv1.Verdict) { found(v, 1, true, "") })
			w.judged(r, 1, func(v *sallyportv1.Verdict) { found(v, 2, false, "") })
			w.completed(r)
			w.wants(sha, failure, "1 threat, 1 new behaviour")
			if n == 3 { // nobody heard of the first attempt
				w.stop()
				if err := w.service.commits.bucket.Purge(t.Context(), keyOf(w.shop.Name, sha)); err != nil {
					t.Fatal(err)
				}
				w.start()
			}

			second := rerun(r, copies, 1)
			w.requested(second)
			w.wants(sha, "", "Watching")
			w.judged(second, slices.IndexFunc(second.Jobs, func(j githubfake.Job) bool { return j.Name == "lint" }), nil)
			w.completed(second)
			got := w.stays(sha, failure, "1 threat")
			if strings.Contains(got.Title, "new behaviour") || !strings.Contains(got.Summary, "| 1 threat, in attempt 1 |") || strings.Count(got.Summary, "`CI`") != 2 {
				t.Errorf("%s\n%s", got.Title, got.Summary)
			}

			// The third runs the one with the threat again, and nothing stays.
			for i := range second.Jobs {
				second.Jobs[i].Status = "completed"
			}
			if copies == "none" {
				second.Jobs = append(r.Jobs[:1:1], second.Jobs...)
				second.Jobs[0].Attempt, second.Past = 1, nil
			}
			third := rerun(second, copies, 0)
			w.requested(third)
			w.judged(third, slices.IndexFunc(third.Jobs, func(j githubfake.Job) bool { return j.Name == "build" }), nil)
			w.completed(third)
			green := w.stays(sha, success, "Nothing new in 2 jobs")
			if strings.Count(green.Summary, "`CI`") != 2 {
				t.Error(green.Summary)
			}
		})
	}
}

// A job that was run again and is not observed is not held to be so for what an earlier attempt saw.
func TestRunAgainUnobserved(t *testing.T) {
	w := newWorld(t)
	sha := w.head("a")
	r := ci(1, sha)
	w.requested(r)
	w.judged(r, 0, nil)
	w.judged(r, 1, nil)
	w.completed(r)
	w.wants(sha, success, "Nothing new in 2 jobs")
	second := rerun(r, "new", 0, 1)
	second.Jobs[0].Runner = r.Jobs[0].Runner // one's own machine
	w.requested(second)
	w.judged(second, 1, nil)
	w.completed(second)
	w.stays(sha, neutral, "1 job not observed")
}

// An attempt that is cancelled before a machine takes a job does not wash off what the job did.
func TestCancelledAgain(t *testing.T) {
	w := newWorld(t)
	sha := w.head("a")
	r := ci(1, sha)
	w.requested(r)
	w.judged(r, 0, func(v *sallyportv1.Verdict) { found(v, 1, true, "") })
	w.judged(r, 1, nil)
	w.completed(r)
	w.wants(sha, failure, "1 threat")
	second := rerun(r, "new", 0, 1)
	for i := range second.Jobs {
		second.Jobs[i].Runner, second.Jobs[i].Status, second.Jobs[i].Conclusion = "", "completed", "cancelled"
	}
	w.requested(second)
	w.wants(sha, "", "Watching")
	w.completed(second)
	w.stays(sha, failure, "1 threat")
	// Nor does one that ends before GitHub lists any job.
	third := rerun(second, "none")
	third.Jobs = nil
	w.requested(third)
	w.wants(sha, "", "Watching")
	w.completed(third)
	w.stays(sha, failure, "1 threat")
}

// Jobs of a matrix may have one name: those that were not run again still count.
func TestOneNameForAMatrix(t *testing.T) {
	w := newWorld(t)
	sha := w.head("a")
	r := ci(1, sha)
	r.Jobs[1].Name = "build"
	began := time.Now().Add(-time.Hour)
	r.Began, r.Jobs[0].Started, r.Jobs[1].Started = began, began.Add(time.Minute), began.Add(time.Minute)
	w.requested(r)
	w.judged(r, 0, func(v *sallyportv1.Verdict) { found(v, 1, true, "") })
	w.judged(r, 1, func(v *sallyportv1.Verdict) { found(v, 2, true, "") })
	w.completed(r)
	w.wants(sha, failure, "2 threats")
	second := rerun(r, "new", 1)
	w.requested(second)
	w.judged(second, 1, nil)
	w.completed(second)
	got := w.stays(sha, failure, "1 threat")
	if strings.Count(got.Summary, "`CI`") != 2 {
		t.Error(got.Summary)
	}
}

// The pod of a job may be on another node than its runner, and is judged by itself: what it did
// counts, and is told apart.
func TestSecondMachine(t *testing.T) {
	w := newWorld(t)
	sha := w.head("a")
	r := ci(1, sha)
	w.requested(r)
	w.judged(r, 0, nil)
	w.judged(r, 0, func(v *sallyportv1.Verdict) { v.Attribution.ExecutionId = "pod"; found(v, 1, true, "") })
	w.judged(r, 1, nil)
	w.completed(r)
	got := w.wants(sha, failure, "1 threat")
	if !strings.Contains(got.Summary, "| `build` |") || !strings.Contains(got.Summary, "`build, on another machine`") || strings.Contains(got.Summary, "not observed") {
		t.Errorf("%s", got.Summary)
	}
}
