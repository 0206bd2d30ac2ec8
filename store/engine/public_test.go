package engine_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"io"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/sallyport-ci/sallyport/store/engine"
	"github.com/sallyport-ci/sallyport/store/engine/enginetest"
)

// TestPublicByTLS: other machines reach the engine by TLS only, with a password, and at
// the same address after it died; it does not listen elsewhere in clear.
func TestPublicByTLS(t *testing.T) {
	library, err := enginetest.Library(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	command, env, err := enginetest.Command()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	cert, key, _, err := engine.SelfMadeCertificate(dir, "0.0.0.0:0", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	config := engine.StartConfig{Command: command, Env: env, Library: library, Dir: dir + "/db", ReadOnlyUser: "reader", ReadOnlyPassword: "open sesame", MaxMemory: 1 << 30}
	clear := config
	clear.Addr = "0.0.0.0:0"
	if p, err := engine.Start(t.Context(), clear); err == nil || !strings.Contains(err.Error(), "loopback") {
		t.Errorf("it listens in clear: %v", err)
		if err == nil {
			_ = p.Stop(t.Context())
		}
	}
	broken := config
	broken.Public = engine.PublicConfig{Addr: "127.0.0.1:0", Cert: key, Key: cert}
	if _, err := engine.Start(t.Context(), broken); err == nil || !strings.Contains(err.Error(), "read certificate") {
		t.Errorf("files that are swapped: %v", err)
	}
	config.Public = engine.PublicConfig{Addr: "127.0.0.1:0", Cert: cert, Key: key}
	p, err := engine.Start(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		defer cancel()
		if err := p.Stop(ctx); err != nil {
			t.Error(err)
		}
	})
	pem, err := os.ReadFile(cert)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(pem)
	ask := func(scheme, password string, c *tls.Config) (string, error) {
		client := &http.Client{Transport: &http.Transport{TLSClientConfig: c, DisableKeepAlives: true}, Timeout: 10 * time.Second}
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, scheme+"://"+p.PublicAddr()+"/", strings.NewReader("SELECT 6 * 7"))
		if err != nil {
			t.Fatal(err)
		}
		r.SetBasicAuth("reader", password)
		res, err := client.Do(r)
		if err != nil {
			return "", err
		}
		defer res.Body.Close()
		body, err := io.ReadAll(res.Body)
		return strings.TrimSpace(string(body)), err
	}
	trusting := &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}
	if got, err := ask("https", "open sesame", trusting); err != nil || got != "42" {
		t.Errorf("by TLS: %q, %v", got, err)
	}
	if got, err := ask("https", "wrong", trusting); err != nil || !strings.Contains(got, "AUTHENTICATION_FAILED") {
		t.Errorf("with a wrong password: %q, %v", got, err)
	}
	if got, err := ask("https", "open sesame", &tls.Config{MinVersion: tls.VersionTLS12}); err == nil {
		t.Errorf("without trust: %q", got)
	}
	if got, err := ask("https", "open sesame", &tls.Config{RootCAs: roots, MaxVersion: tls.VersionTLS11, MinVersion: tls.VersionTLS10}); err == nil { //nolint:gosec // it is refused
		t.Errorf("by TLS 1.1: %q", got)
	}
	if got, err := ask("http", "open sesame", nil); err == nil && strings.Contains(got, "42") {
		t.Errorf("in clear: %q", got)
	}
	before := p.PublicAddr()
	dead, err := os.FindProcess(p.PID())
	if err != nil {
		t.Fatal(err)
	}
	if err := dead.Kill(); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		got, err := ask("https", "open sesame", trusting)
		if err == nil && got == "42" {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("after it died: %q, %v", got, err)
		}
	}
	if p.PublicAddr() != before {
		t.Errorf("it is at %s now, and was at %s", p.PublicAddr(), before)
	}
}
