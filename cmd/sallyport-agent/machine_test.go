package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sallyport-ci/sallyport/stream/natsserver"
	"github.com/sallyport-ci/sallyport/stream/natsserver/natstest"
)

// machine is one with systemd as its first process, made of namespaces.
type machine struct {
	t *testing.T
	// shared is a folder that is /mnt/shared in the machine.
	shared string
	first  int
	said   *output
}

func newMachine(t *testing.T) *machine {
	t.Helper()
	if os.Getenv("SALLYPORT_REQUIRE_ALL") != "1" {
		if err := check(); err != nil {
			t.Skip("skipped: " + err.Error())
		}
		if _, err := os.Stat("/lib/systemd/systemd"); err != nil {
			t.Skip("skipped: " + err.Error())
		}
	}
	m := &machine{t: t, shared: t.TempDir(), said: &output{}}
	if err := os.Chmod(m.shared, 0o755); err != nil {
		t.Fatal(err)
	}
	script, err := filepath.Abs("testdata/machine.sh")
	if err != nil {
		t.Fatal(err)
	}
	group := fmt.Sprintf("sallyport-test-%d", os.Getpid())
	cmd := exec.Command("unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "--uts", "--ipc", "bash", script, m.shared, group)
	cmd.Stdout, cmd.Stderr = m.said, m.said
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // and with it the machine
		_ = cmd.Wait()
		removeGroup(group)
		if t.Failed() {
			t.Logf("the machine said:\n%s", m.said)
		}
	})
	m.await("systemd", func() bool {
		children, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%[1]d/children", cmd.Process.Pid))
		if err != nil {
			return false
		}
		if _, err := fmt.Sscan(string(children), &m.first); err != nil {
			return false
		}
		out, _ := m.try(nil, "systemctl", "is-system-running")
		return strings.HasPrefix(out, "running") || strings.HasPrefix(out, "degraded")
	})
	return m
}

// removeGroup removes the control groups of a machine that is gone.
func removeGroup(name string) {
	for _, root := range []string{"/sys/fs/cgroup", "/sys/fs/cgroup/unified"} {
		top := filepath.Join(root, name)
		for range 100 { // until the last process is really gone
			_ = filepath.WalkDir(top, func(path string, _ os.DirEntry, err error) error {
				if err == nil {
					_ = syscall.Rmdir(path) // the outer ones when they are empty
				}
				return nil
			})
			if _, err := os.Stat(top); errors.Is(err, os.ErrNotExist) {
				break
			}
			time.Sleep(20 * time.Millisecond)
		}
	}
}

func (m *machine) await(what string, is func() bool) {
	m.t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !is(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			state, _ := m.try(nil, "sh", "-c", "systemctl --no-pager status '*.service'; ls -la /home/ci /home/ci/actions-runner; ps axf; tail -n +1 /home/ci/jobs/*")
			m.t.Fatalf("%s does not come:\n%s", what, state)
		}
	}
}

// try runs a program in the machine, as root.
func (m *machine) try(env []string, program ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	args := append([]string{"-t", fmt.Sprint(m.first), "-m", "-p", "-i", "-u", "--"}, program...)
	cmd := exec.CommandContext(ctx, "nsenter", args...)
	cmd.Env = append([]string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}, env...)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err := cmd.Run()
	return out.String(), err
}

func (m *machine) run(env []string, program ...string) string {
	m.t.Helper()
	out, err := m.try(env, program...)
	if err != nil {
		m.t.Fatalf("%s: %v\n%s", strings.Join(program, " "), err, out)
	}
	return out
}

func (m *machine) property(unit, name string) string {
	m.t.Helper()
	return strings.TrimSpace(m.run(nil, "systemctl", "show", "--value", "-p", name, unit))
}

// share puts a file into the shared folder.
func (m *machine) share(name, text string) {
	m.t.Helper()
	if err := os.WriteFile(filepath.Join(m.shared, name), []byte(text), 0o755); err != nil {
		m.t.Fatal(err)
	}
}

// The official runner's processes, as svc.sh starts them: runsvc.sh, Runner.Listener (which
// reads .env when it starts, and keeps it), for each job a Runner.Worker, which runs the
// hooks that the variables name with bash -e, and the steps of the job. They get no
// GITHUB_STEP_SUMMARY: this machine's process numbers are not those of the kernel, by which
// the agent knows who asks for a summary (report_test.go has it). The real ones are
// not here: they want GitHub. What they do is taken from their source (github.com/actions/
// runner, Program.cs, JobHookProvider.cs, ScriptHandler.cs).
const (
	makeRunner = `set -e
runner=/home/ci/actions-runner
mkdir -p $runner/bin /home/ci/jobs
echo ci:x:61234:61234::/home/ci:/bin/bash >>/etc/passwd
echo ci:x:61234: >>/etc/group
cp /bin/bash $runner/bin/Runner.Listener
cp /bin/bash $runner/bin/Runner.Worker
cp /bin/true /home/ci/mark
cp /mnt/shared/listen.sh /mnt/shared/work.sh /mnt/shared/theirs.sh $runner/
touch $runner/.runner $runner/config.sh $runner/run.sh
printf '#!/bin/bash\ncd %s\nexec bin/Runner.Listener listen.sh\n' $runner >$runner/runsvc.sh
chmod 755 $runner/runsvc.sh
printf 'LANG=C\r\nACTIONS_RUNNER_HOOK_JOB_COMPLETED=%s/theirs.sh' $runner >$runner/.env
chown -R 61234:61234 /home/ci
cat >/etc/systemd/system/actions.runner.acme-shop.one.service <<END
[Unit]
Description=GitHub Actions Runner (acme-shop.one)
DefaultDependencies=no
[Service]
ExecStart=$runner/runsvc.sh
User=ci
WorkingDirectory=$runner
KillMode=process
KillSignal=SIGTERM
TimeoutStopSec=5s
END
cp $runner/.env /mnt/shared/env.before
mkdir /etc/systemd/system/sallyport-agent.service.d
printf '[Service]\nStandardError=append:/mnt/shared/agent.log\n' >/etc/systemd/system/sallyport-agent.service.d/log.conf
`
	listen = `while IFS= read -r line || [ -n "$line" ]; do
  line=${line%$'\r'}
  case $line in ?*=*) export "$line" ;; esac
done <.env
trap 'exit 0' TERM
while :; do
  for job in /home/ci/jobs/*.ready; do # each in its turn
    [ -e "$job" ] || continue
    mv "$job" "${job%.ready}.taken"
    bin/Runner.Worker work.sh "$(basename "${job%.ready}")" >"${job%.ready}.log" 2>&1
    echo $? >"${job%.ready}.code"
    mv "${job%.ready}.code" "${job%.ready}.done"
  done
  sleep 0.05
done
`
	work = `cd /home/ci
export CI=true GITHUB_ACTIONS=true GITHUB_REPOSITORY=acme/machine GITHUB_WORKFLOW=CI GITHUB_RUN_ID=$1 GITHUB_RUN_ATTEMPT=1
export GITHUB_JOB=build GITHUB_SHA=c0ffee GITHUB_REF=refs/heads/main GITHUB_EVENT_NAME=push GITHUB_ACTOR=alice RUNNER_NAME=one
hook() {
  [ -z "$1" ] && return 0
  [ -e "$1" ] || { echo "File doesn't exist: $1"; exit 99; }
  GITHUB_ACTION=__hook bash -e "$1"
}
hook "$ACTIONS_RUNNER_HOOK_JOB_STARTED" || exit 90
echo "for i in \$(seq 1 $MARKS); do /home/ci/mark $1 \$i; sleep 0.01; done" >step.sh
GITHUB_ACTION=compile /usr/bin/bash --noprofile --norc -e -o pipefail step.sh || exit 91
hook "$ACTIONS_RUNNER_HOOK_JOB_COMPLETED"
echo "completed hook ended with $?"
true
`
	theirs = "echo \"their hook in $PWD\"\nexit 7\n"
)

// TestInstalledMachine: an agent that is installed on a machine with systemd and a runner
// with a hook of its own observes the runner's jobs; it is upgraded in the middle of one
// without a gap; it comes back when it is killed; it is taken away without breaking a job.
func TestInstalledMachine(t *testing.T) {
	m := newMachine(t)
	server, js := natstest.StartDeclared(t, natsserver.Config{AgentPassword: "secret"})
	const unit, runner = "sallyport-agent.service", "actions.runner.acme-shop.one.service"
	const marks = 150
	m.share("listen.sh", fmt.Sprintf("export MARKS=%d\n", marks)+listen)
	m.share("work.sh", work)
	m.share("theirs.sh", theirs)
	m.share("make.sh", makeRunner)
	m.run(nil, "bash", "/mnt/shared/make.sh")
	program, err := exec.LookPath("sallyport-agent")
	if err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(program)
	if err != nil {
		t.Fatal(err)
	}
	for _, version := range []string{"one", "two"} {
		if err := os.Mkdir(filepath.Join(m.shared, version), 0o755); err != nil {
			t.Fatal(err)
		}
		m.share(version+"/sallyport-agent", string(data)+version) // what is behind a program's end is not looked at
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	metrics := l.Addr().String()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	settings := []string{"SALLYPORT_NATS=" + server.AgentURL("secret"), "SALLYPORT_METRICS=" + metrics}

	// Nothing is started that would not know where to send to.
	if out, err := m.try(nil, "/mnt/shared/one/sallyport-agent", "install"); err == nil || !strings.Contains(out, "SALLYPORT_NATS") {
		t.Errorf("installed without an address: %v\n%s", err, out)
	}
	m.run(nil, "systemctl", "start", runner)
	listening := func() {
		t.Helper()
		m.await("listener", func() bool { _, err := m.try(nil, "pgrep", "-f", "^bin/Runner.Listener"); return err == nil })
	}
	listening()
	out := m.run(settings, "/mnt/shared/one/sallyport-agent", "install")
	for _, want := range []string{"* start " + unit, "* set hooks /home/ci/actions-runner/.env", "systemctl restart " + runner} {
		if !strings.Contains(out, want) {
			t.Errorf("install does not say %q:\n%s", want, out)
		}
	}
	if strings.Contains(out, "secret") {
		t.Errorf("install tells the password:\n%s", out)
	}
	if got := m.property(unit, "ActiveState"); got != "active" {
		t.Fatalf("the agent is %s", got)
	}
	if got := m.property(runner, "After"); !strings.Contains(got, unit) {
		t.Errorf("the runner starts after %q", got)
	}
	m.run(nil, "systemctl", "restart", runner)

	job := func(name string, meanwhile func()) string {
		t.Helper()
		m.run(nil, "touch", "/home/ci/jobs/"+name+".ready")
		if meanwhile != nil {
			m.await("job "+name, func() bool { _, err := m.try(nil, "pgrep", "-f", "step.sh"); return err == nil })
			meanwhile()
		}
		m.await("end of job "+name, func() bool { _, err := m.try(nil, "test", "-e", "/home/ci/jobs/"+name+".done"); return err == nil })
		log := m.run(nil, "cat", "/home/ci/jobs/"+name+".log")
		if code := strings.TrimSpace(m.run(nil, "cat", "/home/ci/jobs/"+name+".done")); code != "0" {
			t.Fatalf("job %s ended with %s:\n%s", name, code, log)
		}
		if !strings.Contains(log, "their hook in /home/ci\n") || !strings.Contains(log, "completed hook ended with 7\n") {
			t.Errorf("job %s: the hook that was there before is lost:\n%s", name, log)
		}
		return log
	}
	observed := func(name string) {
		t.Helper()
		told, executions, ends := map[string]int{}, map[string]bool{}, []string{}
		for _, b := range events(t, js) {
			for _, e := range b.GetEvents() {
				if e.GetAttribution() == 0 {
					continue
				}
				at := b.GetAttributions()[e.GetAttribution()-1]
				if at.GetRepository() != "acme/machine" || at.GetRunId() != name { // other tests have jobs on this machine, too
					continue
				}
				executions[at.GetExecutionId()] = true
				if e.GetJobEnded() != nil {
					ends = append(ends, fmt.Sprintf("%s %d", e.GetJobEnded().GetReason(), len(e.GetJobEnded().GetSurvivors())))
				}
				if e.GetProcessExecuted() == nil {
					continue
				}
				if p := b.GetProcesses()[e.GetProcess()-1]; p.GetExecutable() == "/home/ci/mark" {
					told[p.GetArguments()[2]+" "+at.GetStep()]++
				}
			}
		}
		for i := range marks {
			if n := told[fmt.Sprint(i+1)+" compile"]; n != 1 {
				t.Errorf("job %s: mark %d was told %d times", name, i+1, n)
			}
		}
		if want := "[JOB_END_REASON_HOOK 0]"; fmt.Sprint(ends) != want || len(executions) != 1 {
			t.Errorf("job %s ended by %v, want %s, in %d executions", name, ends, want, len(executions))
		}
	}
	if log := job("1", nil); !strings.Contains(log, "Sallyport observes this job") {
		t.Errorf("the job is not told that it is observed:\n%s", log)
	}
	observed("1")

	before := m.property(unit, "MainPID")
	job("2", func() {
		out := m.run([]string{"SALLYPORT_LOG_LEVEL=debug"}, "/mnt/shared/two/sallyport-agent", "install")
		if !strings.Contains(out, "* hand over "+unit) {
			t.Errorf("install does not hand over:\n%s", out)
		}
	})
	observed("2")
	after := m.property(unit, "MainPID")
	if before == after || m.property(unit, "ActiveState") != "active" || m.property(unit, "NRestarts") != "0" {
		t.Errorf("process %s became %s, %s, after %s restarts", before, after, m.property(unit, "ActiveState"), m.property(unit, "NRestarts"))
	}
	if r, err := http.Get("http://" + metrics + "/readyz"); err != nil || r.StatusCode != http.StatusOK {
		t.Errorf("the next agent is not ready: %v %v", r, err)
	}
	if environment := m.run(nil, "cat", "/proc/"+after+"/environ"); !strings.Contains(environment, "SALLYPORT_LOG_LEVEL=debug") || !strings.Contains(environment, "SALLYPORT_NATS=") {
		t.Error("the next agent does not have the settings of now")
	}
	if out := m.run(nil, "/usr/local/bin/sallyport-agent", "install"); strings.Contains(out, "* ") {
		t.Errorf("installed again, it changes:\n%s", out)
	}

	m.run(nil, "kill", "-9", after)
	m.await("the agent again", func() bool {
		return m.property(unit, "NRestarts") == "1" && m.property(unit, "ActiveState") == "active"
	})
	job("3", nil)
	observed("3")

	out = m.run(nil, "/usr/local/bin/sallyport-agent", "uninstall")
	if !strings.Contains(out, "keep hooks") {
		t.Errorf("uninstall removes hooks that the runner still calls:\n%s", out)
	}
	if log := job("4", nil); !strings.Contains(log, "This job is not observed") {
		t.Errorf("the job is not told that it is not observed:\n%s", log)
	}
	m.run(nil, "cmp", "/home/ci/actions-runner/.env", "/mnt/shared/env.before")
	m.await("removal of the hooks", func() bool {
		m.run(nil, "systemctl", "restart", runner)
		m.run(nil, "/mnt/shared/one/sallyport-agent", "uninstall")
		_, err := m.try(nil, "test", "-e", "/usr/local/lib/sallyport")
		return err != nil
	})
	job("5", nil)
	m.run(nil, "cmp", "/home/ci/actions-runner/.env", "/mnt/shared/env.before")
	// Confined as the unit has it, the agent misses nothing that it sees elsewhere.
	if log := m.run(nil, "cat", "/mnt/shared/agent.log"); strings.Contains(log, "level=WARN") || strings.Contains(log, "level=ERROR") || !strings.Contains(log, "took over") {
		t.Errorf("the agent's log:\n%s", log)
	}
	if out, err := m.try(nil, "systemctl", "status", unit); err == nil || !strings.Contains(out, "could not be found") {
		t.Errorf("the unit is left: %s", out)
	}
}

// TestImageScript: what puts the agent into the image of a machine (deployments/runson)
// does so, twice if it must, starts nothing, and takes no other program for it.
func TestImageScript(t *testing.T) {
	m := newMachine(t)
	script, err := os.ReadFile("../../deployments/runson/install.sh")
	if err != nil {
		t.Fatal(err)
	}
	m.share("install.sh", string(script))
	program, err := exec.LookPath("sallyport-agent")
	if err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(program)
	if err != nil {
		t.Fatal(err)
	}
	digest := fmt.Sprintf("SALLYPORT_SHA256=%x", sha256.Sum256(data))
	for n := range 2 {
		m.share("sallyport-agent", string(data))
		if n == 0 {
			out, err := m.try([]string{"SALLYPORT_AGENT=/mnt/shared/sallyport-agent", "SALLYPORT_SHA256=" + strings.Repeat("0", 64)}, "sh", "/mnt/shared/install.sh")
			if err == nil || !strings.Contains(out, "not the program that was meant") {
				t.Errorf("another program: %v\n%s", err, out)
			}
		}
		m.run([]string{"SALLYPORT_AGENT=/mnt/shared/sallyport-agent", digest}, "sh", "/mnt/shared/install.sh")
	}
	if got := m.run(nil, "grep", "-c", "^ACTIONS_RUNNER_HOOK_JOB_", "/etc/environment"); got != "2\n" {
		t.Errorf("/etc/environment has %s of our lines", got)
	}
	if got := m.property("sallyport-agent.service", "UnitFileState") + " " + m.property("sallyport-agent.service", "ActiveState"); got != "enabled inactive" {
		t.Errorf("the agent is %s", got)
	}
	if out := m.run(nil, "bash", "-e", "/usr/local/lib/sallyport/hooks/job-started.sh"); !strings.Contains(out, "not observed") {
		t.Errorf("the hook says %q", out)
	}
}
