package engine_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"

	"github.com/sallyport-ci/sallyport/store/engine"
	"github.com/sallyport-ci/sallyport/store/engine/enginetest"
)

func TestMain(m *testing.M) { enginetest.Main(m) }

// startOwn starts an engine that the test may kill.
func startOwn(t *testing.T, dir string) *engine.Process {
	t.Helper()
	enginetest.Start(t) // skips if there is no library
	library, err := enginetest.Library(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	command, env, err := enginetest.Command()
	if err != nil {
		t.Fatal(err)
	}
	p, err := engine.Start(t.Context(), engine.StartConfig{Command: command, Env: env, Library: library, Dir: dir, ReadOnlyUser: "reader"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		defer cancel()
		if err := p.Stop(ctx); err != nil {
			t.Errorf("stop: %v", err)
		}
	})
	return p
}

func open(t *testing.T, dsn string) driver.Conn {
	t.Helper()
	o, err := clickhouse.ParseDSN(dsn)
	if err != nil {
		t.Fatal(err)
	}
	conn, err := clickhouse.Open(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := conn.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return conn
}

// A reply is an HTTP response with its body read.
type reply struct {
	status int
	header http.Header
	body   []byte
}

// post sends a request to the engine of a DSN, with the DSN's user unless the URL
// parameters or headers name another.
func post(t *testing.T, dsn, method string, params url.Values, header http.Header, body []byte) reply {
	t.Helper()
	u, err := url.Parse(dsn)
	if err != nil {
		t.Fatal(err)
	}
	u.Path, u.RawQuery = "/", params.Encode()
	if params.Has("user") || header.Get("X-ClickHouse-User") != "" {
		u.User = nil
	}
	req, err := http.NewRequestWithContext(t.Context(), method, u.String(), bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for k, v := range header {
		req.Header[k] = v
	}
	client := http.Client{Transport: &http.Transport{DisableCompression: true, DisableKeepAlives: true}}
	res, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	out, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return reply{res.StatusCode, res.Header, out}
}

func query(t *testing.T, dsn, sql string) reply {
	t.Helper()
	return post(t, dsn, http.MethodPost, nil, nil, []byte(sql))
}

func mustQuery(t *testing.T, dsn, sql string) string {
	t.Helper()
	r := query(t, dsn, sql)
	if r.status != http.StatusOK {
		t.Fatalf("%s: %d %s", sql, r.status, r.body)
	}
	return strings.TrimSpace(string(r.body))
}

func residentMB(pid int) (mb int, err error) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(data)) {
		if rest, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			_, err = fmt.Sscan(rest, &mb)
			return mb >> 10, err
		}
	}
	return 0, fmt.Errorf("no VmRSS of %d", pid)
}
