package store

import (
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sallyport-ci/sallyport/store/engine/enginetest"
)

func open(t *testing.T) *Store {
	t.Helper()
	e := enginetest.Start(t)
	name, _ := e.Database(t)
	s, err := Open(t.Context(), e.DatabaseDSN(name+"_made"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.conn.Exec(t.Context(), "DROP DATABASE IF EXISTS "+s.Database()); err != nil && t.Context().Err() == nil {
			t.Error(err)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func TestMigrateFromNothingAndAgain(t *testing.T) {
	s := open(t)
	for range 3 {
		if err := s.Migrate(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	// Cut off between the statements: the version is not written, the tables are.
	if err := s.conn.Exec(t.Context(), "TRUNCATE TABLE goose_db_version"); err != nil {
		t.Fatal(err)
	}
	if err := s.conn.Exec(t.Context(), "DROP TABLE findings"); err != nil {
		t.Fatal(err)
	}
	if err := s.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	var n, undocumented uint64
	if err := s.conn.QueryRow(t.Context(), "SELECT count() FROM system.tables WHERE database = currentDatabase()").Scan(&n); err != nil {
		t.Fatal(err)
	}
	if n != 25 { // 13 tables, 10 views, the feed of a roll-up, goose's own
		t.Errorf("%d tables, want 25", n)
	}
	err := s.conn.QueryRow(t.Context(), `SELECT count() FROM system.columns
		WHERE database = currentDatabase() AND comment = '' AND table NOT IN ('goose_db_version', 'egress_days_feed')`).Scan(&undocumented)
	if err != nil {
		t.Fatal(err)
	}
	if undocumented > 0 {
		t.Errorf("%d columns without a comment", undocumented)
	}
	err = s.conn.QueryRow(t.Context(), `SELECT count() FROM system.tables
		WHERE database = currentDatabase() AND comment = '' AND name != 'goose_db_version'`).Scan(&undocumented)
	if err != nil {
		t.Fatal(err)
	}
	if undocumented > 0 {
		t.Errorf("%d tables without a comment", undocumented)
	}
}

func TestMigrateAtTheSameTime(t *testing.T) {
	s := open(t)
	var all sync.WaitGroup
	for range 3 {
		all.Go(func() {
			if err := s.Migrate(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
}

func TestInsertOnceForEachToken(t *testing.T) {
	s := open(t)
	rows := &AgentStatus{
		Identity: Identity{
			AgentID: []string{"a", "a"}, Epoch: []uint64{1, 1}, Sequence: []uint64{1, 2},
			Time: []time.Time{time.Now(), time.Now()}, Hostname: []string{"h", "h"},
		},
		Version: []string{"v", "v"}, Kernel: []string{"k", "k"}, EventsSeen: []uint64{1, 2},
		EventsLost: []map[string]uint64{nil, {"exec": 1}}, BatchesWaiting: []uint64{0, 0}, Stopping: []bool{false, true},
		PreviousEnd: []int8{0, 0}, PreviousSeen: []time.Time{{}, {}}, FoundProcesses: []uint32{0, 0}, FoundConnections: []uint32{0, 0},
		Damage: [][]string{nil, nil}, LongestPauseNano: []uint64{0, 0},
	}
	short := *rows
	short.Kernel = nil
	if err := s.Insert(t.Context(), "t", &short); err == nil || !strings.Contains(err.Error(), "column kernel has 0 values") {
		t.Fatalf("insert of a short column: %v", err)
	}
	if err := s.Insert(t.Context(), "t", rows); err == nil || !strings.Contains(err.Error(), ErrNoTable.Error()) {
		// The database itself is not there yet.
		t.Fatalf("insert into no table: %v", err)
	}
	if err := s.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, token := range []string{"one", "one", "two"} {
		if err := s.Insert(t.Context(), token, rows); err != nil {
			t.Fatal(err)
		}
	}
	var n uint64
	if err := s.conn.QueryRow(t.Context(), "SELECT count() FROM agent_status").Scan(&n); err != nil {
		t.Fatal(err)
	}
	if n != 4 {
		t.Errorf("%d rows after two tokens of two rows, want 4", n)
	}
}

func TestLost(t *testing.T) {
	s := open(t)
	if err := s.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	rows := &AgentStatus{
		Identity: Identity{
			AgentID: []string{"a"}, Epoch: []uint64{1}, Sequence: []uint64{1}, Time: []time.Time{time.Now()}, Hostname: []string{"h"},
		},
		Version: []string{"v"}, Kernel: []string{"k"}, EventsSeen: []uint64{1},
		EventsLost: []map[string]uint64{nil}, BatchesWaiting: []uint64{0}, Stopping: []bool{false},
		PreviousEnd: []int8{0}, PreviousSeen: []time.Time{{}}, FoundProcesses: []uint32{0}, FoundConnections: []uint32{0},
		Damage: [][]string{nil}, LongestPauseNano: []uint64{0},
	}
	for _, want := range []bool{true, false} {
		lost, err := s.Lost(t.Context(), rows)
		if err != nil {
			t.Fatal(err)
		}
		if lost != want {
			t.Errorf("lost is %t, want %t", lost, want)
		}
		if err := s.Insert(t.Context(), "one", rows); err != nil {
			t.Fatal(err)
		}
	}
	// What a kill between token and rows leaves: the token is known, the rows are not.
	if err := s.conn.Exec(t.Context(), "ALTER TABLE agent_status DELETE WHERE 1 SETTINGS mutations_sync = 1"); err != nil {
		t.Fatal(err)
	}
	if err := s.Insert(t.Context(), "one", rows); err != nil {
		t.Fatal(err)
	}
	if lost, err := s.Lost(t.Context(), rows); err != nil || !lost {
		t.Errorf("lost is %t, %v, want true", lost, err)
	}
}
