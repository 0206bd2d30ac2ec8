package engine

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"
)

const (
	// certificateLife is how long a self-made certificate holds.
	certificateLife = 397 * 24 * time.Hour
	// certificateRenewal is how long before its end a self-made certificate is made again.
	certificateRenewal = 60 * 24 * time.Hour
	// certificateCheck is how often files are looked at for a new certificate.
	certificateCheck = 10 * time.Second
)

// IsLoopback says whether an address, HOST:PORT, can be reached from this machine only.
func IsLoopback(addr string) bool {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return false
	}
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// SelfMadeCertificate returns the files of a certificate for this machine, made in the
// folder if there is none or if it ends soon, and the SHA-256 of the certificate, by which
// clients can know it. The key is the owner's to read alone.
func SelfMadeCertificate(dir, addr string, now time.Time) (cert, key, fingerprint string, err error) {
	cert, key = filepath.Join(dir, "clickhouse-cert.pem"), filepath.Join(dir, "clickhouse-key.pem")
	pair, err := tls.LoadX509KeyPair(cert, key)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return "", "", "", fmt.Errorf("read the self-made certificate: %w; remove %s and %s to have another made", err, cert, key)
	}
	if err != nil || now.Add(certificateRenewal).After(pair.Leaf.NotAfter) || pair.Leaf.VerifyHostname(hostOf(addr)) != nil {
		if pair, err = makeCertificate(cert, key, addr, now); err != nil {
			return "", "", "", fmt.Errorf("make a certificate: %w", err)
		}
	}
	sum := sha256.Sum256(pair.Certificate[0])
	return cert, key, strings.ToUpper(hex.EncodeToString(sum[:])), nil
}

// ReachedAt is an address as other machines may know it: an address that stands for all
// of the machine's is given by the machine's name.
func ReachedAt(addr string) string {
	host, port, err := net.SplitHostPort(addr)
	if ip := net.ParseIP(host); err != nil || host != "" && (ip == nil || !ip.IsUnspecified()) {
		return addr
	}
	if name, err := os.Hostname(); err == nil {
		host = name
	}
	return net.JoinHostPort(host, port)
}

// hostOf is the name by which an address is reached, localhost if it is any.
func hostOf(addr string) string {
	host, _, err := net.SplitHostPort(addr)
	if ip := net.ParseIP(host); err != nil || host == "" || ip != nil && ip.IsUnspecified() {
		return "localhost"
	}
	return host
}

func makeCertificate(certFile, keyFile, addr string, now time.Time) (tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, err
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return tls.Certificate{}, err
	}
	hostname, err := os.Hostname()
	if err != nil {
		return tls.Certificate{}, err
	}
	template := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: hostname, Organization: []string{"Sallyport"}}, //nolint:misspell // X.509
		NotBefore: now.Add(-time.Hour), NotAfter: now.Add(certificateLife),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		BasicConstraintsValid: true, DNSNames: []string{"localhost", hostname},
	}
	addresses, err := net.InterfaceAddrs()
	if err != nil {
		return tls.Certificate{}, err
	}
	for _, a := range addresses {
		if n, ok := a.(*net.IPNet); ok {
			template.IPAddresses = append(template.IPAddresses, n.IP)
		}
	}
	if host := hostOf(addr); net.ParseIP(host) != nil {
		template.IPAddresses = append(template.IPAddresses, net.ParseIP(host))
	} else if host != hostname && host != "localhost" {
		template.DNSNames = append(template.DNSNames, host)
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		return tls.Certificate{}, err
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return tls.Certificate{}, err
	}
	// The key first: without its certificate both are made again.
	for _, f := range []struct {
		name, kind string
		data       []byte
		mode       os.FileMode
	}{{keyFile, "PRIVATE KEY", private, 0o600}, {certFile, "CERTIFICATE", der, 0o644}} {
		if err := os.Remove(f.name); err != nil && !errors.Is(err, os.ErrNotExist) {
			return tls.Certificate{}, err
		}
		if err := os.WriteFile(f.name, pem.EncodeToMemory(&pem.Block{Type: f.kind, Bytes: f.data}), f.mode); err != nil {
			return tls.Certificate{}, err
		}
	}
	return tls.LoadX509KeyPair(certFile, keyFile)
}

// certificateFiles is a certificate in files that may be renewed while it is in use.
type certificateFiles struct {
	cert, key string
	now       func() time.Time

	mu      sync.Mutex
	pair    *tls.Certificate
	changed time.Time // of the certificate's file, when pair was read
	looked  time.Time
}

// loadCertificate reads the files; an error says which cannot be used and why.
func loadCertificate(cert, key string) (*certificateFiles, error) {
	c := &certificateFiles{cert: cert, key: key, now: time.Now}
	pair, err := tls.LoadX509KeyPair(cert, key)
	if err != nil {
		return nil, fmt.Errorf("read certificate %s with key %s: %w", cert, key, err)
	}
	c.pair, c.looked, c.changed = &pair, c.now(), changeOf(cert)
	return c, nil
}

func changeOf(file string) time.Time {
	info, err := os.Stat(file)
	if err != nil {
		return time.Time{}
	}
	return info.ModTime()
}

// get is tls.Config.GetCertificate. A renewed certificate that cannot be read leaves the
// old one in use: half of the files may be written yet.
func (c *certificateFiles) get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if now := c.now(); now.Sub(c.looked) >= certificateCheck {
		c.looked = now
		if changed := changeOf(c.cert); !changed.Equal(c.changed) {
			if pair, err := tls.LoadX509KeyPair(c.cert, c.key); err == nil {
				c.pair, c.changed = &pair, changed
			}
		}
	}
	return c.pair, nil
}
