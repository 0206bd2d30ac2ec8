package ingest

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/sallyport-ci/sallyport/agent"
	"github.com/sallyport-ci/sallyport/store/engine"
	"github.com/sallyport-ci/sallyport/store/engine/enginetest"
	"github.com/sallyport-ci/sallyport/stream"
	"github.com/sallyport-ci/sallyport/stream/natsserver"
	"github.com/sallyport-ci/sallyport/stream/natsserver/natstest"
)

// smallDisk is a file system of a test.
func smallDisk(t *testing.T, megabytes int) string {
	t.Helper()
	dir := t.TempDir()
	out, err := exec.Command("mount", "-t", "tmpfs", "-o", fmt.Sprintf("size=%dm", megabytes), "tmpfs", dir).CombinedOutput()
	if err != nil {
		if os.Getenv("SALLYPORT_REQUIRE_ALL") == "1" {
			t.Fatalf("mount: %s", out)
		}
		t.Skipf("skipped: cannot mount: %s", out)
	}
	t.Cleanup(func() {
		if out, err := exec.Command("umount", "-l", dir).CombinedOutput(); err != nil {
			t.Errorf("umount: %s", out)
		}
	})
	return dir
}

// fill takes all but some of the room on a file system, and returns a function that gives
// it back.
func fill(t *testing.T, dir string, leave int64) (free func()) {
	t.Helper()
	path := filepath.Join(dir, "filling")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	block := make([]byte, 64<<10)
	for {
		if _, err := f.Write(block); err != nil {
			break // full
		}
	}
	size, err := f.Seek(0, 1)
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Truncate(max(size-leave, 0)); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	return func() {
		t.Helper()
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
	}
}

// TestDiskOfNATSFull lets the disk under EVENTS run full while an agent goes on: what the
// stream does not take is in the agent's spool, and comes when there is room.
func TestDiskOfNATSFull(t *testing.T) {
	l := newLab(t)
	dir := smallDisk(t, 64)
	s, js := natstest.StartDeclared(t, natsserver.Config{Dir: dir, AgentPassword: agentPassword})
	l.js = js
	space := &natsserver.Space{JS: l.js, Dir: dir, Reserve: 16 << 20, Interval: 20 * time.Millisecond}
	ctx, cancel := context.WithCancel(t.Context())
	watched := make(chan error, 1)
	go func() { watched <- space.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-watched; err != nil {
			t.Error(err)
		}
	})
	agentConn, err := nats.Connect(s.AgentURL(agentPassword), nats.ReconnectBufSize(-1))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(agentConn.Close)
	agentJS, err := jetstream.New(agentConn)
	if err != nil {
		t.Fatal(err)
	}
	p, err := agent.NewPublisher(agent.PublisherConfig{JS: agentJS, AgentID: "agent-1", Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	r := rand.New(rand.NewPCG(21, 22))
	next := uint64(1)
	publish := func(batches int) {
		t.Helper()
		for range batches {
			b := realisticBatch(r, "agent-1", next, 300, time.Now())
			next += 300
			if err := p.Publish(t.Context(), b); err != nil {
				t.Fatal(err)
			}
		}
	}
	publish(20)
	free := fill(t, dir, 18<<20)
	for limit := time.Now().Add(time.Minute); !space.Short(); {
		publish(10)
		if time.Now().After(limit) {
			t.Fatal("the disk does not run full")
		}
	}
	publish(100) // into the spool
	eventually(t, 10*time.Second, func() error {
		if p.Waiting() < 10 {
			return fmt.Errorf("%d batches wait; the stream takes them though there is no room", p.Waiting())
		}
		return nil
	})
	// Reading goes on without room.
	l.start(t, nil)
	l.waitDone(t, stream.EventsStream)
	free()
	eventually(t, 30*time.Second, func() error {
		if n := p.Waiting(); n > 0 || space.Short() {
			return fmt.Errorf("%d batches wait, short of space: %t", n, space.Short())
		}
		return nil
	})
	p.Close()
	l.waitDone(t, stream.EventsStream)
	l.checkOnce(t, next-1)
}

// TestDiskOfClickHouseFull lets the disk under the tables run full under load: nothing is a
// dead letter, everything waits, and comes when there is room.
func TestDiskOfClickHouseFull(t *testing.T) {
	dir := smallDisk(t, 192)
	enginetest.Start(t) // skips where there is no library
	library, err := enginetest.Library(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	command, env, err := enginetest.Command()
	if err != nil {
		t.Fatal(err)
	}
	e, err := engine.Start(t.Context(), engine.StartConfig{Command: command, Env: env, Library: library, Dir: filepath.Join(dir, "clickhouse"), MaxMemory: 2 << 30})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = e.Stop(context.Background()) }) // with what it cannot write any more
	l := newStreamLab(t)
	l.dsn = strings.TrimSuffix(e.DSN(), "/default") + "/full"
	l.store = openStore(t, l.dsn)
	in, _ := l.start(t, nil)
	r := rand.New(rand.NewPCG(23, 24))
	next := uint64(1)
	publish := func(batches int) {
		t.Helper()
		for range batches {
			l.publish(t, realisticBatch(r, "agent-1", next, 300, time.Now()))
			next += 300
		}
	}
	publish(20)
	l.waitDone(t, stream.EventsStream)
	free := fill(t, dir, 0)
	publish(100)
	eventually(t, 30*time.Second, func() error {
		if ok, _ := in.Health(); ok {
			return fmt.Errorf("ingest takes itself for healthy while the disk is full")
		}
		return nil
	})
	_, trouble := in.Health()
	t.Logf("ingest says: %s", trouble)
	free()
	l.waitDone(t, stream.EventsStream)
	l.checkOnce(t, next-1)
	if dead := l.deadLetters(t); len(dead) > 0 {
		t.Errorf("%d dead letters, want none: a full disk is nobody's fault", len(dead))
	}
}

// TestBacklog gives an ingest process a backlog while ClickHouse is away, and then
// ClickHouse: it waits in little memory, and catches up.
func TestBacklog(t *testing.T) {
	addr := freeAddr(t)
	l := newStreamLab(t)
	l.dsn = "http://default:later@" + addr + "/later"
	l.store = openStore(t, l.dsn)
	r := rand.New(rand.NewPCG(25, 26))
	const batches, events = 2000, 500
	e, err := stream.NewEncoder()
	if err != nil {
		t.Fatal(err)
	}
	for n := range batches {
		data, err := e.Encode(nil, realisticBatch(r, "agent-1", uint64(n*events+1), events, time.Now()))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := l.js.PublishAsync(stream.EventSubject("agent-1"), data); err != nil {
			t.Fatal(err)
		}
	}
	<-l.js.PublishAsyncComplete()
	t.Setenv(childPlainVariable, "1")
	child := l.startChild(t, "")
	t.Cleanup(func() {
		_ = child.Process.Kill()
		_ = child.Wait()
	})
	time.Sleep(2 * time.Second)
	waiting := peakMemory(t, child.Process.Pid)
	begin := time.Now()
	newOwnEngine(t, addr, "later")
	l.waitDone(t, stream.EventsStream)
	took := time.Since(begin)
	l.checkOnce(t, batches*events)
	most := peakMemory(t, child.Process.Pid)
	t.Logf("%d MiB while ClickHouse was away, %d MiB at most; %d events in %s", waiting>>20, most>>20, batches*events, took)
	if waiting > 128<<20 || most > 512<<20 {
		t.Errorf("%d MiB while ClickHouse was away and %d MiB at most, want 128 and 512 at most", waiting>>20, most>>20)
	}
}
