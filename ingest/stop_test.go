package ingest

import (
	"context"
	"testing"
	"time"
)

// Stopped while ClickHouse does not answer, ingest gives up after DrainTimeout,
// and the next start finishes the range.
func TestStoppedWithARangeInHand(t *testing.T) {
	l := newLab(t)
	db, err := openSQL(l.dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	// A table of the same name and other columns fails every insert, and is not
	// about the rows.
	for _, q := range []string{"RENAME TABLE dns TO dns_away", "CREATE TABLE dns (x UInt8) ENGINE = MergeTree ORDER BY x"} {
		if _, err := db.Exec(q); err != nil {
			t.Fatal(err)
		}
	}
	l.publish(t, fullBatch(time.Now()))
	in, stop := l.start(t, func(c *Config) { c.DrainTimeout = 300 * time.Millisecond })
	eventually(t, 10*time.Second, func() error {
		if ok, _ := in.Health(); ok {
			return context.DeadlineExceeded
		}
		return nil
	})
	begin := time.Now()
	stop()
	if took := time.Since(begin); took > 5*time.Second {
		t.Errorf("stopping took %s", took)
	}
	for _, q := range []string{"DROP TABLE dns SYNC", "RENAME TABLE dns_away TO dns"} {
		if _, err := db.Exec(q); err != nil {
			t.Fatal(err)
		}
	}
	// The next start does not wait for the consumer's AckWait to have the rows.
	l.start(t, nil)
	eventually(t, 10*time.Second, func() error {
		n, err := queryNumber(l.dsn, "SELECT count() FROM agent_status") // the last table of a range
		if err == nil && n != 1 {
			err = context.DeadlineExceeded
		}
		return err
	})
	for table, want := range map[string]uint64{"process_events": 3, "flow_events": 5, "dns": 1, "job_events": 2} {
		if n := l.count(t, "SELECT count() FROM "+table); n != want {
			t.Errorf("%d rows in %s, want %d", n, table, want)
		}
	}
}
