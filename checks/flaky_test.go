package checks

import (
	"strings"
	"testing"

	sallyportv1 "github.com/sallyport-ci/sallyport/proto/sallyport/v1"
)

// What two jobs of a matrix did is told once, and both are marked with it.
func TestMatrixMarks(t *testing.T) {
	w := newWorld(t)
	sha := w.head("a")
	r := ci(1, sha)
	r.Jobs[0].Name, r.Jobs[1].Name = "build (1.25)", "build (1.26)"
	w.requested(r)
	w.judged(r, 0, func(v *sallyportv1.Verdict) { found(v, 1, true, "") })
	w.judged(r, 1, func(v *sallyportv1.Verdict) {
		found(v, 1, true, "").Id = strings.Repeat("b", 32)
		v.FindingIds[0] = v.Findings[0].Id
	})
	w.completed(r)
	got := w.wants(sha, failure, "1 threat")
	if strings.Count(got.Summary, "| ❌ |") != 2 || strings.Contains(got.Summary, "✅") {
		t.Error(got.Summary)
	}
}

// GitHub may list jobs as going on when their run has ended: they are not held to have done nothing.
func TestListBehind(t *testing.T) {
	w := newWorld(t)
	sha := w.head("a")
	r := ci(1, sha)
	w.requested(r)
	w.judged(r, 0, nil)
	r.Status, r.Conclusion = "completed", "success"
	r.Jobs[0].Status, r.Jobs[0].Conclusion = "completed", "success"
	r.Jobs[1].Status = "in_progress"
	w.shop.SetRun(r)
	w.send(w.shop.RunWebhook(w.app, "completed", r.ID))
	w.stays(sha, "", "Watching")
	r.Jobs[1].Status, r.Jobs[1].Conclusion = "completed", "success"
	w.shop.SetRun(r)
	w.wants(sha, neutral, "1 job not observed")
}

// A job that succeeded ran, whether GitHub names its machine or not.
func TestSuccessWithoutRunner(t *testing.T) {
	w := newWorld(t)
	sha := w.head("a")
	r := ci(1, sha)
	r.Jobs[1].Runner = ""
	w.requested(r)
	w.judged(r, 0, nil)
	w.completed(r)
	w.wants(sha, neutral, "1 job not observed")
}
