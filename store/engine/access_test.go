package engine_test

import (
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sallyport-ci/sallyport/store/engine/enginetest"
)

func TestPasswords(t *testing.T) {
	e := enginetest.Start(t)
	dsn := e.DSN()
	u, err := url.Parse(dsn)
	if err != nil {
		t.Fatal(err)
	}
	right, _ := u.User.Password()
	for name, c := range map[string]struct {
		params url.Values
		header http.Header
		status int
	}{
		"parameters":         {url.Values{"user": {"default"}, "password": {right}}, nil, 200},
		"headers":            {nil, http.Header{"X-Clickhouse-User": {"default"}, "X-Clickhouse-Key": {right}}, 200},
		"wrong parameters":   {url.Values{"user": {"default"}, "password": {right + "x"}}, nil, 403},
		"wrong headers":      {nil, http.Header{"X-Clickhouse-User": {"default"}, "X-Clickhouse-Key": {""}}, 403},
		"unknown user":       {url.Values{"user": {"nobody"}, "password": {right}}, nil, 403},
		"another's password": {url.Values{"user": {enginetest.ReadOnlyUser}, "password": {right}}, nil, 403},
		"both ways":          {nil, http.Header{"X-Clickhouse-User": {"default"}, "Authorization": {"Basic YTpi"}}, 403},
		"basic, wrong":       {url.Values{}, http.Header{"Authorization": {"Basic ZGVmYXVsdDp3cm9uZw=="}}, 403},
		"nothing at all":     {url.Values{"user": {""}}, nil, 403},
	} {
		t.Run(name, func(t *testing.T) {
			target := dsn
			if name == "basic, wrong" {
				target = "http://" + u.Host
			}
			r := post(t, target, http.MethodPost, c.params, c.header, []byte("SELECT 1"))
			if r.status != c.status {
				t.Fatalf("%d %s", r.status, r.body)
			}
			if c.status == 403 && (r.header.Get("X-ClickHouse-Exception-Code") != "516" || !strings.Contains(string(r.body), "AUTHENTICATION_FAILED")) {
				t.Fatalf("%v %s", r.header, r.body)
			}
			if strings.Contains(string(r.body), right) {
				t.Fatal("the answer holds the password")
			}
		})
	}
}

func TestReaderIsConfined(t *testing.T) {
	e := enginetest.Start(t)
	name, _ := e.Database(t)
	full := e.DSN()
	mustQuery(t, full, "CREATE TABLE "+name+".t (a UInt64) ENGINE = MergeTree ORDER BY a")
	mustQuery(t, full, "INSERT INTO "+name+".t VALUES (42)")
	reader := e.ReadOnlyDSN()

	for _, sql := range []string{
		"SELECT a FROM " + name + ".t", "SELECT count() FROM " + name + ".t", "SHOW TABLES FROM " + name,
		"DESCRIBE " + name + ".t", "SELECT sum(number) FROM numbers(10)", "EXPLAIN SELECT 1",
		"WITH 1 AS file SELECT file", "SELECT 'file(1)' -- file(", "SELECT 1 AS url",
	} {
		if r := query(t, reader, sql); r.status != 200 {
			t.Errorf("%s: %d %s", sql, r.status, r.body)
		}
	}

	file := filepath.Join(t.TempDir(), "secret.csv")
	if err := os.WriteFile(file, []byte("secret,1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	out := filepath.Join(t.TempDir(), "out")
	tbl := name + ".t"
	for _, sql := range []string{
		"INSERT INTO " + tbl + " VALUES (1)", "INSERT INTO " + tbl + " FORMAT CSV\n1\n", "INSERT INTO " + tbl + " SELECT 1",
		"/* x */ insert into " + tbl + " values (1)", "(SELECT 1); DROP TABLE " + tbl, "SELECT 1; SELECT 2",
		"CREATE TABLE " + name + ".u (a Int8) ENGINE = Memory", "CREATE TEMPORARY TABLE u (a Int8)",
		"CREATE VIEW " + name + ".v AS SELECT 1", "CREATE FUNCTION f AS (x) -> x", "DROP TABLE " + tbl, "TRUNCATE TABLE " + tbl,
		"ALTER TABLE " + tbl + " DELETE WHERE 1", "OPTIMIZE TABLE " + tbl, //nolint:misspell // SQL
		"RENAME TABLE " + tbl + " TO " + name + ".x",
		"SYSTEM FLUSH LOGS", "KILL QUERY WHERE 1", "SET readonly = 0", "SET max_threads = 1", "USE system",
		"SELECT 1 SETTINGS readonly = 0", "ATTACH TABLE z (a Int8) ENGINE = File('CSV', '" + file + "')",
		"SELECT * FROM file('" + file + "')", "DESCRIBE file('" + file + "')", "DESC TABLE file('" + file + "')",
		"SELECT file('" + file + "')", "SELECT FILE ('" + file + "')", "SELECT `file`('" + file + "')", "SELECT \"file\"/**/('" + file + "')",
		"SELECT `\\x66ile`('" + file + "')", "DESCRIBE `\\x66ile`('" + file + "')", "SELECT `fi\\le`('" + file + "')",
		"SELECT “file”('" + file + "')", "SELECT file\u00a0('" + file + "')", "DESCRIBE “file”('" + file + "')", "DESCRIBE file\u00a0('" + file + "')",
		"SELECT ‘'’, file('" + file + "') -- '", "SELECT 1.file('" + file + "')", "SELECT 1" + strings.Repeat(" ", 300<<10),
		"SELECT * APPLY file FROM (SELECT '" + file + "')", "SELECT * APPLY(file) FROM (SELECT '" + file + "')",
		"SELECT arrayMap(x -> file(x), ['" + file + "'])", "WITH file('" + file + "') AS x SELECT x",
		"SELECT * FROM '" + file + "'", "SELECT * FROM `" + file + "`",
		"EXPLAIN SELECT * FROM file('" + file + "')", "SELECT * FROM view(SELECT * FROM file('" + file + "'))",
		"SELECT 1 INTO OUTFILE '" + out + "'", "INSERT INTO FUNCTION file('" + out + "', 'CSV') SELECT 1",
		"SELECT * FROM url('http://127.0.0.1:1/', 'CSV', 'a Int8')", "DESCRIBE url('http://127.0.0.1:1/', 'CSV')",
		"SELECT * FROM remote('127.0.0.1:1', system.one)", "SELECT * FROM s3('http://127.0.0.1:1/bucket/x.csv', 'CSV', 'a Int8')",
		"SELECT * FROM executable('id', 'TSV', 'a String')", "SELECT * FROM mysql('127.0.0.1:1', 'a', 'b', 'c', 'd')",
		"SELECT * FROM postgresql('127.0.0.1:1', 'a', 'b', 'c', 'd')", "SELECT * FROM sqlite('" + file + "', 't')",
		"SELECT * FROM hdfs('hdfs://127.0.0.1:1/x', 'CSV', 'a Int8')", "SELECT * FROM filesystem('/etc')",
		"SELECT * FROM icebergLocal('/etc')", "BACKUP TABLE " + tbl + " TO File('" + out + "')",
	} {
		r := query(t, reader, sql)
		if r.status == 200 || strings.Contains(string(r.body), "secret") {
			t.Errorf("a reader may: %s: %d %s", sql, r.status, r.body)
		}
	}
	for _, params := range []url.Values{
		{"readonly": {"0"}, "query": {"CREATE TABLE " + name + ".u (a Int8) ENGINE = Memory"}},
		{"allow_ddl": {"1"}, "query": {"SELECT 1"}},
		{"format_schema": {"x"}, "query": {"SELECT 1"}},
		{"param_f": {"file"}, "query": {"SELECT {f:Identifier}('" + file + "')"}},
		{"param_f": {"file"}, "query": {"SELECT * FROM {f:Identifier}('" + file + "')"}},
	} {
		if r := post(t, reader, http.MethodPost, params, nil, nil); r.status == 200 {
			t.Errorf("a reader may: %v: %s", params, r.body)
		}
	}
	if _, err := os.Stat(out); err == nil {
		t.Error("a reader wrote a file")
	}
	if got := mustQuery(t, full, "SELECT count(), sum(a) FROM "+tbl); got != "1\t42" {
		t.Errorf("the table is now %s", got)
	}
	// A GET never writes, whoever asks.
	if r := post(t, full, http.MethodGet, url.Values{"query": {"DROP TABLE " + tbl}}, nil, nil); r.status != 403 {
		t.Errorf("GET dropped a table: %d %s", r.status, r.body)
	}
}
