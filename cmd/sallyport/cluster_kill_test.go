package main

import (
	"context"
	"database/sql"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/sallyport-ci/sallyport/agent"
	sallyportv1 "github.com/sallyport-ci/sallyport/proto/sallyport/v1"
	"github.com/sallyport-ci/sallyport/store/engine/enginetest"
	"github.com/sallyport-ci/sallyport/stream"
)

// TestCluster follows docs/cluster.md: three NATS servers, the parts apart from each
// other, each with its own rights. Then servers are killed under load, and ingest.
func TestCluster(t *testing.T) {
	e := enginetest.Start(t)
	name, _ := e.Database(t)
	c := newCluster(t)
	dsn := c.path("dsn")
	if err := os.WriteFile(dsn, []byte(e.DatabaseDSN(name)+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	token := c.path("token")
	if err := os.WriteFile(token, []byte("swordfish\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	eventually(t, time.Minute, func() error { // the cluster may have no leader yet
		return c.fails("not declared", "ingest", "--clickhouse-dsn-file", dsn)
	})
	if err := c.fails("NATS does not let this user do it", "ingest", "--clickhouse-dsn-file", dsn, "--declare"); err != nil {
		t.Error(err)
	}
	if out := c.declare("--replicas", "3", "--partitions", "2", "--events-bytes", "200000000", "--findings-bytes", "20000000",
		"--dead-letter-bytes", "20000000", "--bucket-bytes", "20000000"); !strings.Contains(out, "stream EVENTS: made\n") {
		t.Errorf("sallyport declare says\n%s", out)
	}
	if out := c.declare(); strings.Count(out, ": as it has to be\n") != 19 || strings.Count(out, "\n") != 19 {
		t.Errorf("sallyport declare, again, says\n%s", out)
	}
	t.Run("permissions", func(t *testing.T) { testPermissions(t, c) })

	ingest := c.run("ingest", "--clickhouse-dsn-file", dsn)
	detector := c.run("detector")
	notify := c.run("notify")
	server := c.run("server", "--clickhouse-dsn-file", dsn, "--token-file", token, "--rest", "127.0.0.1:0", "--grpc", "127.0.0.1:0")
	all := []*partProcess{ingest, detector, notify, server}
	for _, p := range all {
		p.waitReady()
	}
	t.Run("checks", func(t *testing.T) { testChecks(t, c) })
	_, js, _ := c.connect("declare", stream.Inbox(stream.PartDeclare))
	db := openDatabase(t, e.DatabaseDSN(name))

	l := c.newLoad("runner-1")
	l.damaged()
	l.publish(&sallyportv1.Event{Body: &sallyportv1.Event_JobStarted{JobStarted: &sallyportv1.JobStarted{}}})
	l.until(1000)
	first := c.leader(js, stream.EventsStream)
	t.Logf("%s leads %s: killed after %d events", first.name, stream.EventsStream, l.sent)
	c.kill(first)
	l.until(3000)
	c.start(first)
	c.waitWhole(js)
	second := c.leader(js, "KV_"+stream.IngestBucket)
	t.Logf("%s leads the bucket %s: killed after %d events", second.name, stream.IngestBucket, l.sent)
	c.kill(second)
	l.until(5000)
	// Two of three servers remain: nothing has to wait for the third. What was on its way to
	// ingest through a server that was killed comes again after a minute.
	l.checkOnce(db)
	c.start(second)
	c.waitWhole(js)
	for _, s := range c.servers {
		c.kill(s)
	}
	l.until(6000) // to the agent's disk
	for _, s := range c.servers {
		c.start(s)
	}
	l.publish(&sallyportv1.Event{Body: &sallyportv1.Event_JobEnded{JobEnded: &sallyportv1.JobEnded{}}})
	l.checkOnce(db)

	// What was found came all the way: detector, stream, ingest, table, API; and notify.
	eventually(t, time.Minute, func() error {
		if n := number(t, db, "SELECT count() FROM findings"); n != 1 {
			return fmt.Errorf("%d findings", n)
		}
		if out := notify.output(); strings.Count(out, "agent_damaged") != 1 {
			return fmt.Errorf("notify says %q", out)
		}
		return nil
	})
	// So did what was learned, and what nobody can use.
	l.malformed()
	eventually(t, time.Minute, func() error {
		for question, want := range map[string]string{"findings": "link of tcp_state is detached", "baseline": "example/app"} {
			ask := child(t, "sallyport", []string{"SALLYPORT_TOKEN=swordfish"}, question, "--server", server.address("grpc"))
			if out, err := ask.CombinedOutput(); err != nil || !strings.Contains(string(out), want) {
				return fmt.Errorf("sallyport %s: %w\n%s", question, err, out)
			}
		}
		letters, err := js.Stream(t.Context(), stream.DeadLettersStream)
		if err != nil {
			return err
		}
		if n := letters.CachedInfo().State.Msgs; n != 2 {
			return fmt.Errorf("%d dead letters, want those of ingest and of the detector", n)
		}
		return nil
	})
	for _, p := range all {
		if code, body, err := p.get("/healthz"); err != nil || code != http.StatusOK || body != "ok\n" {
			t.Errorf("%s: /healthz says %d %q %v", p.name, code, body, err)
		}
		p.waitReady()
		select {
		case <-p.done:
			t.Errorf("%s ended by itself", p.name)
		default:
		}
	}
	_, metrics, err := detector.get("/metrics")
	if err != nil || !strings.Contains(metrics, `sallyport_ready{check="consumers-detector"} 1`) || !strings.Contains(metrics, "sallyport_detector_events_total") {
		t.Errorf("metrics of the detector: %v\n%s", err, metrics)
	}

	// A part that is killed, or stopped and started, goes on where it was.
	go func() {
		time.Sleep(700 * time.Millisecond)
		_ = ingest.cmd.Process.Kill()
	}()
	l.until(7500)
	<-ingest.done
	ingest = c.run("ingest", "--clickhouse-dsn-file", dsn)
	detector.stop()
	detector = c.run("detector")
	notify.stop()
	notify = c.run("notify")
	l.until(8000)
	l.checkOnce(db)
	if lost := l.publisher.Spilled(); lost > 0 {
		t.Errorf("the agent lost %d events", lost)
	}
	for _, p := range []*partProcess{ingest, detector, notify} {
		p.waitReady()
		p.stop()
	}
	server.stop()
	for _, p := range append(all, ingest, detector, notify) {
		if log := strings.Join(p.log, "\n"); strings.Contains(log, "iolation") {
			t.Errorf("%s did what it may not:\n%s", p.name, log)
		}
	}
	if strings.Contains(notify.output(), "agent_damaged") {
		t.Error("notify told the same finding again after it was started again")
	}
}

// fails runs a part and says whether it ends with exit code 1 and these words.
func (c *cluster) fails(words, part string, args ...string) error {
	cmd := child(c.t, "sallyport", []string{
		"SALLYPORT_NATS=" + c.urls(), "SALLYPORT_NATS_CA=" + c.path("ca.pem"), "SALLYPORT_NATS_CREDS=" + c.path(part+".nk"),
		"SALLYPORT_DECLARE=false",
	}, append([]string{part}, args...)...)
	out, err := cmd.CombinedOutput()
	if cmd.ProcessState.ExitCode() != 1 || !strings.Contains(string(out), words) {
		return fmt.Errorf("sallyport %s: %w, without %q:\n%s", part, err, words, out)
	}
	return nil
}

// load is an agent that publishes the events of one job.
type load struct {
	t         *testing.T
	id        string
	epoch     uint64
	js        jetstream.JetStream
	publisher *agent.Publisher
	sent      uint64
}

func (c *cluster) newLoad(id string) *load {
	c.t.Helper()
	_, js, refused := c.connect(id, stream.AgentInbox(id))
	publisher, err := agent.NewPublisher(agent.PublisherConfig{JS: js, AgentID: id, Dir: filepath.Join(c.t.TempDir(), "spool")})
	if err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(func() {
		publisher.Close()
		for len(refused) > 0 {
			c.t.Logf("agent: %v", <-refused)
		}
	})
	return &load{t: c.t, id: id, epoch: uint64(time.Now().UnixNano()), js: js, publisher: publisher}
}

func (l *load) publish(events ...*sallyportv1.Event) {
	l.t.Helper()
	now := uint64(time.Now().UnixNano())
	for _, e := range events {
		e.TimeUnixNano, e.Process, e.Attribution = now, 1, 1
	}
	err := l.publisher.Publish(l.t.Context(), &sallyportv1.EventBatch{
		AgentId: l.id, Epoch: l.epoch, FirstSequence: l.sent + 1, Hostname: l.id + ".example.test", Events: events,
		Processes: []*sallyportv1.Process{{Id: 1, Pid: 10, Executable: "/usr/bin/true", StartTimeUnixNano: l.epoch}},
		Attributions: []*sallyportv1.Attribution{{
			Repository: "example/app", Workflow: "ci", RunId: "1", RunAttempt: 1, Job: "build", ExecutionId: "0123456789abcdef", Step: "__run", Event: "push", Ref: "refs/heads/main",
		}},
	})
	if err != nil {
		l.t.Fatal(err)
	}
	l.sent += uint64(len(events))
}

// until publishes until that many events are on their way, nearly a thousand a second.
func (l *load) until(events uint64) {
	l.t.Helper()
	for l.sent < events {
		var batch []*sallyportv1.Event
		for range 10 {
			batch = append(batch, &sallyportv1.Event{Body: &sallyportv1.Event_ProcessExecuted{ProcessExecuted: &sallyportv1.ProcessExecuted{}}})
		}
		l.publish(batch...)
		time.Sleep(10 * time.Millisecond)
	}
}

// checkOnce waits until everything is in the tables, and looks whether it is there once.
func (l *load) checkOnce(db *sql.DB) {
	l.t.Helper()
	const events = "(SELECT agent_id, epoch, sequence FROM process_events UNION ALL SELECT agent_id, epoch, sequence FROM job_events)"
	eventually(l.t, 3*time.Minute, func() error {
		if n := l.publisher.Waiting(); n > 0 {
			return fmt.Errorf("%d batches wait for NATS", n)
		}
		if n := number(l.t, db, "SELECT count() FROM "+events); n < l.sent {
			return fmt.Errorf("%d of %d events are in the tables", n, l.sent)
		}
		return nil
	})
	rows := number(l.t, db, "SELECT count() FROM "+events)
	distinct := number(l.t, db, "SELECT uniqExact(agent_id, epoch, sequence) FROM "+events)
	last := number(l.t, db, "SELECT max(sequence) FROM "+events)
	if rows != l.sent || distinct != l.sent || last != l.sent {
		l.t.Errorf("%d rows of %d events up to %d, want %d of each", rows, distinct, last, l.sent)
	}
}

// damaged tells that somebody damaged the agent, which is a finding.
func (l *load) damaged() {
	l.t.Helper()
	err := stream.PublishHeartbeat(l.js.Conn(), &sallyportv1.Heartbeat{
		AgentId: l.id, Epoch: l.epoch, Hostname: l.id + ".example.test", Damage: []string{"link of tcp_state is detached"},
	})
	if err != nil {
		l.t.Fatal(err)
	}
}

// malformed publishes what is no batch.
func (l *load) malformed() {
	l.t.Helper()
	if _, err := l.js.Publish(l.t.Context(), stream.EventSubject(l.id), []byte("garbage")); err != nil {
		l.t.Fatal(err)
	}
}

func openDatabase(t *testing.T, dsn string) *sql.DB {
	t.Helper()
	options, err := clickhouse.ParseDSN(dsn)
	if err != nil {
		t.Fatal(err)
	}
	db := clickhouse.OpenDB(options)
	t.Cleanup(func() { _ = db.Close() })
	return db
}

func number(t *testing.T, db *sql.DB, query string) (n uint64) {
	t.Helper()
	if err := db.QueryRowContext(context.Background(), query).Scan(&n); err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	return n
}
