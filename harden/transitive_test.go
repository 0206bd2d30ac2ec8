package harden

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// repositories makes repositories below dir: each file of each at one commit, which it returns.
func repositories(t *testing.T, dir string, files map[string]map[string]string, order ...string) map[string]string {
	t.Helper()
	commits := make(map[string]string)
	for _, name := range order {
		at := filepath.Join(dir, filepath.FromSlash(name))
		git := func(args ...string) string {
			t.Helper()
			cmd := exec.Command("git", append([]string{"-C", at, "-c", "user.name=a", "-c", "user.email=a@example.test"}, args...)...)
			out, err := cmd.CombinedOutput()
			if err != nil {
				t.Fatalf("git %v: %v\n%s", args, err, out)
			}
			return strings.TrimSpace(string(out))
		}
		if err := os.MkdirAll(at, 0o755); err != nil {
			t.Fatal(err)
		}
		git("init", "-q", "-b", "main")
		git("config", "uploadpack.allowAnySHA1InWant", "true") // as GitHub does
		for file, text := range files[name] {
			for other, commit := range commits {
				text = strings.ReplaceAll(text, "COMMIT("+other+")", commit)
			}
			file = filepath.Join(at, filepath.FromSlash(file))
			if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		git("add", ".")
		git("commit", "-q", "-m", "x")
		git("tag", "v1.0.0")
		commits[name] = git("rev-parse", "HEAD")
		git("commit", "-q", "--allow-empty", "-m", "later")
	}
	return commits
}

// TestTransitive: a pinned action whose inner references are not is told, down to its end.
func TestTransitive(t *testing.T) {
	dir := t.TempDir()
	composite := func(uses ...string) string {
		text := "runs:\n  using: composite\n  steps:\n"
		for _, u := range uses {
			text += "    - uses: " + u + "\n"
		}
		return text
	}
	commits := repositories(t, dir, map[string]map[string]string{
		"acme/leaf":  {"action.yml": "runs: {using: docker, image: 'docker://alpine:3.20'}\n"},
		"acme/clean": {"action.yaml": "runs: {using: node24, main: x.js}\n"},
		"acme/tool":  {"sub/action.yml": composite("acme/leaf@v1.0.0", "acme/clean@COMMIT(acme/clean)", "./own", "acme/gone@v1")},
		"acme/scan":  {"action.yml": composite("acme/tool/sub@COMMIT(acme/tool)", "acme/clean@COMMIT(acme/clean)")},
		"acme/round": {"action.yml": composite("acme/round@main")},
		"acme/flows": {".github/workflows/x.yml": "jobs:\n  a:\n    container: alpine:3.20\n    steps:\n      - uses: acme/leaf@main\n"},
	}, "acme/leaf", "acme/clean", "acme/tool", "acme/scan", "acme/round", "acme/flows")
	c := settings()
	c.Resolver, c.Transitive, c.Rules = &Remote{Server: "file://" + dir}, true, []string{"pin"}
	workflow := fmt.Sprintf("jobs:\n  a:\n    steps:\n      - uses: acme/scan@%s # v1.0.0\n      - uses: acme/clean@%s # v1.0.0\n      - uses: acme/round@main\n  b:\n    uses: acme/flows/.github/workflows/x.yml@%s # v1.0.0\n",
		commits["acme/scan"], commits["acme/clean"], commits["acme/flows"])
	r, err := Text(t.Context(), c, "x/.github/workflows/x.yml", []byte(workflow))
	if err != nil || r.Problem != nil {
		t.Fatal(err, r.Problem)
	}
	var got []string
	for _, f := range r.Findings {
		line := fmt.Sprintf("%d %s %s", f.At.Line, f.Rule, f.Message)
		for name, commit := range commits {
			line = strings.ReplaceAll(line, commit, "COMMIT("+name+")")
		}
		got = append(got, line)
	}
	want := []string{
		"4 transitive acme/scan@COMMIT(acme/scan) uses acme/tool/sub@COMMIT(acme/tool) uses acme/leaf@v1.0.0, which is not pinned",
		"4 transitive acme/scan@COMMIT(acme/scan) uses acme/tool/sub@COMMIT(acme/tool) uses acme/leaf@v1.0.0 uses image alpine:3.20, which is not pinned",
		"4 transitive acme/scan@COMMIT(acme/scan) uses acme/tool/sub@COMMIT(acme/tool) uses acme/gone@v1, which is not pinned",
		"4 transitive acme/scan@COMMIT(acme/scan) uses acme/tool/sub@COMMIT(acme/tool) uses acme/gone@v1, which does not exist",
		"6 transitive acme/round@main uses acme/round@main, which is not pinned",
		"8 transitive acme/flows/.github/workflows/x.yml@COMMIT(acme/flows) uses acme/leaf@main, which is not pinned",
		"8 transitive acme/flows/.github/workflows/x.yml@COMMIT(acme/flows) uses acme/leaf@main uses image alpine:3.20, which is not pinned",
		"8 transitive acme/flows/.github/workflows/x.yml@COMMIT(acme/flows) uses image alpine:3.20, which is not pinned",
	}
	for i, w := range want {
		if i >= len(got) || got[i] != w && !strings.HasPrefix(got[i], w) {
			t.Errorf("finding %d: want\n%s\nin\n%s", i, w, strings.Join(got, "\n"))
			break
		}
	}
	// What is used inside is in the lock: when it moves somebody hears of it.
	if c.Lock.action("acme/leaf@v1.0.0") == nil || c.Lock.action("acme/leaf@main") == nil {
		t.Errorf("the lock knows %+v", c.Lock.Actions)
	}
	c.Lock.action("acme/leaf@v1.0.0").Commit = commit(1)
	c.Update = true
	if r, err = Text(t.Context(), c, "x/.github/workflows/x.yml", []byte(workflow)); err != nil {
		t.Fatal(err)
	}
	moved := false
	for _, f := range r.Findings {
		moved = moved || f.Rule == "moved" && f.Severity == SeverityError && strings.Contains(f.Message, "acme/leaf@v1.0.0 was "+commit(1))
	}
	if !moved {
		t.Errorf("nobody says that what an action uses has moved: %+v", r.Findings)
	}
}
