package engine_test

import (
	"context"
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"

	"github.com/sallyport-ci/sallyport/store/engine/enginetest"
)

// BenchmarkInsert sends batches of 100,000 rows of ten columns, appended as whole
// columns, over HTTP.
//
//	go test -run '^$' -bench Insert -benchtime 20x ./store/engine
func BenchmarkInsert(b *testing.B) {
	const rows = 100_000
	at, n, port := make([]time.Time, rows), make([]uint32, rows), make([]uint16, rows)
	ip, text, other := make([]netip.Addr, rows), make([]string, rows), make([]string, rows)
	var low [4][]string
	for c := range low {
		low[c] = make([]string, rows)
	}
	for i := range rows {
		at[i], n[i], port[i] = time.Unix(1700000000, int64(i)), uint32(i), uint16(i%1000)
		ip[i] = netip.AddrFrom16([16]byte{0xfd, 14: byte(i >> 8), 15: byte(i)})
		text[i], other[i] = fmt.Sprint("host-", i%500, ".example.test"), fmt.Sprint("/usr/bin/program-", i%50)
		for c := range low {
			low[c][i] = fmt.Sprint("value-", i%(10*(c+1)))
		}
	}
	for _, method := range []clickhouse.CompressionMethod{clickhouse.CompressionNone, clickhouse.CompressionLZ4} {
		b.Run(method.String(), func(b *testing.B) {
			ctx := context.Background()
			e := enginetest.Start(b)
			name, root := e.Database(b)
			o := e.Options(b, name)
			o.Compression = &clickhouse.Compression{Method: method}
			conn, err := clickhouse.Open(o)
			if err != nil {
				b.Fatal(err)
			}
			defer func() { _ = conn.Close() }()
			if err := root.Exec(ctx, "CREATE TABLE t (at DateTime64(9), l0 LowCardinality(String), l1 LowCardinality(String), l2 LowCardinality(String), l3 LowCardinality(String), a String, b String, n UInt32, ip IPv6, port UInt16) ENGINE = MergeTree ORDER BY at"); err != nil {
				b.Fatal(err)
			}
			b.ResetTimer()
			for b.Loop() {
				batch, err := conn.PrepareBatch(ctx, "INSERT INTO t")
				if err != nil {
					b.Fatal(err)
				}
				for i, column := range []any{at, low[0], low[1], low[2], low[3], text, other, n, ip, port} {
					if err := batch.Column(i).Append(column); err != nil {
						b.Fatal(err)
					}
				}
				if err := batch.Send(); err != nil {
					b.Fatal(err)
				}
			}
			b.StopTimer()
			b.ReportMetric(float64(b.N)*rows/b.Elapsed().Seconds(), "rows/s")
			mb, err := residentMB(e.Process.PID())
			if err != nil {
				b.Fatal(err)
			}
			b.ReportMetric(float64(mb), "MB-resident")
		})
	}
}
