package store

import (
	"context"
	"crypto/tls"
	"encoding/pem"
	"net"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
)

func TestDSNs(t *testing.T) {
	empty := filepath.Join(t.TempDir(), "empty.pem")
	if err := os.WriteFile(empty, []byte("none"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		dsn, address, database, failure string
		native, tls                     bool
	}{
		{dsn: "http://u:p@127.0.0.1:9999/x", address: "127.0.0.1:9999", database: "x"},
		{dsn: "http://127.0.0.1", address: "127.0.0.1:8123", database: "sallyport"},
		{dsn: "http://[::1]", address: "[::1]:8123", database: "sallyport"},
		{dsn: "https://db.example.test/", address: "db.example.test:8443", database: "sallyport", tls: true},
		{dsn: "clickhouse://db.example.test", address: "db.example.test:9000", database: "sallyport", native: true},
		{dsn: "clickhouse://127.0.0.1:9001/x", address: "127.0.0.1:9001", database: "x", native: true},
		{dsn: "clickhouses://db.example.test:", address: "db.example.test:9440", database: "sallyport", native: true, tls: true},
		{dsn: "tcp://u:secret@h/x", failure: "scheme"},
		{dsn: "secret", failure: "scheme"},
		{dsn: "secret:x@h", failure: "scheme"},
		{dsn: "http:///x", failure: "no host"},
		{dsn: "http://:8123/x", failure: "no host"},
		{dsn: "http://u:secret@a,b/x", failure: "several hosts"},
		{dsn: "http://h/a`b", failure: "forbidden"},
		{dsn: "http://u:secret word@h:x/", failure: "not a URL"},
		{dsn: "http://h/x?password=secret", failure: "other than ca"},
		{dsn: "http://h/x?%zzsecret", failure: "cannot be read"},
		{dsn: "http://h/x#secret", failure: "%23"},
		{dsn: "http://h/x?ca=/a", failure: "no TLS"},
		{dsn: "https://u:secret@h/x?ca=/does/not/exist", failure: "/does/not/exist"},
		{dsn: "https://u:secret@h/x?ca=" + empty, failure: "no certificate"},
	} {
		o, err := parseDSN(c.dsn)
		switch {
		case c.failure != "":
			if err == nil || !strings.Contains(err.Error(), c.failure) || strings.Contains(err.Error(), "secret") {
				t.Errorf("%s: error %v, want one of %q", c.dsn, err, c.failure)
			}
		case err != nil:
			t.Errorf("%s: %v", c.dsn, err)
		case o.Addr[0] != c.address || o.Auth.Database != c.database:
			t.Errorf("%s: %s, database %s", c.dsn, o.Addr[0], o.Auth.Database)
		case (o.Protocol == clickhouse.Native) != c.native || (o.TLS != nil) != c.tls:
			t.Errorf("%s: protocol %s, TLS %t", c.dsn, o.Protocol, o.TLS != nil)
		}
	}
}

// TestTLS has no ClickHouse with TLS at hand: a listener says whether the handshake
// came about, and hangs up.
func TestTLS(t *testing.T) {
	web := httptest.NewTLSServer(nil)
	t.Cleanup(web.Close)
	ca := filepath.Join(t.TempDir(), "ca.pem")
	certificate := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: web.Certificate().Raw})
	if err := os.WriteFile(ca, certificate, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		scheme, parameters string
		shakes             bool
	}{
		{"https", "?ca=" + ca, true},
		{"clickhouses", "?ca=" + ca, true},
		{"https", "", false},
		{"clickhouses", "", false},
		{"http", "", false},
		{"clickhouse", "", false},
	} {
		t.Run(c.scheme+c.parameters[:min(3, len(c.parameters))], func(t *testing.T) {
			listener, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			shook := make(chan bool, 1)
			go func() { // ends when the listener is closed
				seen := false
				defer func() { shook <- seen }()
				for {
					conn, err := listener.Accept()
					if err != nil {
						return
					}
					_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
					server := tls.Server(conn, &tls.Config{Certificates: web.TLS.Certificates, MinVersion: tls.VersionTLS12})
					seen = server.HandshakeContext(t.Context()) == nil || seen
					_ = conn.Close()
				}
			}()
			s, err := Open(t.Context(), c.scheme+"://u:secret@"+listener.Addr().String()+"/x"+c.parameters)
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
			defer cancel()
			err = s.Ping(ctx)
			if err == nil || strings.Contains(err.Error(), "secret") {
				t.Errorf("ping of what is no ClickHouse: %v", err)
			}
			if err := s.Close(); err != nil {
				t.Error(err)
			}
			if err := listener.Close(); err != nil {
				t.Error(err)
			}
			if got := <-shook; got != c.shakes {
				t.Errorf("handshake: %t, want %t (%v)", got, c.shakes, err)
			}
		})
	}
}
