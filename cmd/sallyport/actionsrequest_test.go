package main

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/sallyport-ci/sallyport/test/githubfake"
)

const catalogBefore = "# ours\nversion: 1\nactions:\n- action: actions/* # GitHub's\n  owner: platform\n  reason: 'by GitHub'\n"

// TestActionsRequest: a request is one pull request with what speaks for and against it, signed by
// GitHub, brought up to date and not doubled; of the file only what was asked for changes.
func TestActionsRequest(t *testing.T) {
	s := aGitHub(t)
	t.Chdir(t.TempDir())
	ci := s.Repository("acme/ci")
	ci.Commit("main", "alice", "begin", map[string]string{"policy/catalog.yaml": catalogBefore, "README.md": "x"})
	ask := func(args ...string) (string, error) {
		out, _, err := actions(t, s, append([]string{args[0], "--catalog-repo", "acme/ci", "--catalog", "policy/catalog.yaml"}, args[1:]...)...)
		return out, err
	}
	request := []string{"request", "tools/scan@v2", "--versions", ">=2 <3", "--reason", "scans | the @shop", "--org", "acme"}
	out, err := ask(request...)
	if err != nil || !strings.HasPrefix(out, "opened ") {
		t.Fatal(err, out)
	}
	issues := ci.Issues()
	if len(issues) != 1 || !issues[0].Pull || issues[0].Login != "alice" || issues[0].Title != "Approve tools/scan >=2 <3" {
		t.Fatalf("%+v", issues)
	}
	branch := issues[0].Head
	for _, want := range []string{
		"**Why:** scans \\| the \\@\u200bshop\n", "| Owner | alice |", " of 10, 8 of 10 parts known", "| incidents | 10 | 4 | none is known |",
		"**Permissions of the job's token:** not known, the catalogue does not know it", "#### Used in 2 places", "acme/shop/\\.github/workflows/ci\\.yml:4",
	} {
		if !strings.Contains(issues[0].Body, want) {
			t.Errorf("%q is not in\n%s", want, issues[0].Body)
		}
	}
	after := catalogBefore + "- action: tools/scan\n  versions: '>=2 <3'\n  owner: alice\n  reason: scans | the @shop\n"
	head := ci.Head(branch)
	files := ci.Files(head)
	if files["policy/catalog.yaml"] != after || files["README.md"] != "x" || len(files) != 2 {
		t.Errorf("%q", files)
	}
	if message, signed, parents := ci.Message(head); !signed || len(parents) != 1 || parents[0] != ci.Head("main") || !strings.HasPrefix(message, "Approve tools/scan >=2 <3\n") {
		t.Errorf("%q, signed %v, parents %v", message, signed, parents)
	}
	if out, err = ask(request...); err != nil || !strings.HasPrefix(out, "unchanged ") || ci.Head(branch) != head {
		t.Errorf("asked again: %v %s", err, out)
	}

	// The default branch goes on: the request follows it, and keeps what came.
	ci.Commit("main", "carol", "more", map[string]string{"policy/catalog.yaml": catalogBefore + "# more\n"})
	if out, err = ask(request...); err != nil || !strings.HasPrefix(out, "updated ") || !strings.Contains(ci.Files(ci.Head(branch))["policy/catalog.yaml"], "# more\n- action: tools/scan\n") {
		t.Errorf("%v %s\n%s", err, out, ci.Files(ci.Head(branch))["policy/catalog.yaml"])
	}
	// An approval goes into the same pull request, from what is on the default branch.
	if out, err = ask("approve", "tools/scan", "--versions", ">=2.1 <3", "--owner", "platform", "--reviewer", "bob", "--reason", "looked at"); err != nil || !strings.HasPrefix(out, "updated ") {
		t.Errorf("%v %s", err, out)
	}
	if got := ci.Files(ci.Head(branch))["policy/catalog.yaml"]; !strings.Contains(got, "reviewer: bob") || strings.Contains(got, "alice") || len(ci.Issues()) != 1 {
		t.Errorf("%s\n%+v", got, ci.Issues())
	}
	// Somebody's commits are left alone.
	theirs := ci.Commit(branch, "carol", "mine", map[string]string{"README.md": "y"})
	if _, err = ask(request...); exitCode(err) != exitFailed || !strings.Contains(err.Error(), "commits of somebody else") || ci.Head(branch) != theirs {
		t.Errorf("%v", err)
	}
	// A denial of a pattern has no score; what the file says already is no request.
	if out, err = ask("deny", "tj-actions/*", "--owner", "security", "--reason", "taken over"); err != nil || !strings.HasPrefix(out, "opened ") || len(ci.Issues()) != 2 {
		t.Errorf("%v %s", err, out)
	}
	if _, err = ask("approve", "actions/*", "--owner", "platform", "--reason", "by GitHub"); err == nil || !strings.Contains(err.Error(), "says so already") {
		t.Errorf("%v", err)
	}
	for _, b := range ci.Branches() {
		if strings.HasSuffix(b, "-passing") {
			t.Errorf("branch %s is left", b)
		}
	}
	for _, args := range [][]string{{"request", "tools/scan"}, {"request", "x/y", "--reason", "r", "--catalog-repo", "acme"}, {"approve", "x/y", "--catalog-repo", "acme/ci"}} {
		if _, _, err := actions(t, s, args...); exitCode(err) != exitUsage {
			t.Errorf("%v: %v", args, err)
		}
	}
}

// TestActionsRequestIssue: an issue is updated by who opened it, and nobody else's is touched.
func TestActionsRequestIssue(t *testing.T) {
	s := aGitHub(t)
	t.Chdir(t.TempDir())
	ci := s.Repository("acme/ci")
	ci.Commit("main", "alice", "begin", map[string]string{"catalog.yaml": catalogBefore})
	ask := func(reason string, more ...string) string {
		t.Helper()
		out, _, err := actions(t, s, append([]string{"request", "tools/leaf@v1", "--reason", reason, "--catalog-repo", "acme/ci", "--issue"}, more...)...)
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	if out := ask("because"); !strings.HasPrefix(out, "opened ") {
		t.Error(out)
	}
	if out := ask("because"); !strings.HasPrefix(out, "unchanged ") {
		t.Error(out)
	}
	if out := ask("because of more"); !strings.HasPrefix(out, "updated ") {
		t.Error(out)
	}
	first := ci.Issues()
	if len(first) != 1 || first[0].Pull || !strings.Contains(first[0].Body, "because of more") || len(ci.Branches()) != 1 {
		t.Fatalf("%+v", first)
	}
	t.Setenv("GH_TOKEN", s.Token("mallory", false))
	if out := ask("another"); !strings.HasPrefix(out, "opened ") || ci.Issues()[0].Body != first[0].Body {
		t.Errorf("%s %+v", out, ci.Issues())
	}
	// An App knows its own by the mark and by being one.
	app := s.NewApp("sallyport", map[string]string{"contents": "write", "pull_requests": "write", "issues": "write", "metadata": "read"}, "acme")
	key := filepath.Join(t.TempDir(), "app.pem")
	if err := os.WriteFile(key, app.KeyPEM(), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("GH_TOKEN", "")
	id := []string{"--app-id", strconv.FormatInt(app.ID, 10), "--app-key", key, "--owner", "platform"}
	if out := ask("app", id...); !strings.HasPrefix(out, "opened ") {
		t.Error(out)
	}
	if out := ask("app again", id...); !strings.HasPrefix(out, "updated ") || len(ci.Issues()) != 3 {
		t.Errorf("%s %+v", out, ci.Issues())
	}
}

// TestCatalogOfRepository: harden and harden org judge by the file of a repository, and what ends
// soon is listed.
func TestCatalogOfRepository(t *testing.T) {
	s := aGitHub(t)
	dir := t.TempDir()
	t.Setenv("XDG_STATE_HOME", filepath.Join(dir, "state"))
	t.Chdir(dir)
	if err := os.MkdirAll(".github/workflows", 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(".github/workflows/ci.yml", []byte("on: push\njobs: {a: {steps: [{uses: tools/scan@v2}]}}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	ci := s.Repository("acme/ci")
	ci.Commit("main", "alice", "begin", map[string]string{"catalog.yaml": "version: 1\nactions:\n- {action: tools/leaf, owner: platform, reason: ours, until: 2026-01-31}\n- {action: tools/scan, versions: '>=3', owner: platform, reason: ours, until: 2999-01-31}\n"})
	run := func(args ...string) (string, error) {
		var o strings.Builder
		root := newRootCommand()
		root.SetArgs(args)
		root.SetOut(&o)
		root.SetErr(&o)
		err := root.ExecuteContext(t.Context())
		return o.String(), err
	}
	at := []string{"--github-api", s.URL, "--catalog-repo", "acme/ci", "--offline", "--only", "approvals"}
	if out, err := run(append([]string{"harden", "--check"}, at...)...); exitCode(err) != exitFailed || !strings.Contains(out, "tools/scan is approved in versions >=3, and this is v2") {
		t.Errorf("%v\n%s", err, out)
	}
	if out, err := run(append([]string{"harden", "org", "acme", "--dry-run", "--write-pause", "0"}, at...)...); err != nil || !strings.Contains(out, "acme/shop   clean   0      0      2") {
		t.Errorf("%v\n%s", err, out)
	}
	out, _, err := actions(t, s, "list", "--org", "acme", "--expiring", "30d", "--catalog-repo", "acme/ci")
	if err != nil || !strings.Contains(out, "tools/leaf") || !strings.Contains(out, "approval by platform ended 2026-01-31") || strings.Contains(out, "tools/scan") {
		t.Errorf("%v\n%s", err, out)
	}
	if _, _, err := actions(t, s, "list", "--org", "acme", "--expiring", "soon"); exitCode(err) != exitUsage {
		t.Errorf("no number of days: %v", err)
	}
	s.Break(githubfake.Fault{Path: "/contents/catalog.yaml", Status: 404, Times: 10})
	if _, err := run(append([]string{"harden"}, at...)...); err == nil || !strings.Contains(err.Error(), "read approvals") {
		t.Errorf("a file that is not there: %v", err)
	}
}
