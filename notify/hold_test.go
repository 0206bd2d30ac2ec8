package notify

import (
	"fmt"
	"strings"
	"testing"
	"time"

	sallyportv1 "github.com/sallyport-ci/sallyport/proto/sallyport/v1"
	"github.com/sallyport-ci/sallyport/test/slackfake"
)

func router(t *testing.T, text string) *Router {
	t.Helper()
	r := new(Router)
	r.Use(rules(t, text))
	return r
}

const oneSink = `sinks:
  slack: {slack: {webhook-env: X}}
`

// accepted waits until the sink has written down so many findings that wait.
func (r *rig) accepted(n int) {
	r.t.Helper()
	for range 1000 {
		o := r.notifier.outboxes[0]
		o.mu.Lock()
		waiting := len(o.known)
		o.mu.Unlock()
		if waiting == n {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	r.t.Fatalf("%d findings do not wait", n)
}

// TestQuietHoursHoldBack: at night only what is critical is told; in the morning one message
// says what else there was, also after a restart.
func TestQuietHoursHoldBack(t *testing.T) {
	r := newRig(t)
	r.router = router(t, oneSink+"quiet-hours:\n  - {zone: UTC, from: '11:00', to: '13:00'}\n") // it is 12:00
	r.start()
	for n := range 40 {
		f := finding(n, fmt.Sprintf("h%d.example.test", n))
		if n%2 == 0 {
			f.Policy.Id, f.Policy.Title = "mining", "Mining & more"
		}
		r.publish(f)
	}
	critical := finding(100, "worst.example.test")
	critical.Policy.Severity = sallyportv1.Severity_SEVERITY_CRITICAL
	r.publish(critical)
	if m := r.awaitMessages(1); !strings.Contains(m[0].Text, "worst.example.test") {
		t.Errorf("%q", m[0].Text)
	}
	r.accepted(40)
	r.quiet(1)
	r.stop()
	r.start()
	r.accepted(40)
	r.quiet(1)
	r.clock.advance(61 * time.Minute)
	m := r.awaitMessages(2)
	text := slackfake.Render(m[1].Message, slackfake.RenderOptions{Width: 120})
	for _, want := range []string{"40 findings were held back, the severest high", "Held back: quiet hours, 11:00 to 13:00", "20 ×", "Mining & more", "acme/shop"} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
	r.settled()
	r.quiet(2)
	// By day all is as ever.
	r.publish(finding(200, "day.example.test"))
	if m := r.awaitMessages(3); !strings.Contains(m[2].Text, "day.example.test") {
		t.Errorf("%q", m[2].Text)
	}
}

// TestLimitHoldsBack: after so many messages in an hour the rest is one.
func TestLimitHoldsBack(t *testing.T) {
	r := newRig(t)
	r.router = router(t, oneSink+"limits:\n  slack: {per-hour: 2}\n")
	r.start()
	for n := range 2 {
		r.publish(finding(n, fmt.Sprintf("h%d.example.test", n)))
		r.awaitMessages(n + 1)
	}
	for n := 2; n < 9; n++ {
		r.publish(finding(n, fmt.Sprintf("h%d.example.test", n)))
	}
	r.accepted(7)
	r.quiet(2)
	r.stop() // what was sent is remembered
	r.start()
	r.accepted(7)
	r.quiet(2)
	critical := finding(100, "worst.example.test")
	critical.Policy.Severity = sallyportv1.Severity_SEVERITY_CRITICAL
	r.publish(critical)
	r.awaitMessages(3)
	r.clock.advance(time.Hour + time.Second)
	m := r.awaitMessages(4)
	if !strings.Contains(m[3].Text, "7 findings were held back") {
		t.Errorf("%q", m[3].Text)
	}
	r.settled()
	// It was one message: another fits into the hour.
	r.publish(finding(9, "next.example.test"))
	r.awaitMessages(5)
}

// TestRouted: a sink is told of what its routes say, and new rules hold at once.
func TestRouted(t *testing.T) {
	r := newRig(t)
	r.router = router(t, oneSink+"routes:\n  - {repository: acme/other, sinks: [slack]}\n")
	r.start()
	r.publish(finding(1, "a.example.test"))
	r.settled()
	r.quiet(0)
	r.router.Use(rules(t, oneSink+"routes:\n  - {severity: high, sinks: [slack]}\n"))
	r.publish(finding(2, "b.example.test"))
	if m := r.awaitMessages(1); !strings.Contains(m[0].Text, "b.example.test") {
		t.Errorf("%q", m[0].Text)
	}
}
