package detector

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/bundle"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/sallyport-ci/sallyport/wholefile"
)

// BundleConfig says where a bundle of policies comes from. URL is needed, and either
// PublicKey or Unsigned.
type BundleConfig struct {
	// URL is http(s)://HOST/PATH or the path of a file.
	URL string
	// Token, if it is not empty, is sent as bearer token.
	Token string
	// PublicKey, in PEM, has signed the bundle: RSA (RS256) or ECDSA (ES256, ES384, ES512).
	PublicKey []byte
	// Unsigned takes a bundle without a signature when there is no PublicKey.
	Unsigned bool
	// Dir keeps the last good bundle, for starts without a network; none is kept if it is empty.
	Dir string
	// Interval between looks; a minute by default.
	Interval time.Duration
	// Client for HTTP; one with a timeout of 30 s by default.
	Client *http.Client
	// Logger; slog.Default() by default.
	Logger *slog.Logger
	// Metrics takes how old the bundle is and what failed; none by default.
	Metrics prometheus.Registerer
}

const (
	bundleFile       = "policy-bundle.tar.gz"
	maxBundleBytes   = 32 << 20
	bundleKeyID      = "sallyport"
	bundleInterval   = time.Minute
	bundleTimeout    = 30 * time.Second
	bundleRoot       = "sallyport"
	bundleExceptions = "exceptions of the bundle"
)

// Bundle keeps the policies of a bundle up to date. Watch is the only goroutine that may
// call it.
type Bundle struct {
	cfg      BundleConfig
	policies *Policies
	verify   *bundle.VerificationConfig
	etag     string
	last     []byte // what was read last, good or not
	failing  string // the error that was logged last

	failures atomic.Uint64
	loaded   atomic.Int64 // when the one in force was read, Unix time in seconds
}

// OpenBundle puts the last good bundle in force, if one was kept, and then asks for a new
// one. Nothing that the network does is an error: it is logged, and Watch tries again. Errors
// are about the configuration.
func OpenBundle(ctx context.Context, p *Policies, cfg BundleConfig) (*Bundle, error) {
	if cfg.Interval <= 0 {
		cfg.Interval = bundleInterval
	}
	if cfg.Client == nil {
		cfg.Client = &http.Client{Timeout: bundleTimeout}
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.Default()
	}
	b := &Bundle{cfg: cfg, policies: p}
	switch {
	case cfg.URL == "":
		return nil, errors.New("policy bundle: no URL")
	case len(cfg.PublicKey) > 0:
		algorithm, err := keyAlgorithm(cfg.PublicKey)
		if err != nil {
			return nil, fmt.Errorf("policy bundle: public key: %w", err)
		}
		b.verify = bundle.NewVerificationConfig(map[string]*bundle.KeyConfig{bundleKeyID: {Key: string(cfg.PublicKey), Algorithm: algorithm}}, bundleKeyID, "", nil)
	case !cfg.Unsigned:
		return nil, errors.New("policy bundle: no public key; a bundle that is not signed has to be allowed")
	}
	if cfg.Metrics != nil {
		for _, c := range []prometheus.Collector{
			prometheus.NewCounterFunc(prometheus.CounterOpts{Name: "sallyport_detector_policy_bundle_failures_total", Help: "Looks at the policy bundle that failed."},
				func() float64 { return float64(b.failures.Load()) }),
			prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "sallyport_detector_policy_bundle_loaded_seconds", Help: "When the policy bundle in force was read, Unix time; 0 if there is none."},
				func() float64 { return float64(b.loaded.Load()) }),
		} {
			if err := cfg.Metrics.Register(c); err != nil {
				return nil, fmt.Errorf("policy bundle: %w", err)
			}
		}
	}
	if cfg.Dir != "" {
		kept, err := os.ReadFile(filepath.Join(cfg.Dir, bundleFile))
		if err == nil {
			err = b.use(ctx, kept)
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			cfg.Logger.Error("the policy bundle that was kept cannot be used", "error", err)
		}
	}
	b.look(ctx)
	return b, nil
}

// Watch looks for a new bundle every interval, give or take a tenth, until ctx ends.
func (b *Bundle) Watch(ctx context.Context) {
	for {
		wait := b.cfg.Interval + time.Duration((rand.Float64()-0.5)*0.2*float64(b.cfg.Interval))
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
		b.look(ctx)
	}
}

// look reads the bundle and puts it in force if it is new and good.
func (b *Bundle) look(ctx context.Context) {
	err := b.refresh(ctx)
	if err == nil || ctx.Err() != nil {
		if err == nil && b.failing != "" {
			b.failing = ""
			b.cfg.Logger.Info("the policy bundle can be read again", "url", b.where())
		}
		return
	}
	b.failures.Add(1)
	if err.Error() != b.failing {
		b.failing = err.Error()
		b.cfg.Logger.Error("the policy bundle cannot be used; the last good one stays in force", "url", b.where(), "error", err)
	}
}

// where is the URL without what may be secret.
func (b *Bundle) where() string {
	u, err := url.Parse(b.cfg.URL)
	if err != nil {
		return "?"
	}
	u.User, u.RawQuery = nil, ""
	return u.String()
}

func (b *Bundle) refresh(ctx context.Context) error {
	data, etag, err := b.fetch(ctx)
	if err != nil {
		return err
	}
	if data == nil || bytes.Equal(data, b.last) && b.failing == "" {
		return nil // as before
	}
	if err := b.use(ctx, data); err != nil {
		return err
	}
	b.etag = etag
	if b.cfg.Dir != "" {
		if err := keep(filepath.Join(b.cfg.Dir, bundleFile), data); err != nil {
			return fmt.Errorf("keep policy bundle: %w", err)
		}
	}
	return nil
}

// fetch returns the bundle, nil if it is as it was.
func (b *Bundle) fetch(ctx context.Context) (data []byte, etag string, err error) {
	if !strings.HasPrefix(b.cfg.URL, "http://") && !strings.HasPrefix(b.cfg.URL, "https://") {
		f, err := os.Open(b.cfg.URL)
		if err != nil {
			return nil, "", fmt.Errorf("read policy bundle: %w", err)
		}
		defer func() { _ = f.Close() }() // it was only read
		data, err = readBounded(f)
		return data, "", err
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, b.cfg.URL, nil)
	if err != nil {
		return nil, "", errors.New("read policy bundle: the address is none")
	}
	if b.etag != "" {
		r.Header.Set("If-None-Match", b.etag)
	}
	if b.cfg.Token != "" {
		r.Header.Set("Authorization", "Bearer "+b.cfg.Token)
	}
	res, err := b.cfg.Client.Do(r)
	if err != nil {
		var u *url.Error
		if errors.As(err, &u) {
			err = u.Err // without the address, which may hold a secret
		}
		return nil, "", fmt.Errorf("read policy bundle: %w", err)
	}
	defer func() { _ = res.Body.Close() }()
	switch res.StatusCode {
	case http.StatusOK:
		data, err = readBounded(res.Body)
		return data, res.Header.Get("ETag"), err
	case http.StatusNotModified:
		return nil, b.etag, nil
	}
	return nil, "", fmt.Errorf("read policy bundle: the server answers %s", res.Status)
}

func readBounded(r io.Reader) ([]byte, error) {
	data, err := io.ReadAll(io.LimitReader(r, maxBundleBytes+1))
	if err != nil {
		return nil, fmt.Errorf("read policy bundle: %w", err)
	}
	if len(data) > maxBundleBytes {
		return nil, fmt.Errorf("read policy bundle: more than %d bytes", maxBundleBytes)
	}
	return data, nil
}

// use verifies a bundle and puts it in force. A bundle is used whole or not at all: whoever
// signed it meant all of it.
func (b *Bundle) use(ctx context.Context, data []byte) error {
	b.last = data
	r := bundle.NewCustomReader(bundle.NewTarballLoaderWithBaseURL(bytes.NewReader(data), "")).
		WithSizeLimitBytes(maxBundleBytes).WithProcessAnnotations(true).WithRegoVersion(ast.RegoV1)
	if b.verify != nil {
		r = r.WithBundleVerificationConfig(b.verify)
	} else {
		r = r.WithSkipBundleVerification(true)
	}
	read, err := r.Read()
	if err != nil {
		return fmt.Errorf("read policy bundle: %w", err)
	}
	l, err := bundleLayer(&read)
	if err != nil {
		return fmt.Errorf("read policy bundle: %w", err)
	}
	if err := b.policies.setBundle(ctx, l); err != nil {
		return fmt.Errorf("read policy bundle: %w", err)
	}
	b.loaded.Store(time.Now().Unix())
	b.cfg.Logger.Info("policy bundle in force", "url", b.where(), "revision", read.Manifest.Revision, "policies", len(byPolicy(l.modules)))
	return nil
}

// bundleLayer takes from a bundle what there is in a folder of policies: modules, and below
// data.sallyport lists, more (added to lists) and exceptions.
func bundleLayer(read *bundle.Bundle) (*layer, error) {
	l := newLayer()
	for _, m := range read.Modules {
		if name := strings.TrimPrefix(m.Path, "/"); fileKind(name) == filePolicy {
			l.modules["bundle/"+name] = m.Parsed
		}
	}
	own, _ := read.Data[bundleRoot].(map[string]any)
	lists, _ := own["lists"].(map[string]any)
	for name, list := range lists {
		l.lists[name] = list
	}
	more, _ := own["more"].(map[string]any)
	for name, list := range more {
		l.more[name] = []any{list}
	}
	if own["exceptions"] != nil {
		text, err := json.Marshal(own["exceptions"])
		if err != nil {
			return nil, fmt.Errorf("%s: %w", bundleExceptions, err)
		}
		var problems []error
		if l.exceptions, problems, err = ParseExceptions(bundleExceptions, text); err != nil || len(problems) > 0 {
			return nil, errors.Join(append(problems, err)...)
		}
	}
	return l, nil
}

// setBundle puts a bundle's layer in force, if it compiles with what is compiled in.
func (p *Policies) setBundle(ctx context.Context, l *layer) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if _, problems := compilePolicies(ctx, nil, p.embedded, l); len(problems) > 0 {
		return errors.Join(problems...)
	}
	p.bundle = l
	// What is wrong with the folder was said when it was read.
	p.compile(ctx)
	return nil
}

// keep writes a file that is whole or not there.
func keep(name string, data []byte) error {
	if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
		return err
	}
	return wholefile.Write(name, 0o600, data)
}

// keyAlgorithm is the algorithm by which a key in PEM signs.
func keyAlgorithm(text []byte) (string, error) {
	block, _ := pem.Decode(text)
	if block == nil {
		return "", errors.New("it is not in PEM")
	}
	var key any
	var err error
	switch block.Type {
	case "PUBLIC KEY":
		key, err = x509.ParsePKIXPublicKey(block.Bytes)
	case "RSA PUBLIC KEY":
		key, err = x509.ParsePKCS1PublicKey(block.Bytes)
	case "CERTIFICATE":
		return "", errors.New("it is a certificate, not a public key")
	case "PRIVATE KEY":
		key, err = x509.ParsePKCS8PrivateKey(block.Bytes)
	case "EC PRIVATE KEY":
		key, err = x509.ParseECPrivateKey(block.Bytes)
	case "RSA PRIVATE KEY":
		key, err = x509.ParsePKCS1PrivateKey(block.Bytes)
	default:
		return "", fmt.Errorf("it is a %s", block.Type)
	}
	if err != nil {
		return "", err
	}
	bits := func(n int) (string, error) {
		if a, ok := map[int]string{256: "ES256", 384: "ES384", 521: "ES512"}[n]; ok {
			return a, nil
		}
		return "", fmt.Errorf("a curve of %d bits", n)
	}
	switch k := key.(type) {
	case *rsa.PublicKey, *rsa.PrivateKey:
		return "RS256", nil
	case *ecdsa.PublicKey:
		return bits(k.Curve.Params().BitSize)
	case *ecdsa.PrivateKey:
		return bits(k.Curve.Params().BitSize)
	}
	return "", fmt.Errorf("%T cannot sign bundles; take RSA or ECDSA", key)
}

// WriteBundle makes a bundle of a folder of policies and signs it with a private key in PEM;
// it is not signed without one. A folder in which something is wrong makes no bundle.
func WriteBundle(ctx context.Context, folder, revision string, privateKey []byte, out io.Writer) error {
	root := os.DirFS(folder)
	l := readLayer(root)
	if _, problems := compilePolicies(ctx, nil, readLayer(embeddedFS), l); len(problems) > 0 {
		return fmt.Errorf("make policy bundle of %s: %w", folder, errors.Join(problems...))
	}
	roots := []string{bundleRoot}
	b := &bundle.Bundle{Data: map[string]any{}, Manifest: bundle.Manifest{Revision: revision, Roots: &roots}}
	own := map[string]any{}
	if len(l.lists) > 0 {
		own["lists"] = l.lists
	}
	if len(l.more) > 0 {
		more := map[string]any{}
		for name, lists := range l.more {
			more[name] = lists[0]
		}
		own["more"] = more
	}
	if len(l.exceptions) > 0 {
		var all []map[string]string
		for _, e := range l.exceptions {
			all = append(all, e.Fields())
		}
		own["exceptions"] = all
	}
	// As JSON would give it back: what is signed is a hash of that.
	text, err := json.Marshal(map[string]any{bundleRoot: own})
	if err == nil {
		err = json.Unmarshal(text, &b.Data)
	}
	if err != nil {
		return fmt.Errorf("make policy bundle of %s: %w", folder, err)
	}
	for name, m := range l.modules {
		raw, err := fs.ReadFile(root, name)
		if err != nil {
			return fmt.Errorf("make policy bundle of %s: %w", folder, err)
		}
		b.Modules = append(b.Modules, bundle.ModuleFile{URL: path.Join("/", name), Path: path.Join("/", name), Raw: raw, Parsed: m})
	}
	if len(privateKey) > 0 {
		algorithm, err := keyAlgorithm(privateKey)
		if err != nil {
			return fmt.Errorf("make policy bundle of %s: private key: %w", folder, err)
		}
		if err := b.GenerateSignature(bundle.NewSigningConfig(string(privateKey), algorithm, ""), bundleKeyID, false); err != nil {
			return fmt.Errorf("sign policy bundle of %s: %w", folder, err)
		}
	}
	if err := bundle.NewWriter(out).Write(*b); err != nil {
		return fmt.Errorf("make policy bundle of %s: %w", folder, err)
	}
	return nil
}
