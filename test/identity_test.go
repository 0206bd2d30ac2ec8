package test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nkeys"

	sallyportv1 "github.com/sallyport-ci/sallyport/proto/sallyport/v1"
	"github.com/sallyport-ci/sallyport/stream"
	"github.com/sallyport-ci/sallyport/test/lab"
	"github.com/sallyport-ci/sallyport/test/oidcissuer"
)

// letIn is a running `sallyport up` that lets jobs of acme in, and a program sallyport-agent.
type letIn struct {
	up     *lab.Up
	issuer *oidcissuer.Issuer
	log    *output
	agent  string // program
}

func newLetIn(t *testing.T) *letIn {
	t.Helper()
	program, _ := built(t)
	agent, err := filepath.Abs("../bin/sallyport-agent")
	if err != nil {
		t.Fatal(err)
	}
	l := &letIn{log: &output{}, agent: agent}
	if l.issuer, err = oidcissuer.New(time.Now); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(l.issuer.Close)
	l.up, err = lab.StartUp(context.WithoutCancel(t.Context()), program, t.TempDir(), "", l.log,
		"--agent", "off", "--log-level", "debug", "--oidc-issuer", l.issuer.URL, "--oidc-allow", "acme/*", "--credential-lifetime", "1m")
	if err != nil {
		t.Fatalf("%v\n%s", err, l.log)
	}
	t.Cleanup(func() {
		if err := l.up.Stop(); err != nil {
			t.Error(err)
		}
		if t.Failed() {
			t.Logf("sallyport up printed:\n%s", l.log)
		}
	})
	return l
}

// start starts the agent, with nothing of this process's environment but PATH.
func (l *letIn) start(t *testing.T, state string, environment []string, args ...string) (*exec.Cmd, *output) {
	t.Helper()
	said := &output{}
	cmd := exec.Command(l.agent, append([]string{"--state", state, "--socket", filepath.Join(state, "agent.sock"), "--log-level", "debug"}, args...)...)
	cmd.Env = append([]string{"PATH=" + os.Getenv("PATH")}, environment...)
	cmd.Stdout, cmd.Stderr = said, said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := false
	t.Cleanup(func() {
		if !ended {
			_ = cmd.Process.Signal(syscall.SIGTERM)
			_ = cmd.Wait() // it may have been killed
		}
		if t.Failed() {
			t.Logf("sallyport-agent printed:\n%s", said)
		}
	})
	return cmd, said
}

func awaitWords(t *testing.T, out *output, words string) {
	t.Helper()
	eventually(t, words, func() error {
		if !strings.Contains(out.String(), words) {
			return fmt.Errorf("it says\n%s", out)
		}
		return nil
	})
}

// job runs a worker with one step, as GitHub's runner does.
func job(t *testing.T, repository, run string) {
	t.Helper()
	dir := t.TempDir()
	worker := filepath.Join(dir, "Runner.Worker")
	data, err := os.ReadFile("/bin/bash")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(worker, data, 0o755); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(worker, "-c", "/bin/bash -c '/bin/true step-of-"+run+"; true'; true")
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "GITHUB_REPOSITORY=" + repository, "GITHUB_RUN_ID=" + run, "GITHUB_RUN_ATTEMPT=1", "GITHUB_JOB=build", "GITHUB_ACTION=step", "GITHUB_WORKFLOW=CI"}
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
}

func (l *letIn) runs(t *testing.T, sql string) func(want string) {
	return func(want string) {
		t.Helper()
		eventually(t, sql, func() error {
			got, err := l.up.Query(t.Context(), sql)
			if err == nil && strings.TrimSpace(got) != want {
				err = fmt.Errorf("%q, want %q", got, want)
			}
			return err
		})
	}
}

// TestJobIsLetInByItsToken: the real agent, with what a job has in its environment, is let
// in and tells of that job and of no other; the token is nowhere to be seen.
func TestJobIsLetInByItsToken(t *testing.T) {
	l := newLetIn(t)
	l.issuer.Job(map[string]any{"repository": "acme/token", "repository_owner": "acme", "run_id": "4711", "run_attempt": "1"})
	environment := []string{
		"SALLYPORT_SERVER=" + l.up.Public, "ACTIONS_ID_TOKEN_REQUEST_URL=" + l.issuer.RequestURL(), "ACTIONS_ID_TOKEN_REQUEST_TOKEN=" + l.issuer.RequestToken,
		"GITHUB_REPOSITORY=acme/token", "GITHUB_RUN_ID=4711", "GITHUB_RUN_ATTEMPT=1",
	}
	state := t.TempDir()
	// While the issuer is away, the agent watches and keeps what it sees.
	l.issuer.Down(true)
	cmd, said := l.start(t, state, environment)
	awaitWords(t, said, "msg=watching")
	awaitWords(t, said, "the agent gets no credential")
	job(t, "acme/token", "4711")
	job(t, "acme/else", "4712")
	visible, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(visible, []byte(l.issuer.RequestToken)) || bytes.Contains(visible, []byte("ACTIONS_ID_TOKEN_REQUEST_URL=h")) || !bytes.Contains(visible, []byte("GITHUB_RUN_ID=4711")) {
		t.Errorf("the agent's environment is %q", visible)
	}
	l.issuer.Down(false)
	awaitWords(t, said, "the agent is let in")
	l.runs(t, "SELECT DISTINCT repository, run_id, agent_id LIKE 'job-%' FROM job_events FORMAT TSV")("acme/token\t4711\t1")
	awaitWords(t, said, "identity does not stand for")

	// A credential of a minute is renewed, with a new token.
	eventually(t, "a renewal", func() error {
		if n := strings.Count(said.String(), "the agent has a credential"); n < 2 {
			return fmt.Errorf("%d credentials", n)
		}
		return nil
	})
	job(t, "acme/token", "4711")
	l.runs(t, "SELECT count() FROM job_events WHERE kind = 'started' FORMAT TSV")("2")
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
	for name, text := range map[string]string{"sallyport up": l.log.String(), "sallyport-agent": said.String()} {
		for _, secret := range []string{l.issuer.RequestToken, "eyJ"} { // the latter begins each token and credential
			if strings.Contains(text, secret) {
				t.Errorf("%s logs a secret:\n%s", name, text)
			}
		}
	}
	if n := strings.Count(l.log.String(), "dead letter"); n != 0 {
		t.Errorf("%d dead letters:\n%s", n, l.log)
	}
}

// TestMaliciousAgent: a job of a repository that is let in takes an agent's credential and
// speaks for another repository with it. Nothing of that is believed, and people hear of it.
func TestMaliciousAgent(t *testing.T) {
	l := newLetIn(t)
	key, err := nkeys.CreateUser()
	if err != nil {
		t.Fatal(err)
	}
	public, err := key.PublicKey()
	if err != nil {
		t.Fatal(err)
	}
	exchange := func(token string) (int, *sallyportv1.Credential) {
		body, err := json.Marshal(map[string]string{"token": token, "nkey": public})
		if err != nil {
			t.Fatal(err)
		}
		answer, err := http.Post(l.up.Public+"/v1/identity:exchange", "application/json", bytes.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		defer answer.Body.Close()
		var given struct {
			Credential struct {
				AgentID string `json:"agent_id"`
				JWT     string `json:"jwt"`
			} `json:"credential"`
		}
		if err := json.NewDecoder(answer.Body).Decode(&given); err != nil {
			t.Fatal(err)
		}
		return answer.StatusCode, &sallyportv1.Credential{AgentId: given.Credential.AgentID, Jwt: given.Credential.JWT}
	}
	l.issuer.Job(map[string]any{"aud": l.up.Public, "repository": "acme/mallory", "repository_owner": "acme", "run_id": "666", "run_attempt": "1"})
	token := l.issuer.Token(nil)
	if code, _ := exchange(token + "x"); code != http.StatusUnauthorized {
		t.Errorf("a token with a wrong signature: %d", code)
	}
	code, c := exchange(token)
	if code != http.StatusOK {
		t.Fatalf("a job that is let in: %d", code)
	}
	if code, _ := exchange(token); code != http.StatusUnauthorized {
		t.Errorf("the same token again: %d", code)
	}
	if code, _ := exchange(l.issuer.Token(map[string]any{"repository": "evil/corp", "repository_owner": "evil"})); code != http.StatusForbidden {
		t.Errorf("a repository that is not let in: %d", code)
	}
	for _, words := range []string{"replayed", "signature", "evil/corp"} {
		if refused, err := l.up.Ask(t.Context(), "enrol", "refused"); err != nil || !strings.Contains(refused, words) {
			t.Errorf("%s is not among those refused: %v\n%s", words, err, refused)
		}
	}
	nc, err := nats.Connect("nats://"+l.up.NATS, append(stream.CredentialOptions(func() (string, error) { return c.GetJwt(), nil }, key.Sign),
		nats.CustomInboxPrefix(stream.AgentInbox(c.GetAgentId())))...)
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	encoder, err := stream.NewEncoder()
	if err != nil {
		t.Fatal(err)
	}
	for i, repository := range []string{"acme/bank", "acme/mallory"} {
		data, err := encoder.Encode(nil, &sallyportv1.EventBatch{
			AgentId: c.GetAgentId(), Epoch: 1, FirstSequence: uint64(i + 1), Hostname: "mallory.example.test",
			Attributions: []*sallyportv1.Attribution{{Repository: repository, Workflow: "CI", RunId: "666", RunAttempt: 1, Job: "build", ExecutionId: fmt.Sprintf("%016x", i+1)}},
			Events:       []*sallyportv1.Event{{TimeUnixNano: uint64(time.Now().UnixNano()), Attribution: 1, Body: &sallyportv1.Event_JobStarted{JobStarted: &sallyportv1.JobStarted{}}}},
		})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := js.Publish(t.Context(), stream.EventSubject(c.GetAgentId()), data); err != nil {
			t.Fatal(err)
		}
	}
	l.runs(t, "SELECT DISTINCT repository FROM job_events FORMAT TSV")("acme/mallory")
	eventually(t, "the finding", func() error {
		findings, err := l.up.Ask(t.Context(), "findings", "--json")
		if err != nil {
			return err
		}
		if !strings.Contains(findings, `"agent_foreign"`) || !strings.Contains(findings, "acme/bank") {
			return fmt.Errorf("findings: %s", findings)
		}
		return nil
	})
	eventually(t, "the dead letters", func() error {
		letters, err := l.up.Ask(t.Context(), "dlq", "list")
		if err == nil && strings.Count(letters, c.GetAgentId()) != 2 { // of ingest and of the detector
			err = fmt.Errorf("dead letters:\n%s", letters)
		}
		return err
	})
}

// TestMachineIsEnrolled: a key is made, the real agent enrols with it, tells of what it may,
// goes on after a restart, and is cut off when it is revoked.
func TestMachineIsEnrolled(t *testing.T) {
	l := newLetIn(t)
	out, err := l.up.Ask(t.Context(), "enrol", "create", "--name", "vm-*", "--repository", "acme/*")
	if err != nil {
		t.Fatal(err)
	}
	key := strings.TrimSpace(out)
	state := t.TempDir()
	enrol := func(name, key string) (string, error) {
		cmd := exec.Command(l.agent, "enrol", "--server", l.up.Public, "--state", state, "--name", name)
		cmd.Env = []string{"SALLYPORT_ENROL_KEY=" + key}
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	if out, err := enrol("web-1", key); err == nil || !strings.Contains(out, "names like vm-*") {
		t.Errorf("another name: %v, %s", err, out)
	}
	if out, err := enrol("vm-1", key+"x"); err == nil || !strings.Contains(out, "no such enrolment key") {
		t.Errorf("another key: %v, %s", err, out)
	}
	if out, err := enrol("vm-1", key); err != nil || !strings.Contains(out, "enrolled as org-") {
		t.Fatalf("%v, %s", err, out)
	}
	if out, err := enrol("vm-2", key); err == nil || !strings.Contains(out, "enrolled already") {
		t.Errorf("again: %v, %s", err, out)
	}
	info, err := os.Stat(filepath.Join(state, "enrolment.json"))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the enrolment: %v, %v", info, err)
	}
	list, err := l.up.Ask(t.Context(), "enrol", "list", "--json")
	if err != nil {
		t.Fatal(err)
	}
	var enrolled struct {
		Agents []struct {
			AgentID string `json:"agent_id"`
		} `json:"agents"`
	}
	if err := json.Unmarshal([]byte(list), &enrolled); err != nil || len(enrolled.Agents) != 1 || strings.Contains(list, key) {
		t.Fatalf("%v, %s", err, list)
	}

	cmd, said := l.start(t, state, nil) // no flag says where the server is
	awaitWords(t, said, "the agent is let in")
	awaitWords(t, said, "msg=watching")
	job(t, "acme/enrolled", "1")
	job(t, "other/shop", "2")
	l.runs(t, "SELECT DISTINCT repository, run_id FROM job_events WHERE repository IN ('acme/enrolled', 'other/shop') FORMAT TSV")("acme/enrolled\t1")
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
	_, said = l.start(t, state, nil)
	awaitWords(t, said, "the agent is let in")

	if out, err := l.up.Ask(t.Context(), "enrol", "revoke", enrolled.Agents[0].AgentID); err != nil {
		t.Fatal(err, out)
	}
	awaitWords(t, said, "the connection to NATS is lost")
	awaitWords(t, said, "authorization violation")
	if _, err := l.up.Ask(t.Context(), "enrol", "revoke", "nobody"); err == nil || !strings.Contains(err.Error(), "no enrolment key or machine") {
		t.Error(err)
	}
}
