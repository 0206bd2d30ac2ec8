package watchlist

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestDefault(t *testing.T) {
	l := Default()
	for _, c := range []struct {
		file, program string
		write         bool
		want          string
	}{
		{"/home/runner/.aws/credentials", "/usr/bin/python3", false, "aws_credentials"},
		{"/.aws/credentials", "/usr/bin/cat", false, "aws_credentials"},
		{"/var/lib/docker/overlay2/x/diff/root/.ssh/id_ed25519", "/usr/bin/cat", false, "ssh_keys"},
		{"/root/.ssh/known_hosts", "/usr/bin/ssh", false, ""},
		{"/home/runner/credentials", "/usr/bin/cat", false, ""},
		{"/home/runner/.aws/credentials", "/usr/bin/vi", true, ""},
		{"/w/.git/config", "/usr/bin/git", false, ""},
		{"/w/.git/config", "/w/git", false, "git_config_token"},
		{"/w/.git/config", "/usr/bin/node", false, "git_config_token"},
		{"/root/.config/gcloud/application_default_credentials.json", "/usr/bin/node", false, "gcp_credentials"},
		{"/root/.bashrc", "/usr/bin/node", true, "shell_profile"},
		{"/root/.bashrc", "/usr/bin/bash", false, ""},
		{"/usr/lib/python3/site-packages/evil.pth", "/usr/bin/python3", true, "python_startup"},
		{"/usr/lib/python3/site-packages/fine.py", "/usr/bin/python3", true, ""},
		{"/opt/runner/bin/Runner.Worker", "/usr/bin/python3", true, "runner_programs"},
		{"/opt/runner/bin/Runner.Worker", "/usr/bin/python3", false, ""},
		{"/w/.github/workflows/x.yml", "/usr/bin/node", true, "workflow_file"},
	} {
		got := ""
		if r := l.Match(c.file, c.program, c.write); r != nil {
			got = r.Name
		}
		if got != c.want {
			t.Errorf("%s by %s, write %t: %q, want %q", c.file, c.program, c.write, got, c.want)
		}
	}
	for _, n := range []Name{{"credentials", false, false}, {".ssh", true, false}, {".bashrc", false, true}, {"gcloud", true, false}} {
		if !slices.Contains(l.Names(), n) {
			t.Errorf("the kernel is not told of %+v", n)
		}
	}
}

func TestParse(t *testing.T) {
	base := Default()
	l, err := Parse(strings.NewReader(`[{"name":"own","category":"credential","read":["our.secret"]},{"name":"aws_credentials","category":"credential"}]`), base)
	if err != nil {
		t.Fatal(err)
	}
	if r := l.Match("/x/our.secret", "/usr/bin/cat", false); r == nil || r.Name != "own" {
		t.Errorf("own rule: %v", r)
	}
	if r := l.Match("/root/.aws/credentials", "/usr/bin/cat", false); r != nil {
		t.Errorf("a rule that was taken away: %v", r)
	}
	if base.Match("/root/.aws/credentials", "/usr/bin/cat", false) == nil {
		t.Error("the base was changed")
	}
	for text, want := range map[string]string{
		`{}`:             "read watch list",
		`[] []`:          "something follows",
		`[{"name":"x"}]`: "no category",
		`[{"name":"x","category":"y","raed":[]}]`:                   "raed",
		`[{"name":"x","category":"y","read":["*/*"]}]`:              `rule x: pattern "*/*"`,
		`[{"name":"x","category":"y","read":["*"]}]`:                `pattern "*"`,
		`[{"name":"x","category":"y","read":["a//b"]}]`:             `malformed`,
		`[{"name":"x","category":"y","write":["[a/b"]}]`:            `malformed`,
		`[{"name":"x","category":"y","folders":["relative/path"]}]`: "not an absolute path",
	} {
		if _, err := Parse(strings.NewReader(text), nil); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", text, err, want)
		}
	}
}

func FuzzMatch(f *testing.F) {
	l := Default()
	f.Add("/root/.ssh/id_rsa", "/usr/bin/cat", false)
	f.Add("", "", true)
	f.Fuzz(func(_ *testing.T, file, program string, write bool) { l.Match(file, program, write) })
}

func TestReadable(t *testing.T) {
	home := t.TempDir()
	for _, name := range []string{".aws/credentials", ".aws/other", ".ssh/id_new", "credentials"} {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(home, name)), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(home, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	var got []string
	for _, f := range Default().Readable(home) {
		if below, ok := strings.CutPrefix(f.Path, home); ok {
			got = append(got, f.Rule.Name+" "+below)
		}
	}
	if want := []string{"aws_credentials /.aws/credentials", "ssh_keys /.ssh/id_new"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}
