package checks

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/sallyport-ci/sallyport/github"
	sallyportv1 "github.com/sallyport-ci/sallyport/proto/sallyport/v1"
	"github.com/sallyport-ci/sallyport/stream"
	"github.com/sallyport-ci/sallyport/test/githubfake"
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

// The run of somebody from outside ends before it begins: GitHub shows it as completed until a
// person lets it run, in the same attempt.
func TestRunOfAStranger(t *testing.T) {
	w := newWorld(t)
	sha := w.head("a")
	r := ci(1, sha)
	jobs := r.Jobs
	r.Status, r.Conclusion, r.Jobs = "completed", "action_required", nil
	w.shop.SetRun(r)
	w.send(w.shop.RunWebhook(w.app, "completed", r.ID))
	first := w.wants(sha, neutral, "1 run not approved yet")
	r.Status, r.Conclusion, r.Jobs = "in_progress", "", jobs
	w.shop.SetRun(r)
	w.send(w.shop.RunWebhook(w.app, "in_progress", r.ID))
	if second := w.wants(sha, "", "Watching"); second.ID == first.ID {
		t.Error("the same check")
	}
	w.judged(r, 0, nil)
	w.stays(sha, "", "Watching") // the other goes on
	w.judged(r, 1, func(v *sallyportv1.Verdict) { found(v, 1, true, "") })
	w.completed(r)
	w.wants(sha, failure, "1 threat")
}

// A run of which nothing was heard, from its beginning to its end, is not passed over.
func TestRunUnheard(t *testing.T) {
	w := newWorld(t)
	sha := w.head("a")
	r, unheard := ci(1, sha), ci(2, sha)
	w.requested(r)
	w.wants(sha, "", "Watching")
	unheard.Name, unheard.Status, unheard.Conclusion = "Release", "completed", "success"
	for i := range unheard.Jobs {
		unheard.Jobs[i].Status, unheard.Jobs[i].Conclusion = "completed", "success"
	}
	w.shop.SetRun(unheard)
	w.judged(r, 0, nil)
	w.judged(r, 1, nil)
	w.completed(r)
	w.wants(sha, neutral, "2 jobs not observed")
	// Nor is an attempt of which only the agent tells.
	sha = w.head("b")
	r = ci(3, sha)
	w.requested(r)
	w.judged(r, 0, nil)
	w.judged(r, 1, nil)
	w.completed(r)
	w.wants(sha, success, "Nothing new in 2 jobs")
	again := rerun(r, "new", 0, 1)
	w.shop.SetRun(again)
	w.judged(again, 0, func(v *sallyportv1.Verdict) { found(v, 1, true, "") })
	w.wants(sha, "", "Watching, so far 1 threat")
}

// Somebody who deletes a run does not keep its check from an end.
func TestDeletedRun(t *testing.T) {
	w := newWorld(t)
	sha := w.head("a")
	r := ci(1, sha)
	w.requested(r)
	w.judged(r, 0, func(v *sallyportv1.Verdict) { found(v, 1, true, "") })
	w.wants(sha, "", "Watching, so far 1 threat")
	w.shop.DropRun(r.ID)
	w.wants(sha, failure, "1 threat")
}

// The jobs of a run may be more than GitHub lists at once.
func TestManyJobs(t *testing.T) {
	w := newWorld(t)
	sha := w.head("a")
	r := ci(1, sha)
	for n := range 300 {
		r.Jobs = append(r.Jobs, githubfake.Job{ID: int64(1000 + n), Name: fmt.Sprintf("test (%d)", n), Status: "completed", Conclusion: "success", Runner: fmt.Sprint("m", n)})
	}
	w.requested(r)
	r.Status, r.Conclusion = "completed", "success"
	for i := range r.Jobs {
		r.Jobs[i].Status, r.Jobs[i].Conclusion = "completed", "success"
		if i != 250 {
			w.judged(r, i, nil)
		}
	}
	w.shop.SetRun(r)
	w.send(w.shop.RunWebhook(w.app, "completed", r.ID))
	got := w.wants(sha, neutral, "1 job not observed")
	if !strings.Contains(got.Summary, "`test (248)` | `CI` | **not observed**") {
		t.Error(got.Summary)
	}
}

// Whoever makes as many findings as there can be gets a red check all the same.
func TestFlood(t *testing.T) {
	w := newWorld(t)
	sha := w.head("a")
	r := ci(1, sha)
	for n := range 40 {
		r.Jobs = append(r.Jobs, githubfake.Job{ID: int64(1000 + n), Name: fmt.Sprintf("test (%d)", n), Status: "queued", Runner: fmt.Sprint("m", n)})
	}
	w.requested(r)
	for i := range r.Jobs {
		w.judged(r, i, func(v *sallyportv1.Verdict) {
			v.Conclusion = sallyportv1.Conclusion_CONCLUSION_THREAT
			for n := range 1024 {
				sum := sha256.Sum256(fmt.Append(nil, i, n))
				v.FindingIds = append(v.FindingIds, hex.EncodeToString(sum[:16]))
			}
		})
	}
	w.completed(r)
	got := w.wants(sha, failure, "43008 threats")
	if len(got.Summary) > github.MaxCheckText || len(got.Text) > github.MaxCheckText {
		t.Errorf("%d, %d bytes", len(got.Summary), len(got.Text))
	}
	w.until(sha, func(githubfake.Check) bool {
		entry, err := w.service.commits.bucket.Get(t.Context(), keyOf(w.shop.Name, sha))
		if err == nil && len(entry.Value()) > 1<<20 {
			t.Fatalf("%d bytes, more than a message of NATS may have", len(entry.Value()))
		}
		c, err := w.service.commits.get(t.Context(), keyOf(w.shop.Name, sha))
		return err == nil && c != nil && c.Completed
	})
}

// What GitHub does not take is left out rather than said never.
func TestRefused(t *testing.T) {
	for times, annotated := range []int{1, 0, 0} {
		w := newWorld(t)
		sha := w.head("a")
		r := ci(1, sha)
		w.requested(r)
		w.wants(sha, "", "Watching")
		w.completed(r)
		w.wants(sha, neutral, "2 jobs not observed")
		if times > 0 {
			w.Break(githubfake.Fault{Method: http.MethodPatch, Path: "/check-runs", Status: http.StatusUnprocessableEntity, Times: times})
		}
		w.judged(r, 0, func(v *sallyportv1.Verdict) { found(v, 1, true, "changed") })
		got := w.wants(sha, failure, "1 threat")
		if len(got.Annotations) != annotated || strings.Contains(got.Summary, "Memory read") != (times < 2) {
			t.Errorf("%d: %+v", times, got)
		}
	}
}

// A check run that is not there any more gets a successor, which is right.
func TestDroppedCheck(t *testing.T) {
	w := newWorld(t)
	sha := w.head("a")
	r := ci(1, sha)
	w.requested(r)
	w.judged(r, 0, nil)
	w.completed(r)
	first := w.wants(sha, neutral, "1 job not observed")
	w.shop.DropCheck(first.ID)
	w.judged(r, 1, func(v *sallyportv1.Verdict) { found(v, 1, true, "changed") })
	if got := w.stays(sha, failure, "1 threat"); got.ID == first.ID || len(got.Annotations) != 1 {
		t.Errorf("%+v", got)
	}
}

// Asking for all checks again while they run does not leave one behind that goes on for ever.
func TestAskedAgain(t *testing.T) {
	w := newWorld(t)
	sha := w.head("a")
	r := ci(1, sha)
	w.requested(r)
	first := w.wants(sha, "", "Watching")
	w.send(w.shop.Click(w.app, first.ID, "alice", ""))
	w.judged(r, 0, nil)
	w.judged(r, 1, nil)
	w.completed(r)
	w.stays(sha, success, "Nothing new")
	if n := len(w.shop.Checks()); n != 1 {
		t.Errorf("%d checks", n)
	}
}

// The workflow's file is the pull request's: it does not keep a check from an end.
func TestWorkflowThatCannotBeRead(t *testing.T) {
	w := newWorld(t)
	for n, text := range []string{strings.Repeat("# a comment\n", 400_000), "a: &a [*a]\njobs: *a", "\x00", "[", "jobs: {build: {steps: [null, [], x]}}"} {
		sha := w.shop.Commit(fmt.Sprint("b", n), "mallory", "large", map[string]string{workflowFile: text})
		r := ci(int64(n+1), sha)
		w.requested(r)
		w.judged(r, 0, func(v *sallyportv1.Verdict) { found(v, 1, true, "changed") })
		w.judged(r, 1, nil)
		w.completed(r)
		w.wants(sha, failure, "1 threat")
	}
}

// A decision that is made at the very moment at which GitHub hears of the finding counts.
func TestDecisionMeanwhile(t *testing.T) {
	w := newWorld(t)
	sha := w.head("a")
	r := ci(1, sha)
	w.requested(r)
	w.judged(r, 1, nil)
	w.completed(r)
	w.wants(sha, neutral, "1 job not observed")
	decided := make(chan error, 1)
	w.Break(githubfake.Fault{Method: http.MethodPatch, Path: "/check-runs", Status: http.StatusOK, After: true, Do: func() {
		decided <- w.decisions.Record(t.Context(), &sallyportv1.Decision{
			Kind: sallyportv1.DecisionKind_DECISION_KIND_RESOLVE, Outcome: outcomeExpected, FindingId: fmt.Sprintf("%s%020d", strings.Repeat("a", 12), 1001), Person: "ann", Reason: "a test",
		}, time.Now())
		time.Sleep(500 * time.Millisecond) // until it was heard of
	}})
	w.judged(r, 0, func(v *sallyportv1.Verdict) { found(v, 1, true, "") })
	if err := <-decided; err != nil {
		t.Fatal(err)
	}
	w.wants(sha, success, "Nothing new in 2 jobs, 1 finding settled")
}

// A pull request that takes no comment has its check, and one whose comment was deleted gets another.
func TestCommentRefused(t *testing.T) {
	w := newWorld(t)
	w.shop.Commit("main", "alice", "rules", map[string]string{RulesFile: "version: 1\ncheck: {comment: true}\n"})
	sha := w.head("a")
	client, err := github.New(github.Config{URL: w.URL, Token: w.Token("bob", false), WritePause: -1})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := client.OpenPullRequest(t.Context(), "acme/shop", github.PullRequest{Title: "x", Head: "a", Base: "main"}); err != nil {
		t.Fatal(err)
	}
	w.Break(githubfake.Fault{Method: http.MethodPost, Path: "/comments", Status: http.StatusForbidden, Body: `{"message": "Unable to create comment because issue is locked"}`})
	r := ci(1, sha)
	w.requested(r)
	w.completed(r)
	w.wants(sha, neutral, "2 jobs not observed")
	w.judged(r, 0, func(v *sallyportv1.Verdict) { found(v, 1, true, "") })
	w.until(sha, func(githubfake.Check) bool { return len(w.shop.Issues()[0].Comments) == 1 })
	w.Break(githubfake.Fault{Method: http.MethodPatch, Path: "/comments", Status: http.StatusNotFound})
	w.judged(r, 1, nil)
	w.wants(sha, failure, "1 threat")
	w.until(sha, func(githubfake.Check) bool { return len(w.shop.Issues()[0].Comments) == 2 })
	if ok, detail := w.service.Health(); !ok {
		t.Error(detail)
	}
}

// When the verdicts on a commit's jobs are forgotten what was said of it stands.
func TestOldCommit(t *testing.T) {
	w := newWorld(t)
	sha := w.head("a")
	r := ci(1, sha)
	w.requested(r)
	w.judged(r, 0, func(v *sallyportv1.Verdict) { found(v, 1, true, "") })
	w.judged(r, 1, nil)
	w.completed(r)
	w.wants(sha, failure, "1 threat")
	w.until(sha, func(githubfake.Check) bool { // all webhooks were read
		keys, err := stream.Keys(t.Context(), w.js, stream.ChecksBucket)
		return err == nil && len(keys) == 1
	})
	w.stop()
	commits, key := w.service.commits, keyOf(w.shop.Name, sha)
	c, err := commits.get(t.Context(), key)
	if err != nil {
		t.Fatal(err)
	}
	c.Touched = time.Now().Add(-stream.VerdictWindow)
	if err := commits.put(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	verdicts, err := stream.Keys(t.Context(), w.js, stream.VerdictsBucket)
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range verdicts {
		if err := stream.RemoveKey(t.Context(), w.js, stream.VerdictsBucket, k); err != nil {
			t.Fatal(err)
		}
	}
	w.start()
	w.rules("version: 1\n")
	w.stays(sha, failure, "1 threat")
}

// A run that goes on for days is asked about less and less often.
func TestPause(t *testing.T) {
	s, now := &Service{config: Config{Resync: 2 * time.Minute}}, time.Now()
	c := newCommit("acme/shop", "", now.Add(-30*24*time.Hour))
	c.Runs[1] = &run{}
	for age, want := range map[time.Duration]time.Duration{0: 2 * time.Minute, 10 * time.Minute: 2 * time.Minute, 4 * time.Hour: 30 * time.Minute, 72 * time.Hour: time.Hour} {
		c.Runs[1].Began = now.Add(-age)
		if got := s.pause(c, now); got != want {
			t.Errorf("%s: %s", age, got)
		}
	}
}

// Strangers who send much do not take the memory, nor the place of what GitHub sends.
func TestLargeStrangers(t *testing.T) {
	w := newWorld(t)
	for range largeAtOnce {
		w.service.large <- struct{}{}
	}
	resp, err := http.Post(w.url, "application/json", strings.NewReader(strings.Repeat("x", largeWebhook+1)))
	if err != nil {
		t.Fatal(err)
	}
	if _ = resp.Body.Close(); resp.StatusCode != http.StatusServiceUnavailable {
		t.Error(resp.Status)
	}
	sha := w.head("a")
	w.requested(ci(1, sha))
	w.wants(sha, "", "Watching")
}

// While one version takes the place of another there are two: one check, and it is true.
func TestTwoProcesses(t *testing.T) {
	w := newWorld(t)
	first := w.url
	stop := w.stop
	t.Cleanup(stop)
	w.start() // beside the first
	w.Break(githubfake.Fault{Method: http.MethodPost, Path: "/check-runs", Times: 12, Do: func() { time.Sleep(400 * time.Millisecond) }})
	urls := []string{first, w.url}
	var shas []string
	for n := range int64(6) {
		sha := w.head(fmt.Sprint("b", n))
		shas = append(shas, sha)
		r := ci(n+1, sha)
		w.url = urls[n%2]
		w.requested(r)
		w.url = urls[(n+1)%2]
		r.Status = "in_progress"
		w.shop.SetRun(r)
		w.send(w.shop.RunWebhook(w.app, "in_progress", r.ID))
		w.judged(r, 0, func(v *sallyportv1.Verdict) { found(v, 1, true, "") })
		w.completed(r)
		w.url = urls[n%2]
		w.send(w.shop.RunWebhook(w.app, "completed", r.ID))
		w.judged(r, 1, nil)
	}
	for _, sha := range shas {
		w.wants(sha, failure, "1 threat")
	}
	time.Sleep(2 * time.Second)
	for _, sha := range shas {
		w.stays(sha, failure, "1 threat")
	}
	bySHA := make(map[string]int)
	for _, c := range w.shop.Checks() {
		if bySHA[c.SHA]++; c.Status != "completed" {
			t.Errorf("%+v", c)
		}
	}
	for sha, n := range bySHA {
		if n != 1 {
			t.Errorf("%s has %d checks", sha, n)
		}
	}
}
