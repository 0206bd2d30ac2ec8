package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/sallyport-ci/sallyport/test/githubfake"
)

// inOrganisation runs harden org in acme of a fake of GitHub.
func inOrganisation(t *testing.T, s *githubfake.Server, args ...string) (out, said string, err error) {
	t.Helper()
	var o, e bytes.Buffer
	root := newRootCommand()
	root.SetArgs(append([]string{"harden", "org", "acme", "--github-api", s.URL, "--write-pause", "0", "--offline"}, args...))
	root.SetOut(&o)
	root.SetErr(&e)
	err = root.ExecuteContext(t.Context())
	return o.String(), e.String(), err
}

func TestHardenOrg(t *testing.T) {
	home := t.TempDir()
	t.Setenv("XDG_STATE_HOME", filepath.Join(home, "state"))
	t.Setenv("XDG_CACHE_HOME", filepath.Join(home, "cache"))
	t.Setenv("GITHUB_TOKEN", "")
	t.Setenv("GH_TOKEN", "")
	s := githubfake.New(t)
	commit := strings.Repeat("ab", 20)
	shop := s.Repository("acme/shop")
	shop.Commit("main", "alice", "begin", map[string]string{
		".github/workflows/ci.yml": "on: push\npermissions: {}\njobs:\n  build:\n    runs-on: ubuntu-latest\n    steps:\n      - uses: acme/setup@v4\n      - run: echo ${{ github.event.issue.title }}\n",
		"sallyport.lock":           "version: 1\nactions:\n  - uses: acme/setup@v4\n    commit: " + commit + "\n    version: v4.1.0\n    seen: \"2026-11-01\"\n",
	})
	s.Repository("acme/plain").Commit("main", "alice", "begin", map[string]string{"README.md": "x"})
	s.Repository("acme/old").Archived = true

	if _, _, err := inOrganisation(t, s, "--app-id", "7"); err == nil || exitCode(err) != exitUsage {
		t.Errorf("an App without a key: %v", err)
	}
	if _, _, err := inOrganisation(t, s, "--only", "pins"); err == nil || exitCode(err) != exitUsage {
		t.Errorf("a rule that there is not: %v", err)
	}

	t.Setenv("GH_TOKEN", s.Token("alice", true))
	s.Forget()
	out, _, err := inOrganisation(t, s, "--dry-run", "--diff", "--only", "pin,audit")
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"--- a/acme/shop/.github/workflows/ci.yml", "+      - uses: acme/setup@" + commit + " # v4.1.0",
		"REPOSITORY", "acme/shop   would be opened  1      1      1", "3 repositories, 1 would be opened, 1 clean, 1 skipped",
	} {
		if !strings.Contains(out, want) {
			t.Errorf("%q is not in\n%s", want, out)
		}
	}
	for _, r := range s.Requests() {
		if r.Write() {
			t.Errorf("a dry run asks %s %s", r.Method, r.Path)
		}
	}

	app := s.NewApp("sallyport", map[string]string{"contents": "write", "pull_requests": "write", "workflows": "write", "metadata": "read"}, "acme")
	key := filepath.Join(home, "app.pem")
	if err := os.WriteFile(key, app.KeyPEM(), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("GH_TOKEN", "")
	id := []string{"--app-id", strconv.FormatInt(app.ID, 10), "--app-key", key, "--only", "pin,audit", "--json"}
	out, _, err = inOrganisation(t, s, id...)
	if err != nil {
		t.Fatal(err)
	}
	var got struct {
		Organisation string
		Repositories []struct {
			Repository, Status string
			PullRequest        string `json:"pull_request"`
			Files, Fixes       int
			Findings           []struct{ File, Rule, Message string }
		}
		Totals map[string]int
	}
	if err := json.Unmarshal([]byte(out), &got); err != nil {
		t.Fatalf("%v in %s", err, out)
	}
	if got.Organisation != "acme" || got.Totals["opened"] != 1 || got.Totals["clean"] != 1 || got.Totals["skipped"] != 1 || len(got.Repositories) != 3 {
		t.Errorf("%+v", got)
	}
	r := got.Repositories[2]
	if r.Repository != "acme/shop" || !strings.HasSuffix(r.PullRequest, "/pull/1") || r.Fixes != 1 || len(r.Findings) != 1 || r.Findings[0].Rule != "template-injection" {
		t.Errorf("%+v", r)
	}
	if issues := shop.Issues(); len(issues) != 1 || issues[0].Login != "sallyport[bot]" {
		t.Errorf("%+v", issues)
	}
	if left, err := filepath.Glob(filepath.Join(home, "state/sallyport/harden/*")); err != nil || len(left) != 0 {
		t.Errorf("%v is left, %v", left, err)
	}

	// What fails is said, and the exit code says so, too.
	s.Repository("acme/ruled").Commit("main", "alice", "begin", shop.Files(shop.Head("main")))
	s.Repository("acme/ruled").Protected = []string{"sallyport/*"}
	out, _, err = inOrganisation(t, s, id[:6]...)
	var exit *exitError
	if !errors.As(err, &exit) || exit.code != exitFailed || !strings.Contains(out, "acme/ruled  failed") || !strings.Contains(out, "1 unchanged") {
		t.Errorf("%v\n%s", err, out)
	}
}

// Each repository's tokens are granted what its own jobs were seen to ask for.
func TestHardenOrgObserved(t *testing.T) {
	home := t.TempDir()
	t.Setenv("XDG_STATE_HOME", filepath.Join(home, "state"))
	t.Setenv("XDG_CACHE_HOME", filepath.Join(home, "cache"))
	s := githubfake.New(t)
	t.Setenv("GH_TOKEN", s.Token("alice", true))
	t.Setenv("GITHUB_TOKEN", "")
	for _, name := range []string{"shop", "till"} {
		s.Repository("acme/"+name).Commit("main", "alice", "begin", map[string]string{
			".github/workflows/ci.yml": "on: push\njobs:\n  " + name + ":\n    runs-on: ubuntu-latest\n    steps:\n      - run: ./release.sh\n        env:\n          GH_TOKEN: ${{ github.token }}\n",
		})
	}
	seen := filepath.Join(home, "seen.jsonl")
	lines := `{"repository":"acme/shop","file":".github/workflows/ci.yml","job":"shop","method":"POST","host":"api.github.com","path":"/repos/acme/shop/releases","runs":12,"of":12}
{"repository":"acme/till","file":".github/workflows/ci.yml","job":"till","method":"GET","host":"api.github.com","path":"/repos/acme/till/issues","runs":"11","of":"12"}
`
	if err := os.WriteFile(seen, []byte(lines), 0o600); err != nil {
		t.Fatal(err)
	}
	out, _, err := inOrganisation(t, s, "--dry-run", "--diff", "--only", "permissions", "--observed", seen)
	if err != nil {
		t.Fatal(err)
	}
	at := strings.Index(out, "--- a/acme/till")
	if at < 0 || !strings.Contains(out[:at], "+      contents: write") || !strings.Contains(out[at:], "+      issues: read") || strings.Contains(out[:at], "issues") {
		t.Errorf("it prints\n%s", out)
	}
}
