package httphead

import (
	"bytes"
	"context"
	"crypto/tls"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

func TestHTTP1(t *testing.T) {
	for _, c := range []struct {
		name   string
		writes []string
		want   []Request
	}{
		{"simple", []string{"GET /a/b?token=x HTTP/1.1\r\nAccept: */*\r\nHost: API.github.com:443\r\n\r\n"}, []Request{{"GET", "api.github.com", "/a/b", "1.1"}}},
		{"two in a row, with bodies", []string{
			"POST /x HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\n\r\n", "body", "PUT /y HTTP/1.1\r\nHost: h\r\n\r\nbody"},
			[]Request{{"POST", "h", "/x", "1.1"}, {"PUT", "h", "/y", "1.1"}}},
		{"in pieces", []string{"GET / HTTP/1.1\r\n", "Host:", " h\r\n", "\r\n"}, []Request{{"GET", "h", "/", "1.1"}}},
		{"of a proxy", []string{"GET http://h.example.test/x HTTP/1.1\r\nHost: other\r\n\r\n"}, []Request{{"GET", "h.example.test", "/x", "1.1"}}},
		{"IPv6", []string{"GET / HTTP/1.1\r\nHost: [2001:db8::1]:8443\r\n\r\n"}, []Request{{"GET", "2001:db8::1", "/", "1.1"}}},
		{"1.0", []string{"GET / HTTP/1.0\r\nHost: h\r\n\r\n"}, []Request{{"GET", "h", "/", "1.0"}}},
		{"no host", []string{"GET / HTTP/1.1\r\nAccept: x\r\n\r\n"}, nil},
		{"no HTTP", []string{"GET me a coffee\r\n\r\n"}, nil},
		{"body that looks like one", []string{"POSTCARDS and more"}, nil},
		{"host that is none", []string{"GET / HTTP/1.1\r\nHost: a b\r\n\r\n"}, nil},
		{"a new one before the first is whole", []string{"GET /a HTTP/1.1\r\nX: y", "GET /b HTTP/1.1\r\nHost: h\r\n\r\n"}, []Request{{"GET", "h", "/b", "1.1"}}},
	} {
		var s Stream
		var got []Request
		for _, w := range c.writes {
			got = append(got, s.Write([]byte(w), uint64(len(w)))...)
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%s: %+v, want %+v", c.name, got, c.want)
		}
	}
}

// TestCutOff: of a head that is longer than what is shown the shown part counts.
func TestCutOff(t *testing.T) {
	var s Stream
	head := "GET /x HTTP/1.1\r\nHost: h\r\nCookie: " + strings.Repeat("c", 5000)
	if got := s.Write([]byte(head[:2048]), uint64(len(head))); !slices.Equal(got, []Request{{"GET", "h", "/x", "1.1"}}) {
		t.Errorf("%+v", got)
	}
	var two Stream
	if got := two.Write([]byte("GET /"+strings.Repeat("p", 2000)), 4000); got != nil {
		t.Errorf("a host from nowhere: %+v", got)
	}
}

// recorded is a connection that remembers what is written, write by write.
type recorded struct {
	net.Conn
	mu     *sync.Mutex
	writes *[][]byte
}

func (r recorded) Write(b []byte) (int, error) {
	r.mu.Lock()
	*r.writes = append(*r.writes, bytes.Clone(b))
	r.mu.Unlock()
	return r.Conn.Write(b)
}

// conversation is what Go's client writes when it makes requests by HTTP/2.
func conversation(t *testing.T, make func(base string, c *http.Client)) [][]byte {
	t.Helper()
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		if r.ProtoMajor != 2 {
			t.Errorf("%s", r.Proto)
		}
		_, _ = io.Copy(io.Discard, r.Body)
	}))
	server.EnableHTTP2 = true
	server.StartTLS()
	defer server.Close()
	var mu sync.Mutex
	var writes [][]byte
	// net/http's own Transport takes no connection but *tls.Conn for HTTP/2.
	transport := &http2.Transport{DialTLSContext: func(ctx context.Context, network, address string, cfg *tls.Config) (net.Conn, error) { //nolint:staticcheck // as above
		cfg.InsecureSkipVerify = true
		d := tls.Dialer{Config: cfg}
		c, err := d.DialContext(ctx, network, address)
		return recorded{c, &mu, &writes}, err
	}}
	make(server.URL, &http.Client{Transport: transport})
	transport.CloseIdleConnections() //nolint:staticcheck // as above
	mu.Lock()
	defer mu.Unlock()
	return writes
}

func requests(t *testing.T, base string, c *http.Client) {
	t.Helper()
	for _, r := range []struct {
		method, path string
		body         int
	}{{"GET", "/repos/a/b?q=secret", 0}, {"POST", "/repos/a/b/issues", 40_000}, {"GET", "/repos/a/b", 0}, {"DELETE", "/x", 0}} {
		req, err := http.NewRequest(r.method, base+r.path, strings.NewReader(strings.Repeat("b", r.body)))
		if err != nil {
			t.Error(err)
			return
		}
		req.Header.Set("Authorization", "Bearer secret")
		response, err := c.Do(req)
		if err != nil {
			t.Error(err)
			return
		}
		_ = response.Body.Close()
	}
}

func TestHTTP2(t *testing.T) {
	var host string
	writes := conversation(t, func(base string, c *http.Client) {
		host, _, _ = strings.Cut(strings.TrimPrefix(base, "https://"), ":")
		requests(t, base, c)
	})
	want := []Request{
		{"GET", host, "/repos/a/b", "2"}, {"POST", host, "/repos/a/b/issues", "2"}, {"GET", host, "/repos/a/b", "2"}, {"DELETE", host, "/x", "2"},
	}
	for _, shown := range []int{2048, 1 << 20} {
		var s Stream
		var got []Request
		for _, w := range writes {
			got = append(got, s.Write(w[:min(len(w), shown)], uint64(len(w)))...)
		}
		if !slices.Equal(got, want) || s.Lost() {
			t.Errorf("%+v, want %+v, lost %t", got, want, s.Lost())
		}
	}
	// The same bytes in other pieces say the same.
	all := bytes.Join(writes, nil)
	for range 20 {
		var s Stream
		var got []Request
		for rest := all; len(rest) > 0; {
			n := min(len(rest), 24+rand.IntN(300))
			got = append(got, s.Write(rest[:n], uint64(n))...)
			rest = rest[n:]
		}
		if !slices.Equal(got, want) {
			t.Fatalf("%+v", got)
		}
	}
}

// TestHTTP2Shapes: padding, priority, continuation, and what cannot be understood.
func TestHTTP2Shapes(t *testing.T) {
	var block bytes.Buffer
	encoder := hpack.NewEncoder(&block)
	for _, f := range []hpack.HeaderField{{Name: ":method", Value: "GET"}, {Name: ":authority", Value: "api.github.com"}, {Name: ":path", Value: "/x"}} {
		if err := encoder.WriteField(f); err != nil {
			t.Fatal(err)
		}
	}
	var wire bytes.Buffer
	wire.WriteString(preface)
	framer := http2.NewFramer(&wire, nil)
	half := block.Len() / 2
	if err := framer.WriteSettings(); err != nil {
		t.Fatal(err)
	}
	if err := framer.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: block.Bytes()[:half], PadLength: 9, Priority: http2.PriorityParam{StreamDep: 3, Weight: 4}}); err != nil {
		t.Fatal(err)
	}
	if err := framer.WriteContinuation(1, true, block.Bytes()[half:]); err != nil {
		t.Fatal(err)
	}
	var s Stream
	if got := s.Write(wire.Bytes(), uint64(wire.Len())); !slices.Equal(got, []Request{{"GET", "api.github.com", "/x", "2"}}) || s.Lost() {
		t.Errorf("%+v", got)
	}
	for name, b := range map[string][]byte{
		"continuation of nothing": append([]byte(preface), 0, 0, 1, 9, 4, 0, 0, 0, 1, 0x82),
		"no headers in a header":  append([]byte(preface), 0, 0, 0, 1, 4, 0, 0, 0, 1),
		"padding beyond the end":  append([]byte(preface), 0, 0, 2, 1, 12, 0, 0, 0, 1, 200, 0x82),
		"an index of nothing":     append([]byte(preface), 0, 0, 2, 1, 4, 0, 0, 0, 1, 0xff, 0x7f),
	} {
		var s Stream
		if got := s.Write(b, uint64(len(b))); got != nil || !s.Lost() {
			t.Errorf("%s: %+v, lost %t", name, got, s.Lost())
		}
	}
	hidden := append([]byte(preface), 0, 0, 50, 1, 4, 0, 0, 0, 1)
	var lost Stream
	if lost.Write(hidden, uint64(len(hidden)+50)); !lost.Lost() {
		t.Error("headers that were not shown are not missed")
	}
	if lost.Write(wire.Bytes(), uint64(wire.Len())); lost.Lost() {
		t.Error("a connection that begins anew stays lost")
	}
}

func FuzzStream(f *testing.F) {
	f.Add([]byte("GET / HTTP/1.1\r\nHost: h\r\n\r\n"), uint16(10), uint64(100))
	f.Add(append([]byte(preface), 0, 0, 3, 1, 4, 0, 0, 0, 1, 0x82, 0x84, 0x41), uint16(30), uint64(50))
	f.Fuzz(func(t *testing.T, data []byte, cut uint16, size uint64) {
		var s Stream
		n := min(int(cut), len(data))
		for _, r := range append(s.Write(data[:n], uint64(n)), s.Write(data[n:], max(size, uint64(len(data)-n)))...) {
			if r.Host == "" || r.Method == "" || strings.ContainsAny(r.Path, "?# \r\n") {
				t.Errorf("%+v", r)
			}
		}
	})
}
