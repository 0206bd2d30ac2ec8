package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sallyport-ci/sallyport/harden"
	"github.com/sallyport-ci/sallyport/test/githubfake"
)

// actions runs sallyport actions at a fake of GitHub.
func actions(t *testing.T, s *githubfake.Server, args ...string) (out, said string, err error) {
	t.Helper()
	var o, e bytes.Buffer
	root := newRootCommand()
	root.SetArgs(append([]string{"actions", args[0], "--github-api", s.URL}, args[1:]...))
	root.SetOut(&o)
	root.SetErr(&e)
	err = root.ExecuteContext(t.Context())
	return o.String(), e.String(), err
}

// aGitHub has an organisation acme with repositories that use actions, and a user's token.
func aGitHub(t *testing.T) *githubfake.Server {
	t.Helper()
	home := t.TempDir()
	t.Setenv("XDG_CACHE_HOME", filepath.Join(home, "cache"))
	t.Setenv("GITHUB_TOKEN", "")
	s := githubfake.New(t)
	t.Setenv("GH_TOKEN", s.Token("alice", true))
	leaf := s.Repository("tools/leaf")
	leaf.Tag("v1", leaf.Commit("main", "bob", "begin", map[string]string{"action.yml": "runs: {using: node24, main: x.js}\n"}))
	scan := s.Repository("tools/scan")
	scan.Tag("v2", scan.Commit("main", "bob", "begin", map[string]string{"action.yml": "runs:\n  using: composite\n  steps:\n    - uses: tools/leaf@v1\n"}))
	workflow := func(uses ...string) map[string]string {
		return map[string]string{".github/workflows/ci.yml": "jobs:\n  a:\n    steps:\n      - uses: " + strings.Join(uses, "\n      - uses: ") + "\n"}
	}
	s.Repository("acme/shop").Commit("main", "alice", "begin", workflow("tools/scan@v2", "tools/leaf@v1"))
	s.Repository("acme/site").Commit("main", "alice", "begin", workflow("tools/scan@"+scan.Head("main")+" # v2.0.0"))
	s.Repository("acme/empty")
	s.Repository("acme/old").Commit("main", "alice", "begin", workflow("tools/old@v1"))
	s.Repository("acme/old").Archived = true
	return s
}

func TestActionsOfOrganisation(t *testing.T) {
	s := aGitHub(t)
	out, said, err := actions(t, s, "list", "--org", "acme")
	if err != nil || said != "" {
		t.Fatal(err, said)
	}
	for _, want := range []string{"tools/leaf  1     1             no      v1", "tools/scan  2     2             no      v2, v2.0.0"} {
		if !strings.Contains(out, want) {
			t.Errorf("%q is not in\n%s", want, out)
		}
	}
	if strings.Contains(out, "tools/old") {
		t.Errorf("an archived repository was read:\n%s", out)
	}
	if out, _, err = actions(t, s, "show", "tools/leaf", "--org", "acme", "--transitive"); err != nil {
		t.Fatal(err)
	}
	scan := s.Repository("tools/scan").Head("main")
	if want := "tools/leaf (not in the catalogue)\n  acme/shop/.github/workflows/ci.yml:4 through tools/scan@v2: @v1\n  acme/shop/.github/workflows/ci.yml:5: @v1\n" +
		"  acme/site/.github/workflows/ci.yml:4 through tools/scan@" + scan + ": @v1\n"; out != want {
		t.Errorf("%s\nwant\n%s", out, want)
	}
	if _, _, err = actions(t, s, "show", "nobody/nothing", "--org", "acme"); exitCode(err) != exitNotFound {
		t.Errorf("an action that nobody uses: %v", err)
	}
	if _, _, err = actions(t, s, "list", ".", "--org", "acme"); exitCode(err) != exitUsage {
		t.Errorf("paths and an organisation: %v", err)
	}
	if out, _, err = actions(t, s, "list", "--org", "acme", "--match", "sh*", "--json"); err != nil {
		t.Fatal(err)
	}
	var u harden.UsedAction
	if err := json.Unmarshal([]byte(out[:strings.Index(out, "\n")]), &u); err != nil || u.Name != "tools/leaf" || u.Versions[0].At[0].Repository != "acme/shop" {
		t.Errorf("%v: %s", err, out)
	}

	// A file that cannot be read is said, and the rest is listed.
	s.Repository("acme/bad").Commit("main", "alice", "begin", map[string]string{".github/workflows/x.yml": "jobs: ["})
	out, said, err = actions(t, s, "list", "--org", "acme")
	if exitCode(err) != exitFailed || !strings.Contains(out, "tools/scan") || !strings.Contains(said, "acme/bad: .github/workflows/x.yml:") {
		t.Errorf("%v\n%s%s", err, out, said)
	}
}

func TestActionsDiff(t *testing.T) {
	s := aGitHub(t)
	old, _, err := actions(t, s, "list", "--org", "acme", "--json")
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "old.json")
	if err := os.WriteFile(file, []byte(old), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, _, err := actions(t, s, "diff", file, "--org", "acme", "--check"); err != nil || out != "" {
		t.Errorf("nothing has changed: %v\n%s", err, out)
	}
	s.Repository("acme/site").Commit("main", "alice", "more", map[string]string{".github/workflows/ci.yml": "jobs: {a: {steps: [{uses: tools/scan@v2}, {uses: tools/leaf@v1}]}}\n"})
	out, _, err := actions(t, s, "diff", file, "--org", "acme", "--check")
	if exitCode(err) != exitFailed || !strings.Contains(out, "tools/leaf  acme/site   came      -") || !strings.Contains(out, "tools/scan  acme/site   unpinned  ") {
		t.Errorf("%v\n%s", err, out)
	}
	if out, _, err = actions(t, s, "diff", file, "--org", "acme", "--json"); err != nil || strings.Count(out, "\n") != 2 || !strings.Contains(out, `"kind":"came","before":[],"after":["v1"]`) {
		t.Errorf("%v\n%s", err, out)
	}
	if err := os.WriteFile(file, []byte("{}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, _, err = actions(t, s, "diff", file, "--org", "acme"); exitCode(err) != exitUsage {
		t.Errorf("a file that is none: %v", err)
	}
	if _, _, err = actions(t, s, "diff", file); exitCode(err) != exitUsage {
		t.Errorf("one inventory: %v", err)
	}
}

// TestActionsScore: the commit in use is scored by what GitHub says, with reasons, and saved facts
// score to the same without GitHub.
func TestActionsScore(t *testing.T) {
	s := aGitHub(t)
	s.Organisation("tools").Verified = true
	scan := s.Repository("tools/scan")
	scan.Stars = 1234
	commit := scan.Commit("main", "bob", "policy", map[string]string{"SECURITY.md": "tell us\n"})
	scan.Tag("v2.1.0", commit)
	scan.Release("v2.1.0", time.Now().AddDate(0, 0, -100), true)
	s.Advisory("tools/scan", "GHSA-aaaa-bbbb-cccc", "critical", "It printed secrets", "< 2.1.0")
	dir := t.TempDir()
	seen, facts := filepath.Join(dir, "seen.json"), filepath.Join(dir, "facts.json")
	if err := os.WriteFile(seen, []byte(`{"action":"tools/scan@v2.1.0","domain":"exfil.example.test","address":"192.0.2.1"}`+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	online, said, err := actions(t, s, "score", "tools/scan@v2.1.0", "--seen", seen, "--facts", facts)
	if err != nil || said != "" {
		t.Fatal(err, said)
	}
	for _, want := range []string{
		"tools/scan@v2.1.0 (" + commit[:12] + "): 6.9 of 10, 9 of 10 parts known\n",
		"incidents      7  weight 4  GHSA-aaaa-bbbb-cccc (critical, not of this version): It printed secrets\n",
		"origin         6  weight 4  in tag v2.1.0, without a signature", "maintenance   10  weight 3  last push 0 days before\n",
		"dependencies   0  weight 3  1 of the 1 that it uses are not pinned: tools/leaf@v1\n", "owner         10  weight 2",
		"permissions    ?  weight 2  the catalogue does not know it\n", "destinations   6  weight 2  hosts that the catalogue does not name: exfil.example.test\n",
		"release       10  weight 2  v2.1.0, published 100 days before, immutable\n", "popularity     8  weight 1  1234 stars\n", "policy        10  weight 1",
	} {
		if !strings.Contains(online, want) {
			t.Errorf("%q is not in\n%s", want, online)
		}
	}
	s.Forget()
	offline, _, err := actions(t, s, "score", "--offline", "--facts", facts)
	if err != nil || offline != online || len(s.Requests()) != 0 {
		t.Errorf("%v, %d requests\n%s\nwant\n%s", err, len(s.Requests()), offline, online)
	}

	// An older version is the one of the advisory; a commit of a fork is in no branch.
	out, _, err := actions(t, s, "score", "tools/scan@v2", "tools/scan@"+scan.Loose(commit, "eve", "x", map[string]string{"action.yml": "runs: {using: node24, main: x.js}\n"}), "--min", "1")
	if exitCode(err) != exitFailed || !strings.Contains(out, "at most 0: the commit is in no branch or tag of the repository") || !strings.Contains(out, "at most 0: GHSA-aaaa-bbbb-cccc is about this version") {
		t.Errorf("%v\n%s", err, out)
	}
	// What is in use in the organisation, as JSON, and never a number without reasons.
	if out, _, err = actions(t, s, "score", "tools/leaf", "--org", "acme", "--json"); err != nil || strings.Count(out, "\n") != 1 || strings.Count(out, `"reason":"`) != 10 {
		t.Errorf("%v\n%s", err, out)
	}
	// What GitHub does not tell is said, and not counted.
	s.Break(githubfake.Fault{Path: "/advisories", Status: 404, Times: 100})
	if out, _, err = actions(t, s, "score", "tools/leaf@v1"); err != nil || !strings.Contains(out, "7 of 10 parts known") || !strings.Contains(out, "incidents      ?  weight 4  ask for advisories about tools/leaf") {
		t.Errorf("%v\n%s", err, out)
	}
	for _, args := range [][]string{{"--offline"}, {"x"}, {"--org", "acme", "--path", "."}, {"--app-id", "7", "--app-key", "x"}} {
		if _, _, err := actions(t, s, append([]string{"score"}, args...)...); exitCode(err) != exitUsage {
			t.Errorf("%v: %v", args, err)
		}
	}
	if _, _, err := actions(t, s, "score", "nobody/nothing", "--org", "acme"); exitCode(err) != exitNotFound {
		t.Errorf("what nobody uses: %v", err)
	}
}
