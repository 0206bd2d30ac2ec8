package ingest

import (
	"fmt"
	"math/rand/v2"
	"os"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	sallyportv1 "github.com/sallyport-ci/sallyport/proto/sallyport/v1"
	"github.com/sallyport-ci/sallyport/store/engine/enginetest"
	"github.com/sallyport-ci/sallyport/stream"
	"github.com/sallyport-ci/sallyport/test/sample"
)

const (
	benchBatches = 4000
	benchEvents  = 500 // a batch
	allBench     = benchBatches * benchEvents
)

// benchLoad returns batches of some agents, as they are on the wire. It is made
// beforehand: an agent's work is not ingest's.
func benchLoad(b *testing.B, agents int) (load []*nats.Msg) {
	b.Helper()
	e, err := stream.NewEncoder()
	if err != nil {
		b.Fatal(err)
	}
	r := rand.New(rand.NewPCG(1, 2))
	now := time.Now()
	for n := range benchBatches {
		name := fmt.Sprintf("agent-%d", n%agents)
		batch := realisticBatch(r, name, uint64(n/agents*benchEvents+1), benchEvents, now.Add(time.Duration(n)*time.Millisecond))
		data, err := e.Encode(nil, batch)
		if err != nil {
			b.Fatal(err)
		}
		m := &nats.Msg{Subject: stream.EventSubject(name), Data: data, Header: nats.Header{}}
		m.Header.Set(nats.MsgIdHdr, stream.BatchID(batch))
		load = append(load, m)
	}
	return load
}

// BenchmarkStreamToRows measures events from the stream to rows that can be asked
// for, with NATS in this process and the engine as its child, as in `sallyport
// up`. One agent or a thousand publish the next events meanwhile. It reports events/s,
// and bytes an event on the wire and on disk.
func BenchmarkStreamToRows(b *testing.B) {
	for _, agents := range []int{1, 1000} {
		b.Run(fmt.Sprintf("agents=%d", agents), func(b *testing.B) { streamToRows(b, agents, 0) })
	}
}

// BenchmarkStored measures the same into tables that hold rows already: a million, and as
// many as SALLYPORT_ROWS says, 100 million if it says nothing.
func BenchmarkStored(b *testing.B) {
	most := uint64(100_000_000)
	if s := os.Getenv("SALLYPORT_ROWS"); s != "" {
		var err error
		if most, err = strconv.ParseUint(s, 10, 40); err != nil {
			b.Fatal(err)
		}
	}
	for _, stored := range []uint64{1_000_000, most} {
		b.Run(fmt.Sprintf("rows=%d", stored), func(b *testing.B) { streamToRows(b, 1, stored) })
	}
}

// streamToRows measures from stream to queryable rows.
func streamToRows(b *testing.B, agents int, stored uint64) {
	load := benchLoad(b, agents)
	wire := 0
	for _, m := range load {
		wire += len(m.Data)
	}
	const rows = `SELECT toUInt64(sum(total_rows)) FROM system.tables WHERE database = currentDatabase() AND name IN
		('process_events', 'flow_events', 'dns', 'process_accesses', 'job_events', 'agent_status', 'file_accesses', 'privileges', 'executables', 'http_requests')`
	for b.Loop() {
		b.StopTimer()
		l := newLab(b)
		before := uint64(0)
		if stored > 0 {
			db, err := openSQL(l.dsn)
			if err != nil {
				b.Fatal(err)
			}
			if err := sample.Fill(b.Context(), db, stored, time.Now().Add(-time.Hour), nil); err != nil {
				b.Fatal(err)
			}
			_ = db.Close()
			before = l.count(b, rows)
		}
		_, stop := l.start(b, func(c *Config) { c.MaxAge = 0 })
		b.StartTimer()
		begin := time.Now()
		for _, m := range load {
			if _, err := l.js.PublishMsgAsync(m); err != nil {
				b.Fatal(err)
			}
		}
		<-l.js.PublishAsyncComplete()
		for l.count(b, rows)-before < allBench {
			if time.Since(begin) > 2*time.Minute {
				b.Fatal("the rows are not there after two minutes")
			}
			time.Sleep(20 * time.Millisecond)
		}
		took := time.Since(begin)
		b.StopTimer()
		stop()
		b.ReportMetric(allBench/took.Seconds(), "events/s")
		if stored == 0 {
			if n := l.count(b, "SELECT uniqExact(agent_id, sequence) FROM ("+allEvents+")"); n != allBench {
				b.Errorf("%d events, want %d", n, allBench)
			}
			bytes := l.count(b, `SELECT sum(bytes_on_disk) FROM system.parts
				WHERE active AND database = currentDatabase()`)
			b.ReportMetric(float64(wire)/allBench, "wire-bytes/event")
			b.ReportMetric(float64(bytes)/allBench, "disk-bytes/event")
		}
		b.StartTimer()
	}
}

// BenchmarkRowByRow measures the yardstick: clickhouse-go inserting the same rows into the
// same tables, appended row by row in batches of 100,000, with nothing else to do.
func BenchmarkRowByRow(b *testing.B) {
	rows, err := newEventRows()
	if err != nil {
		b.Fatal(err)
	}
	type table struct {
		statement string
		rows      [][]any
	}
	var tables []table
	flush := func() {
		for _, t := range rows.tables() {
			if t.Len() == 0 {
				continue
			}
			one := table{statement: "INSERT INTO " + t.Table() + " (", rows: make([][]any, t.Len())}
			for i, c := range t.Columns() {
				if i > 0 {
					one.statement += ", "
				}
				one.statement += c.Name
				values := reflect.ValueOf(c.Values)
				for n := range one.rows {
					v := values.Index(n)
					if v.Kind() == reflect.Slice { // its memory is used again
						v = reflect.AppendSlice(reflect.MakeSlice(v.Type(), 0, v.Len()), v)
					}
					one.rows[n] = append(one.rows[n], v.Interface())
				}
			}
			one.statement += ")"
			tables = append(tables, one)
		}
		rows.reset()
	}
	const some = 1000 // batches: half a million events as rows of values take 2 GiB
	for n, m := range benchLoad(b, 1)[:some] {
		stored := &message{Msg: storedMsg{raw: &jetstream.RawStreamMsg{Subject: m.Subject, Data: m.Data}}, sequence: uint64(n + 1), stored: time.Now()}
		if err := rows.add(stored); err != nil {
			b.Fatal(err)
		}
		if events, _ := rows.size(); events >= 100_000 {
			flush()
		}
	}
	flush()
	for b.Loop() {
		b.StopTimer()
		e := enginetest.Start(b)
		name, conn := e.Database(b)
		s := openStore(b, e.DatabaseDSN(name))
		if err := s.Migrate(b.Context()); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
		begin := time.Now()
		for _, t := range tables {
			batch, err := conn.PrepareBatch(b.Context(), t.statement)
			if err != nil {
				b.Fatal(err)
			}
			for _, row := range t.rows {
				if err := batch.Append(row...); err != nil {
					b.Fatal(err)
				}
			}
			if err := batch.Send(); err != nil {
				b.Fatal(err)
			}
		}
		b.ReportMetric(some*benchEvents/time.Since(begin).Seconds(), "events/s")
	}
}

// BenchmarkSteady measures 50,000 events/s for twenty seconds with ingest as a process of
// its own: the time from an event to its row, and the most memory that ingest had.
func BenchmarkSteady(b *testing.B) {
	const rate, seconds = 50_000, 20
	load := benchLoad(b, 100)[:rate*seconds/benchEvents]
	for b.Loop() {
		l := newLab(b)
		b.Setenv(childPlainVariable, "1")
		child := l.startChild(b, "")
		interval := time.Second * benchEvents / rate
		begin := time.Now()
		published := make(chan error, 1)
		go func() {
			for n, m := range load {
				time.Sleep(time.Until(begin.Add(time.Duration(n) * interval)))
				if _, err := l.js.PublishMsgAsync(m); err != nil {
					published <- err
					return
				}
			}
			published <- nil
		}()
		var late []time.Duration
		for there := uint64(0); there < rate*seconds; {
			time.Sleep(20 * time.Millisecond)
			there = l.count(b, "SELECT count() FROM ("+allEvents+")")
			now := time.Since(begin)
			// The newest event that is there was published then, or earlier.
			if newest := time.Duration(there/benchEvents) * interval; there < rate*seconds && newest < now {
				late = append(late, now-newest)
			}
			if now > 2*time.Minute {
				b.Fatalf("%d of %d rows are there after two minutes", there, rate*seconds)
			}
		}
		if err := <-published; err != nil {
			b.Fatal(err)
		}
		slices.Sort(late)
		b.ReportMetric(late[len(late)/2].Seconds(), "median-s")
		b.ReportMetric(late[len(late)*99/100].Seconds(), "p99-s")
		b.ReportMetric(float64(peakMemory(b, child.Process.Pid))/(1<<20), "resident-MiB")
		if err := child.Process.Kill(); err != nil {
			b.Fatal(err)
		}
		_ = child.Wait()
	}
}

// peakMemory is the most that a process had resident, in bytes.
func peakMemory(b testing.TB, pid int) uint64 {
	b.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		b.Fatal(err)
	}
	for line := range strings.Lines(string(status)) {
		var kib uint64
		if n, _ := fmt.Sscanf(line, "VmHWM: %d kB", &kib); n == 1 {
			return kib << 10
		}
	}
	b.Fatal("no VmHWM")
	return 0
}

// BenchmarkEncode measures packing batches as the agent does, on one core.
func BenchmarkEncode(b *testing.B) {
	e, err := stream.NewEncoder()
	if err != nil {
		b.Fatal(err)
	}
	r := rand.New(rand.NewPCG(1, 2))
	var batches []*sallyportv1.EventBatch
	for n := range 100 {
		batches = append(batches, realisticBatch(r, "agent-1", uint64(n*benchEvents+1), benchEvents, time.Now()))
	}
	var data []byte
	const rounds = 40
	for b.Loop() {
		begin := time.Now()
		for range rounds {
			for _, batch := range batches {
				if data, err = e.Encode(data[:0], batch); err != nil {
					b.Fatal(err)
				}
			}
		}
		b.ReportMetric(float64(rounds*len(batches)*benchEvents)/time.Since(begin).Seconds(), "events/s")
	}
}

// BenchmarkRows measures decoding a batch and making its rows, without ClickHouse.
func BenchmarkRows(b *testing.B) {
	e, err := stream.NewEncoder()
	if err != nil {
		b.Fatal(err)
	}
	const events = 500
	data, err := e.Encode(nil, realisticBatch(rand.New(rand.NewPCG(1, 2)), "agent-1", 1, events, time.Now()))
	if err != nil {
		b.Fatal(err)
	}
	d, err := stream.NewDecoder()
	if err != nil {
		b.Fatal(err)
	}
	var batch sallyportv1.EventBatch
	var rows batchRows
	b.ReportAllocs()
	for b.Loop() {
		if err := d.Decode(data, &batch); err != nil {
			b.Fatal(err)
		}
		rows.reset()
		rows.add(&batch, time.Now())
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/events, "ns/event")
}

// BenchmarkStorage inserts realistic events and prints what each column of the tables
// takes on disk when all is merged, and what it would with other codecs.
func BenchmarkStorage(b *testing.B) {
	load := benchLoad(b, 1)
	l := newLab(b)
	_, stop := l.start(b, nil)
	for _, m := range load {
		if _, err := l.js.PublishMsgAsync(m); err != nil {
			b.Fatal(err)
		}
	}
	<-l.js.PublishAsyncComplete()
	l.waitDone(b, stream.EventsStream)
	stop()
	db, err := openSQL(l.dsn)
	if err != nil {
		b.Fatal(err)
	}
	defer db.Close()
	for _, table := range []string{"process_events", "flow_events", "dns"} {
		if _, err := db.Exec("OPTIMIZE TABLE " + table + " FINAL"); err != nil { //nolint:misspell // SQL
			b.Fatal(err)
		}
	}
	rows, err := db.Query(`SELECT table, column, sum(column_data_compressed_bytes) AS packed, sum(column_data_uncompressed_bytes), sum(rows)
		FROM system.parts_columns WHERE active AND database = currentDatabase() AND table IN ('process_events', 'flow_events', 'dns')
		GROUP BY table, column HAVING packed > 0 ORDER BY packed DESC LIMIT 40`)
	if err != nil {
		b.Fatal(err)
	}
	defer rows.Close()
	for rows.Next() {
		var table, column string
		var packed, plain, n uint64
		if err := rows.Scan(&table, &column, &packed, &plain, &n); err != nil {
			b.Fatal(err)
		}
		fmt.Printf("%-16s %-24s %8.3f bytes a row, of %7.2f\n", table, column, float64(packed)/float64(n), float64(plain)/float64(n))
	}
	if err := rows.Err(); err != nil {
		b.Fatal(err)
	}
	for _, c := range []struct{ table, column, kind string }{
		{"process_events", "process_id", "UInt64"}, {"process_events", "parent_process_id", "UInt64"}, {"process_events", "pid", "UInt32"},
		{"process_events", "arguments", "Array(String)"}, {"flow_events", "bytes_received", "UInt64"}, {"flow_events", "source_port", "UInt16"},
		{"flow_events", "destination_address", "IPv6"}, {"flow_events", "sequence", "UInt64"}, {"dns", "duration_nano", "UInt64"}, {"dns", "name", "LowCardinality(String)"},
	} {
		line := fmt.Sprintf("%-16s %-20s", c.table, c.column)
		for _, codec := range []string{"LZ4", "ZSTD(1)", "ZSTD(3)", "Delta, ZSTD(1)", "DoubleDelta, ZSTD(1)", "T64, ZSTD(1)"} {
			if _, err := db.Exec("CREATE OR REPLACE TABLE tried (v " + c.kind + " CODEC(" + codec + ")) ENGINE = MergeTree ORDER BY tuple() SETTINGS min_bytes_for_wide_part = 0"); err != nil {
				continue // no such codec for the type
			}
			if _, err := db.Exec("INSERT INTO tried SELECT " + c.column + " FROM (SELECT * FROM " + c.table + " ORDER BY repository, workflow, job, run_id, run_attempt, execution_id, time) SETTINGS max_insert_threads = 1"); err != nil {
				b.Fatal(err)
			}
			if _, err := db.Exec("OPTIMIZE TABLE tried FINAL"); err != nil { //nolint:misspell // SQL
				b.Fatal(err)
			}
			packed := l.count(b, "SELECT sum(column_data_compressed_bytes) FROM system.parts_columns WHERE active AND database = currentDatabase() AND table = 'tried'")
			line += fmt.Sprintf("  %s %.3f", codec, float64(packed)/float64(max(l.count(b, "SELECT count() FROM tried"), 1)))
		}
		fmt.Println(line)
	}
	total := l.count(b, "SELECT sum(bytes_on_disk) FROM system.parts WHERE active AND database = currentDatabase()")
	b.ReportMetric(float64(total)/allBench, "disk-bytes/event")
	b.ReportMetric(0, "ns/op")
}
