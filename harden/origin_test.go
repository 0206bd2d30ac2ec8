package harden

import (
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// gitRepository makes acme/deploy below dir with git itself, with dates, and returns its commits by
// tag.
func gitRepository(t *testing.T, dir string, filter bool) map[string]string {
	t.Helper()
	commits := make(map[string]string)
	repo := filepath.Join(dir, "acme", "deploy")
	run := func(when string, args ...string) string {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), "git", args...)
		cmd.Dir = repo
		if args[0] == "init" {
			cmd.Dir = dir
		}
		cmd.Env = []string{
			"PATH=/usr/bin:/bin", "HOME=" + dir, "GIT_AUTHOR_NAME=a", "GIT_AUTHOR_EMAIL=a@example.test", "GIT_COMMITTER_NAME=a", "GIT_COMMITTER_EMAIL=a@example.test",
			"GIT_AUTHOR_DATE=" + when, "GIT_COMMITTER_DATE=" + when, "GIT_CONFIG_NOSYSTEM=1",
		}
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("git %v: %v: %s", args, err, out)
		}
		return strings.TrimSpace(string(out))
	}
	run("", "init", "-q", "-b", "main", repo)
	if filter {
		run("", "config", "uploadpack.allowFilter", "true")
	}
	for _, v := range [][2]string{{"v1.0.0", "2026-01-01T00:00:00Z"}, {"v1.1.0", "2026-10-01T00:00:00Z"}, {"v1.2.0", "2026-11-23T00:00:00Z"}} {
		run(v[1], "commit", "-q", "--allow-empty", "-m", v[0])
		run(v[1], "tag", v[0])
		commits[v[0]] = run("", "rev-parse", "HEAD")
		if v[0] == "v1.0.0" { // a second commit that no tag names
			run(v[1], "commit", "-q", "--allow-empty", "-m", "between")
			commits["between"] = run("", "rev-parse", "HEAD")
		}
	}
	run("", "tag", "v1")
	// The tag is young, its commit is not.
	run("2026-11-23T00:00:00Z", "tag", "-a", "-m", "late", "v0.9.0", commits["between"])
	return commits
}

func TestRemoteOrigin(t *testing.T) {
	for name, filter := range map[string]bool{"with filter": true, "without": false} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			commits := gitRepository(t, dir, filter)
			r := &Remote{Server: "file://" + dir}
			for tag, want := range map[string]string{"v1.0.0": "2026-01-01", "v1.2.0": "2026-11-23", "v0.9.0": "2026-11-23"} {
				commit := commits[tag]
				if commit == "" {
					commit = commits["between"]
				}
				got, err := r.Published(t.Context(), "acme/deploy", commit, []string{tag})
				if err != nil || got.When.UTC().Format(time.DateOnly) != want || got.Vouched || got.Immutable {
					t.Errorf("%s is of %+v, %v; want %s", tag, got, err, want)
				}
			}
			for _, tag := range []string{"v1.0.0", "v1.2.0", "between"} {
				if has, err := r.Contains(t.Context(), "acme/deploy", commits[tag]); err != nil || !has {
					t.Errorf("%s: %v, %v", tag, has, err)
				}
			}
			has, err := r.Contains(t.Context(), "acme/deploy", commit(0xabc))
			if has || filter && err != nil || !filter && err == nil {
				t.Errorf("a commit that is not there: %v, %v", has, err)
			}
			if _, err := r.Contains(t.Context(), "acme/nothing", commit(0xabc)); err == nil {
				t.Error("a repository that is not there")
			}
		})
	}
}

// A commit further back than is looked at is not said to be foreign.
func TestLongHistory(t *testing.T) {
	dir := t.TempDir()
	commits := gitRepository(t, dir, true)
	r := &Remote{Server: "file://" + dir, depth: 2}
	if err := exec.CommandContext(t.Context(), "git", "-C", filepath.Join(dir, "acme", "deploy"), "tag", "-d", "v1.0.0", "v0.9.0", "v1.1.0").Run(); err != nil {
		t.Fatal(err)
	}
	if has, err := r.Contains(t.Context(), "acme/deploy", commits["v1.0.0"]); has || err == nil || !strings.Contains(err.Error(), "longer than is looked at") {
		t.Errorf("%v, %v", has, err)
	}
	if has, err := r.Contains(t.Context(), "acme/deploy", commits["v1.1.0"]); !has || err != nil {
		t.Errorf("%v, %v", has, err)
	}
}

func TestCoolDownByGit(t *testing.T) {
	dir := t.TempDir()
	commits := gitRepository(t, dir, true)
	c := settings()
	c.Resolver, c.MinAge, c.Rules = &Remote{Server: "file://" + dir}, 7*24*time.Hour, []string{"pin"}
	r, err := Text(t.Context(), c, ".github/workflows/x.yml", []byte("jobs:\n  a:\n    steps:\n      - uses: acme/deploy@v1\n      - uses: acme/deploy@v0.9.0\n      - uses: acme/deploy@"+commit(0xabc)+"\n"))
	if err != nil || r.Problem != nil {
		t.Fatal(err, r.Problem)
	}
	if !strings.Contains(string(r.After), "acme/deploy@"+commits["v1.1.0"]+" # v1.1.0") || !strings.Contains(string(r.After), "acme/deploy@v0.9.0\n") {
		t.Errorf("%s", r.After)
	}
	got := strings.Join(saidOf(r), "\n")
	for _, want := range []string{
		"note 4:15 cool-down acme/deploy@v1 is v1.2.0 of 2026-11-23, as its author says, which is too young to be taken; until then it is v1.1.0",
		"warning 5:15 unpinned acme/deploy@v0.9.0 is not pinned to a commit: what it stands for is of 2026-11-23, and nothing is taken before it is 7 days old: it is too young",
		"error 6:15 impostor-commit commit " + commit(0xabc) + " is in no branch or tag of acme/deploy",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("%q is not in\n%s", want, got)
		}
	}
	// A resolver that knows no dates: it is taken, and said.
	c = settings()
	c.MinAge = time.Hour
	r, err = Text(t.Context(), c, ".github/workflows/x.yml", []byte("jobs:\n  a:\n    steps:\n      - uses: actions/checkout@v4\n"))
	if err != nil || r.After == nil || !strings.Contains(strings.Join(saidOf(r), "\n"), "note 4:15 cool-down how old actions/checkout@v4 is is not known") {
		t.Errorf("%v, %v", saidOf(r), err)
	}
}
