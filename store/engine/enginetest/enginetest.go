// Package enginetest answers: how does a test get a real ClickHouse?
//
// A test binary's TestMain calls [Main]; its tests call [Start] and share one engine,
// a child process of the same binary. Each test that wants tables of its own asks for
// a [Engine.Database].
package enginetest

import (
	"context"
	"fmt"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"

	"github.com/sallyport-ci/sallyport/store/engine"
)

// childVariable tells a test binary that it is the child.
const childVariable = "SALLYPORT_ENGINETEST_CHILD"

// ReadOnlyUser is the name of the reader in a test engine.
const ReadOnlyUser = "reader"

// An Engine is a running ClickHouse of this test binary.
type Engine struct {
	Process *engine.Process
	dir     string
}

var shared struct {
	once   sync.Once
	engine *Engine
	err    error
	dbs    atomic.Int64
}

// Main runs the tests of a binary, or, in the child, the engine; it does not return.
// Call it from TestMain.
func Main(m *testing.M) { os.Exit(Run(m.Run)) }

// Run is Main for a TestMain with something of its own to do around the tests: it
// returns the exit code.
func Run(tests func() int) int {
	if os.Getenv(childVariable) == "1" {
		return engine.RunChild(os.Stdin, os.Stdout, os.Stderr)
	}
	code := tests()
	if e := shared.engine; e != nil {
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		defer cancel()
		if err := e.Process.Stop(ctx); err != nil {
			fmt.Fprintln(os.Stderr, "enginetest:", err)
			code = max(code, 1)
		}
		_ = os.RemoveAll(e.dir)
	}
	return code
}

// Start returns the binary's engine and starts it first if need be. The test is
// skipped when the library is not there and cannot be fetched; with
// SALLYPORT_REQUIRE_ALL=1 it fails instead.
func Start(tb testing.TB) *Engine {
	tb.Helper()
	shared.once.Do(func() { shared.engine, shared.err = start() })
	if shared.err != nil {
		if os.Getenv("SALLYPORT_REQUIRE_ALL") == "1" {
			tb.Fatalf("start the test engine: %v", shared.err)
		}
		tb.Skipf("skipped: no database engine: %v", shared.err)
	}
	return shared.engine
}

// Library returns the path of the library for tests: SALLYPORT_ENGINE, the cache, or
// fetched.
func Library(ctx context.Context) (string, error) {
	return engine.Fetch(ctx, engine.FetchConfig{File: os.Getenv("SALLYPORT_ENGINE"), Progress: os.Stderr})
}

// Command is the child's command line and environment: this test binary again.
func Command() (command, env []string, err error) {
	self, err := os.Executable()
	if err != nil {
		return nil, nil, fmt.Errorf("find the test binary: %w", err)
	}
	return []string{self}, []string{childVariable + "=1"}, nil
}

func start() (*Engine, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	library, err := Library(ctx)
	if err != nil {
		return nil, err
	}
	command, env, err := Command()
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "sallyport-enginetest-")
	if err != nil {
		return nil, err
	}
	p, err := engine.Start(ctx, engine.StartConfig{
		Command: command, Env: env, Library: library, Dir: dir, ReadOnlyUser: ReadOnlyUser, MaxMemory: 4 << 30,
	})
	if err != nil {
		_ = os.RemoveAll(dir)
		return nil, err
	}
	return &Engine{Process: p, dir: dir}, nil
}

// DSN is the DSN of the full user, database default.
func (e *Engine) DSN() string { return e.Process.DSN() }

// ReadOnlyDSN is the DSN of the reader, database default.
func (e *Engine) ReadOnlyDSN() string { return e.Process.ReadOnlyDSN() }

// Options returns clickhouse-go options for the full user and the given database.
func (e *Engine) Options(tb testing.TB, database string) *clickhouse.Options {
	tb.Helper()
	o, err := clickhouse.ParseDSN(e.DSN())
	if err != nil {
		tb.Fatalf("parse the test engine's DSN: %v", err)
	}
	o.Auth.Database = database
	return o
}

// Database makes a fresh database, dropped when the test ends, and returns its name
// and an open connection to it.
func (e *Engine) Database(tb testing.TB) (string, driver.Conn) {
	tb.Helper()
	name := fmt.Sprintf("test_%d", shared.dbs.Add(1))
	ctx := context.Background()
	root, err := clickhouse.Open(e.Options(tb, "default"))
	if err != nil {
		tb.Fatalf("open the test engine: %v", err)
	}
	if err := root.Exec(ctx, "CREATE DATABASE "+name); err != nil {
		tb.Fatalf("create database %s: %v", name, err)
	}
	conn, err := clickhouse.Open(e.Options(tb, name))
	if err != nil {
		tb.Fatalf("open database %s: %v", name, err)
	}
	tb.Cleanup(func() {
		if err := conn.Close(); err != nil {
			tb.Errorf("close database %s: %v", name, err)
		}
		if err := root.Exec(ctx, "DROP DATABASE "+name+" SYNC"); err != nil && !strings.Contains(err.Error(), "UNKNOWN_DATABASE") {
			tb.Errorf("drop database %s: %v", name, err)
		}
		if err := root.Close(); err != nil {
			tb.Errorf("close the test engine: %v", err)
		}
	})
	return name, conn
}

// DatabaseDSN is the DSN of the full user for a database made by Database.
func (e *Engine) DatabaseDSN(database string) string {
	return strings.TrimSuffix(e.DSN(), "/default") + "/" + database
}
