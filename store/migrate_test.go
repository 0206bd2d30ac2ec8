package store

import (
	"fmt"
	"io/fs"
	"maps"
	"strings"
	"testing"

	"github.com/pressly/goose/v3"

	"github.com/sallyport-ci/sallyport/store/migrations"
)

const filledRows = 40

// TestMigrateFromEveryVersion begins at each version there was, with rows in all its
// tables, and looks for the same rows afterwards. A new migration is found by itself.
func TestMigrateFromEveryVersion(t *testing.T) {
	names, err := fs.Glob(migrations.Files, "*.sql")
	if err != nil {
		t.Fatal(err)
	}
	if len(names) < 5 {
		t.Fatalf("%d migrations, want at least 5", len(names))
	}
	for _, name := range names {
		t.Run(strings.TrimSuffix(name, ".sql"), func(t *testing.T) {
			version, err := goose.NumericComponent(name)
			if err != nil {
				t.Fatal(err)
			}
			s := open(t)
			if err := s.migrateTo(t.Context(), version); err != nil {
				t.Fatal(err)
			}
			if got := s.number(t, "SELECT max(version_id) FROM goose_db_version"); got != uint64(version) {
				t.Fatalf("version %d, want %d", got, version)
			}
			questions := s.fill(t)
			before := s.answers(t, questions)
			for range 2 {
				if err := s.Migrate(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
			if after := s.answers(t, questions); !maps.Equal(after, before) {
				for question, want := range before {
					if after[question] != want {
						t.Errorf("%s: %d, before the migration %d", question, after[question], want)
					}
				}
			}
		})
	}
}

// fill puts rows of random values into all tables. It returns a
// question for each table, on all values of its columns, and for each view, on its
// number of rows.
func (s *Store) fill(t *testing.T) []string {
	t.Helper()
	rows, err := s.conn.Query(t.Context(), `SELECT table, any(t.engine) = 'View',
			arrayStringConcat(groupArray(name || ' ' || type), ', '),
			arrayStringConcat(groupArray('toString(' || name || ')'), ', ')
		FROM (SELECT * FROM system.columns WHERE database = currentDatabase() AND table != 'goose_db_version'
			AND default_kind = '' ORDER BY table, position) AS c
		JOIN system.tables AS t ON t.database = c.database AND t.name = c.table
		WHERE t.engine IN ('MergeTree', 'View') -- roll-ups are filled by the others
		GROUP BY table ORDER BY table`)
	if err != nil {
		t.Fatal(err)
	}
	var questions, inserts []string
	for rows.Next() {
		var table, structure, values string
		var view bool
		if err := rows.Scan(&table, &view, &structure, &values); err != nil {
			t.Fatal(err)
		}
		if view {
			questions = append(questions, "SELECT count() FROM "+table)
			continue
		}
		questions = append(questions, "SELECT count() FROM "+table, fmt.Sprintf("SELECT sum(cityHash64(%s)) FROM %s", values, table))
		// Random times would make more partitions than one insert may.
		inserts = append(inserts, fmt.Sprintf(`INSERT INTO %s SELECT * REPLACE (toDateTime64('2026-01-15 00:00:00', 9, 'UTC') + toIntervalDay(rand() %% 60) AS time)
			FROM generateRandom('%s', 1, 10, 3) LIMIT %d`, table, strings.ReplaceAll(structure, "'", "\\'"), filledRows))
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	if len(inserts) < 7 {
		t.Fatalf("%d tables, want at least 7", len(inserts))
	}
	for _, insert := range inserts {
		if err := s.conn.Exec(t.Context(), insert); err != nil {
			t.Fatalf("%s: %v", insert, err)
		}
	}
	return questions
}

func (s *Store) answers(t *testing.T, questions []string) map[string]uint64 {
	t.Helper()
	answers := make(map[string]uint64, len(questions))
	for _, question := range questions {
		answers[question] = s.number(t, question)
		if strings.HasPrefix(question, "SELECT sum") && answers[question] == 0 {
			t.Errorf("%s: 0: the table was not filled", question)
		}
	}
	return answers
}

func (s *Store) number(t *testing.T, question string) uint64 {
	t.Helper()
	var n uint64
	if err := s.conn.QueryRow(t.Context(), "SELECT toUInt64(x) FROM ("+strings.Replace(question, " FROM", " AS x FROM", 1)+")").Scan(&n); err != nil {
		t.Fatalf("%s: %v", question, err)
	}
	return n
}

func TestEveryTableIsDescribedAndPartedByTime(t *testing.T) {
	s := open(t)
	if err := s.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	for what, question := range map[string]string{
		"tables without a comment": `SELECT name FROM system.tables
			WHERE database = currentDatabase() AND name NOT IN ('goose_db_version', 'egress_days_feed') AND comment = ''`,
		"columns without a comment": `SELECT table || '.' || name FROM system.columns
			WHERE database = currentDatabase() AND table NOT IN ('goose_db_version', 'egress_days_feed') AND comment = ''`,
		"tables not parted by time": `SELECT name FROM system.tables
			WHERE database = currentDatabase() AND name NOT IN ('goose_db_version', 'egress_days', 'intelligence') AND engine LIKE '%MergeTree' AND partition_key NOT LIKE '%(time)%'`,
		"tables that would insert a token twice": `SELECT name FROM system.tables
			WHERE database = currentDatabase() AND name NOT IN ('goose_db_version', 'intelligence') AND engine LIKE '%MergeTree'
			AND engine_full NOT LIKE '%non_replicated_deduplication_window = 1000%'`,
	} {
		var names []string
		if err := s.conn.QueryRow(t.Context(), "SELECT groupArray(*) FROM ("+question+")").Scan(&names); err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		if len(names) > 0 {
			t.Errorf("%s: %v", what, names)
		}
	}
}
