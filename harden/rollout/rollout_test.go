package rollout_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sallyport-ci/sallyport/github"
	"github.com/sallyport-ci/sallyport/harden"
	"github.com/sallyport-ci/sallyport/harden/organisation"
	"github.com/sallyport-ci/sallyport/harden/rollout"
	"github.com/sallyport-ci/sallyport/test/githubfake"
)

const (
	workflow = ".github/workflows/ci.yml"
	unsafe   = `on: push
permissions: {}
jobs:
  build:
    runs-on: ubuntu-latest
    steps:
      - uses: acme/setup@v4 # mine
      - run: make
`
)

var safe = strings.Replace(unsafe, "acme/setup@v4 # mine", "acme/setup@"+commitOf("v4.1.0")+" # v4.1.0 # mine", 1)

func commitOf(version string) string {
	return fmt.Sprintf("%040x", []byte(version))[:40]
}

// world is an organisation, and what its actions stand for.
type world struct {
	*githubfake.Server
	client  *github.Client
	options rollout.Options
	stands  map[string]harden.Resolution
}

func (w *world) Resolve(_ context.Context, repository, ref string) (harden.Resolution, error) {
	if r, ok := w.stands[repository+"@"+ref]; ok {
		return r, nil
	}
	return harden.Resolution{}, errors.New("there is none")
}

func (w *world) Digest(context.Context, string) (string, error) {
	return "", errors.New("there is none")
}

var grants = map[string]string{"contents": "write", "pull_requests": "write", "workflows": "write", "metadata": "read"}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{Server: githubfake.New(t), stands: map[string]harden.Resolution{
		"acme/setup@v4": {Commit: commitOf("v4.1.0"), Version: "v4.1.0"},
		"acme/setup@v5": {Commit: commitOf("v5.0.0"), Version: "v5.0.0"},
	}}
	app := w.NewApp("sallyport", grants, "acme")
	w.client = w.as(t, github.Config{AppID: app.ID, AppKey: app.KeyPEM()})
	w.options = rollout.Options{Organisation: "acme", Parallel: 1, Harden: harden.Config{
		Resolver: w, Rules: []string{"pin", "audit", "permissions"}, Now: func() time.Time { return time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC) },
	}}
	return w
}

// as makes the client of an App in acme, or of a token.
func (w *world) as(t *testing.T, c github.Config) *github.Client {
	t.Helper()
	c.URL, c.WritePause = w.URL, -1
	client, err := github.New(c)
	if err == nil && c.AppID != 0 {
		client, err = client.Installation(t.Context(), "acme")
	}
	if err != nil {
		t.Fatal(err)
	}
	return client
}

// unsafeRepository makes one with something to pin.
func (w *world) unsafeRepository(name string) *githubfake.Repository {
	r := w.Repository("acme/" + name)
	r.Commit("main", "alice", "begin", map[string]string{workflow: unsafe, "README.md": "# it\n"})
	return r
}

// run runs and returns what came of each repository.
func (w *world) run(t *testing.T) map[string]rollout.Outcome {
	t.Helper()
	w.Forget()
	list, err := rollout.Run(t.Context(), w.client, w.options)
	if err != nil {
		t.Fatal(err)
	}
	out := make(map[string]rollout.Outcome)
	for _, o := range list {
		out[strings.TrimPrefix(o.Repository, "acme/")] = o
	}
	return out
}

// wants checks what came of one repository.
func (w *world) wants(t *testing.T, name string, status rollout.Status, reason string) rollout.Outcome {
	t.Helper()
	o := w.run(t)[name]
	if o.Status != status || !strings.Contains(o.Reason, reason) {
		t.Fatalf("%s is %s (%s), want %s (%s)", name, o.Status, o.Reason, status, reason)
	}
	return o
}

func (w *world) writes() int {
	n := 0
	for _, r := range w.Requests() {
		if r.Write() {
			n++
		}
	}
	return n
}

// proposed checks that one pull request is open with the whole proposal and nothing else is
// left behind.
func proposed(t *testing.T, r *githubfake.Repository, text string) githubfake.Issue {
	t.Helper()
	if got := r.Branches(); !slices.Equal(got, []string{"main", rollout.DefaultBranch}) {
		t.Errorf("branches %v", got)
	}
	head := r.Head(rollout.DefaultBranch)
	message, signed, parents := r.Message(head)
	if !signed || !slices.Equal(parents, []string{r.Head("main")}) || !strings.Contains(message, "Sallyport-Harden: ") {
		t.Errorf("commit %q, signed %v, on %v", message, signed, parents)
	}
	files := r.Files(head)
	if files[workflow] != text {
		t.Errorf("proposed\n%s\nwant\n%s", files[workflow], text)
	}
	if !strings.Contains(files[harden.LockFile], "uses: acme/setup@v") || files["README.md"] != "# it\n" {
		t.Errorf("files %v", slices.Sorted(maps.Keys(files)))
	}
	var open []githubfake.Issue
	for _, i := range r.Issues() {
		if i.State == "open" {
			open = append(open, i)
		}
	}
	if len(open) != 1 || open[0].Head != rollout.DefaultBranch || open[0].Base != "main" {
		t.Fatalf("open pull requests %+v", open)
	}
	return open[0]
}

func TestProposals(t *testing.T) {
	for _, by := range []string{"app", "token"} {
		t.Run(by, func(t *testing.T) {
			w := newWorld(t)
			if by == "token" {
				w.client = w.as(t, github.Config{Token: w.Token("alice", true)})
			}
			shop := w.unsafeRepository("shop")
			w.Repository("acme/clean").Commit("main", "alice", "begin", map[string]string{workflow: safe})
			w.Repository("acme/plain").Commit("main", "alice", "begin", map[string]string{"README.md": "x"})
			w.Repository("acme/empty")
			w.unsafeRepository("old").Archived = true
			w.unsafeRepository("fork").Fork = true
			w.unsafeRepository("off").Disabled = true
			w.Repository("acme/broken").Commit("main", "alice", "begin", map[string]string{workflow: "on: [\n", ".github/workflows/b.yml": unsafe})
			got := w.run(t)
			for name, want := range map[string]string{
				"shop": "opened", "clean": "clean", "plain": "clean", "empty": "skipped empty", "old": "skipped archived", "fork": "skipped a fork",
				"off": "skipped disabled", "broken": "opened",
			} {
				if s := strings.TrimSpace(string(got[name].Status) + " " + got[name].Reason); s != want {
					t.Errorf("%s: %s, want %s", name, s, want)
				}
			}
			for _, r := range w.Requests() {
				if strings.Contains(r.Path, "/old") || strings.Contains(r.Path, "/fork") {
					t.Errorf("%s was asked for", r.Path)
				}
			}
			if len(got["broken"].Problems) != 1 || got["shop"].Files != 1 || got["shop"].Fixes != 1 || !strings.Contains(got["shop"].PullRequest, "/pull/1") {
				t.Errorf("%+v, %+v", got["broken"], got["shop"])
			}
			p := proposed(t, shop, safe)
			for _, want := range []string{"### Pins", "ci.yml:7", "**Roll back:**", "revert the merge", "v4 is a tag"} {
				if !strings.Contains(p.Body, want) {
					t.Errorf("the text lacks %q:\n%s", want, p.Body)
				}
			}
			if !strings.HasPrefix(p.Title, "Harden workflows: pin actions") {
				t.Errorf("title %q", p.Title)
			}
			// A second run has nothing to do, and tomorrow's neither.
			w.options.Harden.Now = func() time.Time { return time.Date(2026, 11, 25, 12, 0, 0, 0, time.UTC) }
			if o := w.wants(t, "shop", rollout.Unchanged, ""); o.PullRequest != got["shop"].PullRequest || w.writes() != 0 {
				t.Errorf("%+v, %d writes", o, w.writes())
			}
		})
	}
}

// Whatever is changed, the pull request says what, why and how it is rolled back.
func TestEachRuleIsExplained(t *testing.T) {
	w := newWorld(t)
	w.options.Harden.Rules, w.options.Harden.Agent = nil, "acme/setup@v4"
	shop := w.Repository("acme/shop")
	shop.Commit("main", "alice", "begin", map[string]string{
		workflow: "on: pull_request\njobs:\n  build:\n    runs-on: ubuntu-latest\n    steps:\n      - uses: acme/setup@v5\n" +
			"  title:\n    runs-on: ubuntu-latest\n    steps:\n      - run: echo \"${{ github.event.pull_request.title }}\"\n" +
			"  read:\n    runs-on: ubuntu-latest\n    steps:\n      - uses: actions/checkout@" + commitOf("checkout") + "\n",
	})
	w.wants(t, "shop", rollout.Opened, "")
	p := shop.Issues()[0]
	for _, want := range []string{"### Pins", "### Permissions", "### Credentials", "### Agent", "### Updates", "### Scripts"} {
		_, part, found := strings.Cut(p.Body, want)
		part, _, _ = strings.Cut(part, "\n### ")
		if !found || !strings.Contains(part, "**Roll back:**") || !strings.Contains(part, "`.github/") {
			t.Errorf("the text lacks %q, or what it is about:\n%s", want, p.Body)
		}
	}
	if !strings.Contains(p.Title, "keep what strangers choose out of scripts") {
		t.Errorf("title %q", p.Title)
	}
}

// A pull request follows the default branch, on the same branch and with a person's words.
func TestUpdates(t *testing.T) {
	w := newWorld(t)
	shop := w.unsafeRepository("shop")
	w.wants(t, "shop", rollout.Opened, "")
	p := proposed(t, shop, safe)
	shop.SetBody(p.Number, "Please read.\r\n"+strings.ReplaceAll(p.Body, "\n", "\r\n")+"\r\nThanks!")
	w.wants(t, "shop", rollout.Unchanged, "")

	// What the change does not touch needs no new commit.
	before := shop.Head(rollout.DefaultBranch)
	shop.Commit("main", "bob", "docs", map[string]string{"docs.md": "x"})
	w.wants(t, "shop", rollout.Unchanged, "")
	if shop.Head(rollout.DefaultBranch) != before {
		t.Error("a new commit for nothing")
	}

	shop.Commit("main", "bob", "test, too", map[string]string{workflow: unsafe + "      - uses: acme/setup@v5\n", "docs.md": ""})
	w.wants(t, "shop", rollout.Updated, "")
	p = proposed(t, shop, safe+"      - uses: acme/setup@"+commitOf("v5.0.0")+" # v5.0.0\n")
	if !strings.HasPrefix(p.Body, "Please read.") || !strings.HasSuffix(p.Body, "Thanks!") || !strings.Contains(p.Body, "ci.yml:9") || strings.Count(p.Body, "### Pins") != 1 {
		t.Errorf("text\n%s", p.Body)
	}
	w.wants(t, "shop", rollout.Unchanged, "")

	// Another run may know another commit: what is proposed stays as it was, unless it is asked for.
	w.stands["acme/setup@v4"] = harden.Resolution{Commit: commitOf("v4.2.0"), Version: "v4.2.0"}
	w.wants(t, "shop", rollout.Unchanged, "")
	w.options.Harden.Update = true
	w.wants(t, "shop", rollout.Updated, "")
	w.options.Harden.Update = false

	// Merged, it is done; another unsafe change gets another pull request.
	shop.Merge(p.Number)
	w.wants(t, "shop", rollout.Clean, "")
	shop.Commit("main", "bob", "release", map[string]string{".github/workflows/release.yml": unsafe})
	w.wants(t, "shop", rollout.Opened, "")
}

// GitHub's button that brings a branch up to date makes it nobody else's.
func TestUpdatedByButton(t *testing.T) {
	w := newWorld(t)
	shop := w.unsafeRepository("shop")
	w.wants(t, "shop", rollout.Opened, "")
	shop.Commit("main", "bob", "docs", map[string]string{"docs.md": "x"})
	shop.Update(1)
	w.wants(t, "shop", rollout.Unchanged, "")
	shop.Commit("main", "bob", "more", map[string]string{workflow: unsafe + "      - run: make test\n"})
	w.wants(t, "shop", rollout.Updated, "")
	proposed(t, shop, safe+"      - run: make test\n")
	// What a person pushes on top of the merge is theirs.
	shop.Commit("main", "bob", "docs", map[string]string{"docs.md": "y"})
	shop.Update(1)
	shop.Commit(rollout.DefaultBranch, "bob", "mine", map[string]string{"docs.md": "z"})
	w.wants(t, "shop", rollout.Touched, "somebody else")
}

func TestPersonsWork(t *testing.T) {
	for name, push := range map[string]func(r *githubfake.Repository, ours string){
		"on top": func(r *githubfake.Repository, _ string) {
			r.Commit(rollout.DefaultBranch, "bob", "mine", map[string]string{"x": "y"})
		},
		"with our words": func(r *githubfake.Repository, ours string) {
			message, _, _ := r.Message(ours)
			r.Commit(rollout.DefaultBranch, "bob", message, map[string]string{workflow: safe + "# mine\n"})
		},
		"in the place of ours": func(r *githubfake.Repository, ours string) {
			message, _, _ := r.Message(ours)
			r.Commit("other", "bob", "x", map[string]string{"x": "y"})
			r.Commit("other", "bob", message, map[string]string{workflow: safe})
			r.Force(rollout.DefaultBranch, r.Head("other"))
			r.Force("other", "")
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			shop := w.unsafeRepository("shop")
			w.wants(t, "shop", rollout.Opened, "")
			push(shop, shop.Head(rollout.DefaultBranch))
			theirs := shop.Head(rollout.DefaultBranch)
			shop.Commit("main", "bob", "more", map[string]string{workflow: unsafe + "      - run: make test\n"})
			if o := w.wants(t, "shop", rollout.Touched, "somebody else"); w.writes() != 0 || o.PullRequest == "" {
				t.Errorf("%+v, %d writes", o, w.writes())
			}
			// Not even when there is nothing left to do.
			shop.Commit("main", "bob", "all", map[string]string{workflow: safe})
			w.wants(t, "shop", rollout.Touched, "")
			if shop.Head(rollout.DefaultBranch) != theirs {
				t.Error("a person's commit is gone")
			}
		})
	}
	t.Run("meanwhile", func(t *testing.T) {
		w := newWorld(t)
		shop := w.unsafeRepository("shop")
		w.wants(t, "shop", rollout.Opened, "")
		shop.Commit("main", "bob", "more", map[string]string{workflow: unsafe + "      - run: make test\n"})
		var theirs string
		w.Break(githubfake.Fault{Method: http.MethodPost, Path: "/git/commits", After: true, Do: func() {
			theirs = shop.Commit(rollout.DefaultBranch, "bob", "mine", map[string]string{"x": "y"})
		}})
		o := w.run(t)["shop"]
		if theirs == "" || shop.Head(rollout.DefaultBranch) != theirs || o.Status != rollout.Touched {
			t.Errorf("%s (%s), the branch is at %s, theirs %q", o.Status, o.Reason, shop.Head(rollout.DefaultBranch), theirs)
		}
	})
}

func TestDeclinedAndNeedless(t *testing.T) {
	w := newWorld(t)
	shop := w.unsafeRepository("shop")
	w.wants(t, "shop", rollout.Opened, "")
	shop.Close(1)
	if w.wants(t, "shop", rollout.Declined, "closed"); w.writes() != 0 {
		t.Errorf("%d writes", w.writes())
	}
	w.options.Reopen = true
	w.wants(t, "shop", rollout.Opened, "")
	w.options.Reopen = false
	proposed(t, shop, safe)

	// Somebody has done the same by hand.
	shop.Commit("main", "bob", "pin", map[string]string{workflow: safe})
	w.wants(t, "shop", rollout.Closed, "")
	if i := shop.Issues()[1]; i.State != "closed" || len(i.Comments) != 1 || !slices.Equal(shop.Branches(), []string{"main"}) {
		t.Errorf("%+v, branches %v", i, shop.Branches())
	}
	w.wants(t, "shop", rollout.Clean, "")
	// And undone it: that it was closed was no person's doing.
	shop.Commit("main", "bob", "undo", map[string]string{workflow: unsafe})
	w.wants(t, "shop", rollout.Opened, "")
	proposed(t, shop, safe)
}

func TestDryRun(t *testing.T) {
	w := newWorld(t)
	w.unsafeRepository("new")
	for _, name := range []string{"old", "needless"} {
		w.unsafeRepository(name)
	}
	w.options.Match = []string{"old", "need*"}
	w.run(t)
	w.options.Match = nil
	w.Repository("acme/old").Commit("main", "bob", "more", map[string]string{workflow: unsafe + "      - run: make test\n"})
	w.Repository("acme/needless").Commit("main", "bob", "all", map[string]string{workflow: safe})
	w.options.DryRun = true
	w.client = w.as(t, github.Config{Token: w.Token("reader", false)})
	got := w.run(t)
	if got["new"].Status != rollout.Opened || got["old"].Status != rollout.Updated || got["needless"].Status != rollout.Closed || w.writes() != 0 {
		t.Errorf("%+v, %d writes", got, w.writes())
	}
	if r := got["new"].Results; len(r) != 1 || string(r[0].After) != safe {
		t.Errorf("results %+v", r)
	}
}

func TestFilters(t *testing.T) {
	w := newWorld(t)
	for _, name := range []string{"shop", "shop-web", "legacy-shop", "tools"} {
		w.unsafeRepository(name)
	}
	w.Repository("acme/tools").Topics = []string{"go"}
	w.Repository("acme/shop-web").Private = true
	for _, c := range []struct {
		change func(o *rollout.Options)
		want   string
	}{
		{func(*rollout.Options) {}, "legacy-shop shop shop-web tools"},
		{func(o *rollout.Options) { o.Match = []string{"Shop*"} }, "shop shop-web"},
		{func(o *rollout.Options) { o.Match, o.Exclude = []string{"*shop*"}, []string{"legacy-*"} }, "shop shop-web"},
		{func(o *rollout.Options) { o.Topics = []string{"go", "rust"} }, "tools"},
		{func(o *rollout.Options) { o.Visibility = "public" }, "legacy-shop shop tools"},
		{func(o *rollout.Options) { o.Visibility = "private" }, "shop-web"},
	} {
		o := w.options
		o.DryRun = true
		c.change(&o)
		list, err := rollout.Run(t.Context(), w.client, o)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, r := range list {
			if r.Status == rollout.Opened {
				got = append(got, strings.TrimPrefix(r.Repository, "acme/"))
			}
		}
		if strings.Join(got, " ") != c.want {
			t.Errorf("%v, want %s", got, c.want)
		}
	}
	for _, o := range []rollout.Options{{}, {Organisation: "acme/shop"}, {Organisation: "acme", Selection: organisation.Selection{Match: []string{"["}}}, {Organisation: "acme", Selection: organisation.Selection{Visibility: "some"}}} {
		if _, err := rollout.Run(t.Context(), w.client, o); err == nil {
			t.Errorf("%+v was taken", o)
		}
	}
}

func TestMaxNew(t *testing.T) {
	w := newWorld(t)
	for i := range 5 {
		w.unsafeRepository(fmt.Sprintf("r%d", i))
	}
	w.options.MaxNew, w.options.Parallel = 2, 3
	for _, want := range []int{2, 2, 1, 0} {
		n := 0
		for _, o := range w.run(t) {
			if o.Status == rollout.Opened {
				n++
			}
		}
		if n != want {
			t.Errorf("%d opened, want %d", n, want)
		}
	}
}

// What a repository or a token does not allow is said, and stops no other.
func TestNotAllowed(t *testing.T) {
	w := newWorld(t)
	w.unsafeRepository("ruled").Protected = []string{"sallyport/*"}
	w.unsafeRepository("noprs").NoPulls = true
	w.unsafeRepository("shop")
	got := w.run(t)
	if o := got["ruled"]; o.Status != rollout.Failed || !strings.Contains(o.Reason, "--branch") {
		t.Errorf("%+v", o)
	}
	if o := got["noprs"]; o.Status != rollout.Failed {
		t.Errorf("%+v", o)
	}
	if got["shop"].Status != rollout.Opened {
		t.Errorf("%+v", got["shop"])
	}
	w = newWorld(t)
	w.unsafeRepository("shop")
	w.client = w.as(t, github.Config{Token: w.Token("alice", false)})
	w.wants(t, "shop", rollout.Failed, "workflows")
}

// Wherever a run is stopped, before or after what it asked for was done, the next one ends with
// the same pull request and nothing else. So does a run that loses an answer on its way.
func TestInterrupted(t *testing.T) {
	for _, by := range []string{"app", "token"} {
		for _, kind := range []string{"stop before", "stop after", "fault before", "fault after"} {
			for _, second := range []bool{false, true} {
				t.Run(fmt.Sprintf("%s, %s, again %v", by, kind, second), func(t *testing.T) {
					t.Parallel()
					at := 0
					for interrupted(t, by, kind, second, at) {
						at++
					}
					if at < 10 {
						t.Errorf("only %d requests", at)
					}
				})
			}
		}
	}
}

// interrupted has the request of a number go wrong; false if there are fewer.
func interrupted(t *testing.T, by, kind string, second bool, at int) (hit bool) {
	t.Helper()
	w := newWorld(t)
	if by == "token" {
		w.client = w.as(t, github.Config{Token: w.Token("alice", true)})
	}
	shop := w.unsafeRepository("shop")
	text := safe
	if second {
		w.run(t)
		shop.Commit("main", "bob", "more", map[string]string{workflow: unsafe + "      - run: make test\n"})
		text += "      - run: make test\n"
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	stops, after := strings.HasPrefix(kind, "stop"), strings.HasSuffix(kind, "after")
	w.Break(githubfake.Fault{Skip: at, After: after, Status: http.StatusBadGateway, Do: func() {
		hit = true
		if stops {
			cancel()
		}
	}})
	list, err := rollout.Run(ctx, w.client, w.options)
	if !hit {
		return false
	}
	if !stops && (err != nil || list[0].Status == rollout.Failed) {
		t.Errorf("request %d: %+v, %v", at, list, err)
	}
	if o := w.run(t)["shop"]; o.Status == rollout.Failed || o.Status == rollout.Touched {
		t.Errorf("request %d: %+v", at, o)
	}
	if p := proposed(t, shop, text); len(shop.Issues()) != 1 || !strings.Contains(p.Body, "### Pins") {
		t.Errorf("request %d: %+v", at, shop.Issues())
	}
	return true
}

// A run that was stopped goes on where it was.
func TestResumes(t *testing.T) {
	w := newWorld(t)
	for i := range 4 {
		w.unsafeRepository(fmt.Sprintf("r%d", i))
	}
	name := filepath.Join(t.TempDir(), "state", "acme.jsonl")
	now := time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)
	open := func(of string, anew bool, at time.Time) *rollout.State {
		s, err := rollout.OpenState(name, of, anew, at)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	stopAfter := func(n int) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		w.options.State = open("acme 1", false, now)
		w.options.Done = func(rollout.Outcome) {
			if n--; n == 0 {
				cancel()
			}
		}
		_, err := rollout.Run(ctx, w.client, w.options)
		if !errors.Is(err, context.Canceled) {
			t.Fatal(err)
		}
		if err := w.options.State.Close(false); err != nil {
			t.Fatal(err)
		}
	}
	stopAfter(1)
	w.Forget()
	stopAfter(1)
	for _, r := range w.Requests() {
		if strings.Contains(r.Path, "acme/r0") {
			t.Errorf("%s again", r.Path)
		}
	}
	for _, c := range []struct {
		of   string
		anew bool
		at   time.Time
		want int
	}{
		{"acme 1", false, now, 2},
	} {
		s := open(c.of, c.anew, c.at)
		if s.Known() != c.want {
			t.Errorf("%+v: %d are known", c, s.Known())
		}
		w.options.State, w.options.Done = s, nil
		got := w.run(t)
		if len(got) != 4 || got["r0"].Status != rollout.Opened || got["r3"].Status != rollout.Opened {
			t.Errorf("%+v", got)
		}
		if err := s.Close(true); err != nil {
			t.Error(err)
		}
	}
	// Finished, nothing is kept.
	if s := open("acme 1", false, now); s.Known() != 0 {
		t.Errorf("%d are known", s.Known())
	}
}

func TestStateThatDoesNotCount(t *testing.T) {
	name := filepath.Join(t.TempDir(), "acme.jsonl")
	now := time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)
	w := newWorld(t)
	w.unsafeRepository("shop")
	for what, c := range map[string]struct {
		of   string
		anew bool
		at   time.Time
	}{
		"another run": {"acme 2", false, now}, "anew": {"acme 1", true, now}, "too old": {"acme 1", false, now.Add(25 * time.Hour)},
	} {
		s, err := rollout.OpenState(name, "acme 1", true, now)
		if err != nil {
			t.Fatal(err)
		}
		w.options.State = s
		w.run(t)
		if err := s.Close(false); err != nil {
			t.Fatal(err)
		}
		if s, err = rollout.OpenState(name, c.of, c.anew, c.at); err != nil || s.Known() != 0 {
			t.Errorf("%s: %d are known, %v", what, s.Known(), err)
		}
	}
}

// Names from outside do not become part of the text's form.
func TestHostileNames(t *testing.T) {
	w := newWorld(t)
	name := ".github/workflows/a`<!-- sallyport:end -->`@bob #1 ![x](mailto:example.test).yml"
	w.Repository("acme/shop").Commit("main", "mallory", "begin", map[string]string{name: unsafe})
	w.wants(t, "shop", rollout.Opened, "")
	body := w.Repository("acme/shop").Issues()[0].Body
	line := ""
	for l := range strings.Lines(body) {
		if strings.Contains(l, "sallyport:end") && strings.Contains(l, "mallory") || strings.HasPrefix(l, "- ``") {
			line = l
		}
	}
	if !strings.HasPrefix(line, "- ``"+name+":7``: ") {
		t.Errorf("line %q of\n%s", line, body)
	}
	w.wants(t, "shop", rollout.Unchanged, "")
}
