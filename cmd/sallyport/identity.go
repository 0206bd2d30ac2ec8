package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nkeys"
	"github.com/spf13/pflag"

	"github.com/sallyport-ci/sallyport/agent/credential"
	"github.com/sallyport-ci/sallyport/identity"
)

// identityOptions are the flags about who is let in (docs/identity.md).
type identityOptions struct {
	oidcIssuer string
	oidcAllow  []string
	lifetime   time.Duration
	// agentsNATS and agentsCA are where agents are told that NATS is.
	agentsNATS, agentsCA string
	// signingKey is a file, for an external NATS; account is set if it is not the account's own.
	signingKey, account string
	restCert, restKey   string
}

func (o *identityOptions) flags(f *pflag.FlagSet) {
	f.StringVar(&o.restCert, "rest-cert", "", "PEM file of the certificate with which the REST API is served by TLS; read again when it changes")
	f.StringVar(&o.restKey, "rest-key", "", "PEM file of its key")
	f.StringArrayVar(&o.oidcAllow, "oidc-allow", nil, "repository whose jobs are let in by GitHub's OIDC token, OWNER/NAME, where * stands for any part; repeated (default: none)")
	f.StringVar(&o.oidcIssuer, "oidc-issuer", identity.GitHubIssuer, "issuer of the tokens; of GitHub Enterprise Server: https://HOST/_services/token")
	f.DurationVar(&o.lifetime, "credential-lifetime", identity.DefaultLifetime, "how long a credential of an agent is good for, 1m to 24h; agents renew them")
	f.StringVar(&o.agentsNATS, "agents-nats", "", "addresses of NATS that agents are told, with commas between them (default: those that this process uses)")
	f.StringVar(&o.agentsCA, "agents-nats-ca", "", "PEM file of the certificates that agents check NATS against (default: those of their machine)")
	f.StringVar(&o.signingKey, "nats-signing-key", "", "file with the seed of the NATS account's key, or of a signing key of it, that signs agents' credentials on an external NATS in operator mode")
	f.StringVar(&o.account, "nats-account", "", "identity of that account (A…), if the key is a signing key")
}

// signerFile has the key that signs agents' credentials for the embedded NATS.
const signerFile = "agents.nk"

// embeddedSigner returns the signer for the embedded NATS, whose key is kept in the data
// folder and made if it is not there.
func embeddedSigner(data string) (*identity.Signer, error) {
	path := filepath.Join(data, signerFile)
	seed, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		var key nkeys.KeyPair
		if key, err = nkeys.CreateAccount(); err == nil {
			seed, err = key.Seed()
		}
		if err == nil {
			err = writePrivate(path, string(seed)+"\n")
		}
	}
	if err != nil {
		return nil, fmt.Errorf("key for agents' credentials: %w", err)
	}
	signer, err := identity.NewSigner([]byte(strings.TrimSpace(string(seed))), "")
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return signer, nil
}

// prepareSigner makes s.signer for an external NATS, if there is a key for it.
func (s *stack) prepareSigner() error {
	o := &s.o.identity
	if o.signingKey == "" {
		if len(o.oidcAllow) > 0 {
			return usageError(errors.New("--oidc-allow on an external NATS needs --nats-signing-key: without it nobody can be given a credential"))
		}
		return nil
	}
	seed, err := secretIn("--nats-signing-key", o.signingKey)
	if err != nil {
		return err
	}
	if s.signer, err = identity.NewSigner([]byte(seed), o.account); err != nil {
		return usageError(fmt.Errorf("--nats-signing-key: %w", err))
	}
	return nil
}

// openGate makes what lets agents in, if there is a key to sign with. rest is where the
// REST API listens.
func (s *stack) openGate(ctx context.Context, rest net.Listener) (*identity.Gate, error) {
	o := &s.o.identity
	if s.nats == nil {
		if err := s.prepareSigner(); err != nil || s.signer == nil {
			return nil, err
		}
	} else if o.signingKey+o.account != "" {
		return nil, usageError(errors.New("--nats-signing-key and --nats-account are for an external NATS: the embedded one has a key of its own"))
	}
	audience, err := credential.ServerURL(s.publicURL(rest))
	if at, ok := rest.Addr().(*net.TCPAddr); ok && at.IP.IsUnspecified() && s.o.publicURL == "" {
		err = fmt.Errorf("--rest %s is no address that an agent could reach it at", rest.Addr())
	}
	if err != nil {
		if len(o.oidcAllow) == 0 {
			// Nobody asked for it, and no agent would speak in clear to another machine.
			s.log.Info("no agents are let in by token or enrolment", "why", err)
			return nil, nil //nolint:nilnil // no gate is no error here
		}
		return nil, usageError(fmt.Errorf("--public-url: %w; --rest-cert serves it by TLS", err))
	}
	cfg := identity.Config{
		JetStream: s.js, Signer: s.signer, Audience: audience, Lifetime: o.lifetime, Registerer: s.registry, Logger: s.log,
	}
	if len(o.oidcAllow) > 0 {
		allow, err := identity.NewAllow(o.oidcAllow)
		if err != nil {
			return nil, usageError(fmt.Errorf("--oidc-allow: %w", err))
		}
		if cfg.Verifier, err = identity.NewVerifier(identity.VerifierConfig{Issuer: o.oidcIssuer, Audience: audience, Allow: allow}); err != nil {
			return nil, usageError(fmt.Errorf("--oidc-issuer: %w", err))
		}
	}
	if cfg.Lifetime < identity.MinLifetime || cfg.Lifetime > identity.MaxLifetime {
		return nil, usageError(fmt.Errorf("--credential-lifetime %s is not %s to %s", cfg.Lifetime, identity.MinLifetime, identity.MaxLifetime))
	}
	if cfg.NATSURLs, err = s.agentsNATS(); err != nil {
		return nil, err
	}
	if o.agentsCA != "" {
		if cfg.NATSCA, err = secretIn("--agents-nats-ca", o.agentsCA); err != nil {
			return nil, err
		}
	}
	if s.nats != nil {
		cfg.CutOff = s.nats.CutOff
	}
	var gate *identity.Gate
	err = s.insist(ctx, "open what lets agents in", func(ctx context.Context) (err error) {
		gate, err = identity.Open(ctx, cfg)
		return err
	})
	if err != nil {
		return nil, err
	}
	s.addresses.Public = audience
	s.log.Info("agents are let in", "audience", audience, "repositories", strings.Join(o.oidcAllow, " "), "nats", strings.Join(cfg.NATSURLs, ","))
	return gate, nil
}

// publicURL is where agents reach the REST API, as far as is known.
func (s *stack) publicURL(rest net.Listener) string {
	if s.o.publicURL != "" {
		return s.o.publicURL
	}
	if s.o.identity.restCert != "" {
		return "https://" + rest.Addr().String()
	}
	return "http://" + rest.Addr().String()
}

// agentsNATS are the addresses of NATS that agents are told. They hold no password: an
// agent has its credential.
func (s *stack) agentsNATS() ([]string, error) {
	addresses := s.o.identity.agentsNATS
	if addresses == "" {
		if addresses = s.o.external.URL; s.nats != nil {
			addresses = s.nats.URL()
		}
	}
	var all []string
	for _, address := range strings.Split(addresses, ",") {
		if address = strings.TrimSpace(address); !strings.Contains(address, "://") {
			address = "nats://" + address
		}
		u, err := url.Parse(address)
		if err != nil || u.Host == "" {
			return nil, usageError(errors.New("--agents-nats is not of the form tls://HOST:PORT, several with commas between them"))
		}
		u.User = nil
		all = append(all, u.String())
	}
	return all, nil
}

// serveTLS puts TLS before a listener, if there is a certificate for it.
func (o *identityOptions) serveTLS(l net.Listener, log *slog.Logger) (net.Listener, error) {
	if (o.restCert == "") != (o.restKey == "") {
		return nil, usageError(errors.New("--rest-cert and --rest-key belong together"))
	}
	if o.restCert == "" {
		return l, nil
	}
	c := &certificate{cert: o.restCert, key: o.restKey, log: log}
	if err := c.load(); err != nil {
		return nil, usageError(fmt.Errorf("--rest-cert and --rest-key: %w", err))
	}
	return tls.NewListener(l, &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: c.get}), nil
}

// certificate is read again when its file has changed, so that a renewed one needs no
// restart.
type certificate struct {
	cert, key string
	log       *slog.Logger

	mu      sync.Mutex
	current *tls.Certificate
	changed time.Time
}

func (c *certificate) load() error {
	info, err := os.Stat(c.cert)
	if err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.current != nil && info.ModTime().Equal(c.changed) {
		return nil
	}
	// Once for each change, also if it cannot be used.
	c.changed = info.ModTime()
	pair, err := tls.LoadX509KeyPair(c.cert, c.key)
	if err != nil {
		return err
	}
	c.current = &pair
	return nil
}

func (c *certificate) get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	if err := c.load(); err != nil {
		c.log.Error("the new certificate of the REST API cannot be used; the old one stays", "error", err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.current, nil
}
