package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"google.golang.org/protobuf/encoding/protojson"

	"github.com/sallyport-ci/sallyport/agent/control"
	sallyportv1 "github.com/sallyport-ci/sallyport/proto/sallyport/v1"
	"github.com/sallyport-ci/sallyport/report/summary"
	"github.com/sallyport-ci/sallyport/stream/natsserver"
	"github.com/sallyport-ci/sallyport/stream/natsserver/natstest"
)

// site is a machine with an agent that knows jobs of the test's own alone, whatever else
// runs on it.
type site struct {
	dir, worker, socket string
	server              *natsserver.Server
	agent               *exec.Cmd
	log                 *output
	runs                int
}

func newSite(t *testing.T) *site {
	t.Helper()
	if os.Getenv("SALLYPORT_REQUIRE_ALL") != "1" {
		if err := check(); err != nil {
			t.Skip("skipped: " + err.Error())
		}
	}
	s := &site{dir: t.TempDir()}
	s.server, _ = natstest.StartDeclared(t, natsserver.Config{AgentPassword: "secret"})
	s.socket = filepath.Join(s.dir, "agent.sock")
	s.worker = copyOf(t, "/bin/bash", filepath.Join(s.dir, "report-worker"))
	s.start(t)
	return s
}

func (s *site) start(t *testing.T) {
	t.Helper()
	s.log = &output{}
	s.agent = exec.Command("sallyport-agent", "--state", filepath.Join(s.dir, "state"), "--socket", s.socket, "--worker", filepath.Base(s.worker))
	s.agent.Env = append(os.Environ(), "SALLYPORT_NATS="+s.server.AgentURL("secret"))
	s.agent.Stderr = s.log
	if err := s.agent.Start(); err != nil {
		t.Fatal(err)
	}
	agent := s.agent
	t.Cleanup(func() {
		_ = agent.Process.Kill() // it may have ended
		_ = agent.Wait()
	})
	s.log.await(t, "watching")
}

func (s *site) path(name string) string { return filepath.Join(s.dir, name) }

// job starts a job of one step in a network of its own, where 198.51.100.0/24 is here.
// report asks for its report.
func (s *site) job(t *testing.T, name, step string, env ...string) *exec.Cmd {
	t.Helper()
	s.runs++
	script := s.path(name + ".sh")
	step = "set -e\nip address add 198.51.100.1/24 dev lo\nip link set lo up\n" +
		"report() { sallyport-agent report --socket '" + s.socket + "' \"$@\"; }\n" + step + "\n"
	if err := os.WriteFile(script, []byte(step), 0o755); err != nil {
		t.Fatal(err)
	}
	// The hook is a child of the worker's own, as of GitHub's runner.
	cmd := exec.Command(s.worker, "-c", "/bin/bash '"+script+"' || exit 1; if [ -e hook.sh ]; then /bin/bash hook.sh; fi")
	cmd.Dir = s.dir
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET}
	cmd.Env = append([]string{
		"PATH=" + os.Getenv("PATH"), "GITHUB_REPOSITORY=acme/report", fmt.Sprintf("GITHUB_RUN_ID=%d", s.runs), "GITHUB_JOB=" + name, "GITHUB_ACTION=step",
	}, env...)
	cmd.Stderr = &bytes.Buffer{}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill() }) // it may have ended
	return cmd
}

func (s *site) finish(t *testing.T, cmd *exec.Cmd) {
	t.Helper()
	if err := cmd.Wait(); err != nil {
		t.Fatalf("%v: %s\n%s", err, cmd.Stderr, s.log)
	}
}

func (s *site) read(t *testing.T, name string) string {
	t.Helper()
	data, err := os.ReadFile(s.path(name))
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func (s *site) report(t *testing.T, name string) *sallyportv1.JobReport {
	t.Helper()
	r := new(sallyportv1.JobReport)
	if err := protojson.Unmarshal([]byte(s.read(t, name)), r); err != nil {
		t.Fatal(err)
	}
	return r
}

func (s *site) exists(t *testing.T, name string) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		if _, err := os.Stat(s.path(name)); err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("there is no %s", name)
		}
	}
}

func has(t *testing.T, text string, words ...string) {
	t.Helper()
	for _, w := range words {
		if !strings.Contains(text, w) {
			t.Errorf("%q is missing in\n%s", w, text)
		}
	}
}

// nasty is a program's name that wants to be more.
const nasty = "x|y`<img src=a>@octocat [z](http:)"

// TestReport: a job gets the report of itself and of no other; without a detector, and
// without a server; root gets any.
func TestReport(t *testing.T) {
	s := newSite(t)
	copyOf(t, "/bin/bash", s.path(nasty))
	if err := os.MkdirAll(s.path("home/.aws"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(s.path("home/.aws/credentials"), []byte("secret"), 0o600); err != nil {
		t.Fatal(err)
	}
	s.finish(t, s.job(t, "first", `
"./`+strings.ReplaceAll(nasty, "`", "\\`")+`" -c 'echo twelve bytes >/dev/udp/198.51.100.2/8125; true'
cat home/.aws/credentials >/dev/null
report --json >first.json
report --markdown >first.md
report >first.txt`))
	r := s.report(t, "first.json")
	if r.GetJob().GetJob() != "first" || r.GetJob().GetRepository() != "acme/report" || r.GetJob().GetStep() != "" {
		t.Errorf("it is of %v", r.GetJob())
	}
	var d *sallyportv1.JobDestination
	for _, step := range r.GetSteps() {
		if step.GetStep() == "step" && len(step.GetDestinations()) == 1 {
			d = step.GetDestinations()[0]
		}
	}
	if d.GetAddress() != "198.51.100.2" || d.GetPort() != 8125 || d.GetProtocol() != "udp" || d.GetBytesSent() != 13 || d.GetFlows() != 1 || fmt.Sprint(d.GetPrograms()) != "["+nasty+"]" {
		t.Errorf("steps %v", r.GetSteps())
	}
	if r.GetCounts().GetProcesses() < 5 || r.GetCounts().GetPrograms() < 6 || r.GetCounts().GetFlows() != 1 || r.GetUnasked() != "no detector runs on the server" || r.GetJudgement() != nil {
		t.Errorf("%v, unasked %q", r.GetCounts(), r.GetUnasked())
	}
	has(t, s.read(t, "first.md"), "### Sallyport: `first`", "❔ Not judged", "`198.51.100.2:8125` udp", "``x\u01c0y`<img src=a>@octocat [z](http:)``",
		"`cat` read `"+s.path("home/.aws/credentials")+"`", "no detector runs on the server")
	has(t, s.read(t, "first.txt"), "198.51.100.2:8125 udp")

	// Of another job only root hears, outside of jobs.
	id := r.GetJob().GetExecutionId()
	s.finish(t, s.job(t, "second", `if report --execution `+id+` 2>refused; then exit 9; fi
report --json --execution own >second.json`))
	has(t, s.read(t, "refused"), "may only ask for its own report")
	if got := s.report(t, "second.json").GetJob(); got.GetJob() != "second" || got.GetExecutionId() == id {
		t.Errorf("the second job got %v", got)
	}
	for _, c := range []struct{ execution, want string }{{id, "first"}, {"", "second"}} { // that ended last
		out, err := exec.Command("sallyport-agent", "report", "--json", "--socket", s.socket, "--execution", c.execution).Output()
		if err != nil {
			t.Fatal(err)
		}
		got := new(sallyportv1.JobReport)
		if err := protojson.Unmarshal(out, got); err != nil {
			t.Fatal(err)
		}
		if got.GetJob().GetJob() != c.want || got.GetEnded() == nil {
			t.Errorf("root got %v, ended %v, want %s", got.GetJob(), got.GetEnded(), c.want)
		}
	}
	if out, err := exec.Command("sallyport-agent", "report", "--socket", s.socket, "--execution", "0123456789abcdef").CombinedOutput(); err == nil || !strings.Contains(string(out), "no such job") {
		t.Errorf("%v %s", err, out)
	}
	// Which a hook or the action of a job that is not seen is not told, root or not.
	if out, err := exec.Command("sallyport-agent", "report", "--socket", s.socket, "--execution", "own").CombinedOutput(); err == nil || !strings.Contains(string(out), "belongs to no job") {
		t.Errorf("%v %s", err, out)
	}
	unseen := exec.Command("sallyport-agent", "hook", "completed", "--socket", s.socket)
	unseen.Env = append(os.Environ(), "GITHUB_STEP_SUMMARY="+s.path("second.json"))
	if out, err := unseen.CombinedOutput(); err != nil || !strings.Contains(string(out), "belongs to no job") {
		t.Errorf("%v %s", err, out)
	}
	if strings.Contains(s.read(t, "second.json"), "###") {
		t.Error("a hook wrote the summary of another job")
	}

	// The server goes away: what there is is told, and what waits.
	s.server.Shutdown()
	s.log.await(t, "connection to NATS is lost")
	begin := time.Now()
	s.finish(t, s.job(t, "third", `echo x >/dev/udp/198.51.100.3/53; report --json --wait 5s >third.json`))
	r = s.report(t, "third.json")
	if r.GetUnasked() != "there is no connection to the server" || r.GetGaps().GetBatchesWaiting() == 0 {
		t.Errorf("unasked %q, %d batches wait", r.GetUnasked(), r.GetGaps().GetBatchesWaiting())
	}
	if took := time.Since(begin); took > 4*time.Second {
		t.Errorf("a job waited %s for a server that is away", took)
	}
	var b strings.Builder
	if err := summary.Job(&b, r); err != nil {
		t.Fatal(err)
	}
	has(t, b.String(), "what of this is new or wrong is not known here", "on this machine until the server takes them")
}

// TestReportOfALaterAgent: an agent that goes on in the middle of a job says what it cannot
// know, and why.
func TestReportOfALaterAgent(t *testing.T) {
	for _, c := range []struct {
		how   string
		end   sallyportv1.AgentEnd
		words string
	}{
		{"killed", sallyportv1.AgentEnd_AGENT_END_KILLED, "The agent before it was killed. Its last sign of life"},
		{"replaced", sallyportv1.AgentEnd_AGENT_END_REPLACED, "Another agent saw that and told the server."},
	} {
		t.Run(c.how, func(t *testing.T) {
			s := newSite(t)
			job := s.job(t, c.how, `echo x >/dev/udp/198.51.100.2/8125
touch ready
until [ -e again ]; do sleep 0.05; done
echo x >/dev/udp/198.51.100.3/8125
report --json >later.json`)
			s.exists(t, "ready")
			s.exists(t, "state/life.json")
			if c.how == "killed" {
				if err := s.agent.Process.Kill(); err != nil {
					t.Fatal(err)
				}
				_ = s.agent.Wait() // it was killed
			}
			s.start(t)
			if err := os.WriteFile(s.path("again"), nil, 0o600); err != nil {
				t.Fatal(err)
			}
			s.finish(t, job)
			r := s.report(t, "later.json")
			if g := r.GetGaps(); !g.GetBeganBefore() || g.GetPreviousEnd() != c.end || g.GetPreviousSeen() == nil {
				t.Errorf("gaps %v", g)
			}
			var b strings.Builder
			if err := summary.Job(&b, r); err != nil {
				t.Fatal(err)
			}
			has(t, b.String(), "❗ Not complete: the agent was there only later", c.words, "`198.51.100.3:8125`")
			if strings.Contains(b.String(), "198.51.100.2") {
				t.Errorf("it knows what it cannot:\n%s", b.String())
			}
		})
	}
}

// TestHookWritesSummary: the hook adds the summary to the step's file, with what outlives
// the job; a file that is none, or that is full, fails nothing and holds nothing up.
func TestHookWritesSummary(t *testing.T) {
	s := newSite(t)
	summaryFile := s.path("summary.md")
	if err := os.WriteFile(summaryFile, []byte("of the step\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	full := s.path("full.md")
	if err := os.WriteFile(full, make([]byte, maxStepSummary-100), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mkfifo(s.path("fifo"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(s.path("hook.sh"), []byte("sallyport-agent hook completed --socket '"+s.socket+"'\nkill $(cat pid)\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ name, file, says string }{
		{"hooked", summaryFile, ""}, {"full", full, "more than the 1024 KiB"}, {"fifo", s.path("fifo"), "append summary"},
		{"device", "/dev/null", "is no file"}, {"missing", s.path("not/there"), "append summary"},
	} {
		begin := time.Now()
		job := s.job(t, c.name, "sleep 60 >/dev/null 2>&1 & echo $! >pid", "GITHUB_STEP_SUMMARY="+c.file)
		s.finish(t, job)
		if said := fmt.Sprint(job.Stderr); c.says == "" && said != "" && !strings.Contains(said, "no detector") || !strings.Contains(said, c.says) {
			t.Errorf("%s: %q", c.name, said)
		}
		if took := time.Since(begin); took > 5*time.Second {
			t.Errorf("%s: the job took %s", c.name, took)
		}
	}
	has(t, s.read(t, "summary.md"), "of the step\n\n### Sallyport: `hooked`", "`sleep` still ran when the job was over")
	if n := len(s.read(t, "full.md")); n != maxStepSummary-100 {
		t.Errorf("the full file has %d bytes", n)
	}
}

// TestHookOfASuspendedAgent: a hook waits some seconds for an agent that does not answer, says so,
// and fails nothing.
func TestHookOfASuspendedAgent(t *testing.T) {
	s := newSite(t)
	if err := s.agent.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	for _, what := range []string{"started", "completed"} {
		begin := time.Now()
		cmd := exec.Command("sallyport-agent", "hook", what, "--socket", s.socket)
		cmd.Env = append(os.Environ(), "GITHUB_STEP_SUMMARY="+s.path("summary.md"))
		out, err := cmd.CombinedOutput()
		if err != nil || !strings.Contains(string(out), "timeout") || strings.Contains(string(out), "observes this job") {
			t.Errorf("%s: %v %s", what, err, out)
		}
		if took := time.Since(begin); took > 5*time.Second {
			t.Errorf("%s: the job waited %s", what, took)
		}
	}
	if err := s.agent.Process.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("sallyport-agent", "hook", "started", "--socket", s.socket).CombinedOutput(); err != nil || !strings.Contains(string(out), "observes this job") {
		t.Errorf("%v %s", err, out)
	}
}

// TestHookWhileAgentsChange: nobody listens for a moment while an agent hands over.
func TestHookWhileAgentsChange(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("skipped: only root's is taken for an agent")
	}
	socket := filepath.Join(t.TempDir(), "agent.sock")
	ctx, cancel := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() {
		time.Sleep(handOverGap / 3)
		l, err := control.Listen(socket)
		if err != nil {
			served <- err
			return
		}
		served <- control.Serve(ctx, l, control.Agent{Status: func() control.Status { return control.Status{Armed: true} }})
	}()
	var log bytes.Buffer
	if sayObserved(t.Context(), &log, socket); !strings.Contains(log.String(), "observes this job") {
		t.Error(log.String())
	}
	cancel()
	if err := <-served; err != nil {
		t.Error(err)
	}
}

// TestHookMindsItsOwn: what a job has in its environment for another agent is nothing to its hooks.
func TestHookMindsItsOwn(t *testing.T) {
	cmd := exec.Command("sallyport-agent", "hook", "started")
	cmd.Env = []string{"SALLYPORT_SOCKET=" + filepath.Join(t.TempDir(), "agent.sock"), "SALLYPORT_WATCH_LIST=not/there.yml", "SALLYPORT_SPOOL_BYTES=much"}
	if out, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(out), "This job is not observed: look for the agent: no agent listens on "+strings.TrimPrefix(cmd.Env[0], "SALLYPORT_SOCKET=")) {
		t.Errorf("%v %s", err, out)
	}
	cmd = exec.Command("sallyport-agent", "hook", "completed")
	cmd.Env = []string{"SALLYPORT_SOCKET=/proc/not\n::error::there"}
	if out, err := cmd.CombinedOutput(); err != nil || strings.Contains(string(out), "\n::") || !strings.Contains(string(out), "no agent listens") {
		t.Errorf("%v %q", err, out)
	}
}
