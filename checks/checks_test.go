package checks

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/yuin/goldmark"
	"github.com/yuin/goldmark/extension"
	"github.com/yuin/goldmark/renderer/html"

	"github.com/sallyport-ci/sallyport/github"
	sallyportv1 "github.com/sallyport-ci/sallyport/proto/sallyport/v1"
	"github.com/sallyport-ci/sallyport/stream"
	"github.com/sallyport-ci/sallyport/test/githubfake"
)

// A check begins with its run and ends with what the jobs did.
func TestConclusions(t *testing.T) {
	w := newWorld(t)
	learning := func(v *sallyportv1.Verdict) { v.Baseline = &sallyportv1.BaselineFacts{Runs: 3, RunsNeeded: 5} }
	for n, c := range []struct {
		name              string
		build, lint       func(v *sallyportv1.Verdict)
		conclusion, title string
		text              []string
	}{
		{"clean", nil, nil, success, "Nothing new in 2 jobs", []string{"nothing new"}},
		{"learning", learning, nil, neutral, "Learning", []string{"learning, 3 of 5"}},
		{"new", func(v *sallyportv1.Verdict) { found(v, 1, false, "changed") }, nil, neutral, "1 new behaviour", []string{"**New endpoint** in job `build`, step `changed`", "write"}},
		{"threat", func(v *sallyportv1.Verdict) { found(v, 2, true, "changed"); found(v, 3, false, "") }, learning, failure, "1 threat, 1 new behaviour, learning", []string{"❌ **Memory read**", "maintain"}},
		{"incomplete", func(v *sallyportv1.Verdict) { v.Incomplete = "events were lost: 12" }, nil, neutral, "1 job not seen completely", []string{"events were lost: 12"}},
	} {
		sha := w.head(c.name)
		r := ci(int64(100+n), sha)
		w.requested(r)
		begun := w.wants(sha, "", "Watching")
		if begun.Status != "in_progress" {
			t.Errorf("%s: begins as %s", c.name, begun.Status)
		}
		w.judged(r, 0, c.build)
		w.judged(r, 1, c.lint)
		w.completed(r)
		began := time.Now()
		got := w.wants(sha, c.conclusion, c.title)
		if took := time.Since(began); took > 5*time.Second {
			t.Errorf("%s: after %s", c.name, took)
		}
		if got.ID != begun.ID {
			t.Errorf("%s: another check than it began with", c.name)
		}
		for _, want := range c.text {
			if !strings.Contains(got.Summary, want) {
				t.Errorf("%s: no %q in\n%s", c.name, want, got.Summary)
			}
		}
	}
}

// A job that no agent saw is said to be so, also when another one was seen.
func TestNotObserved(t *testing.T) {
	w := newWorld(t)
	sha := w.head("a")
	r := ci(1, sha)
	r.Jobs = append(r.Jobs, githubfake.Job{ID: 19, Name: "deploy", Status: "completed", Conclusion: "skipped"})
	w.requested(r)
	w.judged(r, 0, nil)
	w.completed(r)
	got := w.stays(sha, neutral, "1 job not observed")
	if !strings.Contains(got.Summary, "`lint` | `CI` | **not observed**") || !strings.Contains(got.Summary, "`deploy` | `CI` | not run") {
		t.Error(got.Summary)
	}
	// A verdict that comes late changes it in place.
	w.judged(r, 1, nil)
	if late := w.wants(sha, success, "Nothing new in 2 jobs"); late.ID != got.ID {
		t.Error("another check")
	}

	w.shop.Commit("main", "alice", "rules", map[string]string{RulesFile: "version: 1\ncheck: {require-observed: true}\n"})
	w.send(w.shop.PushWebhook(w.app, "main", RulesFile))
	sha = w.head("b")
	r = ci(2, sha)
	w.requested(r)
	w.completed(r)
	w.wants(sha, failure, "2 jobs not observed")
}

// One check for all runs on a commit, matrix jobs and reruns; never one of before.
func TestRunsOfACommit(t *testing.T) {
	w := newWorld(t)
	sha := w.head("a")
	a, b := ci(1, sha), ci(2, sha)
	a.Jobs[0].Name, a.Jobs[1].Name = "build (1.25)", "build (1.26)"
	b.Name, b.Jobs = "Docs", b.Jobs[:1]
	w.requested(a)
	first := w.wants(sha, "", "Watching")
	w.judged(a, 0, func(v *sallyportv1.Verdict) { found(v, 1, true, "") })
	w.judged(a, 1, func(v *sallyportv1.Verdict) { found(v, 1, true, "") })
	w.requested(b)
	w.completed(a)
	w.stays(sha, "", "Watching, so far 1 threat") // the other run goes on; the same threat in two jobs is one
	w.judged(b, 0, nil)
	w.completed(b)
	if got := w.wants(sha, failure, "1 threat"); got.ID != first.ID || len(w.shop.Checks()) != 1 {
		t.Errorf("%+v", w.shop.Checks())
	}

	// Run again: what the first attempt did is no longer what counts.
	again := ci(1, sha)
	again.Attempt = 2
	for i := range again.Jobs {
		again.Jobs[i].Name, again.Jobs[i].ID = a.Jobs[i].Name, again.Jobs[i].ID+100
		again.Jobs[i].Started = time.Now().Add(time.Minute)
	}
	w.requested(again)
	second := w.wants(sha, "", "Watching")
	if second.ID == first.ID {
		t.Error("a concluded check was begun again")
	}
	w.judged(again, 0, nil)
	w.judged(again, 1, nil)
	w.completed(again)
	w.wants(sha, success, "Nothing new in 3 jobs")
	// What GitHub sends late of the first attempt changes nothing.
	w.send(w.shop.JobWebhook(w.app, "completed", 2, b.Jobs[0].ID))
	w.stays(sha, success, "Nothing new in 3 jobs")
}

// Webhooks may come twice, late, in any order, or not at all.
func TestWebhooksInAnyOrder(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 1))
	w := newWorld(t)
	for n := range int64(12) {
		sha := w.head(fmt.Sprint("b", n))
		r := ci(100+n, sha)
		w.holding = true
		w.requested(r)
		w.shop.SetRun(r)
		r.Status = "in_progress"
		w.shop.SetRun(r)
		w.send(w.shop.RunWebhook(w.app, "in_progress", r.ID))
		w.completed(r)
		all := append(slices.Clone(w.held), w.held...)
		w.held, w.holding = nil, false
		random.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
		w.judged(r, 0, func(v *sallyportv1.Verdict) { found(v, int(n), false, "") })
		for i, d := range all {
			if random.IntN(4) > 0 || i == 0 { // some are lost
				w.send(d)
			}
		}
		w.judged(r, 1, nil)
		w.wants(sha, neutral, "1 new behaviour")
	}
	for _, c := range w.shop.Checks() {
		if n := len(w.shop.Checks()); n > 24 {
			t.Fatalf("%d checks", n)
		}
		if c.Conclusion != neutral && w.latest(c.SHA).ID == c.ID {
			t.Errorf("%+v", c)
		}
	}
}

// Buttons settle, for those who may, just what was shown.
func TestButtons(t *testing.T) {
	w := newWorld(t)
	w.shop.SetRole("rita", "read")
	w.shop.SetRole("wim", "write")
	w.shop.SetRole("mia", "maintain")
	button := func(c githubfake.Check, label string) string {
		for _, a := range c.Actions {
			if a.Label == label {
				if len(a.Label) > 20 || len(a.Identifier) > 20 || len(a.Description) > 40 {
					t.Errorf("too long: %+v", a)
				}
				return a.Identifier
			}
		}
		t.Fatalf("no button %q: %+v", label, c.Actions)
		return ""
	}
	w.shop.Commit("main", "alice", "rules", map[string]string{RulesFile: "version: 1\ncheck: {strict: true}\n"})
	sha := w.head("a")
	r := ci(1, sha)
	w.requested(r)
	v := w.judged(r, 0, func(v *sallyportv1.Verdict) { found(v, 1, false, "changed") })
	w.judged(r, 1, nil)
	w.completed(r)
	red := w.wants(sha, failure, "1 new behaviour")
	w.send(w.shop.Click(w.app, red.ID, "rita", button(red, "Approve for this job")))
	refused := w.until(sha, func(c githubfake.Check) bool { return strings.Contains(c.Summary, "rita has the role `read`") })
	if refused.Conclusion != failure {
		t.Errorf("%+v", refused)
	}
	// Something comes in that the button was not about.
	found(v, 2, false, "")
	v.Revision = 2
	if err := w.verdicts.Put(t.Context(), v); err != nil {
		t.Fatal(err)
	}
	w.wants(sha, failure, "2 new behaviours")
	w.send(w.shop.Click(w.app, red.ID, "wim", button(red, "Approve for this job")))
	two := w.wants(sha, failure, "1 new behaviour")
	if !strings.Contains(two.Summary, "sent to h2") || !strings.Contains(two.Text, "approved by wim") {
		t.Errorf("%s\n%s", two.Summary, two.Text)
	}
	w.send(w.shop.Click(w.app, red.ID, "wim", button(two, "Approve for repo")))
	green := w.wants(sha, success, "Nothing new in 2 jobs")
	if green.ID != red.ID || len(green.Actions) != 0 {
		t.Errorf("%+v", green)
	}
	b, err := w.baselines.Get(t.Context(), "acme/shop", "CI", "build")
	if err != nil || len(b.GetBehaviours()) != 2 || b.GetBehaviours()[0].GetApprovedBy() != "wim" {
		t.Errorf("%+v, %v", b, err)
	}

	// A threat asks for more.
	sha = w.head("b")
	r = ci(2, sha)
	w.requested(r)
	w.judged(r, 0, func(v *sallyportv1.Verdict) { found(v, 11, true, "changed") })
	w.judged(r, 1, nil)
	w.completed(r)
	red = w.wants(sha, failure, "1 threat")
	w.send(w.shop.Click(w.app, red.ID, "wim", button(red, "Settle: it is meant")))
	w.until(sha, func(c githubfake.Check) bool {
		return strings.Contains(c.Summary, "wim has the role `write`, and this") || strings.Contains(c.Summary, "wim has the role `write` here")
	})
	w.send(w.shop.Click(w.app, red.ID, "wim", button(red, "Report")))
	w.until(sha, func(githubfake.Check) bool {
		list, err := w.decisions.List(t.Context())
		return err == nil && len(list) > 0 && list[0].GetOutcome() == outcomeIncident
	})
	w.stays(sha, failure, "1 threat")
	w.send(w.shop.Click(w.app, red.ID, "mia", button(red, "Settle: it is meant")))
	w.wants(sha, success, "Nothing new")
}

// until waits for something about the newest check.
func (w *world) until(sha string, is func(githubfake.Check) bool) githubfake.Check {
	w.Helper()
	for deadline := time.Now().Add(15 * time.Second); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		if c := w.latest(sha); is(c) {
			return c
		}
	}
	w.Fatalf("it did not come to it: %+v\n%+v\n%s", w.latest(sha), w.shop.Issues(), w.log)
	return githubfake.Check{}
}

// A change of the repository's file settles, too, and a broken one is said to be so.
func TestRulesOfTheRepository(t *testing.T) {
	w := newWorld(t)
	sha := w.head("a")
	r := ci(1, sha)
	w.requested(r)
	w.judged(r, 0, func(v *sallyportv1.Verdict) { found(v, 1, true, "changed"); found(v, 2, false, "") })
	w.judged(r, 1, nil)
	w.completed(r)
	red := w.wants(sha, failure, "1 threat, 1 new behaviour")
	if !strings.Contains(red.Text, `policy: "process_memory_read"`) {
		t.Error(red.Text)
	}
	push := func(text string) {
		w.shop.Commit("main", "alice", "rules", map[string]string{RulesFile: text})
		w.send(w.shop.PushWebhook(w.app, "main", RulesFile))
	}
	push("version: 1\napprove:\n  - {target: 'h2.*', owner: platform, reason: a mirror}\n  - {target: '*', owner: mallory, reason: all of it}\n")
	// A threat is not settled by a pattern alone.
	w.until(sha, func(c githubfake.Check) bool { return c.Conclusion == failure && c.Title == "1 threat" })
	push("version: 1\napprove: [{policy: process_memory_read, job: build, reason: a debugger}]\n")
	w.until(sha, func(c githubfake.Check) bool { return strings.Contains(c.Summary, "owner and reason are needed") })
	push("version: 1\napprove: [{policy: process_memory_read, job: build, owner: sec, reason: a debugger}]\n")
	green := w.wants(sha, success, "Nothing new")
	if !strings.Contains(green.Text, "sec, by .github/sallyport.yml") && !strings.Contains(green.Text, "sallyport\\.yml") {
		t.Error(green.Text)
	}
	// What a pull request says in it does not count before it is merged.
	sha = w.shop.Commit("evil", "mallory", "approve myself", map[string]string{RulesFile: "version: 1\napprove: [{policy: process_memory_read, owner: me, reason: me}]\n"})
	r = ci(2, sha)
	r.HeadRepository = "acme/shop"
	w.requested(r)
	w.judged(r, 1, func(v *sallyportv1.Verdict) { found(v, 21, true, "") })
	w.judged(r, 0, nil)
	w.completed(r)
	w.wants(sha, failure, "1 threat")
}

// Decisions of the command line, or of Slack, turn it green as well.
func TestDecisionsFromElsewhere(t *testing.T) {
	w := newWorld(t)
	sha := w.head("a")
	r := ci(1, sha)
	w.requested(r)
	var f *sallyportv1.Finding
	w.judged(r, 0, func(v *sallyportv1.Verdict) { f = found(v, 1, true, "") })
	w.judged(r, 1, nil)
	w.completed(r)
	w.wants(sha, failure, "1 threat")
	if err := w.decisions.Record(t.Context(), &sallyportv1.Decision{
		Kind: sallyportv1.DecisionKind_DECISION_KIND_RESOLVE, Outcome: "false-alarm", FindingId: f.GetId(), Person: "ann", Reason: "a test", Repository: "acme/shop", Workflow: "CI", Job: "build",
	}, time.Now()); err != nil {
		t.Fatal(err)
	}
	w.wants(sha, success, "Nothing new")
}

// Faults of GitHub and ends of the service at any time leave one check that is right.
func TestFaultsAndRestarts(t *testing.T) {
	for _, f := range []githubfake.Fault{
		{Method: http.MethodPost, Path: "/check-runs", Status: http.StatusBadGateway},
		{Method: http.MethodPost, Path: "/check-runs", Status: http.StatusBadGateway, After: true},
		{Method: http.MethodPost, Path: "/check-runs", Status: 0},
		{Method: http.MethodPatch, Path: "/check-runs", Status: http.StatusServiceUnavailable, Times: 2},
		{Method: http.MethodGet, Path: "/actions/runs", Status: http.StatusInternalServerError, Times: 6},
		{Method: http.MethodPost, Path: "/access_tokens", Status: http.StatusBadGateway},
		{Path: "/check-runs", Times: 3, Do: func() { time.Sleep(300 * time.Millisecond) }}, // slow
	} {
		t.Run(fmt.Sprintf("%s %s %d %v", f.Method, strings.ReplaceAll(f.Path, "/", " "), f.Status, f.After), func(t *testing.T) {
			w := newWorld(t)
			w.Break(f)
			sha := w.head("a")
			r := ci(1, sha)
			w.requested(r)
			w.judged(r, 0, nil)
			w.judged(r, 1, nil)
			w.completed(r)
			w.wants(sha, success, "Nothing new in 2 jobs")
			if n := len(w.shop.Checks()); n != 1 {
				t.Errorf("%d checks", n)
			}
		})
	}
	t.Run("restart", func(t *testing.T) {
		w := newWorld(t)
		sha := w.head("a")
		r := ci(1, sha)
		w.requested(r)
		first := w.wants(sha, "", "Watching")
		w.stop()
		w.judged(r, 0, func(v *sallyportv1.Verdict) { found(v, 1, true, "") })
		w.judged(r, 1, nil)
		r.Status, r.Conclusion = "completed", "failure" // nobody heard of it
		for i := range r.Jobs {
			r.Jobs[i].Status, r.Jobs[i].Conclusion = "completed", "success"
		}
		w.shop.SetRun(r)
		w.start()
		if got := w.wants(sha, failure, "1 threat"); got.ID != first.ID {
			t.Error("another check")
		}
		w.stop()
		w.start()
		w.send(w.shop.Click(w.app, first.ID, "mia", ""))
		if got := w.wants(sha, failure, "1 threat"); got.ID == first.ID {
			w.until(sha, func(c githubfake.Check) bool { return c.ID != first.ID && c.Conclusion == failure })
		}
	})
	t.Run("rate limit", func(t *testing.T) {
		w := newWorld(t)
		w.LimitWrites(1, time.Second)
		for n := range int64(3) {
			sha := w.head(fmt.Sprint(n))
			r := ci(n+1, sha)
			w.requested(r)
			w.judged(r, 0, nil)
			w.judged(r, 1, nil)
			w.completed(r)
			w.wants(sha, success, "Nothing new in 2 jobs")
		}
	})
}

// The commit of a pull request from a fork is in no branch of the repository, and GitHub names no
// pull request for its run.
func TestFork(t *testing.T) {
	w := newWorld(t)
	sha := w.shop.Loose(w.shop.Head("main"), "mallory", "from a fork", map[string]string{
		workflowFile: workflowText, RulesFile: "version: 1\napprove: [{policy: process_memory_read, owner: me, reason: me}]\n",
	})
	r := ci(1, sha)
	r.HeadRepository = "mallory/shop"
	w.requested(r)
	w.judged(r, 0, func(v *sallyportv1.Verdict) { found(v, 1, true, "changed") })
	w.judged(r, 1, nil)
	w.completed(r)
	got := w.wants(sha, failure, "1 threat")
	if len(got.Annotations) != 1 || got.Annotations[0].StartLine != 9 {
		t.Errorf("%+v", got.Annotations)
	}
}

// A merge queue's commit, and a pull request without workflows, do not wait for ever.
func TestNothingRuns(t *testing.T) {
	w := newWorld(t)
	sha := w.head("queue")
	w.send(w.shop.QueueWebhook(w.app, 1, w.shop.Head("main"), sha))
	w.wants(sha, "", "Waiting for a workflow")
	first := w.wants(sha, neutral, "No workflow ran")
	// One that comes late is a check of its own.
	r := ci(1, sha)
	w.requested(r)
	w.judged(r, 0, nil)
	w.judged(r, 1, nil)
	w.completed(r)
	if got := w.wants(sha, success, "Nothing new"); got.ID == first.ID {
		t.Error("the same check")
	}
}

// Findings are shown where the step is.
func TestAnnotations(t *testing.T) {
	w := newWorld(t)
	sha := w.head("a")
	r := ci(1, sha)
	w.requested(r)
	w.judged(r, 0, func(v *sallyportv1.Verdict) {
		found(v, 1, true, "changed")
		found(v, 2, false, "__run_2")
		found(v, 3, false, "__actions_checkout")
		found(v, 4, false, "__gone")
		for n := range 60 {
			found(v, 100+n, false, "__run")
		}
	})
	w.judged(r, 1, nil)
	w.completed(r)
	w.wants(sha, failure, "1 threat, 63 new behaviours")
	got := w.until(sha, func(c githubfake.Check) bool { return len(c.Annotations) >= 64 }) // it takes two requests
	lines := make(map[int]int)
	for _, a := range got.Annotations {
		lines[a.StartLine]++
		if a.Path != workflowFile || a.Title == "" {
			t.Errorf("%+v", a)
		}
	}
	if lines[9] != 1 || lines[11] != 1 || lines[7] != 1 || lines[8] != 60 || lines[4] != 1 {
		t.Errorf("%v", lines)
	}
	if len(got.Summary) > github.MaxCheckText || len(got.Text) > github.MaxCheckText {
		t.Errorf("%d, %d bytes", len(got.Summary), len(got.Text))
	}
}

// A pull request gets one comment, which changes with its commits.
func TestComment(t *testing.T) {
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
	for n := range int64(2) {
		r := ci(n+1, sha)
		w.requested(r)
		w.judged(r, 0, func(v *sallyportv1.Verdict) { found(v, int(n)+1, n == 1, "") })
		w.judged(r, 1, nil)
		w.completed(r)
		w.wants(sha, []string{neutral, failure}[n], "1 ")
		w.until(sha, func(githubfake.Check) bool {
			c := w.shop.Issues()[0].Comments
			return len(c) == 1 && strings.Contains(c[0], fmt.Sprintf("sent to h%d", n+1)) && strings.Contains(c[0], sha)
		})
		sha = w.head("a")
	}
}

// Who is not GitHub is not heard, and who is hostile makes no text of ours.
func TestHostile(t *testing.T) {
	w := newWorld(t)
	sha := w.head("a")
	r := ci(1, sha)
	w.shop.SetRun(r)
	d := w.shop.RunWebhook(w.app, "requested", 1)
	for _, signature := range []string{"", "sha256=" + strings.Repeat("0", 64), strings.Replace(d.Signature, "sha256", "sha1", 1)} {
		bad := d
		bad.Signature = signature
		if status, err := bad.Send(t.Context(), w.url); err != nil || status != http.StatusUnauthorized {
			t.Errorf("%q: %d, %v", signature, status, err)
		}
	}
	if len(w.shop.Checks()) != 0 {
		t.Error("a check was made")
	}
	r.Name = "x` | <img src=x> @everyone"
	w.requested(r)
	w.judged(r, 0, func(v *sallyportv1.Verdict) {
		f := found(v, 1, true, "a`|<b>")
		f.Message = "<script>alert(1)</script> @alice ![x](https://evil.example.test) | x\n# head\n- [ ] task"
		f.Policy.Title = "](http://evil.example.test)"
	})
	w.judged(r, 1, nil)
	w.completed(r)
	got := w.wants(sha, failure, "1 threat")
	for _, text := range []string{got.Summary, got.Text} {
		var page bytes.Buffer
		if err := goldmark.New(goldmark.WithExtensions(extension.GFM), goldmark.WithRendererOptions(html.WithUnsafe())).Convert([]byte(text), &page); err != nil {
			t.Fatal(err)
		}
		for _, bad := range []string{"<script", "<img", "<h1", "<a ", "<b>", "<input"} {
			if strings.Contains(page.String(), bad) {
				t.Errorf("%q in\n%s\nof\n%s", bad, page.String(), text)
			}
		}
		if strings.Contains(text, " @alice") {
			t.Errorf("a mention in\n%s", text)
		}
	}
	said := w.log.String()
	for _, secret := range []string{w.app.WebhookSecret, "PRIVATE KEY", "ghs_"} {
		if strings.Contains(said, secret) {
			t.Errorf("the log holds %q", secret)
		}
	}
	// Of webhooks nothing is left.
	w.until(sha, func(githubfake.Check) bool {
		keys, err := stream.Keys(t.Context(), w.js, stream.ChecksBucket)
		return err == nil && len(keys) == 1
	})
}
