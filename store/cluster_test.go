package store

import (
	"errors"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/sallyport-ci/sallyport/store/engine/enginetest"
)

// TestClusterSchemaIsParsed: the engine's own parser takes every statement for a cluster,
// and each says where it runs.
func TestClusterSchemaIsParsed(t *testing.T) {
	_, conn := enginetest.Start(t).Database(t)
	for _, name := range []string{"main", "two-words.x"} {
		statements, err := Schema("ci", name)
		if err != nil {
			t.Fatal(err)
		}
		if len(statements) < 40 {
			t.Errorf("%d statements", len(statements))
		}
		for _, s := range statements {
			var formatted string
			if err := conn.QueryRow(t.Context(), "SELECT formatQuery(?)", s).Scan(&formatted); err != nil {
				t.Errorf("%s\n%v", s, err)
				continue
			}
			if !strings.HasPrefix(s, "INSERT") && !strings.Contains(formatted, "ON CLUSTER "+map[string]string{"main": "main", "two-words.x": "`two-words.x`"}[name]) {
				t.Errorf("%s\nruns on one server", formatted)
			}
			if regexp.MustCompile(`ENGINE = \w*MergeTree`).MatchString(s) && !strings.Contains(s, "ENGINE = Replicated") {
				t.Errorf("%s\nis not replicated", s)
			}
			if strings.HasPrefix(s, "CREATE MATERIALIZED VIEW") && (!strings.Contains(s, "TO egress_days_local\n") || !strings.Contains(s, "FROM flow_events_local AS e")) { //nolint:misspell // SQL
				t.Errorf("%s\nfeeds other tables than the server's own", s)
			}
		}
	}
}

// TestClusterTables: each table has one of the rows and one over all of them; its rows are
// spread by what stays the same when they are inserted again; its tokens are kept.
func TestClusterTables(t *testing.T) {
	statements, err := Schema("ci", "main")
	if err != nil {
		t.Fatal(err)
	}
	all := strings.Join(statements, ";\n")
	keys := map[string]string{"agent_status": "agent_id", "intelligence": "kind", "egress_days": "repository, workflow, job"}
	tables := regexp.MustCompile(`(?m)^CREATE TABLE IF NOT EXISTS (\w+)_local ON CLUSTER`).FindAllStringSubmatch(all, -1)
	if len(tables) < 12 {
		t.Fatalf("tables %v", tables)
	}
	for _, m := range tables {
		table, key := m[1], keys[m[1]]
		if key == "" {
			key = "repository, run_id"
		}
		if n := strings.Count(all, "CREATE TABLE IF NOT EXISTS "+table+" ON CLUSTER `main` AS "+table+"_local\nENGINE = Distributed('main', 'ci', '"+table+"_local', cityHash64("+key+"))"); n != 1 {
			t.Errorf("%s has %d tables over all servers", table, n)
		}
	}
	if n := strings.Count(all, "replicated_deduplication_window_seconds = 2592000"); n < 10 || strings.Contains(all, "non_replicated") {
		t.Errorf("%d tables keep their tokens for thirty days", n)
	}
}

// TestClusterStatementsRun: what of the statements for a cluster an engine without one can
// run, it runs: the tables of the rows, their changes, what feeds them, and the views.
func TestClusterStatementsRun(t *testing.T) {
	name, conn := enginetest.Start(t).Database(t)
	statements, err := Schema(name, "main")
	if err != nil {
		t.Fatal(err)
	}
	replicated := regexp.MustCompile(`ENGINE = Replicated(\w+)\('[^']*', '[^']*'(?:, )?`)
	for _, s := range statements {
		s = strings.ReplaceAll(s, " ON CLUSTER `main`", "")
		s = strings.ReplaceAll(s, "replicated_deduplication_window = 1000, replicated_deduplication_window_seconds = 2592000", "non_replicated_deduplication_window = 1000")
		s = replicated.ReplaceAllString(s, "ENGINE = $1(")
		if table, local, ok := strings.Cut(strings.TrimPrefix(s, "CREATE TABLE IF NOT EXISTS "), " AS "); ok && strings.Contains(s, "ENGINE = Distributed") {
			local, _, _ = strings.Cut(local, "\n")
			s = "CREATE TABLE " + table + " AS " + local + " ENGINE = Merge('" + name + "', '^" + local + "$')"
		}
		if strings.HasPrefix(s, "ALTER TABLE") && !strings.Contains(s, "_local") {
			table := strings.Fields(s)[2] // it is one of Merge here, which is made again with the new columns
			if err := conn.Exec(t.Context(), "DROP TABLE "+table); err != nil {
				t.Fatal(err)
			}
			s = "CREATE TABLE " + table + " AS " + table + "_local ENGINE = Merge('" + name + "', '^" + table + "_local$')"
		}
		if strings.HasPrefix(s, "INSERT INTO egress_days") {
			s = strings.Replace(s, "INSERT INTO egress_days", "INSERT INTO egress_days_local", 1)
		}
		if err := conn.Exec(t.Context(), s); err != nil {
			t.Fatalf("%s\n%v", s, err)
		}
	}
	// Columns and comments are those of one server.
	single := open(t)
	if err := single.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	columns := func(database, suffix string) (out []string) {
		err := conn.QueryRow(t.Context(), `SELECT groupArray(line) FROM (SELECT concat(replaceRegexpOne(table, '_local$', ''), '.', name, ' ', type, ' ', comment) AS line FROM system.columns
			WHERE database = ? AND table IN (SELECT concat(name, ?) FROM system.tables WHERE database = ? AND engine LIKE '%MergeTree' AND name != 'goose_db_version') ORDER BY table, position)`,
			database, suffix, single.Database()).Scan(&out)
		if err != nil {
			t.Fatal(err)
		}
		slices.Sort(out)
		return out
	}
	if want, got := columns(single.Database(), ""), columns(name, "_local"); !slices.Equal(want, got) || len(want) < 100 {
		t.Errorf("columns of a cluster\n%s\nof one server\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// TestClusterRefuses: a migration with a statement that has no rule is an error, not a
// statement that runs on one server.
func TestClusterRefuses(t *testing.T) {
	c := cluster{"main", "ci"}
	for _, s := range []string{
		"DROP TABLE findings", "CREATE TABLE x (a Int8) ENGINE = Memory", "CREATE TABLE IF NOT EXISTS x (a Int8) ENGINE = Memory",
		"CREATE TABLE IF NOT EXISTS x (a Int8) ENGINE = MergeTree ORDER BY tuple()", "ALTER TABLE x DETACH PARTITION 1", "CREATE VIEW v AS SELECT 1",
		"CREATE MATERIALIZED VIEW IF NOT EXISTS v ENGINE = MergeTree ORDER BY a AS SELECT 1 AS a", "OPTIMIZE TABLE x", "", //nolint:misspell // SQL
	} {
		if out, err := c.render(s); !errors.Is(err, errStatement) && (err == nil || !strings.Contains(err.Error(), "could be spread")) {
			t.Errorf("%s becomes %q, %v", s, out, err)
		}
	}
	if _, err := migrationStatements("00001_tables.sql"); err != nil {
		t.Error(err)
	}
}

// TestClusterDSN: the DSN alone chooses a cluster.
func TestClusterDSN(t *testing.T) {
	s, err := Open(t.Context(), "http://u:p@127.0.0.1:8123/ci?cluster=main")
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if s.cluster.name != "main" || s.cluster.database != "ci" || s.options.Settings["distributed_foreground_insert"] != 1 {
		t.Errorf("cluster %+v, settings %v", s.cluster, s.options.Settings)
	}
	for _, dsn := range []string{"http://h/ci?cluster=", "http://h/ci?cluster=a%60b", "http://h/ci?cluster=a%27b"} {
		if _, err := Open(t.Context(), dsn); err == nil || !strings.Contains(err.Error(), "cluster") {
			t.Errorf("%s: %v", dsn, err)
		}
	}
}
