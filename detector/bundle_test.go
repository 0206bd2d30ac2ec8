package detector

import (
	"bytes"
	"compress/gzip"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// keyPair is a key to sign with and one to verify.
func keyPair(t *testing.T, kind string) (private, public []byte) {
	t.Helper()
	var key any
	var half any
	switch kind {
	case "rsa":
		k, err := rsa.GenerateKey(rand.Reader, 2048)
		if err != nil {
			t.Fatal(err)
		}
		key, half = k, &k.PublicKey
	default:
		k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		key, half = k, &k.PublicKey
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	private = pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
	if der, err = x509.MarshalPKIXPublicKey(half); err != nil {
		t.Fatal(err)
	}
	return private, pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
}

// shelf is a server that has a bundle.
type shelf struct {
	mu      sync.Mutex
	data    []byte
	status  int
	full    int // answers with a bundle
	headers http.Header
}

func (s *shelf) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.headers = r.Header.Clone()
	if s.status != 0 {
		w.WriteHeader(s.status)
		return
	}
	etag := fmt.Sprintf(`"%x"`, sha256.Sum256(s.data))
	w.Header().Set("ETag", etag)
	if r.Header.Get("If-None-Match") == etag {
		w.WriteHeader(http.StatusNotModified)
		return
	}
	s.full++
	_, _ = w.Write(s.data)
}

func (s *shelf) put(data []byte, status int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.data, s.status = data, status
}

func bundleOf(t *testing.T, private []byte, message, domain string) []byte {
	t.Helper()
	dir := t.TempDir()
	for name, text := range map[string]string{
		"mine/mine.rego":                 strings.NewReplacer("NAME", "mine", "MESSAGE", message).Replace(minePolicy),
		"mine/mine_test.rego":            "package sallyport.policies.mine_test\n\ntest_x if true\n",
		"data/mine.json":                 `["` + domain + `"]`,
		"data/known_bad_hosts.more.json": `{"worse.example.test": {"what": "test"}}`,
		"exceptions/a.yaml":              exceptionsFile,
	} {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	var out bytes.Buffer
	if err := WriteBundle(t.Context(), dir, message, private, &out); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// TestBundle: a signed bundle is in force; one that is unsigned, signed by another, cut off,
// changed, or does not compile, is reported and the last good one stays, also over a restart
// without a network.
func TestBundle(t *testing.T) {
	for _, kind := range []string{"rsa", "ecdsa"} {
		t.Run(kind, func(t *testing.T) {
			private, public := keyPair(t, kind)
			other, _ := keyPair(t, kind)
			s := &shelf{data: bundleOf(t, private, "first", "a.example.test")}
			server := httptest.NewServer(s)
			defer server.Close()
			dir := t.TempDir()
			var log bytes.Buffer
			open := func() (*Policies, *Bundle) {
				p, problems, err := LoadPolicies(t.Context(), "")
				if err != nil || len(problems) > 0 {
					t.Fatal(err, problems)
				}
				b, err := OpenBundle(t.Context(), p, BundleConfig{
					URL: server.URL + "/x?secret=hidden", Token: "t0ken", PublicKey: public, Dir: dir, Logger: slog.New(slog.NewTextHandler(&log, nil)),
				})
				if err != nil {
					t.Fatal(err)
				}
				return p, b
			}
			p, b := open()
			want := func(message, domain string) {
				t.Helper()
				if got := says(t, p, "mine", domain); got != message {
					t.Errorf("says %q of %s, want %q\n%s", got, domain, message, log.String())
				}
			}
			want("first", "a.example.test")
			if s.headers.Get("Authorization") != "Bearer t0ken" {
				t.Error("without its token")
			}
			if len(p.Exceptions()) != 2 || p.Exceptions()[0].Owner != "alice" {
				t.Errorf("exceptions %v", p.Exceptions())
			}
			b.look(t.Context())
			if s.full != 1 {
				t.Errorf("%d answers with a bundle, want one: the server says that it is as it was", s.full)
			}
			good := s.data
			for name, bad := range map[string][]byte{
				"unsigned": bundleOf(t, nil, "bad", "a.example.test"), "another's": bundleOf(t, other, "bad", "a.example.test"),
				"cut off": good[:len(good)/2], "another message": tampered(t, good, "first", "worst"), "another list": tampered(t, good, "a.example.test", "b.example.test"),
				"another exception": tampered(t, good, "acme/*", "*/*   "), "empty": {}, "a page": []byte("<html>"),
			} {
				before := b.failures.Load()
				s.put(bad, 0)
				b.look(t.Context())
				if b.failures.Load() == before {
					t.Errorf("%s: taken", name)
				}
				want("first", "a.example.test")
			}
			// Away, and the agent starts anew: what was kept is in force.
			s.put(nil, http.StatusServiceUnavailable)
			p, b = open()
			want("first", "a.example.test")
			s.put(bundleOf(t, private, "second", "b.example.test"), 0)
			b.look(t.Context())
			want("second", "b.example.test")
			want("", "a.example.test")
			if strings.Contains(log.String(), "hidden") || strings.Contains(log.String(), "t0ken") {
				t.Errorf("secrets in the log: %s", log.String())
			}
			// What is kept is verified, too.
			if err := os.WriteFile(filepath.Join(dir, bundleFile), bundleOf(t, other, "bad", "a.example.test"), 0o600); err != nil {
				t.Fatal(err)
			}
			s.put(nil, http.StatusServiceUnavailable)
			p, _ = open()
			want("-", "a.example.test")
		})
	}
}

// tampered changes what is in a bundle, not its signature.
func tampered(t *testing.T, good []byte, from, to string) []byte {
	t.Helper()
	z, err := gzip.NewReader(bytes.NewReader(good))
	if err != nil {
		t.Fatal(err)
	}
	tar, err := io.ReadAll(z)
	if err != nil {
		t.Fatal(err)
	}
	changed := bytes.ReplaceAll(tar, []byte(from), []byte(to))
	if len(from) != len(to) || bytes.Equal(changed, tar) {
		t.Fatalf("%q is not in the bundle", from)
	}
	var out bytes.Buffer
	w := gzip.NewWriter(&out)
	if _, err := w.Write(changed); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// TestBundleThatDoesNotCompile is refused whole, though another policy in it is good.
func TestBundleThatDoesNotCompile(t *testing.T) {
	p, _, err := LoadPolicies(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	l := newLayer()
	for name, text := range map[string]string{
		"good.rego": strings.NewReplacer("NAME", "good", "MESSAGE", "good").Replace(minePolicy),
		"bad.rego":  strings.NewReplacer("NAME", "bad", "MESSAGE", "bad", "severity: low", "severity: loud").Replace(minePolicy),
	} {
		if err := l.add(name, []byte(text)); err != nil {
			t.Fatal(err)
		}
	}
	if err := p.setBundle(t.Context(), l); err == nil || !strings.Contains(err.Error(), "loud") {
		t.Error(err)
	}
	if got := says(t, p, "good", "x"); got != "-" {
		t.Error("half of a bundle is in force")
	}
}

// TestBundleAndFolder: the folder of the machine replaces what the bundle says.
func TestBundleAndFolder(t *testing.T) {
	f := newFolder(t)
	private, public := keyPair(t, "ecdsa")
	file := filepath.Join(t.TempDir(), "bundle.tar.gz")
	if err := os.WriteFile(file, bundleOf(t, private, "bundle", "a.example.test"), 0o600); err != nil {
		t.Fatal(err)
	}
	b, err := OpenBundle(t.Context(), f.Policies, BundleConfig{URL: file, PublicKey: public})
	if err != nil {
		t.Fatal(err)
	}
	f.want("mine", "a.example.test", "first")
	f.remove("mine/mine.rego")
	f.reload()
	f.want("mine", "a.example.test", "bundle")
	if err := os.WriteFile(file, bundleOf(t, private, "newer", "a.example.test"), 0o600); err != nil {
		t.Fatal(err)
	}
	b.look(t.Context())
	f.want("mine", "a.example.test", "newer")
}

// TestOpenBundleRefuses configurations that would trust anybody.
func TestOpenBundleRefuses(t *testing.T) {
	_, public := keyPair(t, "ecdsa")
	for name, c := range map[string]BundleConfig{
		"no key": {URL: "x"}, "no URL": {PublicKey: public}, "no PEM": {URL: "x", PublicKey: []byte("secret")},
		"a certificate": {URL: "x", PublicKey: []byte("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")},
	} {
		if _, err := OpenBundle(t.Context(), &Policies{}, c); err == nil {
			t.Errorf("%s is taken", name)
		}
	}
}
