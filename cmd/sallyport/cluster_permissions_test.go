package main

import (
	"errors"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/sallyport-ci/sallyport/stream"
)

// testPermissions tries what nobody but its owner may do. What each part may do is
// tested by running it.
func testPermissions(t *testing.T, c *cluster) {
	agent, other := stream.AgentInbox("runner-1"), stream.AgentInbox("runner-2")
	everybody := []string{
		"$JS.API.STREAM.DELETE.EVENTS", "$JS.API.STREAM.PURGE.EVENTS", "$JS.API.STREAM.UPDATE.EVENTS", "$JS.API.STREAM.CREATE.MINE",
		"$JS.API.STREAM.MSG.DELETE.EVENTS", "$JS.API.STREAM.DELETE.FINDINGS", "$JS.API.STREAM.DELETE.KV_INGEST",
		"$JS.API.CONSUMER.CREATE.EVENTS", "$JS.API.CONSUMER.CREATE.EVENTS.mine", "$JS.API.CONSUMER.DURABLE.CREATE.EVENTS.mine",
		"$JS.API.CONSUMER.DELETE.EVENTS.ingest", "$JS.API.CONSUMER.CREATE.FINDINGS.mine", "$JS.API.STREAM.NAMES", "$JS.API.STREAM.LIST",
		"$JS.API.STREAM.SNAPSHOT.EVENTS", "$JS.API.STREAM.PURGE.KV_INGEST", "$SYS.REQ.SERVER.PING",
		"sallyport.events.runner-2", "sallyport.heartbeats.runner-2", "sallyport.reports.runner-2",
	}
	mayNotHear := []string{
		">", "sallyport.events.*", "sallyport.findings", "sallyport.>", "$KV.>", "$JS.>", "_INBOX.>", "$JS.EVENT.>",
		stream.Inbox(stream.PartIngest) + ".>", stream.Inbox(stream.PartNotify) + ".x.y",
	}
	for _, user := range []struct {
		name, inbox string
		not         []string // besides what nobody may
		notHear     []string
	}{
		{"runner-1", agent, []string{
			"sallyport.findings", "sallyport.deadletters.ingest", "$KV.BASELINES.x", "$KV.TOKENS.x", "$KV.ENROLMENTS.agent.x", "$JS.API.STREAM.MSG.GET.KV_ENROLMENTS", "$KV.INGEST.EVENTS.done",
			"$JS.API.CONSUMER.MSG.NEXT.EVENTS.ingest", "$JS.API.CONSUMER.MSG.NEXT.EVENTS.detector", "$JS.API.STREAM.MSG.GET.EVENTS",
			"$JS.API.DIRECT.GET.EVENTS", "$JS.ACK.EVENTS.ingest.1.1.1.1.1", "$JS.API.STREAM.INFO.EVENTS", agent + ".x", stream.Inbox(stream.PartIngest) + ".x",
		}, []string{"sallyport.heartbeats.*", "sallyport.reports.*", other + ".>", stream.Inbox(stream.PartDetector) + ".>"}},
		{"ingest", stream.Inbox(stream.PartIngest), []string{
			"sallyport.events.runner-1", "sallyport.findings", "$KV.BASELINES.x", "$KV.NOTIFY.x", "$JS.ACK.EVENTS.detector.1.1.1.1.1",
			"$JS.API.CONSUMER.MSG.NEXT.EVENTS.detector", "$JS.API.STREAM.PURGE.FINDINGS", "sallyport.deadletters.detector",
		}, []string{"sallyport.heartbeats.*", "sallyport.reports.*", stream.Inbox(stream.PartDetector) + ".>"}},
		{"detector", stream.Inbox(stream.PartDetector), []string{
			"sallyport.events.runner-1", "$KV.INGEST.EVENTS.done", "$KV.DECISIONS.x", "$JS.API.CONSUMER.MSG.NEXT.EVENTS.ingest", "$JS.API.STREAM.MSG.GET.EVENTS",
			"$JS.API.CONSUMER.MSG.NEXT.FINDINGS.notify", "sallyport.heartbeats.runner-1", "$JS.API.CONSUMER.CREATE.KV_DETECTOR.mine",
			"sallyport.reports.runner-1", stream.Inbox(stream.PartIngest) + ".x", "_INBOX.other.x",
		}, nil},
		{"notify", stream.Inbox(stream.PartNotify), []string{
			"sallyport.events.runner-1", "sallyport.findings", "$KV.BASELINES.x", "$JS.API.CONSUMER.MSG.NEXT.EVENTS.ingest",
			"$JS.API.STREAM.MSG.GET.FINDINGS", "$JS.API.STREAM.PURGE.FINDINGS",
		}, []string{"sallyport.heartbeats.*", "sallyport.reports.*"}},
		{"server", stream.Inbox(stream.PartServer), []string{
			"sallyport.events.runner-1", "sallyport.findings", "$KV.VERDICTS.x", "$JS.API.STREAM.MSG.GET.EVENTS",
			"$JS.API.STREAM.MSG.GET.KV_INGEST", "$JS.API.STREAM.PURGE.KV_DECISIONS", "$JS.API.STREAM.PURGE.KV_BASELINES", "$JS.API.CONSUMER.CREATE.KV_BASELINES.mine",
			"$JS.API.STREAM.PURGE.KV_TOKENS", "$JS.API.STREAM.MSG.DELETE.KV_TOKENS", "$JS.API.CONSUMER.CREATE.KV_ENROLMENTS.mine",
		}, []string{"sallyport.heartbeats.*", "sallyport.reports.*"}},
		{"checks", stream.Inbox(stream.PartChecks), []string{
			"sallyport.events.runner-1", "sallyport.findings", "$KV.VERDICTS.x", "$JS.API.STREAM.MSG.GET.EVENTS", "$JS.API.STREAM.MSG.GET.KV_INGEST",
			"$JS.API.STREAM.PURGE.KV_DECISIONS", "$JS.API.CONSUMER.CREATE.KV_CHECKS.mine", "$JS.API.CONSUMER.CREATE.KV_DECISIONS.mine",
		}, []string{"sallyport.heartbeats.*", "sallyport.reports.*"}},
		{"declare", stream.Inbox(stream.PartDeclare), []string{"sallyport.findings", "$KV.BASELINES.x"}, nil},
	} {
		t.Run(user.name, func(t *testing.T) {
			c := &cluster{t: t, dir: c.dir, servers: c.servers}
			nc, _, refused := c.connect(user.name, user.inbox)
			publish, hear := append([]string(nil), user.not...), append([]string(nil), user.notHear...)
			if user.name == "declare" {
				publish = append(publish, "sallyport.events.runner-2", "$SYS.REQ.SERVER.PING")
				hear = append(hear, ">", "sallyport.events.*", stream.Inbox(stream.PartIngest)+".>")
			} else {
				publish = append(publish, everybody...)
				for _, s := range mayNotHear {
					if user.name != "notify" || !strings.HasPrefix(s, stream.Inbox(stream.PartNotify)) {
						hear = append(hear, s)
					}
				}
			}
			if user.name == "ingest" {
				hear = remove(hear, stream.Inbox(stream.PartIngest)+".>")
			}
			for _, subject := range publish {
				if err := nc.Publish(subject, nil); err != nil {
					t.Fatal(err)
				}
				expectRefusal(t, nc, refused, "Publish", subject)
			}
			for _, subject := range hear {
				if _, err := nc.SubscribeSync(subject); err != nil {
					t.Fatal(err)
				}
				expectRefusal(t, nc, refused, "Subscription", subject)
			}
		})
	}
}

func remove(all []string, one string) (rest []string) {
	for _, s := range all {
		if s != one {
			rest = append(rest, s)
		}
	}
	return rest
}

func expectRefusal(t *testing.T, nc *nats.Conn, refused <-chan error, what, subject string) {
	t.Helper()
	if err := nc.FlushTimeout(30 * time.Second); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-refused:
		if !errors.Is(err, nats.ErrPermissionViolation) || !strings.Contains(strings.ToLower(err.Error()), strings.ToLower(what+` to "`+subject+`"`)) {
			t.Errorf("%s to %s: %v", what, subject, err)
		}
	case <-time.After(5 * time.Second):
		t.Errorf("%s to %s was not refused", what, subject)
	}
}

// Every variable of the server's files has its line in nats.env.example, and no line is for
// nothing.
func TestEnvironmentOfNATSIsWhole(t *testing.T) {
	dir := filepath.Join("..", "..", "deployments", "nats")
	read := func(name string) string {
		text, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	used := make(map[string]bool)
	for _, v := range regexp.MustCompile(`\$N(ATS|KEY)_[A-Z0-9_]+`).FindAllString(read("nats-server.conf")+read("permissions.conf"), -1) {
		used[v[1:]] = true
	}
	set := make(map[string]bool)
	for _, v := range regexp.MustCompile(`(?m)^[A-Z0-9_]+=`).FindAllString(read("nats.env.example"), -1) {
		set[strings.TrimSuffix(v, "=")] = true
	}
	if len(used) < 10 || !maps.Equal(used, set) {
		t.Errorf("the files use %v, the example sets %v", slices.Sorted(maps.Keys(used)), slices.Sorted(maps.Keys(set)))
	}
}
