package checks

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/sallyport-ci/sallyport/detector"
	"github.com/sallyport-ci/sallyport/github"
	sallyportv1 "github.com/sallyport-ci/sallyport/proto/sallyport/v1"
	"github.com/sallyport-ci/sallyport/stream/natsserver"
	"github.com/sallyport-ci/sallyport/stream/natsserver/natstest"
	"github.com/sallyport-ci/sallyport/test/githubfake"
)

const workflowFile = ".github/workflows/ci.yml"

const workflowText = `name: CI
on: pull_request
jobs:
  build:
    runs-on: ubuntu-latest
    steps:
      - uses: actions/checkout@v4
      - run: make
      - id: changed
        uses: tj-actions/changed-files@v45
      - run: make test
  lint:
    runs-on: ubuntu-latest
    steps:
      - run: make lint
`

// grants are the rights of the App.
var grants = map[string]string{"checks": "write", "actions": "read", "contents": "read", "metadata": "read", "pull_requests": "write"}

// world is a GitHub with one repository, a NATS, and the service between them.
type world struct {
	*testing.T
	*githubfake.Server
	app       *githubfake.App
	shop      *githubfake.Repository
	js        jetstream.JetStream
	verdicts  *detector.Verdicts
	decisions *detector.Decisions
	baselines *detector.Baselines
	config    Config
	log       *lockedBuffer
	service   *Service
	url       string
	stop      func()
	held      []githubfake.Delivery // what is not delivered yet
	holding   bool
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func newWorld(t *testing.T) *world {
	t.Helper()
	s := githubfake.New(t)
	w := &world{T: t, Server: s, app: s.NewApp("sallyport", grants, "acme"), shop: s.Repository("acme/shop"), log: new(lockedBuffer)}
	w.shop.Commit("main", "alice", "begin", map[string]string{workflowFile: workflowText})
	_, w.js = natstest.StartDeclared(t, natsserver.Config{})
	ctx := t.Context()
	for _, open := range []func() error{
		func() (err error) { w.verdicts, err = detector.OpenVerdicts(ctx, w.js); return err },
		func() (err error) { w.decisions, err = detector.OpenDecisions(ctx, w.js); return err },
		func() (err error) { w.baselines, err = detector.OpenBaselines(ctx, w.js); return err },
	} {
		if err := open(); err != nil {
			t.Fatal(err)
		}
	}
	client, err := github.New(github.Config{URL: s.URL, AppID: w.app.ID, AppKey: w.app.KeyPEM(), WritePause: -1})
	if err != nil {
		t.Fatal(err)
	}
	w.config = Config{
		JetStream: w.js, App: client, Secret: []byte(w.app.WebhookSecret), Baselines: w.baselines, Decisions: w.decisions, Verdicts: w.verdicts,
		Grace: 300 * time.Millisecond, Patience: 300 * time.Millisecond, Resync: 500 * time.Millisecond,
		Logger: slog.New(slog.NewJSONHandler(w.log, &slog.HandlerOptions{Level: slog.LevelDebug})),
	}
	w.start()
	t.Cleanup(func() { w.stop() })
	return w
}

// start starts the service, which stop ends.
func (w *world) start() {
	w.Helper()
	ctx, cancel := context.WithCancel(w.Context())
	c := w.config
	c.Registerer = prometheus.NewRegistry()
	var err error
	if w.service, err = New(ctx, c); err != nil {
		w.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- w.service.Run(ctx) }()
	receiver := httptest.NewServer(w.service)
	w.url = receiver.URL
	var once sync.Once
	w.stop = func() {
		once.Do(func() {
			receiver.Close()
			cancel()
			if err := <-ended; err != nil {
				w.Error(err)
			}
		})
	}
}

func (w *world) send(d githubfake.Delivery) {
	w.Helper()
	if w.holding {
		w.held = append(w.held, d)
		return
	}
	if status, err := d.Send(w.Context(), w.url); err != nil || status != 202 {
		w.Errorf("%s: %d, %v", d.Event, status, err)
	}
}

// head is the commit of a pull request.
func (w *world) head(branch string) string {
	return w.shop.Commit(branch, "bob", "change", map[string]string{"x": branch})
}

// ci is a workflow run on a commit with jobs build and lint.
func ci(id int64, sha string) githubfake.Run {
	return githubfake.Run{ID: id, Name: "CI", Path: workflowFile, Event: "pull_request", SHA: sha, Branch: "x", Attempt: 1, Status: "queued", Jobs: []githubfake.Job{
		{ID: id*10 + 1, Name: "build", Status: "queued", Runner: fmt.Sprintf("r%d-1", id)}, {ID: id*10 + 2, Name: "lint", Status: "queued", Runner: fmt.Sprintf("r%d-2", id)},
	}}
}

func (w *world) requested(r githubfake.Run) {
	w.Helper()
	w.shop.SetRun(r)
	w.send(w.shop.RunWebhook(w.app, "requested", r.ID))
}

func (w *world) completed(r githubfake.Run) {
	w.Helper()
	r.Status, r.Conclusion = "completed", "success"
	for i := range r.Jobs {
		if r.Jobs[i].Conclusion == "" {
			r.Jobs[i].Status, r.Jobs[i].Conclusion = "completed", "success"
		}
	}
	w.shop.SetRun(r)
	for _, j := range r.Jobs {
		w.send(w.shop.JobWebhook(w.app, "completed", r.ID, j.ID))
	}
	w.send(w.shop.RunWebhook(w.app, "completed", r.ID))
}

// judged puts the verdict on a job of a run.
func (w *world) judged(r githubfake.Run, job int, change func(v *sallyportv1.Verdict)) *sallyportv1.Verdict {
	w.Helper()
	j := r.Jobs[job]
	key, _, _ := strings.Cut(j.Name, " (")
	v := &sallyportv1.Verdict{
		Attribution: &sallyportv1.Attribution{
			Repository: w.shop.Name, Workflow: r.Name, RunId: strconv.FormatInt(r.ID, 10), RunAttempt: uint32(r.Attempt), Job: key, Runner: j.Runner,
			ExecutionId: fmt.Sprintf("%d-%d-%d", r.ID, r.Attempt, j.ID),
		},
		Revision: 1, Conclusion: sallyportv1.Conclusion_CONCLUSION_CLEAN, Baseline: &sallyportv1.BaselineFacts{Stable: true, Runs: 9, RunsNeeded: 5},
	}
	if change != nil {
		change(v)
	}
	if err := w.verdicts.Put(w.Context(), v); err != nil {
		w.Fatal(err)
	}
	return v
}

// found adds a finding to a verdict: new egress, or a threat.
func found(v *sallyportv1.Verdict, n int, isThreat bool, step string) *sallyportv1.Finding {
	p := &sallyportv1.Policy{Id: "new_endpoint", Title: "New endpoint", Class: sallyportv1.PolicyClass_POLICY_CLASS_NEW_BEHAVIOUR, Severity: sallyportv1.Severity_SEVERITY_HIGH, Remediation: "Find out who."}
	v.Conclusion = max(v.Conclusion, sallyportv1.Conclusion_CONCLUSION_NEW_BEHAVIOUR)
	if isThreat {
		p = &sallyportv1.Policy{Id: "process_memory_read", Title: "Memory read", Class: sallyportv1.PolicyClass_POLICY_CLASS_THREAT, Severity: sallyportv1.Severity_SEVERITY_CRITICAL}
		v.Conclusion = sallyportv1.Conclusion_CONCLUSION_THREAT
	}
	a := v.GetAttribution()
	where := &sallyportv1.Attribution{Repository: a.Repository, Workflow: a.Workflow, RunId: a.RunId, RunAttempt: a.RunAttempt, Job: a.Job, Step: step, ExecutionId: a.ExecutionId, Runner: a.Runner}
	f := &sallyportv1.Finding{
		Id: fmt.Sprintf("%s%020d", strings.Repeat("a", 12), n+int(1000*a.GetRunAttempt()))[:32], Fingerprint: fmt.Sprintf("%032d", n), Policy: p, Attribution: where,
		Message:   fmt.Sprintf("curl sent to h%d.example.test port 443 (tcp), which none of the 9 clean runs contacted", n),
		Behaviour: &sallyportv1.Behaviour{Kind: sallyportv1.BehaviourKind_BEHAVIOUR_KIND_EGRESS, Program: "curl", Target: fmt.Sprintf("h%d.example.test", n), Domain: fmt.Sprintf("h%d.example.test", n), Port: 443, Protocol: "tcp"},
		Ancestry:  []*sallyportv1.Process{{Executable: "/usr/bin/curl", Arguments: []string{"curl", "-s"}}},
	}
	if isThreat {
		f.Behaviour = &sallyportv1.Behaviour{Kind: sallyportv1.BehaviourKind_BEHAVIOUR_KIND_PROCESS_ACCESS, Program: "python3", Target: "Runner.Worker", Access: "proc-mem"}
	}
	v.FindingIds, v.Findings, v.Reasons = append(v.FindingIds, f.Id), append(v.Findings, f), append(v.Reasons, f.Message)
	return f
}

// latest is the newest check on a commit.
func (w *world) latest(sha string) (out githubfake.Check) {
	for _, c := range w.shop.Checks() {
		if c.SHA == sha {
			out = c
		}
	}
	return out
}

// wants waits until the newest check on a commit has a conclusion ("" for none yet) and a title.
func (w *world) wants(sha, conclusion, title string) githubfake.Check {
	w.Helper()
	var c githubfake.Check
	for deadline := time.Now().Add(15 * time.Second); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		if c = w.latest(sha); c.Name == Name && c.Conclusion == conclusion && strings.Contains(c.Title, title) {
			return c
		}
	}
	w.Fatalf("check %q %q %q, want %q %q\n%s\n%s", c.Status, c.Conclusion, c.Title, conclusion, title, c.Summary, w.log)
	return c
}

// stays waits a while and fails if the check is another by then.
func (w *world) stays(sha, conclusion, title string) githubfake.Check {
	w.Helper()
	c := w.wants(sha, conclusion, title)
	time.Sleep(700 * time.Millisecond)
	if now := w.latest(sha); now.Conclusion != c.Conclusion || now.Title != c.Title || now.ID != c.ID {
		w.Errorf("check became %q %q", now.Conclusion, now.Title)
	}
	return c
}
