package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/go-git/go-git/v5"
	"github.com/go-git/go-git/v5/config"

	"github.com/sallyport-ci/sallyport/test/githubfake"
)

// With a token, GitHub's interface says what references stand for.
func TestHardenAsksGitHub(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("XDG_CACHE_HOME", filepath.Join(dir, "cache"))
	t.Setenv("GITHUB_REPOSITORY", "")
	t.Setenv("GITHUB_TOKEN", "")
	s := githubfake.New(t)
	t.Setenv("GH_TOKEN", s.Token("alice", true))
	setup := s.Repository("acme/setup")
	s.SetClock(func() time.Time { return time.Now().AddDate(0, 0, -30) })
	old := setup.Commit("main", "alice", "one", map[string]string{"action.yml": "one"})
	setup.Tag("v1.0.0", old)
	setup.Release("v1.0.0", time.Now().AddDate(0, 0, -30), true)
	s.SetClock(time.Now)
	young := setup.Commit("main", "alice", "two", map[string]string{"action.yml": "two"})
	setup.Tag("v1.1.0", young)
	setup.Tag("v1", young)
	workflow := filepath.Join(dir, "shop", ".github", "workflows", "ci.yml")
	if err := os.MkdirAll(filepath.Dir(workflow), 0o755); err != nil {
		t.Fatal(err)
	}
	text := "on: push\npermissions: {}\njobs:\n  build:\n    runs-on: ubuntu-latest\n    steps:\n      - uses: acme/setup@v1\n      - uses: acme/setup@v1.0.0\n"
	if err := os.WriteFile(workflow, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	run := func(args ...string) (string, error) {
		t.Helper()
		var out bytes.Buffer
		root := newRootCommand()
		root.SetArgs(append([]string{"harden", filepath.Join(dir, "shop"), "--only", "pin", "--github-api", s.URL}, args...))
		root.SetOut(&out)
		root.SetErr(&out)
		err := root.ExecuteContext(t.Context())
		return out.String(), err
	}
	out, err := run("--min-age", "0")
	if err != nil || !strings.Contains(out, "+      - uses: acme/setup@"+young+" # v1.1.0") {
		t.Errorf("%v\n%s", err, out)
	}
	out, err = run()
	if err != nil || strings.Count(out, "acme/setup@"+old+" # v1.0.0") != 2 || !strings.Contains(out, "too young to be taken") || !strings.Contains(out, "the tag of an immutable release") {
		t.Errorf("%v\n%s", err, out)
	}
	if _, err := run("--min-age", "-1"); exitCode(err) != exitUsage {
		t.Errorf("a negative age: %v", err)
	}
	if _, err := run("--app-id", "7", "--app-key", workflow); exitCode(err) != exitUsage {
		t.Errorf("an App of nobody's checkout: %v", err)
	}
	s.Forget()
	if out, err := run("--offline"); err != nil || len(s.Requests()) != 0 {
		t.Errorf("offline it asks %v: %v\n%s", s.Requests(), err, out)
	}
}

func TestCheckoutOf(t *testing.T) {
	t.Setenv("GITHUB_REPOSITORY", "")
	for address, want := range map[string]string{
		"https://github.com/acme/shop.git": "acme/shop", "https://github.com/acme/shop": "acme/shop", "git@github.com:acme/shop.git": "acme/shop",
		"ssh://git@github.com/acme/shop/": "acme/shop", "https://github.com.evil.example.test/acme/shop": "", "https://example.test/acme/shop": "", "../shop": "",
	} {
		dir := t.TempDir()
		repo, err := git.PlainInit(dir, false)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := repo.CreateRemote(&config.RemoteConfig{Name: "origin", URLs: []string{address}}); err != nil {
			t.Fatal(err)
		}
		if got := checkoutOf(dir, publicGitHub); got != want {
			t.Errorf("%s is %q, want %q", address, got, want)
		}
	}
	if got := checkoutOf(t.TempDir(), publicGitHub); got != "" {
		t.Errorf("no repository is %q", got)
	}
}
