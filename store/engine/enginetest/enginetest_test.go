package enginetest

import (
	"context"
	"testing"
	"time"
)

func TestMain(m *testing.M) { Main(m) }

func TestInsertAndQuery(t *testing.T) {
	ctx := context.Background()
	_, conn := Start(t).Database(t)
	if err := conn.Exec(ctx, "CREATE TABLE t (at DateTime64(9), name LowCardinality(String), n UInt32) ENGINE = MergeTree ORDER BY at"); err != nil {
		t.Fatal(err)
	}
	batch, err := conn.PrepareBatch(ctx, "INSERT INTO t")
	if err != nil {
		t.Fatal(err)
	}
	at := time.Unix(1700000000, 123456789).UTC()
	for n := range uint32(1000) {
		if err := batch.Append(at, "name", n); err != nil {
			t.Fatal(err)
		}
	}
	if err := batch.Send(); err != nil {
		t.Fatal(err)
	}
	var got time.Time
	var sum uint64
	if err := conn.QueryRow(ctx, "SELECT any(at), sum(n) FROM t WHERE name = ?", "name").Scan(&got, &sum); err != nil {
		t.Fatal(err)
	}
	if !got.Equal(at) || sum != 499500 {
		t.Fatalf("got %v and %d", got, sum)
	}
}
