package engine_test

import (
	"context"
	"database/sql"
	"fmt"
	"net/netip"
	"reflect"
	"sync"
	"testing"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/google/uuid"

	"github.com/sallyport-ci/sallyport/store/engine/enginetest"
)

const allTypes = `CREATE TABLE all (
	i8 Int8, i16 Int16, i32 Int32, i64 Int64, u8 UInt8, u16 UInt16, u32 UInt32, u64 UInt64,
	f32 Float32, f64 Float64, b Bool, s String, fixed FixedString(4), lc LowCardinality(String),
	lcn LowCardinality(Nullable(String)), n Nullable(UInt32), e Enum8('a' = 1, 'b' = 2), id UUID,
	v4 IPv4, v6 IPv6, d Date, dt DateTime, dt64 DateTime64(9), tz DateTime64(3, 'UTC'),
	arr Array(String), arrlc Array(LowCardinality(String)), nested Array(Array(UInt32)),
	m Map(String, UInt64), mlc Map(LowCardinality(String), Array(String)), tup Tuple(String, UInt8)
) ENGINE = MergeTree ORDER BY u32`

func allValues(n int) []any {
	at := time.Date(2026, 11, 23, 9, 0, n%60, 123456789, time.UTC)
	text := fmt.Sprintf("row %d \x00\xff'\"\\\n\té", n)
	var null *uint32
	var nullText *string
	if n%2 == 0 {
		v := uint32(n)
		null, nullText = &v, &text
	}
	return []any{
		int8(-n), int16(-n), int32(-n), int64(-n) << 40, uint8(n), uint16(n), uint32(n), uint64(n) << 50,
		float32(n) / 2, float64(n) / 3, n%2 == 0, text, "abcd", fmt.Sprint("lc", n%7),
		nullText, null, []string{"a", "b"}[n%2], uuid.UUID{15: byte(n)},
		netip.AddrFrom4([4]byte{127, 0, 0, byte(n)}), netip.AddrFrom16([16]byte{0xfd, 15: byte(n)}),
		time.Date(2026, 11, 23, 0, 0, 0, 0, time.UTC), at.Truncate(time.Second), at, at.Truncate(time.Millisecond),
		[]string{text, ""}, []string{"x", "y", "x"}, [][]uint32{{uint32(n)}, {}, {1, 2}},
		map[string]uint64{"k": uint64(n)}, map[string][]string{"k": {"v", text}}, []any{"t", uint8(n)},
	}
}

func TestAllTypesThereAndBack(t *testing.T) {
	for _, compression := range []clickhouse.CompressionMethod{
		clickhouse.CompressionNone, clickhouse.CompressionLZ4, clickhouse.CompressionZSTD,
		clickhouse.CompressionGZIP, clickhouse.CompressionDeflate, clickhouse.CompressionBrotli,
	} {
		t.Run(compression.String(), func(t *testing.T) {
			ctx := context.Background()
			e := enginetest.Start(t)
			name, root := e.Database(t)
			o := e.Options(t, name)
			o.Compression = &clickhouse.Compression{Method: compression, Level: 3}
			o.Settings = clickhouse.Settings{"enable_http_compression": 1}
			conn, err := clickhouse.Open(o)
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = conn.Close() }()
			if err := root.Exec(ctx, allTypes); err != nil {
				t.Fatal(err)
			}
			const rows = 500
			batch, err := conn.PrepareBatch(ctx, "INSERT INTO all")
			if err != nil {
				t.Fatal(err)
			}
			for n := range rows {
				if err := batch.Append(allValues(n)...); err != nil {
					t.Fatal(err)
				}
			}
			if err := batch.Send(); err != nil {
				t.Fatal(err)
			}
			got, err := conn.Query(ctx, "SELECT * FROM all ORDER BY u32")
			if err != nil {
				t.Fatal(err)
			}
			n := 0
			for ; got.Next(); n++ {
				want := allValues(n)
				into := make([]any, len(want))
				for i, w := range want {
					into[i] = reflect.New(reflect.TypeOf(w)).Interface()
				}
				if err := got.Scan(into...); err != nil {
					t.Fatal(err)
				}
				for i, w := range want {
					v := reflect.ValueOf(into[i]).Elem().Interface()
					if a, ok := v.(time.Time); ok {
						if !a.Equal(w.(time.Time)) {
							t.Fatalf("row %d column %d: %v, not %v", n, i, v, w)
						}
					} else if !reflect.DeepEqual(v, w) {
						t.Fatalf("row %d column %d: %#v, not %#v", n, i, v, w)
					}
				}
			}
			if err := got.Err(); err != nil {
				t.Fatal(err)
			}
			if n != rows {
				t.Fatalf("%d rows, not %d", n, rows)
			}
		})
	}
}

func TestStandardLibraryInterface(t *testing.T) {
	ctx := context.Background()
	e := enginetest.Start(t)
	name, _ := e.Database(t)
	db, err := sql.Open("clickhouse", e.DatabaseDSN(name))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = db.Close() }()
	if _, err := db.ExecContext(ctx, "CREATE TABLE v (id Int64, applied Bool, at DateTime DEFAULT now()) ENGINE = MergeTree ORDER BY at"); err != nil {
		t.Fatal(err)
	}
	if _, err := db.ExecContext(ctx, "INSERT INTO v (id, applied) VALUES ($1, $2)", 7, true); err != nil {
		t.Fatal(err)
	}
	var id int64
	var applied bool
	if err := db.QueryRowContext(ctx, "SELECT id, applied FROM v WHERE id = $1", 7).Scan(&id, &applied); err != nil || id != 7 || !applied {
		t.Fatalf("%v %v %v", id, applied, err)
	}
	if err := db.QueryRowContext(ctx, "SELECT id FROM v WHERE id = 8").Scan(&id); err != sql.ErrNoRows {
		t.Fatalf("no rows: %v", err)
	}
	if err := db.QueryRowContext(ctx, "SELECT id FROM nowhere").Scan(&id); err == nil {
		t.Fatal("a table that is not there was read")
	}
}

func TestQueriesWhileInserting(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	_, conn := enginetest.Start(t).Database(t)
	if err := conn.Exec(ctx, "CREATE TABLE t (w UInt8, n UInt64) ENGINE = MergeTree ORDER BY n"); err != nil {
		t.Fatal(err)
	}
	var inserting sync.WaitGroup
	const writers, batches, rows = 3, 10, 5000
	for w := range writers {
		inserting.Go(func() {
			for range batches {
				batch, err := conn.PrepareBatch(ctx, "INSERT INTO t")
				if err != nil {
					t.Error(err)
					return
				}
				for n := range uint64(rows) {
					if err := batch.Append(uint8(w), n); err != nil {
						t.Error(err)
						return
					}
				}
				if err := batch.Send(); err != nil {
					t.Error(err)
				}
			}
		})
	}
	done := make(chan struct{})
	go func() { inserting.Wait(); close(done) }()
	last := uint64(0)
	for asking := true; asking; {
		select {
		case <-done:
			asking = false
		default:
		}
		var n uint64
		if err := conn.QueryRow(ctx, "SELECT count() FROM t").Scan(&n); err != nil {
			t.Fatal(err)
		}
		if n < last || n%rows != 0 {
			t.Fatalf("%d rows after %d: a batch is seen in part", n, last)
		}
		last = n
	}
	if last != writers*batches*rows {
		t.Fatalf("%d rows", last)
	}
}
