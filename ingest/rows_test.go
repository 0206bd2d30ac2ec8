package ingest

import (
	"context"
	"database/sql"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/klauspost/compress/zstd"
	"google.golang.org/protobuf/proto"

	sallyportv1 "github.com/sallyport-ci/sallyport/proto/sallyport/v1"
	"github.com/sallyport-ci/sallyport/stream"
)

func openSQL(dsn string) (*sql.DB, error) {
	o, err := clickhouse.ParseDSN(dsn)
	if err != nil {
		return nil, err
	}
	o.Protocol = clickhouse.HTTP
	return clickhouse.OpenDB(o), nil
}

func queryNumber(dsn, query string) (n uint64, err error) {
	db, err := openSQL(dsn)
	if err != nil {
		return 0, err
	}
	defer db.Close()
	err = db.QueryRowContext(context.Background(), "SELECT toUInt64(("+query+"))").Scan(&n)
	if err != nil {
		return 0, fmt.Errorf("%s: %w", query, err)
	}
	return n, nil
}

// row asks for one row as text, column by column.
func (l *lab) row(tb testing.TB, query string) string {
	tb.Helper()
	db, err := openSQL(l.dsn)
	if err != nil {
		tb.Fatal(err)
	}
	defer db.Close()
	var s string
	if err := db.QueryRow("SELECT toString(tuple(*)) FROM (" + query + ")").Scan(&s); err != nil {
		tb.Fatalf("%s: %v", query, err)
	}
	return s
}

func TestEveryKindOfEventToEveryColumn(t *testing.T) {
	l := newLab(t)
	now := time.Now().Truncate(time.Second).UTC()
	l.publish(t, fullBatch(now))
	l.start(t, nil)
	l.waitDone(t, stream.EventsStream)

	at := func(n int) string { return now.Format("2006-01-02 15:04:05") + fmt.Sprintf(".%09d", n) }
	identity := func(seq, n int) string {
		return fmt.Sprintf("'agent-1',%d,%d,'%s','runner.example.test'", epoch, seq, at(n))
	}
	attribution := "'example/app','ci','123',2,'build','0123456789abcdef','__run_2','example/setup@v1','c0ffee','refs/heads/main','push','alice','runner-1'"
	curl := "2002,2001,501,'/usr/bin/curl','curl','bash',1001"
	nothing := ",0,0,0,'',false,false,0,0,'','','','','','',[]"
	worker := "1000,0,7,'/opt/runner/bin/Runner.Worker','Runner.Worker','',0"
	started := now.Add(-5).Format("2006-01-02 15:04:05.000000000")
	for _, c := range []struct{ name, query, want string }{
		{"forked", "SELECT * FROM process_events WHERE kind = 'forked'",
			identity(41, 1) + "," + attribution + ",2001,0,501,'/usr/bin/bash','bash','',0,'forked','1970-01-01 00:00:00.000000000',[],false,'','',0,'',0,'',0" + nothing + ",0,0"},
		{"executed", "SELECT * FROM process_events WHERE kind = 'executed'",
			identity(42, 2) + "," + attribution + "," + curl + ",'executed','" + started + "',['curl','-s','https://x.example.test/é'],true,'/home/runner','pipe',91,'file',92,'pipe',93,1002,1003,2097152,'./run.sh',true,true,94,95,'" + digest + "','" + digest + "','example/image:1','job','runner-x','arc',['a/b=c','d=','e=f=g'],0,0"},
		{"exited", "SELECT * FROM process_events WHERE kind = 'exited'",
			identity(48, 8) + "," + attribution + "," + curl + ",'exited','" + started + "',[],false,'','',0,'',0,'',0" + nothing + ",137,9"},
		{"dns", "SELECT * FROM dns",
			identity(43, 3) + "," + attribution + "," + curl + ",'x.example.test','A','NOERROR',['::ffff:192.0.2.7','2001:db8::7'],['y.example.test','z.example.test'],'::ffff:127.0.0.53',53,12345"},
		{"flow", "SELECT * FROM flow_events WHERE phase = 'ended'",
			identity(46, 6) + "," + attribution + "," + curl + ",5,'outbound','ended','tcp','::ffff:192.0.2.1',40000,'::ffff:192.0.2.7',443,'x.example.test','process','','',false,11,9,'" + at(4) + "','reset',true"},
		{"identified", "SELECT phase, domain, server_name, application, encrypted_hello FROM flow_events WHERE phase = 'identified'",
			"'identified','x.example.test','x.example.test','tls',true"},
		{"access", "SELECT * FROM process_accesses",
			identity(47, 7) + "," + attribution + "," + curl + ",'proc_mem',1000,7,'/opt/runner/bin/Runner.Worker','Runner.Worker',true"},
		{"file", "SELECT *, file FROM file_accesses",
			identity(53, 11) + "," + attribution + "," + curl + ",'read','/home/runner/.aws/credentials','aws_credentials','credential',3,'credentials'"},
		{"job", "SELECT * FROM job_events WHERE kind = 'ended'",
			identity(50, 9) + "," + attribution + ",77,'example/app/.github/workflows/ci.yml@refs/heads/main',true," + worker + ",'ended','hook',[2002]"},
		{"privilege", "SELECT * FROM privileges",
			identity(55, 14) + "," + attribution + "," + curl + ",'gained',['CAP_BPF'],5,6,['mnt','net'],9,'probe'"},
		{"executable", "SELECT * FROM executables",
			identity(56, 15) + "," + attribution + "," + curl + ",'/usr/bin/curl',94,95,96,'" + digest + "'"},
		{"request", "SELECT * FROM http_requests",
			identity(57, 16) + "," + attribution + "," + curl + ",'POST','api.github.com','/repos/example/app/issues','2','go'"},
		{"used", "SELECT process_id, phase, flow_id FROM flow_events WHERE phase = 'used'", "2001,'used',5"},
		{"status", "SELECT * REPLACE (mapSort(events_lost) AS events_lost) FROM agent_status",
			identity(51, 10) + ",'0.1','6.18.0',99,{'exec':1,'flow':3},4,true,'killed','" + now.Add(-6).Format("2006-01-02 15:04:05.000000000") + "',7,8,['link of tcp_state is detached'],9"},
		{"egress", "SELECT * FROM egress WHERE repository = 'example/app'",
			"'example/app','ci','123',2,'build','0123456789abcdef','__run_2','example/setup@v1','agent-1',5,2002,'curl','bash','/usr/bin/curl','tcp','192.0.2.1',40000,'192.0.2.7',443,'x.example.test','process','x.example.test','tls',true,111,16,'" + at(4) + "','" + at(6) + "',2e-9,'reset'"},
		{"jobs", "SELECT * FROM jobs",
			"'example/app','ci','123',2,77,'build','0123456789abcdef','c0ffee','refs/heads/main',true,'push','alice','example/app/.github/workflows/ci.yml@refs/heads/main','runner-1','agent-1','runner.example.test','" + at(0) + "','" + at(9) + "','hook'"},
		{"runs", "SELECT * FROM runs",
			"'example/app','ci','123',2,77,'c0ffee','refs/heads/main','push','alice','" + at(0) + "','" + at(9) + "',1,0"},
		{"processes", "SELECT * FROM processes WHERE run_id = '123'",
			"'example/app','ci','123',2,'build','0123456789abcdef','__run_2','example/setup@v1','agent-1',2002,2001,501,'curl','bash','/usr/bin/curl',['curl','-s','https://x.example.test/é'],true,'/home/runner','pipe',91,'file',92,'pipe',93,1001,'" + started + "','" + at(8) + "',137,9,1003,2097152,'./run.sh',true,true,'" + digest + "','" + digest + "','example/image:1'"},
		{"steps", "SELECT * FROM steps",
			"'example/app','ci','123',2,'build','0123456789abcdef','__run_2','example/setup@v1','" + at(1) + "',1,1,111,16"},
	} {
		if got := l.row(t, c.query); got != "("+c.want+")" {
			t.Errorf("%s:\n got %s\nwant (%s)", c.name, got, c.want)
		}
	}
}

func TestListeners(t *testing.T) {
	l := newLab(t)
	now := time.Now().Truncate(time.Second).UTC()
	b := fullBatch(now)
	b.Events = nil
	at := uint64(now.UnixNano())
	for i, f := range []*sallyportv1.Flow{
		{Id: 1, Direction: sallyportv1.Direction_DIRECTION_LISTENING, Phase: sallyportv1.FlowPhase_FLOW_PHASE_STARTED, SourceAddress: make([]byte, 4), SourcePort: 4242},
		{Id: 2, Direction: sallyportv1.Direction_DIRECTION_INBOUND, Phase: sallyportv1.FlowPhase_FLOW_PHASE_STARTED, SourceAddress: addr("192.0.2.1"), SourcePort: 4242, DestinationAddress: addr("192.0.2.9"), DestinationPort: 5},
		{Id: 2, Direction: sallyportv1.Direction_DIRECTION_INBOUND, Phase: sallyportv1.FlowPhase_FLOW_PHASE_ENDED, SourceAddress: addr("192.0.2.1"), SourcePort: 4242, DestinationAddress: addr("192.0.2.9"), DestinationPort: 5},
		{Id: 1, Direction: sallyportv1.Direction_DIRECTION_LISTENING, Phase: sallyportv1.FlowPhase_FLOW_PHASE_ENDED, SourceAddress: make([]byte, 4), SourcePort: 4242},
	} {
		f.Protocol, f.StartTimeUnixNano = sallyportv1.Protocol_PROTOCOL_TCP, at
		b.Events = append(b.Events, &sallyportv1.Event{TimeUnixNano: at + uint64(i), Process: 1, Attribution: 1, Body: &sallyportv1.Event_Flow{Flow: f}})
	}
	l.publish(t, b)
	l.start(t, nil)
	l.waitDone(t, stream.EventsStream)
	stamp := now.Format("2006-01-02 15:04:05")
	want := "('example/app','ci','123',2,'build','0123456789abcdef','__run_2','agent-1',2002,'curl','0.0.0.0',4242,'" + stamp + ".000000000','" + stamp + ".000000003',1)"
	if got := l.row(t, "SELECT * FROM listeners"); got != want {
		t.Errorf(" got %s\nwant %s", got, want)
	}
	if n := l.count(t, "SELECT count() FROM egress"); n != 0 {
		t.Errorf("%d flows of egress, want none", n)
	}
}

func TestClockThatJumps(t *testing.T) {
	l := newLab(t)
	b := fullBatch(time.Now())
	years := []int{1969, 1971, 1999, 2035, 2261}
	b.Events = nil
	for i := range 600 {
		at := time.Date(years[i%len(years)], time.Month(1+i%12), 1, 0, 0, 0, 0, time.UTC)
		b.Events = append(b.Events, &sallyportv1.Event{
			TimeUnixNano: uint64(at.UnixNano()), Process: 1, Attribution: 1,
			Body: &sallyportv1.Event_ProcessExecuted{ProcessExecuted: &sallyportv1.ProcessExecuted{}},
		})
	}
	l.publish(t, b)
	in, _ := l.start(t, nil)
	l.waitDone(t, stream.EventsStream)
	if n := l.count(t, "SELECT count() FROM process_events WHERE abs(dateDiff('minute', time, now())) < 10"); n != 600 {
		t.Errorf("%d of 600 rows have the time of their arrival", n)
	}
	if n := metricValue(t, in.metrics.clamped.WithLabelValues(stream.EventsStream)); n != 600 {
		t.Errorf("%v times are counted as replaced, want 600", n)
	}
}

func TestBaseName(t *testing.T) {
	for in, want := range map[string]string{"/usr/bin/curl": "curl", "curl": "curl", "": "", "/": "", "/memfd:x (deleted)": "memfd:x (deleted)"} {
		if got := baseName(in); got != want {
			t.Errorf("baseName(%q) = %q, want %q", in, got, want)
		}
	}
}

// FuzzRows makes rows of whatever the decoder lets through. The input is a batch
// before compression, where changing a byte changes something.
func FuzzRows(f *testing.F) {
	for _, b := range []*sallyportv1.EventBatch{fullBatch(time.Unix(1_700_000_000, 0)), {AgentId: "a", Epoch: 1, FirstSequence: 1}} {
		data, err := proto.Marshal(b)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Add([]byte("not a batch"))
	stored := time.Unix(1_700_000_000, 0)
	z, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithWindowSize(1<<16))
	if err != nil {
		f.Fatal(err)
	}
	d, err := stream.NewDecoder()
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		var b sallyportv1.EventBatch
		if d.Decode(z.EncodeAll(data, nil), &b) != nil {
			return
		}
		var r batchRows
		r.add(&b, stored)
		total := r.unknown
		for _, table := range r.tables() {
			total += table.Len()
			for _, c := range table.Columns() {
				if n := lengthOf(c.Values); n != table.Len() {
					t.Fatalf("column %s of %s has %d values for %d rows", c.Name, table.Table(), n, table.Len())
				}
			}
		}
		if total != len(b.GetEvents()) {
			t.Fatalf("%d rows and unknown events of %d events", total, len(b.GetEvents()))
		}
		for _, at := range r.processEvents.Time {
			if at.Before(stored.Add(-maxPast)) || at.After(stored.Add(maxFuture)) {
				t.Fatalf("time %s", at)
			}
		}
		if strings.Contains(strings.Join(r.processEvents.Program, ""), "/") {
			t.Fatal("a base name has a slash")
		}
	})
}
