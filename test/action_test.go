package test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"google.golang.org/protobuf/encoding/prototext"

	"github.com/sallyport-ci/sallyport/agent/control"
	"github.com/sallyport-ci/sallyport/spooled"
	"github.com/sallyport-ci/sallyport/test/lab"
)

// actionRun is a workflow with the GitHub Action, run by act with the agent as it is built.
// Nothing of it leaves the loopback interface.
type actionRun struct {
	t           *testing.T
	dir         string
	repository  string
	state       string
	socket      string
	nats        string            // empty for no such input
	environment map[string]string // of all steps, which act takes from a file
	// unprivileged has act run as a user who has sudo.
	unprivileged bool
	// artifacts is where act's artifact server keeps what jobs upload; none runs if it is empty.
	artifacts string
	log       string // what act printed
}

func newActionRun(t *testing.T, name, nats string) *actionRun {
	t.Helper()
	built(t)
	r := &actionRun{t: t, dir: t.TempDir(), repository: "acme/" + name, nats: nats}
	r.socket, r.state = filepath.Join(r.dir, "agent.sock"), filepath.Join(r.dir, "var")
	// The action as a repository has it: act takes it from here instead of GitHub.
	for _, path := range []string{"action.yml", "dist"} {
		from, err := filepath.Abs(filepath.Join("../action", path))
		if err != nil {
			t.Fatal(err)
		}
		to := filepath.Join(r.dir, "sallyport/action", path)
		if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
			t.Fatal(err)
		}
		if out, err := exec.Command("cp", "-r", from, to).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
	own := r.socket
	t.Cleanup(func() {
		if stopAgent(t, own) {
			t.Error("an agent was left, and stopped")
		}
	})
	return r
}

// stopAgent stops the agent that listens on a socket, if there is one.
func stopAgent(t *testing.T, socket string) bool {
	_, err := control.Stop(context.WithoutCancel(t.Context()), socket, 0, false)
	return err == nil
}

// run runs a job whose steps are written in YAML; with are inputs of the action. It returns
// act's exit code.
func (r *actionRun) run(with map[string]string, steps string) int {
	r.t.Helper()
	agent := filepath.Join(r.dir, "built-agent")
	if out, err := exec.Command("cp", "../bin/sallyport-agent", agent).CombinedOutput(); err != nil {
		r.t.Fatalf("copy the agent: %v: %s", err, out)
	}
	act, err := filepath.Abs("../.bin/act")
	if err != nil {
		r.t.Fatal(err)
	}
	inputs := map[string]string{"agent-path": agent}
	if r.nats != "" {
		inputs["nats"] = "${{ secrets.NATS }}"
	}
	for k, v := range with {
		inputs[k] = v
	}
	encoded, err := json.Marshal(inputs) // which is YAML
	if err != nil {
		r.t.Fatal(err)
	}
	checkout := filepath.Join(r.dir, "checkout")
	workflow := filepath.Join(checkout, ".github/workflows/ci.yml")
	if err := os.MkdirAll(filepath.Dir(workflow), 0o755); err != nil {
		r.t.Fatal(err)
	}
	if err := os.WriteFile(workflow, fmt.Appendf(nil, `name: CI
on: push
env:
  SALLYPORT_SOCKET: %s
  SALLYPORT_STATE: %s
jobs:
  build:
    runs-on: ubuntu-latest
    steps:
%s
      - uses: sallyport-ci/sallyport/action@v1
        with: %s
`, r.socket, r.state, steps, encoded), 0o644); err != nil {
		r.t.Fatal(err)
	}
	secrets := filepath.Join(r.dir, "secrets")
	if err := os.WriteFile(secrets, []byte("NATS="+r.nats+"\n"), 0o600); err != nil {
		r.t.Fatal(err)
	}
	// act does not wait for the terminal of a step that fails, and drops what it said last
	// (pkg/container/host_environment.go): there a program of node's ends a moment later.
	lingering := filepath.Join(r.dir, "linger.cjs")
	if err := os.WriteFile(lingering, []byte("process.on('exit', (code) => { if (code) Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 1000) })\n"), 0o644); err != nil {
		r.t.Fatal(err)
	}
	var environment strings.Builder
	fmt.Fprintf(&environment, "NODE_OPTIONS=--require=%s\n", lingering)
	for k, v := range r.environment {
		fmt.Fprintf(&environment, "%s=%s\n", k, v)
	}
	variables := filepath.Join(r.dir, "environment")
	if err := os.WriteFile(variables, []byte(environment.String()), 0o600); err != nil {
		r.t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(checkout, ".git")); err != nil {
		for _, args := range [][]string{
			{"init", "-q", "-b", "main"},
			{"remote", "add", "origin", "https://github.com/" + r.repository + ".git"}, // never contacted: act takes the name from it
			{"add", "-A"},
			{"-c", "user.name=Alice", "-c", "user.email=alice@example.test", "commit", "-q", "-m", "the shop"},
		} {
			cmd := exec.Command("git", args...)
			cmd.Dir = checkout
			cmd.Env = append(os.Environ(), "GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_SYSTEM=/dev/null")
			if out, err := cmd.CombinedOutput(); err != nil {
				r.t.Fatalf("git %v: %v: %s", args, err, out)
			}
		}
	}
	home := filepath.Join(r.dir, "home")
	if err := os.MkdirAll(home, 0o755); err != nil {
		r.t.Fatal(err)
	}
	words := []string{act, "push", "--directory", checkout, "--workflows", workflow,
		"--platform", "ubuntu-latest=-self-hosted", "--actor", "alice", "--action-offline-mode", "--secret-file", secrets, "--env-file", variables,
		"--local-repository", "sallyport-ci/sallyport@v1=" + filepath.Join(r.dir, "sallyport"),
		"--env", "GITHUB_RUN_ID=1", "--env", "GITHUB_RUN_NUMBER=1", "--env", "GITHUB_RUN_ATTEMPT=1"}
	var runtime []string
	own := []string{checkout, home, secrets, variables}
	if r.artifacts != "" {
		if err := os.MkdirAll(r.artifacts, 0o755); err != nil {
			r.t.Fatal(err)
		}
		own = append(own, r.artifacts)
		port := freePort(r.t)
		words = append(words, "--artifact-server-path", r.artifacts, "--artifact-server-addr", "127.0.0.1", "--artifact-server-port", port)
		artifacts := likeGitHub("127.0.0.1:" + port)
		defer artifacts.Close()
		runtime = append(runtime, "ACTIONS_RUNTIME_URL="+artifacts.URL+"/") // from where act tells it to jobs
	}
	if r.unprivileged {
		words = r.unprivilegedly(words, own...)
	}
	cmd := exec.CommandContext(r.t.Context(), words[0], words[1:]...)
	cmd.Env = []string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + home, "XDG_CACHE_HOME=" + filepath.Join(home, ".cache"),
		"XDG_CONFIG_HOME=" + filepath.Join(home, ".config"), "LANG=C.UTF-8", "DO_NOT_TRACK=1",
	}
	cmd.Env = append(cmd.Env, runtime...)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err = cmd.Run()
	r.log = out.String()
	if cmd.ProcessState == nil {
		r.t.Fatal(err)
	}
	if strings.Contains(r.log, "swordfish") {
		r.t.Errorf("a secret is in the log")
	}
	return cmd.ProcessState.ExitCode()
}

// freePort is one that nobody listens on. act cannot choose one for artifacts.
func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_, port, err := net.SplitHostPort(l.Addr().String())
	if err = errors.Join(err, l.Close()); err != nil {
		t.Fatal(err)
	}
	return port
}

// likeGitHub stands before act's artifact server, whose addresses for uploads end the signature
// with a bare "=". Storage clients of today take that for the end of the value; GitHub writes %3D.
func likeGitHub(address string) *httptest.Server {
	proxy := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: address})
	proxy.ModifyResponse = func(a *http.Response) error {
		if !strings.HasSuffix(a.Request.URL.Path, "/CreateArtifact") {
			return nil
		}
		body, err := io.ReadAll(a.Body)
		body = bytes.Replace(body, []byte("=&expires="), []byte("%3D&expires="), 1)
		a.Body, a.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
		a.Header.Set("Content-Length", strconv.Itoa(len(body)))
		return err
	}
	return httptest.NewServer(proxy)
}

// uploaded returns the artifacts of the run, as the zip files that act's server has of them.
func (r *actionRun) uploaded() []string {
	r.t.Helper()
	var files []string
	err := filepath.WalkDir(r.artifacts, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			files = append(files, path)
		}
		return err
	})
	if err != nil {
		r.t.Fatal(err)
	}
	return files
}

// unprivilegedly returns a command that runs another one as a user who may do everything by
// sudo without a password, as on GitHub's runners. That he may is written where nobody else
// on the machine sees it, in a mount namespace. own are to be his.
func (r *actionRun) unprivilegedly(words []string, own ...string) []string {
	r.t.Helper()
	sudoers := filepath.Join(r.dir, "sudoers")
	if err := os.WriteFile(sudoers, []byte("root ALL=(ALL:ALL) ALL\n#65534 ALL=(ALL:ALL) NOPASSWD: ALL\n"), 0o440); err != nil {
		r.t.Fatal(err)
	}
	// The checkout that this test runs from may be closed to him.
	program := filepath.Join(r.dir, "act")
	for _, args := range [][]string{
		append([]string{"chown", "-R", "65534:65534"}, own...),
		{"chmod", "0755", filepath.Dir(r.dir), r.dir},
		{"cp", words[0], program},
	} {
		if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
			r.t.Fatalf("%v: %v: %s", args, err, out)
		}
	}
	return append([]string{
		"unshare", "--mount", "sh", "-c", `mount --bind "$0" /etc/sudoers && exec setpriv --reuid 65534 --regid 65534 --clear-groups "$@"`, sudoers, program,
	}, words[1:]...)
}

// has fails unless the log has all words.
func (r *actionRun) has(words ...string) {
	r.t.Helper()
	for _, w := range words {
		if !strings.Contains(r.log, w) {
			r.t.Errorf("%q is not in the log:\n%s", w, r.log)
		}
	}
}

// TestAction: the agent starts before the first step though the action is the last one,
// sees the whole job, and has sent all of it when the job has ended.
func TestAction(t *testing.T) {
	program, _ := built(t)
	log := &output{}
	up, err := lab.StartUp(context.WithoutCancel(t.Context()), program, t.TempDir(), "", log, "--agent", "off")
	if err != nil {
		t.Fatalf("%v\n%s", err, log)
	}
	t.Cleanup(func() {
		if err := up.Stop(); err != nil {
			t.Errorf("%v\n%s", err, log)
		}
	})
	nats, err := up.AgentURL()
	if err != nil {
		t.Fatal(err)
	}
	r := newActionRun(t, "action", nats)
	r.artifacts = filepath.Join(r.dir, "artifacts")
	// Words of the job's own that mean to be more than words.
	code := r.run(map[string]string{"egress-policy": "block", "allowed-endpoints": "registry.example.test:443", "fail-on": "threat", "upload-events": "true"}, `
      - id: evil
        run: |
          cp /bin/cat './<img src=x>'
          './<img src=x>' '::error::planted' '[a](b)' || true
          './<img src=x>' "/proc/$PPID/environ" >/dev/null || true
          bash -c 'exec 3<>/dev/tcp/127.0.0.1/1' || true
          cat "/proc/$PPID/environ" >/dev/null || true
      - run: cat /dev/null`)
	if code != 0 && !strings.Contains(r.log, "reasons to fail") && !strings.Contains(r.log, "reason to fail") {
		t.Errorf("exit code %d", code)
	}
	r.has("The agent watches", "not enforced: egress-policy: block", "Sallyport watches this job", "server: connected", "and has ended", "Sallyport: `build`")
	for _, no := range []string{"batches of events did not reach", "No report", "ot complete", "Not judged"} {
		if strings.Contains(r.log, no) {
			t.Errorf("%q is in the log:\n%s", no, r.log)
		}
	}
	if files := r.uploaded(); len(files) > 0 {
		t.Errorf("the server has everything, and these were uploaded: %q", files)
	}
	// Those words are in the summary, as words.
	_, summary, _ := strings.Cut(r.log, "Sallyport: `build`")
	spans := regexp.MustCompile("`[^`\n]*`")
	if plain := spans.ReplaceAllString(summary, ""); !strings.Contains(summary, "img src") || regexp.MustCompile(`[^\\]<img|(?m)^\s*::error::planted`).MatchString(plain) {
		t.Errorf("the program's name is missing, or more than words:\n%s", summary)
	}
	if first := strings.Index(r.log, "The agent watches"); first > strings.Index(r.log, "Run Main") {
		t.Errorf("a step ran before the agent watched:\n%s", r.log)
	}
	eventually(t, "rows of the job", func() error {
		out, err := up.Query(t.Context(), `SELECT count() FROM process_events WHERE repository = 'acme/action' AND has(arguments, '::error::planted') FORMAT TSV`)
		if err == nil && strings.TrimSpace(out) == "0" {
			err = fmt.Errorf("none yet")
		}
		return err
	})
	// Its end was seen, so that the run can teach, and what it left behind is known.
	ends, err := up.Query(t.Context(), `SELECT toString(reason) FROM job_events WHERE repository = 'acme/action' AND kind = 'ended' FORMAT TSV`)
	if err != nil || strings.TrimSpace(ends) != "hook" {
		t.Errorf("the job ended by %q, %v", ends, err)
	}
	// The agent itself is no part of the job.
	out, err := up.Query(t.Context(), `SELECT count() FROM egress WHERE repository = 'acme/action' AND program = 'sallyport-agent' FORMAT TSV`)
	if err != nil || strings.TrimSpace(out) != "0" {
		t.Errorf("the agent's own connections are the job's: %q, %v", out, err)
	}
}

// TestActionByToken: the job is let in by its OIDC token, which the action hands to the agent
// and to nobody else; what it did arrives under the identity of that run.
func TestActionByToken(t *testing.T) {
	l := newLetIn(t)
	l.issuer.Job(map[string]any{"repository": "acme/by-token", "repository_owner": "acme", "run_id": "1", "run_attempt": "1"})
	r := newActionRun(t, "by-token", "")
	r.environment = map[string]string{"ACTIONS_ID_TOKEN_REQUEST_URL": l.issuer.RequestURL(), "ACTIONS_ID_TOKEN_REQUEST_TOKEN": l.issuer.RequestToken}
	code := r.run(map[string]string{"server": l.up.Public}, fmt.Sprintf(`
      - run: |
          for i in $(seq 200); do
            %[1]s status --json | grep -q '"connected":true' && break
            sleep 0.1
          done
          echo "the token: $ACTIONS_ID_TOKEN_REQUEST_TOKEN"
          tr '\0' '\n' <"/proc/$(cat "$SALLYPORT_STATE/agent.pid")/environ" | sed 's/^/holds /'`, l.agent))
	if code != 0 {
		t.Errorf("exit code %d", code)
	}
	r.has("The agent watches", "server: connected", "the token: ***", "holds GITHUB_RUN_ID=1", "and has ended", "Sallyport: `build`")
	for _, no := range []string{l.issuer.RequestToken, "holds ACTIONS_ID_TOKEN_REQUEST", "batches of events did not reach", "no connection to the server", "cannot prove"} {
		if strings.Contains(r.log, no) {
			t.Errorf("%q is in the log:\n%s", no, r.log)
		}
	}
	l.runs(t, "SELECT DISTINCT repository, run_id, agent_id LIKE 'job-%', kind = 'ended' FROM job_events ORDER BY 4 FORMAT TSV")("acme/by-token\t1\t1\t0\nacme/by-token\t1\t1\t1")
}

// TestActionBySudo: a runner that is not root starts the agent by sudo, asks it as itself,
// and ends it by sudo. Nothing of the agent's is his to change.
func TestActionBySudo(t *testing.T) {
	r := newActionRun(t, "sudo", "nats://agent:swordfish@127.0.0.1:1")
	r.unprivileged = true
	code := r.run(map[string]string{"fail-on": "threat"}, `
      - run: |
          echo "I am $(id -u)"
          for f in "$SALLYPORT_STATE" "$SALLYPORT_STATE-bin" "$SALLYPORT_SOCKET"; do
            echo "$f" | sed "s/.*\///; s/$/ is of $(stat -c %u "$f")/"
          done
          pid=$(`+filepath.Join(r.dir, "built-agent")+` status --json | sed 's/.*"pid":\([0-9]*\).*/\1/')
          test -d "/proc/$pid" && echo "it is $(tr '\0' ' ' <"/proc/$pid/comm")"
          kill -9 "$pid" || echo "kill says $?"`)
	if code != 0 {
		t.Errorf("exit code %d", code)
	}
	r.has("The agent watches", "I am 65534", "var is of 0", "var-bin is of 0", "agent.sock is of 0", "it is sallyport-agent", "kill says 1", "and has ended", "Sallyport: `build`")
	for _, no := range []string{"No report", "not watched"} {
		if strings.Contains(r.log, no) {
			t.Errorf("%q is in the log", no)
		}
	}
	if t.Failed() {
		t.Log(r.log)
	}
	if _, err := control.AskStatus(t.Context(), r.socket); err == nil {
		t.Error("the agent still runs")
	}
}

// TestActionServerAway: what should answer takes connections and says nothing. The job goes
// on, waits for nobody, and what was seen is in the spool.
func TestActionServerAway(t *testing.T) {
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = silent.Close() }() // nothing was accepted
	address := silent.Addr().String()
	for _, c := range []struct {
		name, nats  string
		with        map[string]string
		environment map[string]string
		spool       string
	}{
		{"nats", "nats://agent:swordfish@" + address, nil, nil, "var/spool/*.batch"},
		{"server", "", map[string]string{"server": "http://" + address}, map[string]string{
			"ACTIONS_ID_TOKEN_REQUEST_URL": "http://" + address + "/token", "ACTIONS_ID_TOKEN_REQUEST_TOKEN": "swordfish",
		}, "var/spool/job-*/*.batch"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newActionRun(t, "away", c.nats)
			r.environment = c.environment
			with := map[string]string{"fail-on": "new"}
			maps.Copy(with, c.with)
			begin := time.Now()
			if code := r.run(with, "      - run: cat /dev/null"); code != 0 {
				t.Errorf("exit code %d", code)
			}
			// Generous, for other tests run meanwhile; whoever waits for an answer waits longer.
			if took := time.Since(begin); took > 25*time.Second {
				t.Errorf("it took %s", took)
			} else {
				t.Logf("it took %s", took)
			}
			r.has("The agent watches", "what is seen is kept until it can be reached", "batches of events did not reach the server", "could not be told: ", "Not judged")
			spooled, err := filepath.Glob(filepath.Join(r.dir, c.spool))
			if err != nil || len(spooled) == 0 {
				t.Errorf("%d files in the spool, %v", len(spooled), err)
			}
			if t.Failed() {
				t.Log(r.log)
			}
		})
	}
}

// TestActionEventsAsArtifact: what did not reach the server is an artifact of the run, with
// nothing else in it and no secret, and gets from there into the tables, once.
func TestActionEventsAsArtifact(t *testing.T) {
	const planted = "ghp_0123456789abcdefghijABCDEFGHIJ012345"
	program, _ := built(t)
	log := &output{}
	data := t.TempDir()
	up, err := lab.StartUp(context.WithoutCancel(t.Context()), program, data, "", log, "--agent", "off")
	if err != nil {
		t.Fatalf("%v\n%s", err, log)
	}
	t.Cleanup(func() {
		if err := up.Stop(); err != nil {
			t.Errorf("%v\n%s", err, log)
		}
	})
	send := func(t *testing.T, args ...string) (string, error) {
		t.Helper()
		cmd := exec.Command(program, append([]string{"spool", "send", "--data", data}, args...)...)
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	for _, c := range []struct {
		name, nats   string
		with         map[string]string
		environment  map[string]string
		unprivileged bool
	}{
		{"nats", "nats://agent:swordfish@127.0.0.1:1", nil, nil, true},
		{"server", "", map[string]string{"server": "http://127.0.0.1:1"}, map[string]string{
			"ACTIONS_ID_TOKEN_REQUEST_URL": "http://127.0.0.1:1/token", "ACTIONS_ID_TOKEN_REQUEST_TOKEN": "swordfish",
		}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			with := map[string]string{"upload-events": "true"}
			maps.Copy(with, c.with)
			var r *actionRun
			var files []string
			var text string
			// Jobs of other tests on this machine are seen, too, and nobody may speak for two: again,
			// when they have ended.
			for try := 0; try == 0 || try < 5 && speaksOfOthers(text, r.repository); try++ {
				r = newActionRun(t, "by-"+c.name, c.nats)
				r.environment, r.unprivileged, r.artifacts = c.environment, c.unprivileged, filepath.Join(r.dir, "artifacts")
				if code := r.run(with, "      - run: /bin/echo told-to-nobody "+planted); code != 0 {
					t.Errorf("exit code %d", code)
				}
				r.has("The agent watches", "batches of events did not reach the server", "in the artifact sallyport-events-build-1-", "sallyport spool send --repo acme/by-"+c.name+" --run 1 ")
				files = r.uploaded()
				if len(files) != 1 || !strings.HasPrefix(filepath.Base(files[0]), "sallyport-events-build-1-") {
					t.Fatalf("uploaded: %q\n%s", files, r.log)
				}
				text = unpacked(t, files[0])
			}
			for _, no := range []string{planted, "swordfish"} {
				if strings.Contains(text, no) {
					t.Errorf("%q is in the artifact", no)
				}
			}
			if !strings.Contains(text, "told-to-nobody") {
				t.Error("what the step ran is not in the artifact")
			}
			// Only an agent that was to be let in as this run has a name that stands for it.
			args := []string{"--repo", r.repository, "--run", "1", "--wait", files[0]}
			out, err := send(t, args...)
			if bound := c.nats == ""; bound != (err == nil) {
				t.Errorf("without --agent: %v: %s", err, out)
			}
			args = append(args, "--agent", "*")
			if out, err = send(t, args...); err != nil {
				t.Fatalf("%v: %s", err, out)
			}
			t.Log(out)
			count := func() string {
				out, err := up.Query(t.Context(), "SELECT countIf(has(arguments, 'told-to-nobody')), count() FROM process_events WHERE repository = '"+r.repository+"' FORMAT TSV")
				if err != nil {
					t.Fatal(err)
				}
				return strings.TrimSpace(out)
			}
			var first string
			eventually(t, "rows of the job", func() error {
				if first = count(); !strings.HasPrefix(first, "1\t") {
					return fmt.Errorf("they are %q", first)
				}
				return nil
			})
			if out, err = send(t, args...); err != nil || !strings.Contains(out, "were in the stream already") {
				t.Errorf("the second time: %v: %s", err, out)
			}
			if again := count(); again != first {
				t.Errorf("%q rows after it was sent twice, %q before", again, first)
			}
		})
	}
}

// unpacked returns all that is in the batches of an artifact as one text, and fails if there
// is something else in it.
func unpacked(t *testing.T, path string) string {
	t.Helper()
	found, err := spooled.Examine(t.Context(), []string{path}, spooled.Rules{})
	if err != nil || len(found.Refused) > 0 || len(found.Batches) == 0 {
		t.Fatalf("%d batches in the artifact, refused %v, %v", len(found.Batches), found.Refused, err)
	}
	defer found.Close()
	var text strings.Builder
	for i := range found.Batches {
		b, err := found.Read(&found.Batches[i])
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintln(&text, prototext.Format(b))
	}
	return text.String()
}

var repositoryIn = regexp.MustCompile(`repository:\s*"([^"]*)"`)

// speaksOfOthers says whether there are other repositories than one in what unpacked returns.
func speaksOfOthers(text, repository string) bool {
	for _, m := range repositoryIn.FindAllStringSubmatch(text, -1) {
		if m[1] != "" && m[1] != repository {
			return true
		}
	}
	return false
}

// TestActionAgentKilled: a step kills the agent. It is said, and fails a job that is to fail
// for threats; what the agent had not sent by then is not lost.
func TestActionAgentKilled(t *testing.T) {
	r := newActionRun(t, "killed", "nats://agent:swordfish@127.0.0.1:1")
	r.artifacts = filepath.Join(r.dir, "artifacts")
	code := r.run(map[string]string{"fail-on": "threat", "upload-events": "true"}, `
      - run: |
          /bin/echo before-it-was-killed
          sleep 2
          kill -9 "$(cat "$SALLYPORT_STATE/agent.pid")"`)
	if code == 0 {
		t.Error("the job has not failed")
	}
	r.has("The agent watches", "the agent did not run any more when the job ended", "Not complete", "what the agent had not sent", "sallyport spool send --repo acme/killed --run 1 --agent ")
	if files := r.uploaded(); len(files) != 1 {
		t.Errorf("uploaded: %q", files)
	} else if !strings.Contains(unpacked(t, files[0]), "before-it-was-killed") {
		t.Error("what the job did before is not in the artifact")
	}
}

// TestActionDigest: an agent with another digest than the one asked for is not started.
func TestActionDigest(t *testing.T) {
	r := newActionRun(t, "digest", "nats://agent:swordfish@127.0.0.1:1")
	if code := r.run(map[string]string{"agent-sha256": strings.Repeat("a", 64)}, "      - run: cat /dev/null"); code != 0 {
		t.Errorf("exit code %d", code)
	}
	r.has("it was not started", "This job was not watched")
	if _, err := control.AskStatus(t.Context(), r.socket); err == nil {
		t.Error("an agent runs")
	}
}

// TestActionDownloads: the agent comes from a mirror if it has the digest that was pinned, once
// for all jobs of a machine, and is not started if it has another.
func TestActionDownloads(t *testing.T) {
	built(t)
	agent, err := os.ReadFile("../bin/sallyport-agent")
	if err != nil {
		t.Fatal(err)
	}
	spoiled := append(slices.Clone(agent), "spoiled"...)
	var asked atomic.Int32
	mirror := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		asked.Add(1)
		switch name := "/sallyport-agent-linux-" + map[string]string{"amd64": "x64", "arm64": "arm64"}[runtime.GOARCH]; q.URL.Path {
		case "/good" + name:
			_, _ = w.Write(agent) // whoever asked has gone
		case "/spoiled" + name:
			_, _ = w.Write(spoiled)
		default:
			http.NotFound(w, q)
		}
	}))
	defer mirror.Close()
	// One home, in which act has the tool cache.
	r := newActionRun(t, "downloads", "nats://agent:swordfish@127.0.0.1:1")
	inputs := map[string]string{"agent-path": "", "agent-version": "v9.9.9", "agent-sha256": fmt.Sprintf("%x", sha256.Sum256(agent))}
	for _, c := range []struct {
		folder, says string
		asked        int32
	}{
		{"spoiled", "it was not started", 1},
		{"none", "answers 404", 2},
		{"good", "The agent watches", 3},
		{"none", "The agent watches", 3}, // the one before has left it in the tool cache
	} {
		inputs["agent-url"] = mirror.URL + "/" + c.folder
		if code := r.run(inputs, "      - run: cat /dev/null"); code != 0 {
			t.Errorf("%s: exit code %d", c.folder, code)
		}
		r.has(c.says)
		if n := asked.Load(); n != c.asked {
			t.Errorf("%s: the mirror was asked %d times, want %d", c.folder, n, c.asked)
		}
	}
}

// TestActionOfTwoJobs: two runners on one machine. The job that began first ends first, and
// the other is watched to its end by the same agent, which then ends, too.
func TestActionOfTwoJobs(t *testing.T) {
	built(t)
	dir := t.TempDir()
	socket := filepath.Join(dir, "agent.sock")
	t.Cleanup(func() { stopAgent(t, socket) })
	await := func(file string) string {
		return fmt.Sprintf("for i in $(seq 600); do test -e %[1]s && break; sleep 0.1; done; test -e %[1]s", filepath.Join(dir, file))
	}
	touch := func(t *testing.T, file string) {
		if err := os.WriteFile(filepath.Join(dir, file), nil, 0o644); err != nil {
			t.Error(err)
		}
	}
	t.Run("both", func(t *testing.T) {
		for _, job := range []struct{ name, first, last string }{
			{"one", "touch " + filepath.Join(dir, "one-runs"), await("two-runs")},
			{"two", "touch " + filepath.Join(dir, "two-runs"), await("one-ended")},
		} {
			t.Run(job.name, func(t *testing.T) {
				t.Parallel()
				r := newActionRun(t, job.name, "nats://agent:swordfish@127.0.0.1:1")
				r.socket, r.state = socket, filepath.Join(dir, "var")
				code := r.run(map[string]string{"fail-on": "threat"}, "      - run: "+job.first+"\n      - run: "+job.last+"\n      - run: cat /dev/null")
				touch(t, job.name+"-ended")
				if code != 0 {
					t.Errorf("exit code %d", code)
				}
				r.has("Sallyport watches this job", "Sallyport: `build`")
				for _, no := range []string{"did not run any more", "took the place", "not watched", "No report", "Not complete"} {
					if strings.Contains(r.log, no) {
						t.Errorf("%q is in the log", no)
					}
				}
				if t.Failed() {
					t.Log(r.log)
				}
			})
		}
	})
	eventually(t, "the agent ends with the last job", func() error {
		if _, err := control.AskStatus(t.Context(), socket); !errors.Is(err, control.ErrNobody) {
			return fmt.Errorf("it is there: %w", err)
		}
		return nil
	})
}

// TestActionLeavesOthersAlone: an agent of the machine's is used, and goes on afterwards.
func TestActionLeavesOthersAlone(t *testing.T) {
	r := newActionRun(t, "others", "nats://agent:swordfish@127.0.0.1:1")
	start := exec.Command("../bin/sallyport-agent", "start", "--state", filepath.Join(r.dir, "own"), "--socket", r.socket)
	start.Env = append(os.Environ(), "SALLYPORT_NATS="+r.nats)
	if out, err := start.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	before, err := control.AskStatus(t.Context(), r.socket)
	if err != nil {
		t.Fatal(err)
	}
	if code := r.run(nil, "      - run: cat /dev/null"); code != 0 {
		t.Errorf("exit code %d", code)
	}
	r.has("An agent runs on this machine already", "Sallyport: `build`")
	if after, err := control.AskStatus(t.Context(), r.socket); err != nil || after.PID != before.PID {
		t.Errorf("%+v, %v", after, err)
	}
	if err := syscall.Kill(before.PID, 0); err != nil {
		t.Error(err)
	}
	if !stopAgent(t, r.socket) {
		t.Error("it does not listen any more")
	}
}
