package engine_test

import (
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sallyport-ci/sallyport/store/engine/enginetest"
)

// canary is what no reader may reach: a file, and a server on loopback.
type canary struct {
	file, server string
	visitors     atomic.Int64
}

func newCanary(t *testing.T) *canary {
	t.Helper()
	c := &canary{file: filepath.Join(t.TempDir(), "canary.csv")}
	if err := os.WriteFile(c.file, []byte("canary,1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c.server = l.Addr().String()
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			c.visitors.Add(1)
			_ = conn.Close()
		}
	}()
	t.Cleanup(func() { _ = l.Close(); <-done })
	return c
}

// outward are expressions that reach the canary, if anything may.
func (c *canary) outward() []string {
	host, port, _ := net.SplitHostPort(c.server)
	address, url := host+":"+port, "http://"+c.server+"/x.csv"
	return []string{
		"file('" + c.file + "')", "file('" + c.file + "', 'CSV', 'a String, b Int8')", "fileCluster('default', '" + c.file + "', 'CSV')",
		"filesystem('" + filepath.Dir(c.file) + "')", "url('" + url + "', 'CSV', 'a String, b Int8')", "urlCluster('default', '" + url + "', 'CSV')",
		"s3('" + url + "', 'NOSIGN', 'CSV', 'a String')", "s3Cluster('default', '" + url + "', 'CSV')", "gcs('" + url + "', 'CSV')", "oss('" + url + "', 'CSV')", "cosn('" + url + "', 'CSV')",
		"hdfs('hdfs://" + address + "/x', 'CSV', 'a String')", "azureBlobStorage('" + url + "', 'c', 'x', 'a', 'b', 'CSV')",
		"remote('" + address + "', system.one)", "remoteSecure('" + address + "', system.one)", "cluster('default', system.one)", "clusterAllReplicas('default', system.one)",
		"mysql('" + address + "', 'd', 't', 'u', 'p')", "postgresql('" + address + "', 'd', 't', 'u', 'p')", "mongodb('" + address + "', 'd', 'c', 'u', 'p', 'a String')",
		"redis('" + address + "', 'k', 'k String')", "sqlite('" + c.file + "', 't')", "odbc('DSN=x', 'd', 't')", "jdbc('x', 'd', 't')",
		"executable('cat " + c.file + "', 'CSV', 'a String, b Int8')", "icebergLocal('" + filepath.Dir(c.file) + "')", "iceberg('" + url + "')", "deltaLake('" + url + "')",
		"deltaLakeLocal('" + filepath.Dir(c.file) + "')", "hudi('" + url + "')", "paimonLocal('" + filepath.Dir(c.file) + "')", "arrowFlight('" + address + "', 'x')",
		"merge('system', 'processes')", "loop(system.processes)", "dictionary('x')", "fuzzQuery('SELECT 1')", "python('x')", "mergeTreeIndex(system, processes)",
	}
}

// ways are ways to write an expression into a statement.
var ways = []string{
	"SELECT * FROM %s", "select * from %s format CSV", "DESCRIBE %s", "DESC TABLE %s", "EXPLAIN SELECT * FROM %s", "EXPLAIN PLAN SELECT * FROM %s",
	"EXPLAIN ESTIMATE SELECT * FROM %s", "EXPLAIN SYNTAX run_query_tree_passes = 1 SELECT * FROM %s", "WITH x AS (SELECT * FROM %s) SELECT * FROM x",
	"SELECT * FROM (SELECT * FROM (SELECT * FROM %s))", "SELECT 1 WHERE 1 IN (SELECT 1 FROM %s)", "SELECT 1 UNION ALL SELECT 1 FROM %s",
	"SELECT * FROM numbers(1) AS a JOIN (SELECT 1 AS number FROM %s) AS b USING (number)", "SELECT (SELECT count() FROM %s)", "SELECT * FROM view(SELECT * FROM %s)",
	"/* x */ SELECT -- y\n * FROM /* z */ %s", "SELECT * FROM %s SETTINGS max_threads = 1", "(SELECT * FROM %s)", "FROM %s SELECT *", "SELECT exists(SELECT 1 FROM %s)",
	"SELECT * FROM viewExplain('EXPLAIN', '', (SELECT * FROM %s))", "CREATE TEMPORARY TABLE t AS SELECT * FROM %s", "INSERT INTO FUNCTION %s SELECT 1", "CHECK TABLE %s",
}

// TestReaderReachesNothing writes everything that reaches outside in many ways, and looks
// whether anything came of it.
func TestReaderReachesNothing(t *testing.T) {
	e := enginetest.Start(t)
	c := newCanary(t)
	reader := e.ReadOnlyDSN()
	tried := 0
	refused := func(sql string) {
		t.Helper()
		tried++
		if r := query(t, reader, sql); r.status == 200 || strings.Contains(string(r.body), "canary,") {
			t.Errorf("a reader may: %s: %d %.200s", sql, r.status, r.body)
		}
	}
	mixed := func(s string) string { // fILe('…')
		name, rest, _ := strings.Cut(s, "(")
		b := []byte(name)
		for i := range b {
			if i%2 == 1 {
				b[i] = strings.ToUpper(string(b[i]))[0]
			}
		}
		return string(b) + "(" + rest
	}
	for i, expression := range c.outward() {
		name, rest, _ := strings.Cut(expression, "(")
		forms := []string{
			expression, mixed(expression), name + " (" + rest, name + "/* ( */(" + rest, "`" + name + "`(" + rest, `"` + name + `"(` + rest, name + "\n--\n(" + rest,
		}
		for j, way := range ways {
			refused(fmt.Sprintf(way, forms[(i+j)%len(forms)]))
		}
	}
	// Scalars, parameters, what others ask, other databases' names for it.
	for _, sql := range []string{
		"SELECT file('" + c.file + "')", "SELECT * APPLY file FROM (SELECT '" + c.file + "')", "SELECT arrayMap(x -> file(x), ['" + c.file + "'])",
		"SELECT * FROM system.processes", "SELECT * FROM `system`.`processes`", "SELECT query FROM \"system\".processes", "select * from SYSTEM.processes", "SELECT * FROM system . /**/ processes",
		"SELECT * FROM system.query_log", "SELECT * FROM system.named_collections", "SELECT * FROM system.user_processes", "SELECT * FROM system.server_settings", "SELECT * FROM system.disks",
		"SELECT * FROM system.stack_trace", "SELECT * FROM system.users", "SELECT * FROM system.zookeeper WHERE path = '/'", "SELECT * FROM system.errors", "SELECT * FROM system.session_log",
		"SHOW PROCESSLIST", "show processlist", "SHOW USERS", "SHOW GRANTS", "SHOW ACCESS", "SHOW NAMED COLLECTIONS", "SHOW CLUSTERS", "SHOW PROFILES", "SHOW QUOTAS",
		"SELECT * FROM merge(REGEXP('sys.*'), 'processes')", "DESCRIBE system.processes", "EXISTS TABLE system.processes", "SHOW CREATE TABLE system.processes",
	} {
		refused(sql)
	}
	for _, params := range []url.Values{
		{"database": {"system"}, "query": {"SELECT * FROM processes"}}, {"database": {"SYSTEM"}, "query": {"SELECT 1"}},
		{"param_t": {"processes"}, "query": {"SELECT * FROM system.{t:Identifier}"}}, {"param_t": {"file"}, "query": {"SELECT {t :Identifier}(1)"}},
		{"max_memory_usage": {"x"}, "query": {"SELECT 1"}}, {"readonly": {"0"}, "query": {"CREATE TABLE a (b Int8) ENGINE = Memory"}},
		{"format_schema_path": {"/"}, "query": {"SELECT 1"}}, {"user_files_path": {"/"}, "query": {"SELECT 1"}}, {"allow_introspection_functions": {"1"}, "query": {"SELECT 1"}},
		{"query": {"INSERT INTO FUNCTION file('" + c.file + "') VALUES"}},
	} {
		tried++
		if r := post(t, reader, http.MethodPost, params, nil, []byte("")); r.status == 200 {
			t.Errorf("a reader may: %v: %.200s", params, r.body)
		}
	}
	time.Sleep(100 * time.Millisecond)
	if n := c.visitors.Load(); n > 0 {
		t.Errorf("%d connections to the canary", n)
	}
	if data, err := os.ReadFile(c.file); err != nil || string(data) != "canary,1\n" {
		t.Errorf("the canary is now %q, %v", data, err)
	}
	t.Logf("%d statements refused", tried)
}

// TestReaderAndTableFunctions goes through the table functions that this engine has: all
// are refused but those that are known to make rows of nothing.
func TestReaderAndTableFunctions(t *testing.T) {
	e := enginetest.Start(t)
	names := strings.Fields(mustQuery(t, e.DSN(), "SELECT name FROM system.table_functions"))
	harmless := []string{"numbers", "numbers_mt", "zeros", "zeros_mt", "primes", "null", "values", "generateSeries", "generate_series", "generateRandom", "view", "viewExplain", "viewIfPermitted", "format"}
	if len(names) < 40 {
		t.Fatalf("%d table functions", len(names))
	}
	for _, name := range names {
		r := query(t, e.ReadOnlyDSN(), "SELECT * FROM "+name+"()")
		denied := strings.Contains(string(r.body), "a reader may not use "+name)
		if slices.Contains(harmless, name) == denied || r.status == 200 && !slices.Contains(harmless, name) {
			t.Errorf("%s: %d %.200s", name, r.status, r.body)
		}
	}
}

// TestReaderAndFunctions: ordinary functions of this engine whose names sound as if they
// reached outside were looked at; a new one fails here until somebody has.
func TestReaderAndFunctions(t *testing.T) {
	e := enginetest.Start(t)
	looked := map[string]string{
		"file": "refused", "catboostEvaluate": "refused", "structureToCapnProtoSchema": "refused", "structureToProtobufSchema": "refused",
	}
	harmless := regexp.MustCompile(`(?i)^(cut|extract|decode|encode|domain|path|protocol|port|queryString|fragment|netloc|URL|top|first|tryIdn|idna|punycode|url|naiveBayes|dictGet|dictHas|dictIsIn|joinGet|h3|s2|ST_|arrayJoin|executionTime|filesystem(Available|Capacity|Unreserved)|getOSKernelVersion|getServerPort|getMaxTableName|getSizeOfEnumType|getTypeSerialization|hasColumnInTable|hostName|serverUUID|tcpPort|displayName|read|JSON|distinctJSON|currentSchemas|getClientHTTPHeader|currentProfiles|defaultProfiles|enabledProfiles|formatReadable|parseReadable|evalMLMethod|base64URL|tryBase64URL|tupleToNameValuePairs|hasThreadFuzzer|singleValueOrNull)`)
	for _, name := range strings.Fields(mustQuery(t, e.DSN(), `SELECT name FROM system.functions WHERE alias_to = '' AND match(lower(name), 'file|url|http|exec|socket|path|read|load|model|eval|schema|remote|getenv|shell|system|capnp|protobuf')`)) {
		if looked[name] == "" && !harmless.MatchString(name) {
			t.Errorf("nobody has looked at the function %s", name)
		}
	}
	for name := range looked {
		if r := query(t, e.ReadOnlyDSN(), "SELECT "+name+"('x')"); !strings.Contains(string(r.body), "a reader may not use") {
			t.Errorf("%s: %d %.200s", name, r.status, r.body)
		}
	}
}

// TestReaderLimits: a reader has limits on time, memory and rows, and can only make them
// tighter.
func TestReaderLimits(t *testing.T) {
	e := enginetest.Start(t)
	reader := e.ReadOnlyDSN()
	for name, c := range map[string]struct {
		sql    string
		params url.Values
		code   string
	}{
		"memory":                 {"SELECT length(groupArray(number)) FROM numbers(400000000) SETTINGS max_threads = 2", nil, ""}, // SETTINGS itself is refused
		"memory, as it is":       {"SELECT length(groupArray(repeat('x', 1000))) FROM numbers(40000000)", nil, "MEMORY_LIMIT_EXCEEDED"},
		"memory, asked for more": {"SELECT length(groupArray(repeat('x', 1000))) FROM numbers(40000000)", url.Values{"max_memory_usage": {"0"}}, "MEMORY_LIMIT_EXCEEDED"},
		"rows":                   {"SELECT number FROM numbers(3000000)", nil, "TOO_MANY_ROWS_OR_BYTES"},
		"rows, asked for more":   {"SELECT number FROM numbers(3000000)", url.Values{"max_result_rows": {"1000000000"}}, "TOO_MANY_ROWS_OR_BYTES"},
		"rows, fewer":            {"SELECT number FROM numbers(100000)", url.Values{"max_result_rows": {"10"}, "max_block_size": {"1"}}, "TOO_MANY_ROWS_OR_BYTES"},
		"time, less":             {"SELECT sleepEachRow(0.5) FROM numbers(20) SETTINGS max_block_size = 1", nil, ""},
		"time":                   {"SELECT count() FROM numbers(100000000000) WHERE sipHash64(number) = 1", url.Values{"max_execution_time": {"1"}}, "TIMEOUT_EXCEEDED"},
	} {
		t.Run(name, func(t *testing.T) {
			params := url.Values{"query": {c.sql}}
			for k, v := range c.params {
				params[k] = v
			}
			r := post(t, reader, http.MethodPost, params, nil, nil)
			// What was sent before the limit was met stays sent; the error is at the end.
			body := string(r.body[max(0, len(r.body)-500):])
			if r.status == 200 && !strings.Contains(body, "__exception__") || !strings.Contains(body, c.code) {
				t.Errorf("%d %s, want %s", r.status, body, c.code)
			}
		})
	}
	got := mustQuery(t, reader, "SELECT getSetting('max_execution_time')::UInt64, getSetting('max_result_rows')::UInt64, getSetting('max_memory_usage')::UInt64 > 0, getSetting('readonly')::UInt64")
	if got != "60\t1000000\t1\t1" {
		t.Errorf("limits are %q", got)
	}
	// Those of the owner are as they were.
	if r := query(t, e.DSN(), "SELECT number FROM numbers(2000000) FORMAT Null"); r.status != 200 {
		t.Errorf("the owner: %d %.200s", r.status, r.body)
	}
}

// TestReaderMayAsk: what analysts and Grafana's data source do works.
func TestReaderMayAsk(t *testing.T) {
	e := enginetest.Start(t)
	name, _ := e.Database(t)
	mustQuery(t, e.DSN(), "CREATE TABLE "+name+".t (a UInt64, time DateTime64(9), s LowCardinality(String)) ENGINE = MergeTree ORDER BY a")
	mustQuery(t, e.DSN(), "INSERT INTO "+name+".t VALUES (42, now(), 'x')")
	tbl := name + ".t"
	for _, sql := range []string{
		"SELECT version()", "SELECT displayName(), version(), revision(), timezone()", "SELECT name FROM system.databases", "SELECT name FROM system.tables WHERE database = '" + name + "'",
		"SELECT name, type FROM system.columns WHERE table = 't'", "SHOW TABLES FROM " + name, "SHOW DATABASES", "DESC TABLE " + tbl, "SHOW CREATE TABLE " + tbl, "SHOW COLUMNS FROM " + tbl,
		"EXPLAIN AST SELECT 1", "EXPLAIN indexes = 1 SELECT * FROM " + tbl, "EXISTS TABLE " + tbl,
		"SELECT toStartOfInterval(toDateTime(time), INTERVAL 60 second) AS time, count() FROM " + tbl + " GROUP BY time ORDER BY time", "WITH x AS (SELECT a FROM " + tbl + ") SELECT * FROM x",
		"SELECT a, row_number() OVER (PARTITION BY s ORDER BY a) FROM " + tbl, "SELECT * FROM numbers(3) UNION ALL SELECT 1", "SELECT format('{}', s), formatDateTime(time, '%F') FROM " + tbl,
		"SELECT arrayJoin([1, 2]), dictGetOrDefault('nothing', 'a', 1, 2) IS NULL WHERE 0", "SELECT domain('http://x.example.test/file'), path('http://x/y')",
		"SELECT * FROM " + tbl + " WHERE s IN ('file(', 'system.processes') -- SHOW PROCESSLIST",
	} {
		if r := query(t, e.ReadOnlyDSN(), sql); r.status != 200 && !strings.Contains(string(r.body), "Dictionary") {
			t.Errorf("%s: %d %.300s", sql, r.status, r.body)
		}
	}
	params := url.Values{"query": {"SELECT count() FROM " + tbl + " WHERE s = {s:String}"}, "param_s": {"x"}, "max_execution_time": {"10"}}
	if r := post(t, e.ReadOnlyDSN(), http.MethodGet, params, nil, nil); r.status != 200 || strings.TrimSpace(string(r.body)) != "1" {
		t.Errorf("a parameter: %d %s", r.status, r.body)
	}
}
