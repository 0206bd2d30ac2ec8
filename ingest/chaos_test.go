package ingest

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/sallyport-ci/sallyport/agent"
	"github.com/sallyport-ci/sallyport/store/engine"
	"github.com/sallyport-ci/sallyport/store/engine/enginetest"
	"github.com/sallyport-ci/sallyport/stream/natsserver"
)

// The test binary runs itself as NATS and as an agent, too.
const (
	natsPortVariable  = "SALLYPORT_INGESTTEST_NATS_PORT"
	agentNATSVariable = "SALLYPORT_INGESTTEST_AGENT_NATS"
	folderVariable    = "SALLYPORT_INGESTTEST_FOLDER"
	// roundsVariable says how many rounds the chaos has.
	roundsVariable = "SALLYPORT_CHAOS_ROUNDS"
)

const agentPassword = "agent"

func runNATS() error {
	port, err := strconv.Atoi(os.Getenv(natsPortVariable))
	if err != nil {
		return err
	}
	s, err := natsserver.Start(natsserver.Config{
		Dir: os.Getenv(folderVariable), Port: port, OperatorPassword: operatorPassword, AgentPassword: agentPassword,
	})
	if err != nil {
		return err
	}
	fmt.Println("running")
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	<-ctx.Done()
	s.Shutdown()
	return nil
}

// runAgent publishes batches as an agent does, with its spool, and writes down which it
// has taken charge of: those that the stream or the spool has. Told to stop it goes on
// until the spool is empty.
func runAgent() error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	folder := os.Getenv(folderVariable)
	nc, err := nats.Connect(os.Getenv(agentNATSVariable), nats.UserInfo(natsserver.AgentUser, agentPassword),
		nats.MaxReconnects(-1), nats.ReconnectWait(50*time.Millisecond), nats.ReconnectBufSize(-1), nats.RetryOnFailedConnect(true))
	if err != nil {
		return err
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		return err
	}
	spool := filepath.Join(folder, "spool")
	p, err := agent.NewPublisher(agent.PublisherConfig{JS: js, AgentID: "agent-1", Dir: spool})
	if err != nil {
		return err
	}
	taken, err := os.OpenFile(filepath.Join(folder, "taken"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer taken.Close()
	files := func() []string {
		names, err := filepath.Glob(filepath.Join(spool, "*.batch"))
		if err != nil {
			return nil
		}
		return names
	}
	// spooled says whether all that has not reached the stream is on disk: the files are
	// counted twice, because one that goes while we count is not there for what is in memory.
	spooled := func() bool {
		before := files()
		waiting := p.Waiting()
		return waiting <= uint64(len(before)) && slices.Equal(before, files())
	}
	fmt.Println("running")
	epoch := uint64(time.Now().UnixNano())
	r := rand.New(rand.NewPCG(epoch, 1))
	for next := uint64(1); ctx.Err() == nil; {
		begin := next
		for range 1 + r.IntN(8) {
			b := realisticBatch(r, "agent-1", next, 1+r.IntN(300), time.Now())
			b.Epoch = epoch
			if err := p.Publish(context.Background(), b); err != nil {
				return err
			}
			next += uint64(len(b.GetEvents()))
		}
		for !spooled() {
			time.Sleep(time.Millisecond)
		}
		if _, err := fmt.Fprintln(taken, epoch, begin, next-1); err != nil {
			return err
		}
		time.Sleep(20 * time.Millisecond)
	}
	for p.Waiting() > 0 {
		time.Sleep(10 * time.Millisecond)
	}
	p.Close()
	return nil
}

// chaos is NATS, ClickHouse, two ingest processes and an agent, each a process of its own.
type chaos struct {
	t       *testing.T
	folder  string
	natsURL string
	dsn     string
	engine  *engine.Process
	start   engine.StartConfig
	running map[string]*exec.Cmd
}

func newChaos(t *testing.T) *chaos {
	t.Helper()
	enginetest.Start(t) // skips where there is no library
	c := &chaos{t: t, folder: t.TempDir(), running: make(map[string]*exec.Cmd)}
	for _, name := range []string{"nats", "agent", "clickhouse"} {
		if err := os.Mkdir(filepath.Join(c.folder, name), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	library, err := enginetest.Library(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	command, env, err := enginetest.Command()
	if err != nil {
		t.Fatal(err)
	}
	c.start = engine.StartConfig{
		Command: command, Env: env, Library: library, Dir: filepath.Join(c.folder, "clickhouse"), Addr: freeAddr(t),
		Password: "chaos", MaxMemory: 2 << 30,
	}
	c.natsURL = "nats://" + freeAddr(t)
	t.Cleanup(func() {
		for _, cmd := range c.running {
			_ = cmd.Process.Kill() // some have ended
			_ = cmd.Wait()
		}
		if c.engine != nil {
			_ = c.engine.Stop(context.Background())
		}
	})
	return c
}

func freeAddr(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// targets are what is killed.
var targets = []string{"nats", "clickhouse", "ingest-a", "ingest-b", "agent"}

// up starts what does not run.
func (c *chaos) up(name string) {
	c.t.Helper()
	if name == "clickhouse" {
		if c.engine != nil {
			return
		}
		p, err := engine.Start(context.Background(), c.start)
		if err != nil {
			c.t.Fatal(err)
		}
		c.engine = p
		c.dsn = strings.TrimSuffix(p.DSN(), "/default") + "/chaos"
		return
	}
	if c.running[name] != nil {
		return
	}
	cmd := exec.Command(os.Args[0])
	_, port, _ := strings.Cut(strings.TrimPrefix(c.natsURL, "nats://"), ":")
	switch name {
	case "nats":
		cmd.Env = append(os.Environ(), natsPortVariable+"="+port, folderVariable+"="+filepath.Join(c.folder, name))
	case "agent":
		cmd.Env = append(os.Environ(), agentNATSVariable+"="+c.natsURL, folderVariable+"="+filepath.Join(c.folder, name))
	default:
		cmd.Env = append(os.Environ(), childVariable+"="+c.natsURL, childDSNVariable+"="+c.dsn, childNameVariable+"="+name)
	}
	if testing.Verbose() {
		cmd.Stderr = os.Stderr
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		c.t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		c.t.Fatal(err)
	}
	c.running[name] = cmd
	// Ingest is not waited for: it may have to wait for others, and be killed meanwhile.
	if scanner := bufio.NewScanner(out); !strings.HasPrefix(name, "ingest") && !scanner.Scan() {
		c.t.Fatalf("%s did not start", name)
	}
}

// kill kills it in whatever it does.
func (c *chaos) kill(name string) {
	c.t.Helper()
	if name == "clickhouse" {
		if pid := c.engine.PID(); pid != 0 {
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
		_ = c.engine.Stop(context.Background()) // it did not end as it should
		c.engine = nil
		return
	}
	if err := c.running[name].Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		c.t.Fatal(err)
	}
	_ = c.running[name].Wait()
	delete(c.running, name)
}

func (c *chaos) connect() jetstream.JetStream {
	c.t.Helper()
	nc, err := nats.Connect(c.natsURL, nats.UserInfo(natsserver.OperatorUser, operatorPassword), nats.MaxReconnects(-1))
	if err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(nc.Close)
	js, err := jetstream.New(nc)
	if err != nil {
		c.t.Fatal(err)
	}
	return js
}

// TestEveryPartKilled kills NATS, ClickHouse, ingest and the agent under load, at random,
// alone and in pairs, and then counts every event that the agent took charge of, in the
// tables and in what is made of them.
func TestEveryPartKilled(t *testing.T) {
	rounds := 140
	if given := os.Getenv(roundsVariable); given != "" {
		var err error
		if rounds, err = strconv.Atoi(given); err != nil {
			t.Fatal(err)
		}
	}
	c := newChaos(t)
	c.up("nats")
	c.up("clickhouse")
	l := &lab{js: c.connect(), dsn: c.dsn}
	l.divide(t, 2)
	for _, name := range targets {
		c.up(name)
	}
	r := rand.New(rand.NewPCG(11, 12))
	kills := make(map[string]int)
	for range rounds {
		time.Sleep(time.Duration(r.IntN(500)) * time.Millisecond)
		hit := slices.Clone(targets)
		r.Shuffle(len(hit), func(i, j int) { hit[i], hit[j] = hit[j], hit[i] })
		hit = hit[:1+r.IntN(2)]
		for _, name := range hit {
			c.kill(name)
			kills[name]++
			time.Sleep(time.Duration(r.IntN(20)) * time.Millisecond)
		}
		time.Sleep(time.Duration(r.IntN(200)) * time.Millisecond)
		for _, name := range hit {
			c.up(name)
		}
	}
	// The agent sends what it still has, and everything comes to its end.
	if err := c.running["agent"].Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := c.running["agent"].Wait(); err != nil {
		t.Errorf("the agent: %v", err)
	}
	delete(c.running, "agent")
	l.waitEmpty(t, 2*time.Minute)
	c.count(l, kills)
}

// count compares what the agent took charge of with what is in the tables.
func (c *chaos) count(l *lab, kills map[string]int) {
	c.t.Helper()
	f, err := os.Open(filepath.Join(c.folder, "agent", "taken"))
	if err != nil {
		c.t.Fatal(err)
	}
	defer f.Close()
	taken := make(map[uint64]intervals)
	events := uint64(0)
	for lines := bufio.NewScanner(f); lines.Scan(); {
		var epoch uint64
		var v interval
		if _, err := fmt.Sscan(lines.Text(), &epoch, &v[0], &v[1]); err != nil {
			continue // the last line of one that was killed
		}
		s := taken[epoch]
		s.addInterval(v)
		taken[epoch] = s
		events += v[1] - v[0] + 1
	}
	rows := l.count(c.t, "SELECT count() FROM ("+allEvents+")")
	distinct := l.count(c.t, "SELECT uniqExact(epoch, sequence) FROM ("+allEvents+")")
	c.t.Logf("killed %v; %d starts of the agent took charge of %d events; %d rows of %d events", kills, len(taken), events, rows, distinct)
	if rows != distinct {
		c.t.Errorf("%d rows of %d events", rows, distinct)
	}
	for epoch, s := range taken {
		for _, v := range s {
			where := fmt.Sprintf(" WHERE epoch = %d AND sequence BETWEEN %d AND %d", epoch, v[0], v[1])
			if n := l.count(c.t, "SELECT uniqExact(sequence) FROM ("+allEvents+")"+where); n != v[1]-v[0]+1 {
				c.t.Errorf("start %d: %d of its events %d to %d are there", epoch, n, v[0], v[1])
			}
		}
	}
	c.compare(l)
	if events == 0 || len(slices.Collect(maps.Keys(kills))) != len(targets) {
		c.t.Errorf("%d events under kills %v: that was no test", events, kills)
	}
}

// compare holds the roll-ups to their base tables.
func (c *chaos) compare(l *lab) {
	c.t.Helper()
	const outbound = " FROM flow_events WHERE direction = 'outbound' AND phase != 'used'"
	for what, of := range map[string][2]string{
		"connections":    {"SELECT countIf(phase = 'started')" + outbound, "SELECT sum(connections) FROM egress_by_day"},
		"bytes sent":     {"SELECT sum(bytes_sent)" + outbound, "SELECT sum(bytes_sent) FROM egress_by_day"},
		"bytes received": {"SELECT sum(bytes_received)" + outbound, "SELECT sum(bytes_received) FROM egress_by_day"},
		"runs":           {"SELECT uniqExact(run_id)" + outbound, "SELECT toUInt64(uniqMerge(runs)) FROM egress_days"},
	} {
		base, rollUp := l.count(c.t, of[0]), l.count(c.t, of[1])
		c.t.Logf("%s: %d in flow_events, %d in the roll-up", what, base, rollUp)
		if base != rollUp || base == 0 {
			c.t.Errorf("%s: %d in flow_events, %d in the roll-up", what, base, rollUp)
		}
	}
}
