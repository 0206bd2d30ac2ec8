package checks

import (
	"strings"
	"testing"
	"time"

	"github.com/sallyport-ci/sallyport/github"
	sallyportv1 "github.com/sallyport-ci/sallyport/proto/sallyport/v1"
	"github.com/sallyport-ci/sallyport/test/githubfake"
)

// oneJob begins a run of one job.
func (w *world) oneJob() (sha string, r githubfake.Run) {
	sha = w.head("a")
	r = ci(1, sha)
	r.Jobs = r.Jobs[:1]
	w.requested(r)
	return sha, r
}

// What came in while no process worked is taken up by the next one.
func TestMissedWhileAway(t *testing.T) {
	t.Run("decision", func(t *testing.T) {
		w := newWorld(t)
		sha, r := w.oneJob()
		v := w.judged(r, 0, func(v *sallyportv1.Verdict) { found(v, 1, true, "") })
		w.completed(r)
		w.wants(sha, failure, "1 threat")
		time.Sleep(50 * time.Millisecond)
		w.stop()
		if err := w.service.resolve(t.Context(), v.GetFindings()[0], outcomeExpected, "carol", "known"); err != nil {
			t.Fatal(err)
		}
		w.start()
		w.wants(sha, success, "Nothing new in 1 job, 1 finding settled")
	})
	t.Run("end of a run, days ago", func(t *testing.T) {
		w := newWorld(t)
		sha, r := w.oneJob()
		w.wants(sha, running, "Watching")
		w.stop()
		w.judged(r, 0, func(*sallyportv1.Verdict) {})
		w.holding = true
		w.completed(r)
		c, err := w.service.commits.get(t.Context(), keyOf("acme/shop", sha))
		if err != nil {
			t.Fatal(err)
		}
		c.Touched = c.Touched.Add(-60 * time.Hour)
		if err := w.service.commits.put(t.Context(), c); err != nil {
			t.Fatal(err)
		}
		w.start()
		w.wants(sha, success, "Nothing new in 1 job")
	})
}

// A file that is too large counts as none, and the check says so.
func TestRulesTooLarge(t *testing.T) {
	w := newWorld(t)
	w.shop.Commit("main", "alice", "rules", map[string]string{RulesFile: "version: 1\n" + strings.Repeat("# long\n", 5<<20/7)})
	sha, r := w.oneJob()
	w.judged(r, 0, func(*sallyportv1.Verdict) {})
	w.completed(r)
	if x := w.wants(sha, neutral, "Nothing new in 1 job"); !strings.Contains(x.Summary, "does not count until it is repaired") {
		t.Errorf("%s", x.Summary)
	}
}

// A pull request that is opened on a commit, or pushed back to it, gets what the check says.
func TestCommentOfAnother(t *testing.T) {
	c := newCommit("acme/shop", strings.Repeat("a", 40), time.Now())
	c.Commented = "said on the first"
	s := &Service{config: Config{Now: time.Now}}
	s.read(c, letter{Webhook: github.Webhook{Event: "pull_request", Action: "opened", Delivery: "2"}})
	if c.Commented != "" {
		t.Error("the second gets no comment")
	}
}
