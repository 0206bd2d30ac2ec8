package engine

import (
	"errors"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/sallyport-ci/sallyport/store/sqltoken"
)

func FuzzParseStatement(f *testing.F) {
	for _, s := range []string{
		"", "SELECT 1", "insert into `a b`.\"c\" (x, y) FORMAT Native\n\x00\x01", "INSERT INTO FUNCTION file('x') VALUES (1)",
		"INSERT INTO t SETTINGS a = 'FORMAT' FORMAT CSV\r\n1", "/* /* */ */ INSERT INTO format.values VALUES", "SELECT $a$ FORMAT x $a$ FORMAT JSON;",
		"INSERT INTO t (SELECT 1)", "((WITH 1 AS x SELECT x)) FORMAT TSV SETTINGS a=1", "SELECT 'un", "-- only", "$", "INSERT", "INSERT INTO t FORMAT",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, src string) {
		st := parseStatement(src)
		if st.rowsAt < 0 || st.rowsAt > len(src) || !strings.HasPrefix(src, st.text) {
			t.Fatalf("%q: %+v", src, st)
		}
		if st.takesRows && st.complete && st.rowsAt < len(st.text) {
			t.Fatalf("%q: rows begin inside the statement: %+v", src, st)
		}
		lex := sqltoken.New(src, 0)
		for last := 0; ; {
			tok, ok := lex.Next()
			if !ok {
				break
			}
			if tok.Start < last || tok.End <= tok.Start || tok.End > len(src) {
				t.Fatalf("%q: token %+v behind %d", src, tok, last)
			}
			last = tok.End
		}
		_ = (&database{}).forbidden(src)
	})
}

func FuzzParseRequest(f *testing.F) {
	for _, s := range []string{
		"", "query=SELECT+1&database=x", "compress=1&decompress=2", "client_protocol_version=-1", "param_=x&param_a=%00",
		"max_threads=1;2", "%zz", "user=a&password=b&user=c", "default_format=%00", "network_compression_method=zstd", "--path=/x",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, raw string) {
		q, err := parseRequest(&http.Request{Method: http.MethodPost, Header: http.Header{}, URL: &url.URL{RawQuery: raw}})
		if err != nil {
			var ex *exception
			if !errors.As(err, &ex) || ex.status() < 400 || ex.code <= 0 {
				t.Fatalf("%q: %v", raw, err)
			}
			return
		}
		for _, s := range q.settings {
			if !isSettingName(s.name) || interfaceParameters[s.name] {
				t.Fatalf("%q: setting %q", raw, s.name)
			}
		}
		if strings.IndexByte(q.database+q.queryID+q.defaultFormat, 0) >= 0 {
			t.Fatalf("%q: a zero byte got through", raw)
		}
	})
}

func FuzzNewException(f *testing.F) {
	for _, s := range []string{"", "Code: 60. DB::Exception: x", "Code: 999999999999999999999. x", "x Code: -1. y", "Code: 0."} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, msg string) {
		e := newException(msg)
		if e.code <= 0 || e.status() < 400 || !strings.HasPrefix(e.message, "Code: ") {
			t.Fatalf("%q: %+v", msg, e)
		}
	})
}

func TestParseInsert(t *testing.T) {
	for src, want := range map[string]statement{
		"INSERT INTO t FORMAT CSV\n1":              {text: "INSERT INTO t ", takesRows: true, format: "CSV", rowsAt: 25, complete: true},
		"INSERT INTO format FORMAT CSV 1":          {text: "INSERT INTO format ", takesRows: true, format: "CSV", rowsAt: 30, complete: true},
		"INSERT INTO a.values VALUES(1)":           {text: "INSERT INTO a.values ", takesRows: true, values: true, format: "Values", rowsAt: 27, complete: true},
		"INSERT INTO t (format, values) SELECT 1":  {text: "INSERT INTO t (format, values) SELECT 1", complete: true},
		"INSERT INTO t (SELECT 1)":                 {text: "INSERT INTO t (SELECT 1)", complete: true},
		"INSERT INTO t; DROP TABLE t FORMAT CSV 1": {text: "INSERT INTO t; DROP TABLE t FORMAT CSV 1", complete: true},
		"INSERT INTO t (a)":                        {text: "INSERT INTO t (a)", takesRows: true, rowsAt: 17},
	} {
		if got := parseStatement(src); got != want {
			t.Errorf("%s: %+v, not %+v", src, got, want)
		}
	}
}
