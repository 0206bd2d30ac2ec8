package store

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/pressly/goose/v3"

	"github.com/sallyport-ci/sallyport/store/migrations"
)

// TestRollUpsHaveWhatCameBefore begins with rows in the tables of the version before the
// roll-ups, and migrates twice: the second time as after a migration that was cut off.
func TestRollUpsHaveWhatCameBefore(t *testing.T) {
	const before = 5
	s := open(t)
	if err := s.createDatabase(t.Context()); err != nil {
		t.Fatal(err)
	}
	options := s.options
	db := clickhouse.OpenDB(&options)
	defer func() { _ = db.Close() }() // nothing is under way then
	provider, err := goose.NewProvider(goose.DialectClickHouse, db, migrations.Files, goose.WithLogger(goose.NopLogger()))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := provider.UpTo(t.Context(), before); err != nil {
		t.Fatal(err)
	}
	fillWithAnything(t, s, "flow_events", columnsOf(t, s)["flow_events"])
	if err := s.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	checkRollUps(t, s)
	if err := s.conn.Exec(t.Context(), fmt.Sprintf("DELETE FROM goose_db_version WHERE version_id > %d", before)); err != nil {
		t.Fatal(err)
	}
	if err := s.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	checkRollUps(t, s)
}

type column struct{ name, kind string }

// columnsOf returns the columns of all base tables.
func columnsOf(t *testing.T, s *Store) map[string][]column {
	t.Helper()
	rows, err := s.conn.Query(t.Context(), `SELECT table, name, type FROM system.columns
		WHERE database = currentDatabase() AND table != 'goose_db_version' AND default_kind NOT IN ('MATERIALIZED', 'ALIAS')
		AND table IN (SELECT name FROM system.tables WHERE database = currentDatabase() AND engine = 'MergeTree')
		ORDER BY table, position`)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = rows.Close() }() // only read
	tables := make(map[string][]column)
	for rows.Next() {
		var table string
		var c column
		if err := rows.Scan(&table, &c.name, &c.kind); err != nil {
			t.Fatal(err)
		}
		tables[table] = append(tables[table], c)
	}
	if len(tables) < 5 {
		t.Fatalf("%d tables", len(tables))
	}
	return tables
}

// fillWithAnything inserts fifty rows of random values, of two months.
func fillWithAnything(t *testing.T, s *Store, table string, columns []column) {
	t.Helper()
	var names, structure []string
	for _, c := range columns {
		names = append(names, c.name)
		structure = append(structure, c.name+" "+c.kind)
	}
	quoted := strings.ReplaceAll(strings.ReplaceAll(strings.Join(structure, ", "), `\`, `\\`), `'`, `\'`)
	statement := fmt.Sprintf("INSERT INTO %s (%s) SELECT * REPLACE (toDateTime64('2026-01-01 00:00:00', 9) + rand() %% 5000000 AS time) FROM generateRandom('%s', 1, 8, 3) LIMIT 50", table, strings.Join(names, ", "), quoted)
	if err := s.conn.Exec(t.Context(), statement); err != nil {
		t.Fatalf("fill %s: %v", table, err)
	}
}

// checkRollUps compares each roll-up with what it is made of.
func checkRollUps(t *testing.T, s *Store) {
	t.Helper()
	rollUp, base := s.egressSums(t, "SELECT sum(connections), sum(bytes_sent), sum(bytes_received), count() FROM egress_by_day"), s.egressSums(t, `
		SELECT countIf(phase = 'started'), sum(bytes_sent), sum(bytes_received),
			uniqExact(toDate(time), repository, workflow, job, if(domain != '', domain, toString(destination_address)), destination_port, protocol, program)
		FROM flow_events WHERE direction = 'outbound' AND phase != 'used'`)
	if rollUp != base || base[3] == 0 {
		t.Errorf("the roll-up of egress says %v, the rows %v", rollUp, base)
	}
}

func (s *Store) egressSums(t *testing.T, query string) (sums [4]uint64) {
	t.Helper()
	if err := s.conn.QueryRow(context.Background(), query).Scan(&sums[0], &sums[1], &sums[2], &sums[3]); err != nil {
		t.Fatal(err)
	}
	return sums
}

// TestRollUpsCountOnce inserts the same rows again under the same token, and others.
func TestRollUpsCountOnce(t *testing.T) {
	s := open(t)
	if err := s.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	columns := columnsOf(t, s)["flow_events"]
	fillWithAnything(t, s, "flow_events", columns)
	checkRollUps(t, s)
	var names []string
	for _, c := range columns {
		names = append(names, c.name)
	}
	list := strings.Join(names, ", ")
	if err := s.conn.Exec(t.Context(), "CREATE TABLE copy ENGINE = Memory AS SELECT "+list+" FROM flow_events"); err != nil {
		t.Fatal(err)
	}
	for _, token := range []string{"one", "one", "two", "one"} {
		err := s.conn.Exec(t.Context(), "INSERT INTO flow_events ("+list+") SELECT "+list+" FROM copy ORDER BY ALL SETTINGS max_threads = 1, deduplicate_blocks_in_dependent_materialized_views = 1, insert_deduplication_token = '"+token+"'") //nolint:misspell // ClickHouse's own name
		if err != nil {
			t.Fatal(err)
		}
		checkRollUps(t, s)
	}
	var n uint64
	if err := s.conn.QueryRow(t.Context(), "SELECT count() FROM flow_events").Scan(&n); err != nil {
		t.Fatal(err)
	}
	if n != 150 {
		t.Errorf("%d rows, want fifty, and fifty for each of two tokens", n)
	}
}
