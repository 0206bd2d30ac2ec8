package agent

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

// step runs a script as a step of a job.
func step(t *testing.T, script string) {
	t.Helper()
	dir := t.TempDir()
	worker := filepath.Join(dir, "Runner.Worker")
	copyFile(t, "/bin/bash", worker)
	path := filepath.Join(dir, "step.sh")
	if err := os.WriteFile(path, []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), worker, "-c", "/bin/bash -e "+path+"; true")
	cmd.Env = []string{
		"PATH=" + os.Getenv("PATH"), "GITHUB_REPOSITORY=acme/step", "GITHUB_RUN_ID=1", "GITHUB_JOB=build", "GITHUB_ACTION=step",
	}
	out, err := cmd.CombinedOutput()
	if err != nil || bytes.Contains(out, []byte("Traceback")) {
		t.Fatalf("%v\n%s", err, out)
	}
}

// eventually waits for an event.
func eventually(t *testing.T, k *kept, what string, is func(seen) bool) seen {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		for _, e := range k.events(t) {
			if is(e) {
				return e
			}
		}
		if time.Now().After(deadline) {
			t.Fatal("no " + what)
		}
	}
}

func sha256Of(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}

// TestDigest: the digest of a job's program comes once for each version, and is known
// to those that run it later; so is that of a program that is in memory only.
func TestDigest(t *testing.T) {
	k := observe(t)
	program := filepath.Join(t.TempDir(), "program")
	copyFile(t, "/bin/true", program)
	want := sha256Of(t, program)
	step(t, program+"; "+program+"; sleep 0.5; "+program+"; printf x >>"+program+"; "+program+`
python3 -c '
import os, time
fd = os.memfd_create("hidden")
os.write(fd, open("/bin/sleep", "rb").read())
os.execve(fd, ["innocent", "0.5"], {})'
`)
	digest := eventually(t, k, "digest", func(e seen) bool { return e.GetExecutableDigest().GetPath() == program }).GetExecutableDigest()
	if digest.GetSha256() != want || digest.GetSize() == 0 {
		t.Errorf("%v, want %s", digest, want)
	}
	eventually(t, k, "exec with its digest", func(e seen) bool {
		return e.GetProcessExecuted() != nil && e.process.GetExecutable() == program && e.process.GetExecutableSha256() == want
	})
	eventually(t, k, "digest of the second version", func(e seen) bool {
		return e.GetExecutableDigest().GetPath() == program && e.GetExecutableDigest().GetSha256() == sha256Of(t, program)
	})
	hidden := eventually(t, k, "program in memory", func(e seen) bool {
		return e.GetProcessExecuted() != nil && e.process.GetExecutableInMemory() && e.at.GetRepository() == "acme/step"
	})
	eventually(t, k, "digest of what is in memory", func(e seen) bool {
		return e.GetExecutableDigest().GetInode() == hidden.process.GetExecutableInode() && e.GetExecutableDigest().GetSha256() == sha256Of(t, "/bin/sleep")
	})
	n := 0
	for _, e := range k.events(t) {
		if e.GetExecutableDigest().GetPath() == program {
			n++
		}
	}
	if n != 2 {
		t.Errorf("%d digests of two versions", n)
	}
}
