package github_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sallyport-ci/sallyport/github"
	"github.com/sallyport-ci/sallyport/test/githubfake"
)

const workflow = ".github/workflows/ci.yml"

// world is an organisation with one repository.
func world(t *testing.T) (*githubfake.Server, *githubfake.Repository) {
	s := githubfake.New(t)
	r := s.Repository("acme/shop")
	r.Commit("main", "alice", "begin", map[string]string{workflow: "on: push\n", "README.md": "shop\n"})
	return s, r
}

var grants = map[string]string{"contents": "write", "pull_requests": "write", "workflows": "write", "metadata": "read"}

func asApp(t *testing.T, s *githubfake.Server, permissions map[string]string) *github.Client {
	t.Helper()
	app := s.NewApp("sallyport", permissions, "acme")
	c, err := github.New(github.Config{URL: s.URL, AppID: app.ID, AppKey: app.KeyPEM(), WritePause: -1})
	if err != nil {
		t.Fatal(err)
	}
	if c, err = c.Installation(t.Context(), "acme"); err != nil {
		t.Fatal(err)
	}
	return c
}

func asToken(t *testing.T, s *githubfake.Server, config github.Config) *github.Client {
	t.Helper()
	config.URL, config.Token, config.WritePause = s.URL, s.Token("alice", true), -1
	c, err := github.New(config)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// An App and a token both commit, signed by GitHub, keep modes, and move branches.
func TestCommitAndPullRequest(t *testing.T) {
	for _, name := range []string{"app", "token"} {
		t.Run(name, func(t *testing.T) {
			s, repo := world(t)
			c := asToken(t, s, github.Config{})
			if name == "app" {
				c = asApp(t, s, grants)
			}
			ctx := t.Context()
			r, err := c.Repository(ctx, "acme/shop")
			if err != nil {
				t.Fatal(err)
			}
			head, err := c.Head(ctx, r.Name, r.DefaultBranch)
			if err != nil || head != repo.Head("main") {
				t.Fatalf("head %s, %v", head, err)
			}
			base, err := c.Commit(ctx, r.Name, head)
			if err != nil {
				t.Fatal(err)
			}
			commit, err := c.CommitOn(ctx, r, base, []github.Change{{Path: workflow, Mode: "100644", Text: []byte("on: push # ü\n")}}, "harden: one\n\nbecause", "sallyport/passing")
			if err != nil {
				t.Fatal(err)
			}
			if message, signed, parents := repo.Message(commit.SHA); message != "harden: one\n\nbecause" || !signed || !slices.Equal(parents, []string{head}) || !commit.Verified {
				t.Errorf("commit %q, signed %v, on %v", message, signed, parents)
			}
			if got := repo.Files(commit.SHA); got[workflow] != "on: push # ü\n" || got["README.md"] != "shop\n" {
				t.Errorf("files %q", got)
			}
			if err := c.CreateBranch(ctx, r.Name, "sallyport/harden", commit.SHA); err != nil {
				t.Fatal(err)
			}
			if got := repo.Branches(); !slices.Equal(got, []string{"main", "sallyport/harden"}) {
				t.Errorf("branches %v", got)
			}
			p, err := c.OpenPullRequest(ctx, r.Name, github.PullRequest{Title: "T", Body: "B", Head: "sallyport/harden", Base: "main"})
			if err != nil {
				t.Fatal(err)
			}
			list, err := c.PullRequests(ctx, r.Name, "sallyport/harden")
			if err != nil || len(list) != 1 || list[0].Number != p.Number || !list[0].Open || list[0].HeadSHA != commit.SHA {
				t.Errorf("pull requests %+v, %v", list, err)
			}
			// A person pushes: the branch is not where it was seen.
			theirs := repo.Commit("sallyport/harden", "bob", "mine", map[string]string{"x": "y"})
			if err := c.MoveBranch(ctx, r, "sallyport/harden", commit.SHA, base.SHA); !errors.Is(err, github.ErrMoved) {
				t.Errorf("moved over a person's commit: %v", err)
			}
			if repo.Head("sallyport/harden") != theirs {
				t.Error("the person's commit is gone")
			}
			if err := c.MoveBranch(ctx, r, "sallyport/harden", theirs, commit.SHA); err != nil || repo.Head("sallyport/harden") != commit.SHA {
				t.Errorf("move: %v", err)
			}
			if err := c.ClosePullRequest(ctx, r.Name, p.Number, "nothing left"); err != nil {
				t.Fatal(err)
			}
			if got := repo.Issues()[0]; got.State != "closed" || !slices.Equal(got.Comments, []string{"nothing left"}) {
				t.Errorf("closed: %+v", got)
			}
			if err := c.MoveBranch(ctx, r, "sallyport/harden", theirs, ""); !errors.Is(err, github.ErrMoved) {
				t.Errorf("removed a branch that has moved: %v", err)
			}
			for range 2 { // the second time it is gone
				if err := c.MoveBranch(ctx, r, "sallyport/harden", commit.SHA, ""); err != nil {
					t.Error(err)
				}
			}
			if got := repo.Branches(); !slices.Equal(got, []string{"main"}) {
				t.Errorf("branches %v", got)
			}
		})
	}
}

func TestErrors(t *testing.T) {
	s, repo := world(t)
	c := asApp(t, s, map[string]string{"contents": "write", "metadata": "read"})
	ctx := t.Context()
	if _, err := c.Repository(ctx, "acme/none"); !errors.Is(err, github.ErrNotFound) {
		t.Errorf("no repository: %v", err)
	}
	r, err := c.Repository(ctx, "acme/shop")
	if err != nil {
		t.Fatal(err)
	}
	base, err := c.Commit(ctx, r.Name, repo.Head("main"))
	if err != nil {
		t.Fatal(err)
	}
	commit, err := c.CommitOn(ctx, r, base, []github.Change{{Path: workflow, Mode: "100644", Text: []byte("a")}}, "m", "p")
	if err != nil {
		t.Fatal(err)
	}
	if err := c.CreateBranch(ctx, r.Name, "b", commit.SHA); !errors.Is(err, github.ErrForbidden) || !strings.Contains(err.Error(), "workflows") {
		t.Errorf("without the permission workflows: %v", err)
	}
	repo.Protected = []string{"sallyport/*"}
	if err := c.CreateBranch(ctx, r.Name, "sallyport/x", repo.Head("main")); !errors.Is(err, github.ErrProtected) {
		t.Errorf("a rule against it: %v", err)
	}
	bad, err := github.New(github.Config{URL: s.URL, Token: "ghp_no"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := bad.Repository(ctx, "acme/shop"); !errors.Is(err, github.ErrForbidden) {
		t.Errorf("a bad token: %v", err)
	}
}

func TestLimitsAreWaitedFor(t *testing.T) {
	s, _ := world(t)
	waited := 0
	c := asToken(t, s, github.Config{Waiting: func(until time.Time) {
		if until.After(time.Now().Add(-time.Minute)) {
			waited++
		}
	}})
	s.Limit(3, 2*time.Second)
	begin := time.Now()
	for range 5 {
		if _, err := c.Repository(t.Context(), "acme/shop"); err != nil {
			t.Fatal(err)
		}
	}
	if time.Since(begin) < time.Second {
		t.Errorf("five requests of three in two seconds took %v", time.Since(begin))
	}
	s.Limit(5000, time.Hour)
	s.LimitWrites(1, time.Second)
	waited = 0
	for _, name := range []string{"a", "b", "c"} {
		if err := c.CreateBranch(t.Context(), "acme/shop", name, mustHead(t, c)); err != nil {
			t.Fatal(err)
		}
	}
	if waited == 0 {
		t.Error("nobody was told of the wait")
	}
}

func mustHead(t *testing.T, c *github.Client) string {
	t.Helper()
	h, err := c.Head(t.Context(), "acme/shop", "main")
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func TestFaultsOfReads(t *testing.T) {
	s, _ := world(t)
	c := asToken(t, s, github.Config{})
	s.Break(githubfake.Fault{Path: "/repos/acme/shop", Status: http.StatusBadGateway, Times: 2})
	s.Break(githubfake.Fault{Path: "/repos/acme/shop"})
	if _, err := c.Repository(t.Context(), "acme/shop"); err != nil {
		t.Error(err)
	}
	s.Break(githubfake.Fault{Path: "/repos/acme/shop", Status: http.StatusBadGateway, Times: 50})
	if _, err := c.Repository(t.Context(), "acme/shop"); err == nil || !strings.Contains(err.Error(), "502") {
		t.Errorf("a GitHub that is down: %v", err)
	}
}

// What is cached costs nothing of the limit, and is of one identity alone.
func TestCache(t *testing.T) {
	s, repo := world(t)
	dir := t.TempDir()
	ask := func(c *github.Client) string {
		r, err := c.Tree(t.Context(), "acme/shop", "main")
		if err != nil {
			t.Fatal(err)
		}
		return r[0].SHA
	}
	c := asToken(t, s, github.Config{Cache: dir})
	first := ask(c)
	if again := ask(c); again != first {
		t.Errorf("%s, then %s", first, again)
	}
	got := s.Requests()
	if got[0].Status != 200 || got[1].Status != http.StatusNotModified {
		t.Errorf("requests %+v", got)
	}
	repo.Commit("main", "alice", "next", map[string]string{workflow: "on: pull_request\n"})
	if ask(c) == first {
		t.Error("an old answer")
	}
	s.Forget()
	ask(asToken(t, s, github.Config{Cache: dir}))
	if got := s.Requests(); got[0].Status != 200 {
		t.Error("one identity was given what another one may see")
	}
}

func TestRepositories(t *testing.T) {
	s, _ := world(t)
	for _, name := range []string{"acme/a", "acme/b", "other/c"} {
		s.Repository(name).Commit("main", "alice", "begin", map[string]string{"x": "y"})
	}
	for i := range 120 {
		s.Repository(fmt.Sprintf("acme/r%d", i)).Commit("main", "alice", "begin", map[string]string{"x": "y"})
	}
	for name, c := range map[string]*github.Client{"app": asApp(t, s, grants), "token": asToken(t, s, github.Config{})} {
		n := 0
		for r, err := range c.Repositories(t.Context(), "acme") {
			if err != nil {
				t.Fatal(err)
			}
			if !strings.HasPrefix(r.Name, "acme/") || r.ID == "" {
				t.Errorf("%s: %+v", name, r)
			}
			n++
		}
		if n != 123 {
			t.Errorf("%s: %d repositories", name, n)
		}
	}
	c := asToken(t, s, github.Config{})
	for _, err := range c.Repositories(t.Context(), "nobody") {
		if !errors.Is(err, github.ErrNotFound) {
			t.Errorf("no organisation: %v", err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for _, err := range c.Repositories(ctx, "acme") {
		if !errors.Is(err, context.Canceled) {
			t.Errorf("cancelled: %v", err)
		}
	}
}

// What GitHub does not list at once is asked for in parts.
func TestLargeTree(t *testing.T) {
	s, repo := world(t)
	files := make(map[string]string)
	for i := range 5 {
		for j := range 4 {
			files[fmt.Sprintf("src/d%d/f%d.go", i, j)] = fmt.Sprintf("file %d %d", i, j)
		}
	}
	sha := repo.Commit("main", "alice", "many", files)
	c := asToken(t, s, github.Config{})
	whole, err := c.Tree(t.Context(), "acme/shop", sha)
	if err != nil || len(whole) != 22 {
		t.Fatalf("%d files, %v", len(whole), err)
	}
	repo.TreeLimit = 5
	parts, err := c.Tree(t.Context(), "acme/shop", sha)
	slices.SortFunc(parts, func(a, b github.Entry) int { return strings.Compare(a.Path, b.Path) })
	if err != nil || !slices.Equal(parts, whole) {
		t.Errorf("%+v, %v, want %+v", parts, err, whole)
	}
	repo.TreeLimit = 3 // of one folder alone
	if _, err := c.Tree(t.Context(), "acme/shop", sha); err != nil {
		t.Error(err)
	}
}

func TestContains(t *testing.T) {
	s, repo := world(t)
	c := asToken(t, s, github.Config{})
	base := repo.Head("main")
	loose := repo.Loose(base, "mallory", "evil", map[string]string{"action.yml": "x"})
	repo.Commit("main", "alice", "next", map[string]string{"a": "b"})
	for sha, want := range map[string]bool{base: true, repo.Head("main"): true, loose: false} {
		if got, err := c.Contains(t.Context(), "acme/shop", "main", sha); err != nil || got != want {
			t.Errorf("%s: %v, %v", sha, got, err)
		}
	}
}
