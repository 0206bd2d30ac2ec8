package engine_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"

	"github.com/sallyport-ci/sallyport/store/engine"
	"github.com/sallyport-ci/sallyport/store/engine/enginetest"
)

// TestKilledEngineKeepsItsTokens kills the child, waits until it is back at the same
// address, and inserts the same batch again: neither the table nor a view that
// depends on it takes it twice.
func TestKilledEngineKeepsItsTokens(t *testing.T) {
	p := startOwn(t, t.TempDir())
	ctx := context.Background()
	conn := open(t, p.DSN())
	for _, sql := range []string{
		"CREATE TABLE t (a UInt64) ENGINE = MergeTree ORDER BY a SETTINGS non_replicated_deduplication_window = 1000",
		"CREATE TABLE sums (k UInt8, s SimpleAggregateFunction(sum, UInt64)) ENGINE = AggregatingMergeTree ORDER BY k SETTINGS non_replicated_deduplication_window = 1000",
		"CREATE MATERIALIZED VIEW mv TO sums AS SELECT toUInt8(a % 3) AS k, sum(a) AS s FROM t GROUP BY k", //nolint:misspell // SQL
	} {
		if err := conn.Exec(ctx, sql); err != nil {
			t.Fatal(err)
		}
	}
	insert := func(token string) error {
		tokened := clickhouse.Context(ctx, clickhouse.WithSettings(clickhouse.Settings{
			"insert_deduplication_token": token, "deduplicate_blocks_in_dependent_materialized_views": 1, //nolint:misspell // SQL
		}))
		batch, err := conn.PrepareBatch(tokened, "INSERT INTO t")
		if err != nil {
			return err
		}
		for n := range uint64(1000) {
			if err := batch.Append(n); err != nil {
				return err
			}
		}
		return batch.Send()
	}
	state := func() (s string) {
		t.Helper()
		var rows, sum, viewed uint64
		if err := conn.QueryRow(ctx, "SELECT count(), sum(a), (SELECT sum(s) FROM sums) FROM t").Scan(&rows, &sum, &viewed); err != nil {
			t.Fatal(err)
		}
		return fmt.Sprint(rows, sum, viewed)
	}
	for range 2 {
		if err := insert("1..1000"); err != nil {
			t.Fatal(err)
		}
	}
	const want = "1000 499500 499500"
	if got := state(); got != want {
		t.Fatalf("%s, not %s", got, want)
	}

	addr, pid := p.Addr(), p.PID()
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(30 * time.Second); p.Restarts() == 0; time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the child was not started again")
		}
	}
	if p.Addr() != addr || p.PID() == pid || !p.Up() {
		t.Fatalf("%s %d %v", p.Addr(), p.PID(), p.Up())
	}
	if err := insert("1..1000"); err != nil {
		t.Fatal(err)
	}
	if got := state(); got != want {
		t.Fatalf("after kill -9: %s, not %s", got, want)
	}
	if err := insert("1001..2000"); err != nil {
		t.Fatal(err)
	}
	if got := state(); got != "2000 999000 999000" {
		t.Fatalf("another token: %s", got)
	}
}

func TestStopInOrderAndStartAgain(t *testing.T) {
	dir := t.TempDir()
	p := startOwn(t, dir)
	mustQuery(t, p.DSN(), "CREATE TABLE t (a UInt64) ENGINE = MergeTree ORDER BY a")
	mustQuery(t, p.DSN(), "INSERT INTO t VALUES (1), (2)")
	slow := make(chan string, 1)
	go func() {
		slow <- string(query(t, p.DSN(), "SELECT sum(sleepEachRow(0.1)) FROM numbers(10) SETTINGS max_block_size = 1").body)
	}()
	for mustQuery(t, p.DSN(), "SELECT count() FROM system.processes WHERE query LIKE '%sleepEachRow%'") == "1" {
		time.Sleep(10 * time.Millisecond)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	if err := p.Stop(ctx); err != nil {
		t.Fatal(err)
	}
	if got := strings.TrimSpace(<-slow); got != "0" {
		t.Errorf("the running statement was not finished: %s", got)
	}
	again := startOwn(t, dir)
	if got := mustQuery(t, again.DSN(), "SELECT count() FROM t"); got != "2" {
		t.Errorf("%s rows after a restart", got)
	}
}

func TestFolderInUse(t *testing.T) {
	dir := t.TempDir()
	startOwn(t, dir)
	library, err := enginetest.Library(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	command, env, err := enginetest.Command()
	if err != nil {
		t.Fatal(err)
	}
	_, err = engine.Start(t.Context(), engine.StartConfig{Command: command, Env: env, Library: library, Dir: dir})
	if !errors.Is(err, engine.ErrDataInUse) || !strings.Contains(err.Error(), dir) {
		t.Fatalf("%v", err)
	}
}

func TestStartSaysWhatIsWrong(t *testing.T) {
	command, env, err := enginetest.Command()
	if err != nil {
		t.Fatal(err)
	}
	notALibrary := filepath.Join(t.TempDir(), "libchdb.so")
	if err := os.WriteFile(notALibrary, []byte("not a library"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, library := range []string{notALibrary, "/nowhere/libchdb.so"} {
		_, err := engine.Start(t.Context(), engine.StartConfig{Command: command, Env: env, Library: library, Dir: t.TempDir()})
		if err == nil || !strings.Contains(err.Error(), library) {
			t.Errorf("%v", err)
		}
	}
	if _, err := engine.Start(t.Context(), engine.StartConfig{Command: []string{"/nowhere/program"}}); err == nil {
		t.Error("a program that is not there was started")
	}
}
