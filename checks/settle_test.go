package checks

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	sallyportv1 "github.com/sallyport-ci/sallyport/proto/sallyport/v1"
	"github.com/sallyport-ci/sallyport/test/githubfake"
)

func (w *world) rules(text string) {
	w.Helper()
	w.shop.Commit("main", "alice", "rules", map[string]string{RulesFile: text})
	w.send(w.shop.PushWebhook(w.app, "main", RulesFile))
}

func (w *world) press(c githubfake.Check, login, label string) {
	w.Helper()
	for _, a := range c.Actions {
		if a.Label == label {
			w.send(w.shop.Click(w.app, c.ID, login, a.Identifier))
			return
		}
	}
	w.Fatalf("no button %q: %+v", label, c.Actions)
}

// A check that is red because nobody observed a job can be settled by a person and by the file.
func TestUnobservedSettled(t *testing.T) {
	w := newWorld(t)
	w.shop.SetRole("wim", "write")
	w.shop.SetRole("mia", "maintain")
	const strict = "version: 1\ncheck: {require-observed: true}\n"
	w.rules(strict)
	sha := w.head("a")
	r := ci(1, sha)
	w.requested(r)
	w.judged(r, 0, nil)
	w.completed(r)
	red := w.wants(sha, failure, "1 job not observed")
	w.press(red, "wim", "Settle: it is meant")
	w.until(sha, func(c githubfake.Check) bool { return strings.Contains(c.Summary, "wim has the role `write`") })
	w.press(red, "mia", "Settle: it is meant")
	green := w.wants(sha, success, "Nothing new in 1 job, 1 job not observed as agreed")
	if green.ID != red.ID || !strings.Contains(green.Summary, "**not observed**, which is agreed: settled by mia") || len(green.Actions) != 0 {
		t.Errorf("%+v", green)
	}
	if list, err := w.decisions.List(t.Context()); err != nil || len(list) != 1 || list[0].GetJob() != "lint" || list[0].GetPerson() != "mia" {
		t.Errorf("%v, %v", list, err)
	}
	// It was about that attempt.
	again := rerun(r, "new", 0, 1)
	w.requested(again)
	w.wants(sha, "", "Watching")
	w.judged(again, 0, nil)
	w.completed(again)
	w.wants(sha, failure, "1 job not observed")

	// GitHub's own scanning is nowhere in the repository.
	sha = w.head("b")
	r = ci(2, sha)
	r.Name, r.Path, r.Event = "CodeQL", "dynamic/github-code-scanning/codeql", "dynamic"
	w.requested(r)
	w.completed(r)
	w.wants(sha, failure, "2 jobs not observed")
	w.rules(strict + "unobserved: [{file: dynamic/github-code-scanning/codeql, owner: sec}]\n")
	w.until(sha, func(c githubfake.Check) bool { return strings.Contains(c.Summary, "owner and reason are needed") })
	w.rules(strict + "unobserved: [{owner: sec, reason: all}]\n")
	w.until(sha, func(c githubfake.Check) bool { return strings.Contains(c.Summary, "it is every job") })
	w.rules(strict + "unobserved: [{file: dynamic/github-code-scanning/codeql, owner: sec, reason: GitHub's own, until: 2020-01-01}]\n")
	w.until(sha, func(c githubfake.Check) bool {
		return c.Conclusion == failure && !strings.Contains(c.Summary, "WARNING")
	})
	w.rules(strict + "unobserved: [{file: dynamic/github-code-scanning/codeql, owner: sec, reason: GitHub's own}]\n")
	// Nothing was observed at all: that is no success.
	got := w.wants(sha, neutral, "No job ran")
	if !strings.Contains(got.Summary, "which is agreed: sec") {
		t.Error(got.Summary)
	}
}

// What an entry with a last day settles does not go into a baseline, which has none.
func TestUntil(t *testing.T) {
	w := newWorld(t)
	w.rules("version: 1\ncheck: {strict: true}\napprove: [{target: h1.example.test, owner: p, reason: a mirror, until: 2999-01-01}]\n")
	sha := w.head("a")
	r := ci(1, sha)
	w.requested(r)
	w.judged(r, 0, func(v *sallyportv1.Verdict) { found(v, 1, false, "") })
	w.judged(r, 1, nil)
	w.completed(r)
	w.wants(sha, success, "1 finding settled")
	if b, err := w.baselines.Get(t.Context(), "acme/shop", "CI", "build"); err == nil {
		t.Errorf("it was learned: %v", b)
	}
}

// An incident is red, whatever it was before, and the role that approves what is new does not
// settle it.
func TestIncident(t *testing.T) {
	w := newWorld(t)
	w.shop.SetRole("wim", "write")
	w.shop.SetRole("mia", "maintain")
	sha := w.head("a")
	r := ci(1, sha)
	w.requested(r)
	w.judged(r, 0, func(v *sallyportv1.Verdict) { found(v, 1, false, "") })
	w.judged(r, 1, nil)
	w.completed(r)
	note := w.wants(sha, neutral, "1 new behaviour")
	w.press(note, "wim", "Report")
	red := w.wants(sha, failure, "1 threat")
	w.press(note, "wim", "Approve for this job") // of before
	w.stays(sha, failure, "1 threat")
	w.press(red, "wim", "Settle: it is meant")
	w.until(sha, func(c githubfake.Check) bool { return strings.Contains(c.Summary, "wim has the role `write`") })
	w.press(red, "mia", "Settle: it is meant")
	w.wants(sha, success, "1 finding settled")
}

// flakyBaselines fail once.
type flakyBaselines struct {
	Baselines
	failed atomic.Bool
}

func (b *flakyBaselines) Approve(ctx context.Context, repository, workflow, job string, x *sallyportv1.BaselineBehaviour, person, reason string, now time.Time) (*sallyportv1.Baseline, error) {
	if !b.failed.Swap(true) {
		return nil, errors.New("no answer")
	}
	return b.Baselines.Approve(ctx, repository, workflow, job, x, person, reason, now)
}

// An approval that is written down is carried out, also if it takes two tries.
func TestApprovalTwice(t *testing.T) {
	w := newWorld(t)
	w.stop()
	w.shop.SetRole("wim", "write")
	w.config.Baselines = &flakyBaselines{Baselines: w.baselines}
	w.start()
	sha := w.head("a")
	r := ci(1, sha)
	w.requested(r)
	w.judged(r, 0, func(v *sallyportv1.Verdict) { found(v, 1, false, "") })
	w.judged(r, 1, nil)
	w.completed(r)
	note := w.wants(sha, neutral, "1 new behaviour")
	w.press(note, "wim", "Approve for this job")
	w.wants(sha, success, "1 finding settled")
	b, err := w.baselines.Get(t.Context(), "acme/shop", "CI", "build")
	list, listErr := w.decisions.List(t.Context())
	if err != nil || listErr != nil || len(b.GetBehaviours()) != 1 || len(list) != 1 {
		t.Errorf("%v, %v, %v, %v", b, err, list, listErr)
	}
}
