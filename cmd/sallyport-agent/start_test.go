package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
	"google.golang.org/protobuf/encoding/protojson"

	"github.com/sallyport-ci/sallyport/agent/control"
	sallyportv1 "github.com/sallyport-ci/sallyport/proto/sallyport/v1"
	"github.com/sallyport-ci/sallyport/stream/natsserver"
	"github.com/sallyport-ci/sallyport/stream/natsserver/natstest"
)

func requireKernel(t *testing.T) {
	t.Helper()
	if os.Getenv("SALLYPORT_REQUIRE_ALL") != "1" {
		if err := check(); err != nil {
			t.Skip("skipped: " + err.Error())
		}
	}
}

// started is an agent that the command start is to start.
type started struct {
	t           *testing.T
	dir, socket string
	environment []string
}

func newStarted(t *testing.T, dir string, environment ...string) *started {
	t.Helper()
	s := &started{t: t, dir: dir, socket: filepath.Join(dir, "agent.sock"), environment: environment}
	t.Cleanup(func() {
		if c := s.command("stop", "--within", "0s"); c.Run() == nil {
			t.Log("an agent was left, and stopped")
		}
	})
	return s
}

func (s *started) command(args ...string) *exec.Cmd {
	cmd := exec.Command("sallyport-agent", append(args, "--state", filepath.Join(s.dir, "state"), "--socket", s.socket)...)
	cmd.Env = append(os.Environ(), s.environment...)
	return cmd
}

func (s *started) status(args ...string) (status control.Status) {
	s.t.Helper()
	cmd := s.command(append(args, "--json")...)
	out, err := cmd.Output()
	if err != nil {
		var exit *exec.ExitError
		errors.As(err, &exit)
		s.t.Fatalf("%s: %v: %s", args, err, exit.Stderr)
	}
	if err := json.Unmarshal(out, &status); err != nil {
		s.t.Fatal(err)
	}
	return status
}

// TestStartByAStep: a step starts the agent, which goes on when the step has ended, holds
// nothing of the step's, and is no part of the job; all arrives when it is stopped.
func TestStartByAStep(t *testing.T) {
	requireKernel(t)
	dir := t.TempDir()
	server, js := natstest.StartDeclared(t, natsserver.Config{AgentPassword: "secret"})
	s := newStarted(t, dir)
	mark := copyOf(t, "/bin/true", filepath.Join(dir, "mark"))
	worker := copyOf(t, "/bin/bash", filepath.Join(dir, "Runner.Worker"))
	step := filepath.Join(dir, "step.sh")
	// The address of NATS is a secret: it comes by standard input.
	if err := os.WriteFile(step, fmt.Appendf(nil, `set -e
echo '{"SALLYPORT_NATS": %q}' | sallyport-agent start --environment-stdin --json --begins-job --state %s --socket %s >%s
%s
`, server.AgentURL("secret"), filepath.Join(dir, "state"), s.socket, filepath.Join(dir, "said"), mark), 0o755); err != nil {
		t.Fatal(err)
	}
	job := exec.Command(worker, "-c", "/bin/bash "+step+"; /bin/bash -c "+mark+"; /bin/bash -c 'sallyport-agent report --json --wait 0s --socket "+s.socket+" >"+dir+"/report'; true")
	job.Env = []string{
		"PATH=" + os.Getenv("PATH"), "GITHUB_REPOSITORY=acme/start", "GITHUB_RUN_ID=1", "GITHUB_JOB=build", "GITHUB_ACTION=step", "GITHUB_TOKEN=ghs_1",
		"RUNNER_TRACKING_ID=github_1", "DEPLOY_KEY=swordfish",
	}
	job.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if out, err := job.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	// What a runner does with what a step left behind.
	_ = syscall.Kill(-job.Process.Pid, syscall.SIGKILL) // nothing may be left

	said, err := os.ReadFile(filepath.Join(dir, "said"))
	if err != nil {
		t.Fatal(err)
	}
	var first control.Status
	if err := json.Unmarshal(said, &first); err != nil || !first.Armed {
		t.Fatalf("start said %s, %v", said, err)
	}
	// The job is seen whole: its worker was there before the agent, none of its steps was.
	text, err := os.ReadFile(filepath.Join(dir, "report"))
	if err != nil {
		t.Fatal(err)
	}
	report := new(sallyportv1.JobReport)
	if err := protojson.Unmarshal(text, report); err != nil || report.GetGaps().GetBeganBefore() || report.GetCounts().GetPrograms() == 0 {
		t.Errorf("report %s, %v", text, err)
	}
	pid, err := os.ReadFile(filepath.Join(dir, "state/agent.pid"))
	if err != nil || strings.TrimSpace(string(pid)) != fmt.Sprint(first.PID) {
		t.Errorf("pid file %q, %v, want %d", pid, err, first.PID)
	}
	environment, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", first.PID))
	if err != nil {
		t.Fatal(err)
	}
	for _, no := range []string{"RUNNER_TRACKING_ID", "swordfish", "GITHUB_JOB", "GITHUB_TOKEN", "ghs_1"} {
		if strings.Contains(string(environment), no) {
			t.Errorf("the agent has %s in its environment: %q", no, environment)
		}
	}
	arguments, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", first.PID))
	if err != nil || strings.Contains(string(arguments), "secret") || strings.Contains(string(arguments), "nats") {
		t.Errorf("arguments %q, %v", arguments, err)
	}
	// A second one leaves it as it is.
	if again := s.status("start"); again.PID != first.PID {
		t.Errorf("a second start: %+v", again)
	}
	eventually(t, "connected", func() error {
		if s := s.status("status"); !s.Connected || s.EventsSeen == 0 {
			return fmt.Errorf("%+v", s)
		}
		return nil
	})
	last := s.status("stop", "--within", "10s")
	if last.PID != first.PID || last.BatchesWaiting != 0 || len(last.EventsLost) != 0 {
		t.Errorf("at its end: %+v", last)
	}
	if _, err := control.AskStatus(t.Context(), s.socket); !errors.Is(err, control.ErrNobody) {
		t.Errorf("it has stopped: %v", err)
	}
	marks, own := 0, 0
	for _, b := range events(t, js) {
		for _, e := range b.GetEvents() {
			if e.GetProcess() == 0 {
				continue
			}
			p := b.GetProcesses()[e.GetProcess()-1]
			repository := ""
			if e.GetAttribution() > 0 {
				repository = b.GetAttributions()[e.GetAttribution()-1].GetRepository()
			}
			switch {
			case e.GetProcessExecuted() != nil && p.GetExecutable() == mark && repository == "acme/start":
				marks++
			case int(p.GetPid()) == first.PID:
				if own++; repository != "" {
					t.Errorf("what the agent does is told as the job's: %v", e)
				}
			}
		}
	}
	// The second is the worker's own child, after the step.
	if marks != 2 {
		t.Errorf("%d marks of the job, want 2", marks)
	}
	if own == 0 {
		t.Error("the agent's own connection is not told at all")
	}
}

// TestStartServerAway: a server that takes connections and says nothing holds up neither
// the start nor the end. What was seen stays in the spool, and the next agent sends it.
func TestStartServerAway(t *testing.T) {
	requireKernel(t)
	dir := t.TempDir()
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = silent.Close() }() // nothing was accepted
	s := newStarted(t, dir, "SALLYPORT_NATS=nats://agent:secret@"+silent.Addr().String())
	begin := time.Now()
	if first := s.status("start"); !first.Armed || first.Connected {
		t.Errorf("%+v", first)
	}
	armed := time.Since(begin)
	begin = time.Now()
	last := s.status("stop", "--within", "500ms")
	stopped := time.Since(begin)
	t.Logf("armed in %s, stopped in %s", armed, stopped)
	// Generous: other tests run meanwhile. A wait for the server would be two seconds more.
	if armed > 10*time.Second || stopped > 10*time.Second {
		t.Errorf("armed in %s, stopped in %s", armed, stopped)
	}
	spooled, err := filepath.Glob(filepath.Join(last.Spool, "*.batch"))
	if err != nil || len(spooled) == 0 || uint64(len(spooled)) != last.BatchesWaiting || last.Connected {
		t.Errorf("%d files in the spool, %v, of %+v", len(spooled), err, last)
	}

	server, js := natstest.StartDeclared(t, natsserver.Config{AgentPassword: "secret"})
	s.environment = []string{"SALLYPORT_NATS=" + server.AgentURL("secret")}
	s.status("start")
	eventually(t, "the spool is sent", func() error {
		if s := s.status("status"); s.BatchesWaiting > 0 {
			return fmt.Errorf("%+v", s)
		}
		return nil
	})
	s.status("stop")
	stops := 0
	for _, b := range events(t, js) {
		for _, e := range b.GetEvents() {
			if e.GetAgentStatus().GetStopping() {
				stops++
			}
		}
	}
	if stops != 2 {
		t.Errorf("%d agents said that they stop, want 2", stops)
	}
}

// TestStartsAtOnce: jobs that begin at the same time on a machine have one agent, which one of
// them has started.
func TestStartsAtOnce(t *testing.T) {
	requireKernel(t)
	s := newStarted(t, t.TempDir(), "SALLYPORT_NATS=nats://agent:secret@127.0.0.1:1")
	type start struct {
		control.Status
		Started bool `json:"started"`
	}
	starts := make([]start, 3)
	var group errgroup.Group
	for i := range starts {
		cmd := s.command("start", "--json", "--within", "30s")
		group.Go(func() error {
			out, err := cmd.Output()
			if err != nil {
				return fmt.Errorf("%w: %s", err, out)
			}
			return json.Unmarshal(out, &starts[i])
		})
	}
	if err := group.Wait(); err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, one := range starts {
		if one.Started {
			n++
		}
		if one.PID != starts[0].PID || one.PID == 0 || !one.Armed {
			t.Errorf("%+v beside %+v", one, starts[0])
		}
	}
	if n != 1 {
		t.Errorf("%d say that they have started it", n)
	}
	s.status("stop", "--within", "0s")
}

// TestStartOfOneThatCannotBeEnded: an agent that nobody could speak with, or find, is not left to
// run while the job is told that it is not watched.
func TestStartOfOneThatCannotBeEnded(t *testing.T) {
	requireKernel(t)
	for what, change := range map[string]func(s *started) []string{
		"there can be no folder for its socket": func(s *started) []string { s.socket = "/proc/not/there/agent.sock"; return nil },
		"there is no folder for its number":     func(s *started) []string { return []string{"--pid-file", filepath.Join(s.dir, "not/there")} },
	} {
		s := newStarted(t, t.TempDir(), "SALLYPORT_NATS=nats://agent:secret@127.0.0.1:1")
		out, err := s.command(append([]string{"start"}, change(s)...)...).CombinedOutput()
		if err == nil || !strings.Contains(string(out), "was ended again") {
			t.Errorf("%s: %v: %s", what, err, out)
		}
		said, err := os.ReadFile(filepath.Join(s.dir, "state/agent.log"))
		if err != nil || !strings.Contains(string(said), "watching") {
			t.Errorf("%s: it has not watched: %v: %s", what, err, said)
		}
		if out, err := exec.Command("pgrep", "-f", "--", "--state="+filepath.Join(s.dir, "state")).Output(); err == nil {
			t.Errorf("%s: it runs on: %s", what, out)
		}
	}
}

// TestStatusOfAKilledAgent: nobody answers, and the next start is not held up by what the
// one before left.
func TestStatusOfAKilledAgent(t *testing.T) {
	requireKernel(t)
	s := newStarted(t, t.TempDir(), "SALLYPORT_NATS=nats://agent:secret@127.0.0.1:1")
	first := s.status("start")
	if err := syscall.Kill(first.PID, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	eventually(t, "it has gone", func() error {
		if _, err := control.AskStatus(t.Context(), s.socket); !errors.Is(err, control.ErrNobody) {
			return fmt.Errorf("still there: %w", err)
		}
		return nil
	})
	if out, err := s.command("status").CombinedOutput(); err == nil || !strings.Contains(string(out), "no agent listens") {
		t.Errorf("%v: %s", err, out)
	}
	if next := s.status("start"); next.PID == first.PID || !next.Armed {
		t.Errorf("%+v", next)
	}
	s.status("stop", "--within", "0s")
}

// TestEndsWithItsJobs: a runner that is killed runs no last step, and the agent that its job
// has started ends all the same; not while another job on the machine counts on it.
func TestEndsWithItsJobs(t *testing.T) {
	requireKernel(t)
	dir := t.TempDir()
	server, js := natstest.StartDeclared(t, natsserver.Config{AgentPassword: "secret"})
	s := newStarted(t, dir)
	worker := copyOf(t, "/bin/bash", filepath.Join(dir, "Runner.Worker"))
	// job starts a worker whose first step runs a script; its later ones wait.
	job := func(run, script string) (end func(os.Signal)) {
		t.Helper()
		cmd := exec.Command(worker, "-c", `/bin/bash -c "$STEP" || exit 1; echo done; read -r; true`)
		cmd.Env = []string{
			"PATH=" + os.Getenv("PATH"), "STEP=" + script, "GITHUB_REPOSITORY=acme/ends", "GITHUB_RUN_ID=" + run, "GITHUB_JOB=build", "GITHUB_ACTION=step",
			"SALLYPORT_NATS=" + server.AgentURL("secret"), "SOCKET=" + s.socket, "STATE=" + filepath.Join(dir, "state"),
		}
		hold, err := cmd.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		cmd.Stderr = os.Stderr
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		ended := false
		end = func(by os.Signal) {
			if !ended {
				ended = true
				_ = cmd.Process.Signal(by) // it may have ended
				_ = hold.Close()
				_ = cmd.Wait() // it was killed
			}
		}
		t.Cleanup(func() { end(os.Kill) })
		line := make([]byte, len("done\n"))
		if _, err := io.ReadFull(out, line); err != nil {
			t.Fatalf("the step of run %s failed: %v", run, err)
		}
		return end
	}
	first := job("1", `sallyport-agent start --ends-with-jobs --begins-job --state "$STATE" --socket "$SOCKET" --log-file "$STATE/agent.log" >&2`)
	users := func(want int) {
		t.Helper()
		eventually(t, fmt.Sprintf("%d jobs count on it", want), func() error {
			if s := s.status("status"); s.Users != want {
				return fmt.Errorf("%+v", s)
			}
			return nil
		})
	}
	users(1)
	second := job("2", `python3 -c 'import os, socket
s = socket.socket(socket.AF_UNIX); s.connect(os.environ["SOCKET"]); s.send(b"{\"do\": \"use\", \"begins\": true}\n")
said = s.recv(1000); assert said == b"{}\n", said'`)
	users(2)
	if left := s.status("stop", "--unless-used"); !left.GoesOn {
		t.Errorf("it was to go on for the second job: %+v", left)
	}
	first(os.Kill)
	users(1)
	second(os.Interrupt)
	eventually(t, "it has ended", func() error {
		if _, err := control.AskStatus(t.Context(), s.socket); !errors.Is(err, control.ErrNobody) {
			return fmt.Errorf("still there: %w", err)
		}
		return nil
	})
	// In order: all was sent, and that it stops.
	eventually(t, "it says that it stops", func() error {
		for _, b := range events(t, js) {
			for _, e := range b.GetEvents() {
				if e.GetAgentStatus().GetStopping() {
					return nil
				}
			}
		}
		return errors.New("it has not")
	})
}

// TestSaysThatItEnds: an agent whose last job has ended, and which still tries to send what it saw,
// is none for the next job.
func TestSaysThatItEnds(t *testing.T) {
	requireKernel(t)
	dir := t.TempDir()
	server, _ := natstest.StartDeclared(t, natsserver.Config{AgentPassword: "secret"})
	address, err := url.Parse(server.AgentURL("secret"))
	if err != nil {
		t.Fatal(err)
	}
	var stall func()
	address.Host, stall = stalling(t, address.Host)
	s := newStarted(t, dir, "SALLYPORT_NATS="+address.String())
	worker := copyOf(t, "/bin/bash", filepath.Join(dir, "Runner.Worker"))
	start := s.command("start", "--ends-with-jobs", "--begins-job")
	job := exec.Command(worker, "-c", `/bin/bash -c '"$@"' step "$@" >/dev/null || exit 1; read -r; exit 0`, "worker")
	job.Args = append(job.Args, start.Args...)
	job.Env = append(start.Env, "GITHUB_REPOSITORY=acme/says-that-it-ends", "GITHUB_RUN_ID=1", "GITHUB_JOB=build", "GITHUB_ACTION=step")
	job.Stderr = os.Stderr
	hold, err := job.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := job.Start(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "it watches", func() error {
		if got, err := control.AskStatus(t.Context(), s.socket); err != nil || !got.Armed || !got.Connected || got.Ends {
			return fmt.Errorf("%+v, %w", got, err)
		}
		return nil
	})
	stall()
	if err := errors.Join(hold.Close(), job.Wait()); err != nil {
		t.Fatal(err)
	}
	eventually(t, "it says that it ends", func() error {
		got, err := control.AskStatus(t.Context(), s.socket)
		if err != nil || !got.Ends {
			return fmt.Errorf("%+v, %w", got, err)
		}
		return nil
	})
	eventually(t, "it has ended", func() error {
		if _, err := control.AskStatus(t.Context(), s.socket); !errors.Is(err, control.ErrNobody) {
			return fmt.Errorf("still there: %w", err)
		}
		return nil
	})
	if said, err := os.ReadFile(filepath.Join(dir, "state/agent.log")); err != nil || !strings.Contains(string(said), "the last job that counted on this agent has ended") {
		t.Errorf("%v: %s", err, said)
	}
}

// stalling is the address of a way to another one on which nothing moves any more once it is stalled.
func stalling(t *testing.T, to string) (address string, stall func()) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	stalled := make(chan struct{})
	move := func(to, from net.Conn) {
		part := make([]byte, 4<<10)
		for {
			n, err := from.Read(part)
			select {
			case <-stalled:
				<-t.Context().Done()
				err = net.ErrClosed
			default:
			}
			if err != nil {
				_ = errors.Join(to.Close(), from.Close()) // both are done with
				return
			}
			_, _ = to.Write(part[:n]) // the next read says so, too
		}
	}
	go func() {
		for {
			a, err := l.Accept()
			if err != nil {
				return
			}
			b, err := net.Dial("tcp", to)
			if err != nil {
				_ = a.Close()
				continue
			}
			go move(a, b)
			go move(b, a)
		}
	}()
	return l.Addr().String(), func() { close(stalled) }
}

func eventually(t *testing.T, what string, f func() error) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		err := f()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s: %v", what, err)
		}
	}
}

func TestReadEnvironment(t *testing.T) {
	got, err := readEnvironment(strings.NewReader(`{"SALLYPORT_NATS": "nats://a:b@c", "ACTIONS_ID_TOKEN_REQUEST_TOKEN": "line\nline"}`))
	if want := "[ACTIONS_ID_TOKEN_REQUEST_TOKEN=line\nline SALLYPORT_NATS=nats://a:b@c]"; err != nil || fmt.Sprint(got) != want {
		t.Errorf("%q, %v", got, err)
	}
	for text, want := range map[string]string{
		"":                                      "not an object",
		`["swordfish"]`:                         "not an object",
		`{"SALLYPORT_NATS": 7}`:                 "not an object",
		`{"LD_PRELOAD": "swordfish"}`:           `no variable "LD_PRELOAD"`,
		`{"SALLYPORT_X=swordfi": "x"}`:          "no variable",
		`{"SALLYPORT_READY_FD": "4"}`:           "no variable",
		`{"SALLYPORT_NATS": "swordfish\u0000"}`: "zero byte",
		`{"a":"` + strings.Repeat("x", maxEnvironment) + `"}`: "more than",
	} {
		if got, err := readEnvironment(strings.NewReader(text)); err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "swordfish") {
			t.Errorf("%.40s: %q, %v", text, got, err)
		}
	}
}

// FuzzReadEnvironment: whatever comes, only variables that the agent takes go on, each one
// whole.
func FuzzReadEnvironment(f *testing.F) {
	for _, seed := range []string{"{}", `{"SALLYPORT_NATS":"x"}`, `{"PATH":"/bin","PATH":"/"}`, `{"SALLYPORT_\u0000":"x"}`, `{"SALLYPORT_A=B":"x"}`} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		got, err := readEnvironment(strings.NewReader(text))
		if err != nil && got != nil {
			t.Fatalf("%q beside %v", got, err)
		}
		for _, v := range got {
			name, _, ok := strings.Cut(v, "=")
			if !ok || !passes(name) || strings.ContainsRune(v, 0) {
				t.Fatalf("%q", v)
			}
		}
	})
}
