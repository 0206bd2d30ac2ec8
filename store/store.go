package store

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
	"github.com/pressly/goose/v3"
)

// DefaultDatabase is used where a DSN names no database.
const DefaultDatabase = "sallyport"

const (
	dialTimeout = 5 * time.Second
	// readTimeout bounds one statement; an insert of a large range into a busy
	// server takes seconds, not minutes.
	readTimeout = time.Minute
	connections = 8
	// migrateTimeout bounds one statement of a migration: it may read a whole table.
	migrateTimeout = time.Hour
)

// Store is a ClickHouse database with Sallyport's tables. It is safe for
// concurrent use.
type Store struct {
	conn    driver.Conn
	options clickhouse.Options
	cluster cluster

	migrating sync.Mutex
}

// Open returns the store at a DSN such as
// http://user:password@127.0.0.1:8123/sallyport; docs/clickhouse.md lists the forms.
// It does not connect: ClickHouse may be down and come later. Call Migrate before
// anything else. An error means that the DSN cannot be used; it never holds the
// password.
func Open(_ context.Context, dsn string) (*Store, error) {
	options, err := parseDSN(dsn)
	if err != nil {
		return nil, fmt.Errorf("open store: %w", err)
	}
	conn, err := clickhouse.Open(&options)
	if err != nil {
		return nil, fmt.Errorf("open store at %s: %w", strings.Join(options.Addr, ","), err)
	}
	return &Store{conn: conn, options: options, cluster: cluster{clusterOf(dsn), options.Auth.Database}}, nil
}

// Database returns the database's name.
func (s *Store) Database() string { return s.options.Auth.Database }

// Ping returns nil if ClickHouse answers.
func (s *Store) Ping(ctx context.Context) error {
	if err := s.conn.Ping(ctx); err != nil {
		return fmt.Errorf("ping ClickHouse at %s: %w", strings.Join(s.options.Addr, ","), err)
	}
	return nil
}

// Close closes the connections.
func (s *Store) Close() error {
	if err := s.conn.Close(); err != nil {
		return fmt.Errorf("close store: %w", err)
	}
	return nil
}

// Migrate creates the database and brings its tables up to date. It is
// idempotent; it can be called while rows are inserted, and again after it was
// cut off.
func (s *Store) Migrate(ctx context.Context) error {
	return s.migrateTo(ctx, goose.MaxVersion)
}

// migrateTo runs the migrations up to and with the given version.
func (s *Store) migrateTo(ctx context.Context, version int64) error {
	s.migrating.Lock()
	defer s.migrating.Unlock()
	if err := s.createDatabase(ctx); err != nil {
		return err
	}
	options := s.options
	options.ReadTimeout = migrateTimeout
	db := clickhouse.OpenDB(&options)
	defer func() { _ = db.Close() }() // nothing is under way then
	dialect, files, more, err := s.migrations()
	if err != nil {
		return fmt.Errorf("read migrations: %w", err)
	}
	provider, err := goose.NewProvider(dialect, db, files, append(more, goose.WithLogger(goose.NopLogger()))...)
	if err != nil {
		return fmt.Errorf("read migrations: %w", err)
	}
	if _, err := provider.UpTo(ctx, version); err != nil {
		return fmt.Errorf("migrate database %s at %s: %w", s.Database(), strings.Join(s.options.Addr, ","), err)
	}
	return nil
}

// createDatabase uses a connection of its own, since those of the store name the
// database, and ClickHouse refuses them until it is there.
func (s *Store) createDatabase(ctx context.Context) error {
	options := s.options
	options.Auth.Database = "default"
	conn, err := clickhouse.Open(&options)
	if err != nil {
		return fmt.Errorf("connect to create database %s: %w", s.Database(), err)
	}
	defer func() { _ = conn.Close() }() // nothing is under way then
	statement := "CREATE DATABASE IF NOT EXISTS " + identifier(s.Database())
	if s.cluster.name != "" {
		statement += s.cluster.on()
	}
	if err := conn.Exec(ctx, statement); err != nil {
		return fmt.Errorf("create database %s at %s: %w", s.Database(), strings.Join(s.options.Addr, ","), err)
	}
	return nil
}
