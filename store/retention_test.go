package store

import (
	"strings"
	"testing"
)

func TestParseRetention(t *testing.T) {
	r, err := ParseRetention("events=90d, dns=70d")
	if err != nil {
		t.Fatal(err)
	}
	for table, want := range map[string]int{"flow_events": 90, "dns": 70, "findings": 0} {
		if got := r.of(table); got != want {
			t.Errorf("%s: %d days, want %d", table, got, want)
		}
	}
	for _, list := range []string{"events", "=90d", "events=90", "events=69d", "events=7301d", "events=-90d", "events=d", "a=90d,a=90d", "a=90d,", "events=99999999999999999999d"} {
		if _, err := ParseRetention(list); err == nil {
			t.Errorf("%q is taken", list)
		}
	}
}

func TestSetRetention(t *testing.T) {
	s := open(t)
	if err := s.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.fill(t)
	for _, table := range []string{"dns", "findings"} {
		if err := s.conn.Exec(t.Context(), "INSERT INTO "+table+" (time) VALUES (now() - toIntervalDay(80)), (now())"); err != nil {
			t.Fatal(err)
		}
	}
	with := func() uint64 {
		return s.number(t, "SELECT count() FROM system.tables WHERE database = currentDatabase() AND engine_full LIKE '% TTL % + toIntervalDay(%'")
	}
	for _, c := range []struct {
		retention        Retention
		tables, mutating uint64
	}{
		{Retention{"dns": 70}, 1, 1},
		{Retention{"dns": 70}, 1, 0}, // again: nothing to do
		{Retention{"events": 7300, "dns": 70}, 10, 9},
		{Retention{"events": 7300, "dns": 70, "findings": 7300}, 11, 1},
		{Retention{"events": 7300, "dns": 70, "findings": 7300, "egress_days": 3650}, 12, 1},
		{nil, 0, 0},
	} {
		before := s.number(t, "SELECT count() FROM system.mutations WHERE database = currentDatabase()")
		if err := s.SetRetention(t.Context(), c.retention); err != nil {
			t.Fatal(err)
		}
		if got := with(); got != c.tables {
			t.Errorf("%v: %d tables have a TTL, want %d", c.retention, got, c.tables)
		}
		after := s.number(t, "SELECT count() FROM system.mutations WHERE database = currentDatabase()")
		if c.retention != nil && after-before != c.mutating {
			t.Errorf("%v: %d tables were rewritten, want %d", c.retention, after-before, c.mutating)
		}
	}
	if err := s.SetRetention(t.Context(), Retention{"events": 90, "dsn": 90}); err == nil || !strings.Contains(err.Error(), `"dsn"`) {
		t.Errorf("an unknown table: %v", err)
	}
	if got := with(); got != 0 {
		t.Errorf("%d tables were changed in spite of the error", got)
	}
	// What is too old goes, what is not stays.
	if err := s.SetRetention(t.Context(), Retention{"dns": 70}); err != nil {
		t.Fatal(err)
	}
	if err := s.conn.Exec(t.Context(), "OPTIMIZE TABLE dns FINAL"); err != nil { //nolint:misspell // SQL
		t.Fatal(err)
	}
	if got := s.number(t, "SELECT count() FROM dns WHERE time < now() - toIntervalDay(70)"); got != 0 {
		t.Errorf("%d old rows are still there", got)
	}
	if got := s.number(t, "SELECT count() FROM dns WHERE time > now() - toIntervalDay(1)"); got == 0 {
		t.Error("a new row is gone")
	}
	if got := s.number(t, "SELECT count() FROM findings WHERE time < now() - toIntervalDay(70)"); got == 0 {
		t.Error("an old finding is gone, which has no retention")
	}
}
