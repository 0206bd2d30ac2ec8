package engine_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"

	"github.com/sallyport-ci/sallyport/store/engine/enginetest"
)

func TestInterface(t *testing.T) {
	dsn := enginetest.Start(t).DSN()
	for _, c := range []struct {
		name   string
		method string
		params url.Values
		body   string
		status int
		want   string // whole body, or for errors a part of it
	}{
		{"health", "GET", nil, "", 200, "Ok.\n"},
		{"query in the body", "POST", nil, "SELECT 1, 'a'", 200, "1\ta\n"},
		{"query in the URL", "GET", url.Values{"query": {"SELECT 2"}}, "", 200, "2\n"},
		{"query in both", "POST", url.Values{"query": {"SELECT 1 +"}}, "2", 200, "3\n"},
		{"default format", "POST", url.Values{"default_format": {"CSV"}}, "SELECT 'a', 1", 200, "\"a\",1\n"},
		{"format clause", "POST", url.Values{"default_format": {"Native"}}, "SELECT 1 AS a FORMAT JSONEachRow", 200, "{\"a\":1}\n"},
		{"column called format", "POST", nil, "SELECT format FROM (SELECT 1 AS format)", 200, "1\n"},
		{"semicolon", "POST", nil, "SELECT 1;", 200, "1\n"},
		{"parameters", "POST", url.Values{"param_a": {"it's {b}"}, "param_b": {"2"}, "query": {"SELECT {a:String}, {b:UInt8}"}}, "", 200, "it\\'s {b}\t2\n"},
		{"database", "POST", url.Values{"database": {"system"}}, "SELECT currentDatabase(), count() FROM one", 200, "system\t1\n"},
		{"setting", "POST", url.Values{"max_threads": {"1"}}, "SELECT getSetting('max_threads')", 200, "1\n"},
		{"session", "POST", url.Values{"session_id": {"x"}, "session_timeout": {"60"}}, "SELECT 1", 200, "1\n"},
		{"zone", "POST", nil, "SELECT timezone()", 200, "UTC\n"},
		{"no rows", "POST", nil, "SELECT 1 WHERE 0", 200, ""},
		{"unknown table", "POST", nil, "SELECT * FROM nowhere", 404, "Code: 60."},
		{"unknown database", "POST", url.Values{"database": {"nowhere"}}, "SELECT 1", 404, "Code: 81."},
		{"syntax", "POST", nil, "SELEKT 1", 400, "Code: 62."},
		{"implicit select", "POST", nil, "1 + 1", 400, "Code: 62."},
		{"unknown setting", "POST", url.Values{"no_such_setting": {"1"}}, "SELECT 1", 404, "Code: 115."},
		{"bad setting", "POST", url.Values{"max_threads": {"many"}}, "SELECT 1", 400, "Code: "},
		{"missing parameter", "POST", nil, "SELECT {a:String}", 400, "Code: 456."},
		{"two statements", "POST", nil, "SELECT 1; SELECT 2", 400, "Multi-statements"},
		{"timeout", "POST", url.Values{"max_execution_time": {"0.5"}}, "SELECT count() FROM system.numbers", 408, "Code: 159."},
		{"empty", "POST", nil, "", 400, "Code: 62."},
		{"unknown format", "POST", url.Values{"default_format": {"Nonsense"}}, "SELECT 1", 404, "Code: 73."},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := post(t, dsn, c.method, c.params, nil, []byte(c.body))
			if r.status != c.status {
				t.Fatalf("%d %s", r.status, r.body)
			}
			if c.status == 200 && string(r.body) != c.want || !strings.Contains(string(r.body), c.want) {
				t.Fatalf("%q, not %q", r.body, c.want)
			}
			if c.status != 200 && r.header.Get("X-ClickHouse-Exception-Code") == "" {
				t.Fatalf("no exception code: %v", r.header)
			}
		})
	}
}

func TestHeaders(t *testing.T) {
	dsn := enginetest.Start(t).DSN()
	r := post(t, dsn, "POST", url.Values{"query_id": {"mine"}}, nil, []byte("SELECT number FROM numbers(3) FORMAT JSON"))
	if r.header.Get("X-ClickHouse-Query-Id") != "mine" || r.header.Get("X-ClickHouse-Format") != "JSON" || !strings.HasPrefix(r.header.Get("Content-Type"), "application/json") {
		t.Fatalf("%v", r.header)
	}
	var summary map[string]string
	if err := json.Unmarshal([]byte(r.header.Get("X-ClickHouse-Summary")), &summary); err != nil || summary["read_rows"] != "3" {
		t.Fatalf("%v %v", summary, err)
	}
	var doc struct{ Rows int }
	if err := json.Unmarshal(r.body, &doc); err != nil || doc.Rows != 3 {
		t.Fatalf("%s %v", r.body, err)
	}
}

// TestManyRowsInOneDocument asks for more rows than one block has.
func TestManyRowsInOneDocument(t *testing.T) {
	r := query(t, enginetest.Start(t).DSN(), "SELECT number FROM numbers(200000) FORMAT JSONCompact")
	var doc struct{ Data [][]any }
	if err := json.Unmarshal(r.body, &doc); err != nil || len(doc.Data) != 200000 {
		t.Fatalf("%d rows, %v", len(doc.Data), err)
	}
}

func TestInsertForms(t *testing.T) {
	e := enginetest.Start(t)
	name, _ := e.Database(t)
	dsn := e.DSN()
	mustQuery(t, dsn, "CREATE TABLE "+name+".format (a UInt64, values String) ENGINE = MergeTree ORDER BY a")
	long := strings.Repeat("x", 300<<10)
	for _, c := range []struct {
		name   string
		params url.Values
		body   string
		rows   string
	}{
		{"rows behind the statement", nil, "INSERT INTO " + name + ".format FORMAT TSV\n1\tone\n2\ttwo\n", "2"},
		{"rows in the body", url.Values{"query": {"INSERT INTO " + name + ".format (a, values) FORMAT CSV"}}, "3,three\n", "1"},
		{"values", nil, "INSERT INTO " + name + ".format (a, values) VALUES (4, concat('fo', 'ur')), (5, 'five');", "2"},
		{"values in the URL", url.Values{"query": {"INSERT INTO " + name + ".format VALUES (6, 'six')"}}, "", "1"},
		{"values in the body", url.Values{"query": {"INSERT INTO " + name + ".format"}}, "(7, 'seven')", "1"},
		{"long values", nil, "INSERT INTO " + name + ".format VALUES (8, '" + long + "'), (9, 'nine')", "2"},
		{"select", nil, "INSERT INTO " + name + ".format SELECT number, 'n' FROM numbers(3)", "3"},
		{"settings", nil, "INSERT INTO " + name + ".format SETTINGS async_insert = 0 FORMAT JSONEachRow {\"a\": 10, \"values\": \"ten\"}", "1"},
		{"parameter", url.Values{"param_t": {name + ".format"}, "param_d": {name}, "query": {"INSERT INTO {d:Identifier}.format FORMAT TSV"}}, "11\televen\n", "1"},
	} {
		t.Run(c.name, func(t *testing.T) {
			mustQuery(t, dsn, "TRUNCATE TABLE "+name+".format")
			r := post(t, dsn, "POST", c.params, nil, []byte(c.body))
			if r.status != 200 || len(r.body) != 0 {
				t.Fatalf("%d %s", r.status, r.body)
			}
			if got := mustQuery(t, dsn, "SELECT count() FROM "+name+".format"); got != c.rows {
				t.Fatalf("%s rows, not %s", got, c.rows)
			}
			if !strings.Contains(r.header.Get("X-ClickHouse-Summary"), `"written_rows":"`+c.rows+`"`) {
				t.Fatalf("summary %s", r.header.Get("X-ClickHouse-Summary"))
			}
		})
	}
	for name, body := range map[string]string{
		"unknown table": "INSERT INTO nowhere FORMAT TSV\n1\n",
		"bad rows":      "INSERT INTO " + name + ".format FORMAT TSV\nx\ty\n",
		"bad format":    "INSERT INTO " + name + ".format FORMAT Nonsense\nx\ty\n",
	} {
		if r := query(t, dsn, body); r.status == 200 || r.header.Get("X-ClickHouse-Exception-Code") == "" {
			t.Errorf("%s: %d %s", name, r.status, r.body)
		}
	}
}

func TestEncodings(t *testing.T) {
	dsn := enginetest.Start(t).DSN()
	sql := []byte("SELECT sum(number) FROM numbers(100000)")
	var packed bytes.Buffer
	for name, w := range map[string]io.WriteCloser{
		"gzip": gzip.NewWriter(&packed), "lz4": lz4.NewWriter(&packed), "zstd": zstdWriter(t, &packed),
	} {
		packed.Reset()
		if _, err := w.Write(sql); err != nil {
			t.Fatal(err)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		r := post(t, dsn, "POST", url.Values{"enable_http_compression": {"1"}},
			http.Header{"Content-Encoding": {name}, "Accept-Encoding": {"gzip"}}, packed.Bytes())
		if r.status != 200 || r.header.Get("Content-Encoding") != "gzip" {
			t.Fatalf("%s: %d %v %s", name, r.status, r.header, r.body)
		}
		z, err := gzip.NewReader(bytes.NewReader(r.body))
		if err != nil {
			t.Fatal(err)
		}
		if out, err := io.ReadAll(z); err != nil || string(out) != "4999950000\n" {
			t.Fatalf("%s: %q %v", name, out, err)
		}
		if r := post(t, dsn, "POST", nil, http.Header{"Content-Encoding": {name}}, []byte("not packed at all")); r.status != 400 {
			t.Errorf("garbage as %s: %d %s", name, r.status, r.body)
		}
	}
	if r := post(t, dsn, "POST", nil, http.Header{"Content-Encoding": {"rot13"}}, sql); r.status != 400 {
		t.Errorf("unknown encoding: %d", r.status)
	}
	if r := post(t, dsn, "POST", url.Values{"decompress": {"1"}}, nil, []byte("no blocks")); r.status != 400 {
		t.Errorf("garbage as blocks: %d %s", r.status, r.body)
	}
}

func zstdWriter(t *testing.T, w io.Writer) io.WriteCloser {
	z, err := zstd.NewWriter(w)
	if err != nil {
		t.Fatal(err)
	}
	return z
}

// TestFailureInTheMiddle lets a statement fail after output was sent.
func TestFailureInTheMiddle(t *testing.T) {
	_, conn := enginetest.Start(t).Database(t)
	for _, sql := range []string{
		"SELECT throwIf(number = 900000, 'in the middle') FROM numbers(1000000) SETTINGS max_block_size = 10000, max_threads = 1",
	} {
		rows, err := conn.Query(context.Background(), sql)
		if err == nil {
			for rows.Next() {
			}
			err = errors.Join(rows.Err(), rows.Close())
		}
		var ex *clickhouse.Exception
		if !errors.As(err, &ex) || ex.Code != 395 {
			t.Fatalf("%v", err)
		}
	}
}

func TestCancelledRequestEndsItsStatement(t *testing.T) {
	e := enginetest.Start(t)
	for name, sql := range map[string]string{
		"streamed": "SELECT sleepEachRow(0.01) /* cancel me */ FROM numbers(100000) SETTINGS max_block_size = 10",
		"whole":    "SELECT sum(sleepEachRow(0.01)) /* cancel me */ FROM numbers(100000) SETTINGS max_block_size = 10 FORMAT JSON",
	} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(context.Background(), 700*time.Millisecond)
			defer cancel()
			req, err := http.NewRequestWithContext(ctx, http.MethodPost, strings.TrimSuffix(e.DSN(), "default"), strings.NewReader(sql))
			if err != nil {
				t.Fatal(err)
			}
			res, err := http.DefaultClient.Do(req)
			if err == nil {
				_, err = io.Copy(io.Discard, res.Body)
				_ = res.Body.Close()
			}
			if !errors.Is(err, context.DeadlineExceeded) {
				t.Fatalf("the request ended by itself: %v", err)
			}
			deadline := time.Now().Add(10 * time.Second)
			for mustQuery(t, e.DSN(), "SELECT count() FROM system.processes WHERE query LIKE '%cancel me%' AND query NOT LIKE '%processes%'") != "0" {
				if time.Now().After(deadline) {
					t.Fatal("the statement still runs")
				}
				time.Sleep(50 * time.Millisecond)
			}
		})
	}
}
