package agent

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	sallyportv1 "github.com/sallyport-ci/sallyport/proto/sallyport/v1"
)

// TestFiles plays a job that checks a repository out, and then steps that read what
// they should not, write what steers others, and change what was checked out.
func TestFiles(t *testing.T) {
	k := observe(t)
	dir := t.TempDir()
	repository := "acme/files-" + strconv.Itoa(os.Getpid()) // others may run the same test
	worker := filepath.Join(dir, "runner/bin/Runner.Worker")
	copyFile(t, "/bin/bash", worker)
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(strings.ReplaceAll(text, "DIR", dir)), 0o755); err != nil {
			t.Fatal(err)
		}
		return path
	}
	write("home/.aws/credentials", "secret")
	write("home/.bashrc", "# nothing")
	write("path/tool", "#!/bin/sh")
	write("temp/env_checkout", "")
	write("temp/env_build", "")
	write("temp/env_evil", "")
	write("origin/main.c", "int main(void){return 0;}")
	write("origin/lib/util.c", "int util;")
	if out, err := exec.Command("sh", "-c", "cd "+dir+"/origin && git init -q && git add . && git -c user.name=a -c user.email=a@example.test commit -qm a").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	write("checkout.sh", "git clone -q DIR/origin DIR/work\n")
	// A step takes longer than it takes to watch its files.
	write("build.sh", `until [ -e DIR/build ]; do sleep 0.05; done
cat DIR/work/main.c DIR/work/lib/util.c > DIR/work/out.c
cp DIR/work/out.c DIR/work/lib/generated.c
echo A=b >> $GITHUB_ENV
git -C DIR/work status >/dev/null
`)
	write("evil.sh", `until [ -e DIR/evil ]; do sleep 0.05; done
cat DIR/home/.aws/credentials DIR/home/.aws/credentials >/dev/null
python3 -c 'open("DIR/work/.git/config").read()'
echo evil >> DIR/home/.bashrc
echo evil >> DIR/work/main.c
sed -i s/util/evil/ DIR/work/lib/util.c
cp /bin/true DIR/path/git
echo x > DIR/work/.git/hooks/pre-commit
`)
	work := write("work.sh", `for step in checkout build evil; do
  GITHUB_ACTION=$step GITHUB_REPOSITORY=`+repository+` GITHUB_WORKFLOW=CI GITHUB_RUN_ID=5 GITHUB_RUN_ATTEMPT=1 GITHUB_JOB=build \
  GITHUB_WORKSPACE=DIR/work GITHUB_ENV=DIR/temp/env_$step PATH=DIR/path:$PATH /usr/bin/bash -e DIR/$step.sh || echo "$step ended with $?"
done
`)
	cmd := exec.CommandContext(t.Context(), worker, work)
	cmd.Env = []string{"PATH=" + os.Getenv("PATH")}
	ready := make(chan error, 1)
	go func() {
		ready <- errors.Join(
			when(t.Context(), func() bool {
				return k.watches(dir+"/temp/env_build", dir+"/work/main.c", dir+"/work/lib/util.c")
			}, dir+"/build"),
			when(t.Context(), func() bool { return k.watches(dir + "/temp/env_evil") }, dir+"/evil"),
		)
	}()
	if out, err := cmd.CombinedOutput(); err != nil || len(out) > 0 {
		t.Fatalf("%v\n%s", err, out)
	}
	if err := <-ready; err != nil {
		t.Fatal(err)
	}
	want := []string{
		"build bash written /temp/env_build step_environment",
		"evil bash written /home/.bashrc shell_profile",
		"evil bash written /work/.git/hooks/pre-commit git_hook",
		"evil bash written /work/main.c source_file",
		"evil cat read /home/.aws/credentials aws_credentials",
		"evil cp entered /path/git path_folder",
		"evil python3 read /work/.git/config git_config_token",
		"evil sed entered /work/lib/util.c source_file",
	}
	ended := func() bool {
		return slices.ContainsFunc(k.events(t), func(s seen) bool { return s.GetJobEnded() != nil && s.at.GetRepository() == repository })
	}
	// What folders tell of may come a little after the end of the job.
	var got []string
	for deadline := time.Now().Add(20 * time.Second); !ended() || !slices.Equal(got, want); time.Sleep(50 * time.Millisecond) {
		if got = fileAccesses(t, k, repository, dir); time.Now().After(deadline) {
			lost, err := k.agent.cfg.Source.Lost()
			t.Fatalf("ended: %v; got\n%s\nwant\n%s\nlost: %v %v", ended(), strings.Join(got, "\n"), strings.Join(want, "\n"), lost, err)
		}
	}
}

// fileAccesses returns a sorted line for each kind of access of a repository's jobs to
// files below a folder.
func fileAccesses(t *testing.T, k *kept, repository, dir string) []string {
	t.Helper()
	var got []string
	for _, s := range k.events(t) {
		f := s.GetFileAccess()
		if f == nil || s.at.GetRepository() != repository {
			continue
		}
		program := filepath.Base(s.process.GetExecutable())
		if strings.HasPrefix(program, "python3.") {
			program = "python3" // a link to one of a version
		}
		operation := f.Operation
		if f.Path == filepath.Join(dir, "work/lib/util.c") && program == "sed" {
			operation = sallyportv1.FileOperation_FILE_OPERATION_ENTERED // sed's new file takes the old one's place
		}
		line := strings.Join([]string{
			s.at.Step, program, strings.ToLower(strings.TrimPrefix(operation.String(), "FILE_OPERATION_")),
			strings.TrimPrefix(f.Path, dir), f.Rule,
		}, " ")
		if f.Times != 1 {
			t.Errorf("%s: %d times", line, f.Times)
		}
		got = append(got, line)
	}
	slices.Sort(got)
	return slices.Compact(got)
}

// when makes a file as soon as something holds, and after some seconds in any case.
func when(ctx context.Context, holds func() bool, path string) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	for !holds() && ctx.Err() == nil {
		time.Sleep(10 * time.Millisecond)
	}
	return errors.Join(ctx.Err(), os.WriteFile(path, nil, 0o600))
}
