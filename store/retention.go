package store

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Shortest and longest retention, in days. An event may lie on the stream for 30 days,
// its time may be 35 days before its arrival there, and ingest looks for rows again when
// an insert is repeated (Lost): rows that were deleted by then would look lost.
// ClickHouse reckons a TTL in a DateTime, which ends in 2106: a TTL behind that wraps
// around and deletes everything at once.
const (
	minRetention = 70
	maxRetention = 7300
)

// Retention says after how many days the rows of a table are deleted, by the table's
// name. "events" stands for all tables of events that have no entry of their own: not
// for findings, and not for the roll-up egress_days.
// A table without an entry keeps its rows for ever.
type Retention map[string]int

// ParseRetention reads a list such as "events=90d,findings=400d". A retention is 70 to
// 7300 days. Whether the tables exist is for SetRetention to say.
func ParseRetention(list string) (Retention, error) {
	r := Retention{}
	if strings.TrimSpace(list) == "" {
		return r, nil
	}
	for entry := range strings.SplitSeq(list, ",") {
		table, duration, ok := strings.Cut(strings.TrimSpace(entry), "=")
		if !ok || table == "" {
			return nil, fmt.Errorf("retention %q is not of the form table=90d", entry)
		}
		number, ok := strings.CutSuffix(duration, "d")
		days, err := strconv.Atoi(number)
		if !ok || err != nil || days < minRetention || days > maxRetention {
			return nil, fmt.Errorf("retention %q: it must be %dd to %dd", entry, minRetention, maxRetention)
		}
		if _, twice := r[table]; twice {
			return nil, fmt.Errorf("retention: %s is there twice", table)
		}
		r[table] = days
	}
	return r, nil
}

// of returns the days that a table keeps its rows, 0 for ever.
func (r Retention) of(table string) int {
	if days, ok := r[table]; ok {
		return days
	}
	if table == "findings" || table == "egress_days" {
		return 0
	}
	return r["events"]
}

// SetRetention makes the tables' TTL what r says; Migrate comes first. A table that has
// it already is left alone, since a new TTL rewrites the table. ClickHouse deletes in
// its own time. An unknown table is an error, and then nothing is changed.
func (s *Store) SetRetention(ctx context.Context, r Retention) error {
	var tables, definitions []string
	err := s.conn.QueryRow(ctx, `SELECT groupArray(name), groupArray(engine_full) FROM system.tables
		WHERE database = currentDatabase() AND name NOT IN ('goose_db_version', 'intelligence', 'intelligence_local') AND engine LIKE '%MergeTree'`).Scan(&tables, &definitions)
	if err != nil {
		return fmt.Errorf("read the tables' retention: %w", err)
	}
	for i := range tables {
		tables[i] = strings.TrimSuffix(tables[i], localSuffix)
	}
	for table := range r {
		if table != "events" && !slices.Contains(tables, table) {
			return fmt.Errorf("set retention: there is no table %q", table)
		}
	}
	for i, table := range tables {
		change := "REMOVE TTL"
		if days := r.of(table); days > 0 {
			ttl := fmt.Sprintf("TTL toDateTime(time) + toIntervalDay(%d)", days)
			if table == "egress_days" {
				ttl = fmt.Sprintf("TTL day + toIntervalDay(%d)", days)
			}
			if strings.Contains(definitions[i], ttl+" ") {
				continue
			}
			change = "MODIFY " + ttl
		} else if !strings.Contains(definitions[i], " TTL ") {
			continue
		}
		statements := []string{"ALTER TABLE " + table + " " + change}
		if s.cluster.name != "" {
			if statements, err = s.cluster.render(statements[0]); err != nil {
				return fmt.Errorf("set retention of table %s: %w", table, err)
			}
		}
		for _, statement := range statements {
			if err := s.conn.Exec(ctx, statement); err != nil {
				return fmt.Errorf("set retention of table %s: %w", table, err)
			}
		}
	}
	return nil
}
