package origin_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sallyport-ci/sallyport/github"
	"github.com/sallyport-ci/sallyport/harden"
	"github.com/sallyport-ci/sallyport/harden/origin"
	"github.com/sallyport-ci/sallyport/test/githubfake"
)

var today = time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)

// world is a GitHub with an action of several releases, and how it is asked.
type world struct {
	github  *githubfake.Server
	action  *githubfake.Repository
	commits map[string]string
	fork    string
}

func ago(days int) time.Time { return today.AddDate(0, 0, -days) }

func newWorld(t *testing.T) *world {
	t.Helper()
	s := githubfake.New(t)
	w := &world{github: s, action: s.Repository("acme/deploy"), commits: make(map[string]string)}
	for _, v := range []struct {
		tag       string
		days      int
		release   bool
		immutable bool
	}{{"v1.0.0", 400, true, false}, {"v1.1.0", 100, true, true}, {"v1.2.0", 40, false, false}, {"v1.3.0", 2, true, false}} {
		s.SetClock(func() time.Time { return ago(v.days) })
		w.commits[v.tag] = w.action.Commit("main", "alice", v.tag, map[string]string{"action.yml": "name: " + v.tag + "\nruns: {using: composite, steps: []}\n"})
		w.action.Tag(v.tag, w.commits[v.tag])
		if v.release {
			w.action.Release(v.tag, ago(v.days), v.immutable)
		}
	}
	w.action.Tag("v1", w.commits["v1.3.0"])
	w.fork = w.action.Loose(w.commits["v1.2.0"], "mallory", "v1.2.0", map[string]string{"action.yml": "evil"})
	s.SetClock(func() time.Time { return today })
	return w
}

func (w *world) resolver(t *testing.T) *origin.GitHub {
	t.Helper()
	c, err := github.New(github.Config{URL: w.github.URL, Token: w.github.Token("alice", true), WritePause: -1})
	if err != nil {
		t.Fatal(err)
	}
	return origin.New(c, &harden.Remote{Server: "file:///nowhere"})
}

func TestResolve(t *testing.T) {
	w := newWorld(t)
	g := w.resolver(t)
	branch := w.action.Commit("next", "alice", "next", map[string]string{"x": "y"})
	for ref, want := range map[string]harden.Resolution{
		"v1":                       {Commit: w.commits["v1.3.0"], Version: "v1.3.0"},
		"v1.1.0":                   {Commit: w.commits["v1.1.0"], Version: "v1.1.0", Immutable: true},
		"v1.0.0":                   {Commit: w.commits["v1.0.0"], Version: "v1.0.0"},
		"main":                     {Commit: w.commits["v1.3.0"], Version: "v1.3.0", Branch: true},
		"next":                     {Commit: branch, Branch: true},
		w.commits["v1.2.0"]:        {Commit: w.commits["v1.2.0"], Version: "v1.2.0"},
		w.commits["v1.2.0"][:9]:    {Commit: w.commits["v1.2.0"], Version: "v1.2.0"},
		strings.Repeat("0123", 10): {Commit: strings.Repeat("0123", 10)},
	} {
		got, err := g.Resolve(t.Context(), "acme/deploy", ref)
		if err != nil || got.Commit != want.Commit || got.Version != want.Version || got.Branch != want.Branch || got.Immutable != want.Immutable {
			t.Errorf("%s is %+v, %v; want %+v", ref, got, err, want)
		}
	}
	for _, ref := range []string{"v2", "0000000", w.fork[:9]} {
		if _, err := g.Resolve(t.Context(), "acme/deploy", ref); !errors.Is(err, harden.ErrUnknown) {
			t.Errorf("%s: %v", ref, err)
		}
	}
	if _, err := g.Resolve(t.Context(), "acme/nothing", "v1"); !errors.Is(err, harden.ErrUnknown) {
		t.Errorf("a repository that is not there: %v", err)
	}
	asked := len(w.github.Requests())
	if _, err := g.Resolve(t.Context(), "acme/deploy", "v1.1.0"); err != nil || len(w.github.Requests()) != asked {
		t.Errorf("what is known is asked again: %v", err)
	}
}

// Many tags come page by page.
func TestManyTags(t *testing.T) {
	w := newWorld(t)
	for i := range 250 {
		w.action.Tag(fmt.Sprintf("v0.%d.0", i), w.commits["v1.0.0"])
	}
	got, err := w.resolver(t).Versions(t.Context(), "acme/deploy")
	if err != nil || len(got) != 255 {
		t.Errorf("%d tags, %v", len(got), err)
	}
}

func TestContains(t *testing.T) {
	w := newWorld(t)
	off := w.action.Commit("release", "alice", "off the main road", map[string]string{"x": "y"})
	tip := w.action.Commit("release", "alice", "further", map[string]string{"x": "z"})
	g := w.resolver(t)
	for commit, want := range map[string]bool{
		w.commits["v1.0.0"]: true, off: true, tip: true, w.fork: false, strings.Repeat("0123", 10): false,
	} {
		if has, err := g.Contains(t.Context(), "acme/deploy", commit); err != nil || has != want {
			t.Errorf("%s: %v, %v; want %v", commit, has, err, want)
		}
	}
	// A fork's commit in a repository of many branches is asked by git at last; nobody answers here.
	for i := range 20 {
		w.action.Commit(fmt.Sprint("b", i), "alice", "b", map[string]string{"b": fmt.Sprint(i)})
	}
	if _, err := w.resolver(t).Contains(t.Context(), "acme/deploy", w.fork); err == nil {
		t.Error("it is said to be known")
	}
}

func hardenWith(t *testing.T, c harden.Config, uses ...string) *harden.Result {
	t.Helper()
	var steps strings.Builder
	for _, u := range uses {
		steps.WriteString("      - uses: " + u + "\n")
	}
	c.Rules = []string{"pin", "audit"}
	c.Now = func() time.Time { return today }
	r, err := harden.Text(t.Context(), c, ".github/workflows/x.yml", []byte("on: push\npermissions: {}\njobs:\n  a:\n    runs-on: ubuntu-latest\n    steps:\n"+steps.String()))
	if err != nil || r.Problem != nil {
		t.Fatal(err, r.Problem)
	}
	return r
}

func said(r *harden.Result, rule string) (out []string) {
	for _, f := range r.Findings {
		if f.Rule == rule {
			out = append(out, string(f.Severity)+": "+f.Message)
		}
	}
	return out
}

// What is too young is not taken: the newest older one that the reference allows is.
func TestCoolDown(t *testing.T) {
	w := newWorld(t)
	config := func(days int, lock *harden.Lock) harden.Config {
		return harden.Config{Resolver: w.resolver(t), MinAge: time.Duration(days) * 24 * time.Hour, Lock: lock}
	}
	for _, c := range []struct {
		uses, version string
		days          int
		said          string
	}{
		{"acme/deploy@v1", "v1.3.0", 0, ""},
		{"acme/deploy@v1", "v1.2.0", 7, "v1.3.0 of 2026-11-22, which is too young to be taken; until then it is v1.2.0"},
		{"acme/deploy@v1", "v1.1.0", 60, "until then it is v1.1.0"},
		{"acme/deploy@v1", "v1.0.0", 200, "until then it is v1.0.0"},
		{"acme/deploy@v1.1.0", "v1.1.0", 7, ""},
		{"acme/deploy@main", "v1.2.0", 7, "until then it is " + w.commits["v1.2.0"]},
	} {
		r := hardenWith(t, config(c.days, nil), c.uses)
		want := "acme/deploy@" + w.commits[c.version] + " # " + c.version
		if r.After == nil || !strings.Contains(string(r.After), want) {
			t.Errorf("%s with %d days becomes\n%s\nwant %s", c.uses, c.days, r.After, want)
		}
		if got := strings.Join(said(r, "cool-down"), ""); c.said == "" && got != "" || !strings.Contains(got, c.said) {
			t.Errorf("%s with %d days: %s; want %s", c.uses, c.days, got, c.said)
		}
	}
	for _, c := range []struct {
		uses string
		days int
	}{{"acme/deploy@v1.3.0", 7}, {"acme/deploy@v1", 500}, {"acme/deploy@main", 500}} {
		r := hardenWith(t, config(c.days, nil), c.uses)
		if got := said(r, "unpinned"); r.After != nil || len(got) != 1 || !strings.HasPrefix(got[0], "warning: ") || !strings.Contains(got[0], "nothing is taken before it is") {
			t.Errorf("%s with %d days: %s\n%s", c.uses, c.days, got, r.After)
		}
	}

	// A lock does not go back, and goes on when it is time.
	lock := harden.NewLock()
	hardenWith(t, config(0, lock), "acme/deploy@v1")
	older := lock.Actions[0]
	w.github.SetClock(func() time.Time { return ago(0) })
	fresh := w.action.Commit("main", "alice", "v1.4.0", map[string]string{"x": "4"})
	w.action.Tag("v1.4.0", fresh)
	w.action.Tag("v1", fresh)
	c := config(1, lock)
	c.Update = true
	r := hardenWith(t, c, "acme/deploy@v1")
	if lock.Actions[0] != older || !slices.ContainsFunc(said(r, "cool-down"), func(s string) bool { return strings.Contains(s, "until then it is v1.3.0") }) {
		t.Errorf("the lock is %+v, it says %v", lock.Actions[0], r.Findings)
	}
	c = config(0, lock)
	c.Update = true
	r = hardenWith(t, c, "acme/deploy@v1")
	if lock.Actions[0].Commit != fresh || len(said(r, "moved")) != 1 {
		t.Errorf("the lock is %+v, it says %v", lock.Actions[0], r.Findings)
	}
}

// A tag that was moved to a commit of today is young, whatever its release says; and a commit that
// says it is old is young if its release is.
func TestCoolDownIsNotFooled(t *testing.T) {
	w := newWorld(t)
	w.github.SetClock(func() time.Time { return ago(0) })
	evil := w.action.Commit("main", "mallory", "evil", map[string]string{"action.yml": "evil"})
	w.action.Tag("v1.0.0", evil)
	w.github.SetClock(func() time.Time { return ago(900) })
	backdated := w.action.Commit("main", "mallory", "evil", map[string]string{"action.yml": "more evil"})
	w.action.Tag("v1.9.0", backdated)
	w.action.Release("v1.9.0", ago(1), false)
	w.github.SetClock(func() time.Time { return today })
	for _, uses := range []string{"acme/deploy@v1.0.0", "acme/deploy@v1.9.0"} {
		r := hardenWith(t, harden.Config{Resolver: w.resolver(t), MinAge: 7 * 24 * time.Hour}, uses)
		if r.After != nil || len(said(r, "unpinned")) != 1 {
			t.Errorf("%s becomes\n%s\n%v", uses, r.After, r.Findings)
		}
	}
}

// The tag of an immutable release is said to be one, and is an error of its own if it moves.
func TestImmutable(t *testing.T) {
	w := newWorld(t)
	lock := harden.NewLock()
	config := harden.Config{Resolver: w.resolver(t), Lock: lock}
	r := hardenWith(t, config, "acme/deploy@v1.1.0", "acme/deploy@v1.0.0")
	if len(r.Fixes) != 2 || !strings.Contains(r.Fixes[0].Reason, "immutable release") || strings.Contains(r.Fixes[1].Reason, "immutable") {
		t.Errorf("%+v", r.Fixes)
	}
	text, err := lock.Text()
	if err != nil || strings.Count(string(text), "immutable: true") != 1 {
		t.Errorf("%s, %v", text, err)
	}
	w.action.Tag("v1.1.0", w.fork)
	w.action.Tag("v1.0.0", w.fork)
	config.Resolver, config.Update = w.resolver(t), true
	r = hardenWith(t, config, "acme/deploy@v1.1.0", "acme/deploy@v1.0.0")
	if got := said(r, "moved-immutable"); len(got) != 1 || !strings.HasPrefix(got[0], "error: ") {
		t.Errorf("%v", r.Findings)
	}
	if got := said(r, "moved"); len(got) != 1 || !strings.HasPrefix(got[0], "error: ") {
		t.Errorf("%v", r.Findings)
	}
	if !strings.Contains(string(r.After), w.commits["v1.1.0"]) || !strings.Contains(string(r.After), w.commits["v1.0.0"]) {
		t.Errorf("it follows\n%s", r.After)
	}
}

// A commit that only a fork has is found, whatever the comment says.
func TestImpostor(t *testing.T) {
	w := newWorld(t)
	for _, uses := range []string{"acme/deploy@" + w.fork, "acme/deploy@" + w.fork + " # v1.2.0", "acme/deploy@" + strings.Repeat("0123", 10)} {
		r := hardenWith(t, harden.Config{Resolver: w.resolver(t)}, uses)
		if got := said(r, "impostor-commit"); len(got) != 1 || !strings.HasPrefix(got[0], "error: commit "+uses[12:52]+" is in no branch or tag of acme/deploy") || r.After != nil {
			t.Errorf("%s: %v\n%s", uses, r.Findings, r.After)
		}
	}
	r := hardenWith(t, harden.Config{Resolver: w.resolver(t)}, "acme/deploy@"+w.commits["v1.2.0"]+" # v1.1.0")
	if got := said(r, "pin-comment"); len(got) != 1 || !strings.Contains(string(r.After), "# v1.2.0") {
		t.Errorf("%v\n%s", r.Findings, r.After)
	}
	// Nobody is asked about what the lock holds.
	lock := harden.NewLock()
	hardenWith(t, harden.Config{Resolver: w.resolver(t), Lock: lock}, "acme/deploy@v1.2.0")
	w.github.Forget()
	r = hardenWith(t, harden.Config{Resolver: w.resolver(t), Lock: lock}, "acme/deploy@"+w.commits["v1.2.0"]+" # v1.2.0")
	if n := len(said(r, "impostor-commit")); n != 0 {
		t.Errorf("%v", r.Findings)
	}
	for _, q := range w.github.Requests() {
		if strings.Contains(q.Path, "/compare/") || strings.Contains(q.Path, "/tags") {
			t.Errorf("it asks %s", q.Path)
		}
	}
}

// What GitHub cannot answer is said to be unknown, not good.
func TestTrouble(t *testing.T) {
	w := newWorld(t)
	w.github.Break(githubfake.Fault{Path: "/compare/", Status: 502, Times: 100})
	r := hardenWith(t, harden.Config{Resolver: w.resolver(t)}, "acme/deploy@"+w.fork)
	if got := said(r, "impostor-commit"); len(got) != 1 || !strings.HasPrefix(got[0], "note: whether commit") {
		t.Errorf("%v", r.Findings)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	g := w.resolver(t)
	if _, err := g.Resolve(ctx, "acme/deploy", "v1"); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	if got, err := g.Resolve(t.Context(), "acme/deploy", "v1"); err != nil || got.Version != "v1.3.0" {
		t.Errorf("what nobody waited for is kept: %+v, %v", got, err)
	}
}

// What GitHub says of an action itself: archived, advisories about the version in use.
func TestReputation(t *testing.T) {
	w := newWorld(t)
	w.action.Archived = true
	w.github.Advisory("acme/deploy", "GHSA-aaaa-bbbb-cccc", "high", "It runs what it is told.", ">= 1.1, < 1.2.0")
	w.github.Advisory("acme/deploy", "GHSA-dddd-eeee-ffff", "low", "It is slow", "= 1.3.0")
	w.github.Advisory("acme/other", "GHSA-gggg-hhhh-iiii", "critical", "Something else", ">= 0")
	for uses, want := range map[string][]string{
		"acme/deploy@v1.1.0":                 {"error: acme/deploy v1.1.0 has a vulnerability that is known (GHSA-aaaa-bbbb-cccc, high): It runs what it is told; nothing mends it yet"},
		"acme/deploy@v1":                     {"warning: acme/deploy v1.3.0 has a vulnerability that is known (GHSA-dddd-eeee-ffff, low): It is slow; nothing mends it yet"},
		"acme/deploy@" + w.commits["v1.1.0"]: {"error: acme/deploy v1.1.0 has a vulnerability that is known (GHSA-aaaa-bbbb-cccc, high): It runs what it is told; nothing mends it yet"},
		"acme/deploy@v1.0.0":                 nil,
		"acme/deploy@main":                   {"warning: acme/deploy v1.3.0 has a vulnerability that is known (GHSA-dddd-eeee-ffff, low): It is slow; nothing mends it yet"},
	} {
		r := hardenWith(t, harden.Config{Resolver: w.resolver(t)}, uses)
		if got := said(r, "vulnerable"); !slices.Equal(got, want) {
			t.Errorf("%s: %q, want %q", uses, got, want)
		}
		if got := said(r, "archived"); len(got) != 1 {
			t.Errorf("%s: %q", uses, got)
		}
	}
	w.github.Break(githubfake.Fault{Path: "/advisories", Status: 403, Times: 100})
	r := hardenWith(t, harden.Config{Resolver: w.resolver(t)}, "acme/deploy@v1.1.0", "acme/deploy@v1.0.0")
	if got := said(r, "vulnerable"); len(got) != 2 || !strings.HasPrefix(got[0], "note: whether there are advisories") {
		t.Errorf("%q", got)
	}
}

// Whether a machine of one's own is open to everybody depends on who may see the repository.
func TestSelfHosted(t *testing.T) {
	w := newWorld(t)
	w.github.Repository("acme/open").Commit("main", "alice", "x", map[string]string{"x": "y"})
	w.github.Repository("acme/closed").Private = true
	for repository, want := range map[string]string{"acme/open": "error: job a runs pull requests on a machine of your own: the repository is public", "acme/closed": "note: ", "acme/nothing": "warning: ", "": "warning: "} {
		r, err := harden.Text(t.Context(), harden.Config{Resolver: w.resolver(t), Rules: []string{"audit"}, Repository: repository}, ".github/workflows/x.yml",
			[]byte("on: pull_request\npermissions: {}\njobs:\n  a:\n    runs-on: [self-hosted, linux]\n    steps:\n      - run: make\n"))
		if err != nil || r.Problem != nil {
			t.Fatal(err, r.Problem)
		}
		if got := said(r, "self-hosted"); len(got) != 1 || !strings.HasPrefix(got[0], want) {
			t.Errorf("%q: %q, want %q", repository, got, want)
		}
	}
}
