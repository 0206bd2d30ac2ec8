package notify

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"google.golang.org/protobuf/proto"

	"github.com/sallyport-ci/sallyport/stream"
	"github.com/sallyport-ci/sallyport/stream/natsserver"
	"github.com/sallyport-ci/sallyport/test/slackfake"
)

// The environment that turns this test binary into a Notifier that can be killed.
const (
	childNATS    = "SALLYPORT_TEST_NOTIFY_NATS"
	childWebhook = "SALLYPORT_TEST_NOTIFY_WEBHOOK"
)

func TestMain(m *testing.M) {
	if address := os.Getenv(childNATS); address != "" {
		if err := child(address, os.Getenv(childWebhook)); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func child(address, webhook string) error {
	nc, err := nats.Connect(address, nats.UserInfo(natsserver.OperatorUser, operatorPassword))
	if err != nil {
		return err
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		return err
	}
	if os.Getenv(childAPI) != "" {
		return childApp(js)
	}
	if url := os.Getenv(childHook); url != "" {
		return childWebhookOf(js, url)
	}
	target, err := NewSlack(SlackOptions{WebhookURL: webhook})
	if err != nil {
		return err
	}
	n, err := New(Config{JS: js, Sinks: []Sink{{Name: "slack", Target: target, Window: SlackWindow}}})
	if err != nil {
		return err
	}
	fmt.Println("ready")
	return n.Run(context.Background())
}

// childHook is where the webhook of a child posts to.
const childHook = "SALLYPORT_TEST_NOTIFY_HOOK"

func childWebhookOf(js jetstream.JetStream, url string) error {
	target, err := NewWebhook(WebhookOptions{URL: url, Secrets: []string{hookSecret}})
	if err != nil {
		return err
	}
	n, err := New(Config{JS: js, Sinks: []Sink{{Name: "hook", Target: target, Window: WebhookWindow}}})
	if err != nil {
		return err
	}
	fmt.Println("ready")
	return n.Run(context.Background())
}

// read waits until a process has written all findings down.
func (r *rig) read() {
	r.t.Helper()
	for range 2000 {
		c, err := r.js.Consumer(r.t.Context(), stream.FindingsStream, stream.NotifyConsumer)
		if err != nil {
			r.t.Fatal(err)
		}
		if i := c.CachedInfo(); i.NumPending == 0 && i.NumAckPending == 0 {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	r.t.Fatal("findings are not read")
}

func startChild(t *testing.T, r *rig, env ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command(os.Args[0], "-test.run=^$")
	cmd.Env = append(os.Environ(), childNATS+"="+r.server.URL(), childWebhook+"="+r.webhook)
	cmd.Env = append(cmd.Env, env...)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { kill(cmd) })
	if line, err := bufio.NewReader(out).ReadString('\n'); line != "ready\n" {
		t.Fatalf("child says %q: %v", line, err)
	}
	return cmd
}

func kill(cmd *exec.Cmd) {
	if cmd.ProcessState == nil {
		_ = cmd.Process.Kill() // SIGKILL
		_ = cmd.Wait()
	}
}

func TestKillBetweenSendAndAnswer(t *testing.T) {
	r := newRig(t)
	hold := make(chan struct{})
	defer close(hold)
	// Slack takes the message, but the process is killed before the answer comes.
	r.slack.Script(slackfake.Reply{Until: hold})
	cmd := startChild(t, r)
	r.publish(finding(1, "evil.example.test"))
	r.awaitMessages(1)
	kill(cmd)
	r.clock.now = time.Now()
	r.start()
	m := r.awaitMessages(2)
	if !strings.Contains(m[1].Text, possibleRepeat) || idOf(t, m[1].Text) != finding(1, "").Id {
		t.Errorf("after the kill: %s", m[1].Text)
	}
	r.settled()
	r.quiet(2)
}

func TestKillsLoseNothingAndRepeatNothingUnsaid(t *testing.T) {
	r := newRig(t)
	// What was on its way to a killed process comes again after AckWait, a minute.
	// A shorter one spares the test the wait.
	consumer, err := r.js.Consumer(t.Context(), stream.FindingsStream, stream.NotifyConsumer)
	if err != nil {
		t.Fatal(err)
	}
	config := consumer.CachedInfo().Config
	config.AckWait = time.Second
	if _, err := r.js.UpdateConsumer(t.Context(), stream.FindingsStream, config); err != nil {
		t.Fatal(err)
	}
	const n = 40
	for i := 1; i <= n; i++ {
		r.publish(finding(i, fmt.Sprintf("host-%d.example.test", i)))
	}
	for i := range 4 {
		cmd := startChild(t, r)
		at := len(r.slack.Messages()) + 5
		r.awaitMessages(at)
		time.Sleep(time.Duration(i) * time.Millisecond) // somewhere between two writes
		kill(cmd)
	}
	r.clock.now = time.Now()
	r.sink.MaxItems = 1
	r.start()
	told := make(map[string]int)
	r.await("all findings", func() bool {
		clear(told)
		for _, m := range r.slack.Messages() {
			told[idOf(t, m.Text)]++
		}
		return len(told) == n
	})
	r.settled()
	unsaid := make(map[string]int)
	for _, m := range r.slack.Messages() {
		if !strings.Contains(m.Text, possibleRepeat) {
			unsaid[idOf(t, m.Text)]++
		}
	}
	for id, c := range unsaid {
		if c > 1 {
			t.Errorf("finding %s was told %d times without a word", id, c)
		}
	}
	t.Logf("%d findings in %d messages over 4 kills", n, len(r.slack.Messages()))
}

// TestKilledBeforeMarksSaySo: the group says that a finding was told, its mark does not
// yet. It is no repeat of itself.
func TestKilledBeforeMarksSaySo(t *testing.T) {
	r := newRig(t)
	r.start()
	f := finding(1, "evil.example.test")
	r.publish(f)
	r.awaitMessages(1)
	r.settled()
	o := r.notifier.outboxes[0]
	r.stop()
	body, err := proto.Marshal(f)
	if err != nil {
		t.Fatal(err)
	}
	if err := o.putMark(t.Context(), f.Id, mark{Sequence: 1, Finding: body}); err != nil {
		t.Fatal(err)
	}
	g := *o.groups[groupKey(f, o.sink.Window)]
	g.Told = []string{f.Id}
	if err := o.putGroup(t.Context(), &g); err != nil {
		t.Fatal(err)
	}
	r.start()
	r.settled()
	r.clock.advance(2 * SlackWindow)
	r.quiet(1)
}
