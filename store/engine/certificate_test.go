package engine

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestSelfMadeCertificate: it is made once, is known by its digest, names what it is
// reached by, and is made again before it ends or when the address is another.
func TestSelfMadeCertificate(t *testing.T) {
	dir, now := t.TempDir(), time.Now()
	cert, key, first, err := SelfMadeCertificate(dir, "0.0.0.0:8123", now)
	if err != nil {
		t.Fatal(err)
	}
	pair, err := tls.LoadX509KeyPair(cert, key)
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(pair.Certificate[0])
	if first != strings.ToUpper(hex.EncodeToString(sum[:])) {
		t.Errorf("fingerprint %s", first)
	}
	roots := x509.NewCertPool()
	roots.AddCert(pair.Leaf)
	hostname, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"localhost", "127.0.0.1", hostname} {
		if _, err := pair.Leaf.Verify(x509.VerifyOptions{DNSName: name, Roots: roots}); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if info, err := os.Stat(key); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the key's file: %v, %v", info.Mode(), err)
	}
	for _, c := range []struct {
		addr string
		now  time.Time
		same bool
	}{
		{"0.0.0.0:8123", now, true}, {"[::]:9", now.Add(30 * 24 * time.Hour), true}, {"0.0.0.0:8123", now.Add(certificateLife - certificateRenewal + time.Hour), false},
		{"ch.example.test:8123", now, false}, {"ch.example.test:8123", now, true},
	} {
		_, _, again, err := SelfMadeCertificate(dir, c.addr, c.now)
		if err != nil || (again == first) != c.same {
			t.Errorf("%s at %s: %s after %s, %v", c.addr, c.now, again, first, err)
		}
		first = again
	}
	if err := os.WriteFile(cert, []byte("garbage"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, _, _, err := SelfMadeCertificate(dir, "0.0.0.0:8123", now); err == nil || !strings.Contains(err.Error(), cert) {
		t.Errorf("a certificate that is none: %v", err)
	}
}

// TestCertificateIsRenewed: new files are taken up while the old are in use; files half
// written are not.
func TestCertificateIsRenewed(t *testing.T) {
	dir, now := t.TempDir(), time.Now()
	cert, key, _, err := SelfMadeCertificate(dir, "0.0.0.0:1", now)
	if err != nil {
		t.Fatal(err)
	}
	c, err := loadCertificate(cert, key)
	if err != nil {
		t.Fatal(err)
	}
	c.now = func() time.Time { return now }
	serial := func() string {
		p, err := c.get(nil)
		if err != nil {
			t.Fatal(err)
		}
		return p.Leaf.SerialNumber.String()
	}
	old := serial()
	if err := os.WriteFile(cert, []byte("half"), 0o600); err != nil {
		t.Fatal(err)
	}
	now = now.Add(time.Minute)
	if serial() != old {
		t.Error("a file half written was taken up")
	}
	if _, err := makeCertificate(cert, key, "0.0.0.0:1", now); err != nil {
		t.Fatal(err)
	}
	if err := os.Chtimes(cert, now, now); err != nil {
		t.Fatal(err)
	}
	if serial() != old {
		t.Error("looked at at once")
	}
	now = now.Add(certificateCheck)
	if serial() == old {
		t.Error("the new certificate was not taken up")
	}
	if _, err := loadCertificate(filepath.Join(dir, "none"), key); err == nil || !strings.Contains(err.Error(), "none") {
		t.Errorf("no file: %v", err)
	}
}

func TestIsLoopback(t *testing.T) {
	for addr, want := range map[string]bool{
		"127.0.0.1:1": true, "localhost:1": true, "[::1]:1": true, "127.8.8.8:0": true, "0.0.0.0:1": false, "[::]:1": false, ":1": false, "10.0.0.1:1": false, "x.example.test:1": false, "": false,
	} {
		if IsLoopback(addr) != want {
			t.Errorf("%q", addr)
		}
	}
}
