package checks

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/sallyport-ci/sallyport/github"
	sallyportv1 "github.com/sallyport-ci/sallyport/proto/sallyport/v1"
	"github.com/sallyport-ci/sallyport/test/githubfake"
)

// pull opens a pull request of a branch, and returns its number and head.
func (w *world) pull(branch string) (number int, head string) {
	w.Helper()
	head = w.head(branch)
	app, err := w.config.App.Installation(w.Context(), "acme")
	if err != nil {
		w.Fatal(err)
	}
	p, err := app.OpenPullRequest(w.Context(), w.shop.Name, github.PullRequest{Title: branch, Head: branch, Base: "main"})
	if err != nil {
		w.Fatal(err)
	}
	return p.Number, head
}

// group is what a merge queue makes of a pull request and a base, with a run on it.
func (w *world) group(id int64, pull int, base string) githubfake.Run {
	w.Helper()
	sha := w.head(githubfake.QueueBranch(pull, base))
	w.send(w.shop.QueueWebhook(w.app, pull, base, sha))
	r := ci(id, sha)
	r.Event, r.Branch = mergeGroup, githubfake.QueueBranch(pull, base)
	w.requested(r)
	return r
}

// threatOf adds a threat whose fingerprint is n in all runs.
func threatOf(r githubfake.Run, n int) func(v *sallyportv1.Verdict) {
	return func(v *sallyportv1.Verdict) {
		f := found(v, n, true, "")
		f.Id = fmt.Sprintf("%016x%016x", r.ID, n)
		v.FindingIds[len(v.FindingIds)-1] = f.Id
	}
}

// What was settled on pull requests holds in the merge queue, also in the groups behind: there a red
// check would throw them out. What was not is red there, too.
func TestMergeQueue(t *testing.T) {
	w := newWorld(t)
	w.shop.SetRole("mia", "maintain")
	w.rules("version: 1\ncheck: {require-observed: true}\n")

	one, head := w.pull("one")
	r := ci(1, head)
	w.requested(r)
	w.judged(r, 0, threatOf(r, 1))
	w.completed(r) // nobody observed lint
	red := w.wants(head, failure, "1 threat, 1 job not observed")
	w.press(red, "mia", "Settle: it is meant")
	w.wants(head, success, "1 finding settled, 1 job not observed as agreed")

	two, head := w.pull("two")
	r = ci(2, head)
	w.requested(r)
	w.judged(r, 0, nil)
	w.judged(r, 1, nil)
	w.completed(r)
	w.wants(head, success, "Nothing new")

	first := w.group(3, one, w.shop.Head("main"))
	w.judged(first, 0, threatOf(first, 1))
	w.completed(first)
	got := w.stays(first.SHA, success, "1 finding settled, 1 job not observed as agreed")
	if !strings.Contains(got.Text, "settled as expected by mia") || !strings.Contains(got.Summary, "settled by mia on the pull request") {
		t.Errorf("%s\n%s", got.Summary, got.Text)
	}

	second := w.group(4, two, first.SHA)
	w.judged(second, 0, threatOf(second, 1))
	w.judged(second, 1, nil)
	w.completed(second)
	w.wants(second.SHA, success, "1 finding settled")

	third := w.group(5, two, first.SHA)
	w.judged(third, 0, func(v *sallyportv1.Verdict) { threatOf(third, 1)(v); threatOf(third, 2)(v) })
	w.judged(third, 1, nil)
	w.completed(third)
	w.wants(third.SHA, failure, "1 threat")

	// A person who looks at the group has the last word.
	d := &sallyportv1.Decision{Kind: sallyportv1.DecisionKind_DECISION_KIND_RESOLVE, Outcome: outcomeIncident, Person: "sam", Reason: "no", FindingId: fmt.Sprintf("%016x%016x", second.ID, 1), Repository: w.shop.Name}
	if err := w.decisions.Record(t.Context(), d, time.Now()); err != nil {
		t.Fatal(err)
	}
	w.wants(second.SHA, failure, "1 threat")

	// A branch of the queue's name on which something else runs is none of the queue's, and settles nothing.
	forged := ci(6, w.head("gh-readonly-queue/main/pr-9-"+strings.Repeat("0", 40)))
	forged.Branch = githubfake.QueueBranch(one, w.shop.Head("main"))
	w.requested(forged)
	w.judged(forged, 0, threatOf(forged, 1))
	w.judged(forged, 1, nil)
	w.completed(forged)
	w.stays(forged.SHA, failure, "1 threat")

	// A queue for a pull request that is not there.
	lost := w.group(7, 99, w.shop.Head("main"))
	w.judged(lost, 0, threatOf(lost, 1))
	w.judged(lost, 1, nil)
	w.completed(lost)
	w.wants(lost.SHA, failure, "1 threat")
}

// With require-observed a job that was not seen to its end is as one that was not seen, once the
// rest had its time to come.
func TestNotSeenCompletely(t *testing.T) {
	w := newWorld(t)
	w.shop.SetRole("mia", "maintain")
	w.rules("version: 1\ncheck: {require-observed: true}\n")
	sha := w.head("a")
	r := ci(1, sha)
	w.requested(r)
	v := w.judged(r, 0, func(v *sallyportv1.Verdict) { v.Incomplete = "events are missing" })
	w.judged(r, 1, nil)
	w.completed(r)
	red := w.wants(sha, failure, "1 job not seen completely")
	if !strings.Contains(red.Summary, "may have done anything") {
		t.Error(red.Summary)
	}
	w.press(red, "mia", "Settle: it is meant")
	green := w.wants(sha, success, "1 job not seen completely as agreed")
	if !strings.Contains(green.Summary, "not seen completely: events are missing, which is agreed: settled by mia") {
		t.Error(green.Summary)
	}
	v.Incomplete, v.Revision = "", 2
	if err := w.verdicts.Put(t.Context(), v); err != nil {
		t.Fatal(err)
	}
	w.until(sha, func(c githubfake.Check) bool { return c.Conclusion == success && c.Title == "Nothing new in 2 jobs" })
}
