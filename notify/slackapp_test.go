package notify

import (
	"context"
	"fmt"
	"log/slog"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"google.golang.org/protobuf/proto"

	sallyportv1 "github.com/sallyport-ci/sallyport/proto/sallyport/v1"
	"github.com/sallyport-ci/sallyport/stream"
	"github.com/sallyport-ci/sallyport/test/slackfake"
)

const (
	botToken = "xoxb-verysecretpart"
	channel  = "C0123456789"
)

// appRig is a rig whose sink is an app.
type appRig struct {
	*rig
	api *slackfake.API
	url string
}

func newAppRig(t *testing.T) *appRig {
	t.Helper()
	r := &appRig{rig: newRig(t), api: slackfake.NewAPI(botToken, channel)}
	web := httptest.NewServer(r.api)
	t.Cleanup(web.Close)
	r.url = web.URL + "/api"
	r.sink = Sink{Name: "app", Target: r.app(), Window: SlackWindow}
	t.Cleanup(func() {
		for _, err := range r.api.Refusals() {
			t.Errorf("a call broke Slack's contract: %v", err)
		}
	})
	return r
}

func (r *appRig) app() *SlackApp {
	r.t.Helper()
	app, err := NewSlackApp(SlackAppOptions{Token: botToken, Channel: channel, APIURL: r.url, Now: r.clock.Now})
	if err != nil {
		r.t.Fatal(err)
	}
	return app
}

// awaitPosted waits until the channel is as done says.
func (r *appRig) awaitPosted(what string, done func([]slackfake.Posted) bool) []slackfake.Posted {
	r.t.Helper()
	deadline := time.After(20 * time.Second)
	for {
		changed := r.api.Changed()
		if p := r.api.Posted(); done(p) {
			return p
		}
		select {
		case <-changed:
		case <-time.After(100 * time.Millisecond):
			r.clock.advance(100 * time.Millisecond)
		case <-deadline:
			for _, p := range r.api.Posted() {
				r.t.Logf("%s %s: %s", p.TS, p.ThreadTS, p.Text)
			}
			r.t.Fatalf("waiting for %s; calls %v", what, r.api.Calls())
		}
	}
}

func (r *appRig) decide(kind sallyportv1.DecisionKind, finding string) {
	r.t.Helper()
	kv, err := r.js.KeyValue(r.t.Context(), stream.DecisionsBucket)
	if err != nil {
		r.t.Fatal(err)
	}
	data, err := proto.Marshal(&sallyportv1.Decision{Kind: kind, Person: "alice", Reason: "known", FindingId: finding, Outcome: "false-alarm"})
	if err != nil {
		r.t.Fatal(err)
	}
	if _, err := kv.Create(r.t.Context(), fmt.Sprintf("%016x", time.Now().UnixNano()), data); err != nil {
		r.t.Fatal(err)
	}
}

// run2 is a finding of another kind in the run of the n-th.
func run2(n int, target string, severity sallyportv1.Severity) *sallyportv1.Finding {
	f := finding(n, target)
	f.Id = fmt.Sprintf("%032x", 1000+n)
	f.Policy.Severity = severity
	f.Policy.Id, f.Policy.Title = "mining", "Mining"
	f.Attribution.RunId = "901"
	return f
}

func TestSlackAppThreads(t *testing.T) {
	r := newAppRig(t)
	r.start()
	first, second, other := finding(1, "evil.example.test"), run2(2, "pool.example.test", sallyportv1.Severity_SEVERITY_CRITICAL), finding(3, "x.example.test")
	r.publish(first, second, other)
	p := r.awaitPosted("two threads with three findings", func(p []slackfake.Posted) bool { return len(p) == 5 && p[0].Edits == 1 })
	var roots, replies []slackfake.Posted
	for _, m := range p {
		if m.ThreadTS == "" {
			roots = append(roots, m)
		} else {
			replies = append(replies, m)
		}
	}
	if len(roots) != 2 || len(replies) != 3 {
		t.Fatalf("%d threads, %d replies", len(roots), len(replies))
	}
	if !strings.Contains(roots[0].Text, "2 findings in acme/shop, CI, run 901") || replies[0].ThreadTS != roots[0].TS || replies[2].ThreadTS != roots[1].TS {
		t.Errorf("%q with %q", roots[0].Text, replies[0].Text)
	}
	// What people decide is said in the first message.
	r.decide(sallyportv1.DecisionKind_DECISION_KIND_ACKNOWLEDGE, first.Id)
	text := func(p slackfake.Posted) string {
		return slackfake.Render(p.Message, slackfake.RenderOptions{Width: 120})
	}
	r.awaitPosted("the acknowledgement", func(p []slackfake.Posted) bool { return strings.Contains(text(p[0]), "acknowledged by alice") })
	r.decide(sallyportv1.DecisionKind_DECISION_KIND_RESOLVE, first.Id)
	p = r.awaitPosted("a resolution", func(p []slackfake.Posted) bool { return strings.Contains(text(p[0]), "false alarm, by alice") })
	if !strings.Contains(text(p[0]), "2 findings, 1 open") {
		t.Errorf("%s", text(p[0]))
	}
	// Also over a restart, and once.
	r.stop()
	r.decide(sallyportv1.DecisionKind_DECISION_KIND_APPROVE, second.Id)
	r.sink.Target = r.app()
	r.start()
	p = r.awaitPosted("all settled", func(p []slackfake.Posted) bool { return strings.Contains(p[0].Text, "2 findings, settled") })
	if len(p) != 5 {
		t.Errorf("%d messages after a restart", len(p))
	}
	if strings.Contains(text(p[0]), "1 open") {
		t.Errorf("%s", text(p[0]))
	}
	edits := p[0].Edits
	time.Sleep(200 * time.Millisecond)
	r.clock.advance(time.Minute)
	time.Sleep(200 * time.Millisecond)
	if now := r.api.Posted(); now[0].Edits != edits {
		t.Errorf("%d edits became %d though nothing was decided", edits, now[0].Edits)
	}
}

// TestSlackAppLostAnswers: whatever answer gets lost, each message is there once, and nothing
// is marked as a possible repeat: Slack was asked.
func TestSlackAppLostAnswers(t *testing.T) {
	for n := range 4 { // first message, reply, second reply, change
		r := newAppRig(t)
		script := make([]slackfake.Reply, n, n+1)
		r.api.Script(append(script, slackfake.Reply{Accept: true, Break: true})...)
		r.start()
		r.publish(finding(1, "evil.example.test"), run2(2, "pool.example.test", sallyportv1.Severity_SEVERITY_LOW))
		for range 40 { // messages before it, so that it is on another page
			if len(r.api.Posted()) > 0 {
				break
			}
			time.Sleep(10 * time.Millisecond)
		}
		p := r.awaitPosted("two findings", func(p []slackfake.Posted) bool {
			return len(p) >= 3 && strings.Contains(p[0].Text, "2 findings") && !r.waits()
		})
		if len(p) != 3 {
			t.Errorf("answer %d lost: %d messages", n, len(p))
		}
		for _, m := range p {
			if strings.Contains(m.Text, possibleRepeat) {
				t.Errorf("answer %d lost: %q", n, m.Text)
			}
		}
		r.stop()
	}
}

func (r *rig) waits() bool {
	o := r.notifier.outboxes[0]
	o.mu.Lock()
	defer o.mu.Unlock()
	return len(o.known) > 0
}

// TestSlackAppTroubles: nothing is lost while the token is wrong or the app is not invited,
// Retry-After is heeded, and a message that Slack refuses goes to the dead letters.
func TestSlackAppTroubles(t *testing.T) {
	r := newAppRig(t)
	r.api.Invite(false)
	r.api.Script(slackfake.Reply{Status: 429, RetryAfter: 30})
	r.start()
	r.publish(finding(1, "evil.example.test"))
	if d := r.clock.nextAlarm(t, 20*time.Second, 31*time.Second); d != 30*time.Second {
		t.Errorf("waits %s", d)
	}
	r.clock.advance(30 * time.Second)
	for len(r.api.Calls()) < 3 {
		time.Sleep(10 * time.Millisecond)
		r.clock.advance(time.Second)
	}
	if len(r.api.Posted()) != 0 {
		t.Fatal("posted to a channel that it is not in")
	}
	r.api.Invite(true)
	r.awaitPosted("the finding", func(p []slackfake.Posted) bool { return len(p) == 2 })
	for range 3 {
		r.api.Script(slackfake.Reply{Body: "msg_too_long"})
	}
	r.publish(finding(2, "evil2.example.test"))
	go func() {
		for range 100 {
			time.Sleep(20 * time.Millisecond)
			r.clock.advance(10 * time.Second)
		}
	}()
	deadLetters(t, r.js, 1)
}

// TestSlackAppKilled kills the process at random while Slack takes its time: every finding is
// in its thread once.
func TestSlackAppKilled(t *testing.T) {
	r := newAppRig(t)
	const findings = 30
	for n := range findings {
		f := finding(n, fmt.Sprintf("h%d.example.test", n))
		f.Attribution.RunId = fmt.Sprint(n % 3)
		r.publish(f)
	}
	// All are written down first: those that a process had in hand when it was killed come to
	// the next one only after a minute.
	r.api.Invite(false)
	cmd := startChild(t, r.rig, childAPI+"="+r.url)
	r.read()
	kill(cmd)
	r.api.Invite(true)
	r.api.Pace(12 * time.Millisecond)
	for n := range 15 {
		cmd := startChild(t, r.rig, childAPI+"="+r.url)
		time.Sleep(time.Duration(10+17*(n%5)) * time.Millisecond)
		kill(cmd)
	}
	r.api.Pace(0)
	if n := len(r.api.Posted()); n == 0 || n == findings+3 {
		t.Errorf("%d messages while it was killed: that was no test", n)
	}
	r.clock.now = time.Now()
	r.start()
	p := r.awaitPosted("everything", func(p []slackfake.Posted) bool { return len(p) >= findings+3 && !r.waits() })
	seen := make(map[string]int)
	roots := 0
	for _, m := range p {
		if m.ThreadTS == "" {
			roots++
			continue
		}
		seen[fmt.Sprint(m.Payload["id"])]++
	}
	for id, n := range seen {
		if n > 1 {
			t.Errorf("%s is there %d times", id, n)
		}
	}
	if len(seen) != findings || roots != 3 {
		t.Errorf("%d findings in %d threads, want %d in 3", len(seen), roots, findings)
	}
}

// childAPI is where the app of a child writes to.
const childAPI = "SALLYPORT_TEST_NOTIFY_API"

func childApp(js jetstream.JetStream) error {
	app, err := NewSlackApp(SlackAppOptions{Token: botToken, Channel: channel, APIURL: os.Getenv(childAPI)})
	if err != nil {
		return err
	}
	n, err := New(Config{JS: js, Sinks: []Sink{{Name: "app", Target: app, Window: SlackWindow}}, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		return err
	}
	fmt.Println("ready")
	return n.Run(context.Background())
}

func TestNewSlackAppRefuses(t *testing.T) {
	for _, o := range []SlackAppOptions{{Token: "xoxp-1", Channel: channel}, {Token: botToken, Channel: "#alerts"}, {Token: botToken, Channel: channel, GitHubURL: ":"}} {
		_, err := NewSlackApp(o)
		if err == nil || strings.Contains(err.Error(), o.Token) {
			t.Errorf("%s: %v", o.Channel, err)
		}
	}
}
