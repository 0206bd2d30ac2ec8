package test

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// watched runs a script of the shell under `sallyport run` in a folder of its own, which is
// its home, and returns the policies that it broke.
func watched(t *testing.T, script string) []string {
	t.Helper()
	program, _ := built(t)
	dir := t.TempDir()
	for name, text := range map[string]string{
		"script.sh":        script,
		".aws/credentials": "[default]\naws_access_key_id = none\n",
		// What a package manager does with a package: it runs its script by a shell.
		"npm":     "#!/bin/sh\nsh -c 'sh ./post.sh'\n",
		"post.sh": "curl -s -m 1 http://127.0.0.1:1/x\n./trufflehog 0\necho x >> $HOME/.bashrc\n",
		"memory.py": "import os\nfd = os.memfd_create('x')\nos.write(fd, open('/bin/sleep', 'rb').read())\n" +
			"os.execve(fd, ['kworker', '0'], {})\n",
		"shell.py": "import socket, subprocess\nl = socket.socket()\nl.bind(('127.0.0.1', 0))\nl.listen()\n" +
			"s = socket.create_connection(l.getsockname())\nc, _ = l.accept()\nc.sendall(b'exit\\n')\n" +
			"subprocess.call(['/bin/bash'], stdin=s.fileno(), stdout=s.fileno())\n",
	} {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o700); err != nil { //nolint:gosec // it is run
			t.Fatal(err)
		}
	}
	for _, name := range []string{"xmrig", "trufflehog"} { // harmless, but for their names
		data, err := os.ReadFile("/bin/sleep")
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, name), data, 0o700) //nolint:gosec // it is run
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.CommandContext(t.Context(), program, "run", "--json", "--", "bash", "-c", "exec >/dev/null 2>&1; . ./script.sh; exit 0")
	cmd.Dir, cmd.Env = dir, append(os.Environ(), "HOME="+dir)
	var out bytes.Buffer // the report goes where the command's own output does not
	cmd.Stderr = &out
	if err := cmd.Run(); err != nil {
		t.Fatalf("%v\n%s", err, out.Bytes())
	}
	var report struct {
		Findings []struct {
			Policy string `json:"policy"`
		} `json:"findings"`
	}
	text := out.Bytes()
	if i := bytes.Index(text, []byte("{\n")); i > 0 { // after what was logged
		text = text[i:]
	}
	if err := json.Unmarshal(text, &report); err != nil {
		t.Fatalf("read the report: %v\n%s", err, out.Bytes())
	}
	var got []string
	for _, f := range report.Findings {
		got = append(got, f.Policy)
	}
	slices.Sort(got)
	return slices.Compact(got)
}

// TestRealProgramsBreakPolicies runs harmless programs that do what attacks did: what the
// kernel tells of them is what the policies look for.
func TestRealProgramsBreakPolicies(t *testing.T) {
	got := watched(t, strings.Join([]string{
		"echo ZWNobyBoaQo= | base64 -d | bash",
		"echo x | base64 | base64",
		"env | base64",
		"cat $HOME/.aws/credentials",
		"./xmrig 0",
		"python3 memory.py",
		"python3 shell.py",
		"./npm install",
	}, "\n"))
	want := []string{
		"credential_theft", "decoded_command", "environment_dump", "in_memory_program", "install_script_downloads", "install_script_hunts_secrets",
		"masked_secret_printed", "mining", "persistence_write", "reverse_shell",
	}
	if !slices.Equal(got, want) {
		t.Errorf("policies broken: %q, want %q", got, want)
	}
}

// TestRealProgramsOfEveryDayBreakNone runs the same programs for what they are made for.
func TestRealProgramsOfEveryDayBreakNone(t *testing.T) {
	got := watched(t, strings.Join([]string{
		"echo aGk= | base64 -d > file",
		"echo x | base64 -w0 | tee file",
		"env | sort | head -1",
		"gzip -c script.sh | zcat | head -1",
		"tar czf x.tgz script.sh post.sh",
		"python3 -c 'import base64; print(base64.b64decode(\"aGk=\"))'",
		"python3 -c 'import socket; a, b = socket.socketpair()'",
		"timeout 5 bash -c '(echo > /dev/tcp/127.0.0.1/1) 2>/dev/null'",
		"curl -s -m 1 -o file http://127.0.0.1:1/x",
		"cp xmrig renamed; grep -c xmrig renamed",
		"git init -q r && cd r && echo x > x && git add x && git -c user.name=x -c user.email=x@example.test commit -qm 'use `x` and $(y)' && git status && cd ..",
		"find . -name '*.tmp' -delete; rm -rf r",
	}, "\n"))
	if len(got) > 0 {
		t.Errorf("policies broken: %q", got)
	}
}
