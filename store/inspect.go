package store

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/sallyport-ci/sallyport/store/migrations"
)

// Facts are what `sallyport doctor` looks at in a database.
type Facts struct {
	// Version of ClickHouse.
	Version string
	// Clock of the server, when it answered.
	Clock time.Time
	// Schema is the number of the last migration that was applied, 0 if there are no
	// tables; SchemaWanted that of the last one that this program has.
	Schema, SchemaWanted int64
	// Agents by the version that each last said it has, of the last 24 hours.
	Agents map[string]uint64
}

// Inspect looks at the database without changing it. With an error the facts are those
// that came before it.
func (s *Store) Inspect(ctx context.Context) (f Facts, err error) {
	if f.SchemaWanted, err = wantedSchema(); err != nil {
		return f, err
	}
	where := strings.Join(s.options.Addr, ",")
	if err := s.conn.QueryRow(ctx, "SELECT version(), now64(9, 'UTC')").Scan(&f.Version, &f.Clock); err != nil {
		return f, fmt.Errorf("ask ClickHouse at %s for its version: %w", where, err)
	}
	var tables uint64
	err = s.conn.QueryRow(ctx, "SELECT count() FROM system.tables WHERE database = currentDatabase() AND name = 'goose_db_version'").Scan(&tables)
	if err != nil || tables == 0 {
		if err != nil {
			err = fmt.Errorf("ask ClickHouse at %s for its tables: %w", where, err)
		}
		return f, err
	}
	if err := s.conn.QueryRow(ctx, "SELECT max(version_id) FROM goose_db_version WHERE is_applied = 1").Scan(&f.Schema); err != nil {
		return f, fmt.Errorf("ask ClickHouse at %s for the version of its tables: %w", where, err)
	}
	rows, err := s.conn.Query(ctx, `SELECT version, count() FROM
(SELECT agent_id, argMax(version, time) AS version FROM agent_status WHERE time > now() - INTERVAL 1 DAY GROUP BY agent_id)
GROUP BY version`)
	if err != nil {
		return f, fmt.Errorf("ask ClickHouse at %s for agents: %w", where, err)
	}
	f.Agents = make(map[string]uint64)
	for rows.Next() {
		var version string
		var n uint64
		if err := rows.Scan(&version, &n); err != nil {
			return f, fmt.Errorf("ask ClickHouse at %s for agents: %w", where, err)
		}
		f.Agents[version] = n
	}
	if err := rows.Err(); err != nil {
		return f, fmt.Errorf("ask ClickHouse at %s for agents: %w", where, err)
	}
	return f, rows.Close()
}

// wantedSchema is the number of the last migration.
func wantedSchema() (last int64, err error) {
	files, err := migrations.Files.ReadDir(".")
	if err != nil {
		return 0, fmt.Errorf("read migrations: %w", err)
	}
	for _, f := range files {
		number, _, _ := strings.Cut(f.Name(), "_")
		n, err := strconv.ParseInt(number, 10, 64)
		if err != nil {
			return 0, fmt.Errorf("read migrations: %q has no number: %w", f.Name(), err)
		}
		last = max(last, n)
	}
	return last, nil
}
