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
	"github.com/sallyport-ci/sallyport/stream/natsserver"
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

// externalSigner makes s.signer for an external NATS, if there is a key for it.
func (s *stack) externalSigner() error {
	o := &s.o.identity
	if o.signingKey == "" {
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

// validIdentity says what is wrong with the flags about who is let in, before anything
// starts. embedded says whether NATS is of this process.
func (o *options) validIdentity(embedded bool) error {
	i := &o.identity
	switch {
	case (i.restCert == "") != (i.restKey == ""):
		return errors.New("--rest-cert and --rest-key belong together")
	case i.lifetime < identity.MinLifetime || i.lifetime > identity.MaxLifetime:
		return fmt.Errorf("--credential-lifetime %s is not %s to %s", i.lifetime, identity.MinLifetime, identity.MaxLifetime)
	case embedded && i.signingKey+i.account != "":
		return errors.New("--nats-signing-key and --nats-account are for an external NATS: the embedded one has a key of its own")
	case len(i.oidcAllow) == 0:
		return nil
	case !embedded && i.signingKey == "":
		return errors.New("--oidc-allow on an external NATS needs --nats-signing-key: without it nobody can be given a credential")
	}
	audience, err := o.audience(o.rest)
	if err != nil {
		return err
	}
	_, err = i.verifier(audience)
	return err
}

// audience is the address at which agents reach the REST API, which listens at rest.
func (o *options) audience(rest string) (string, error) {
	address := o.publicURL
	if address == "" {
		if unspecified(rest) {
			return "", fmt.Errorf("--rest %s is no address that an agent could reach it at: say by --public-url which one is", rest)
		}
		scheme := "http://"
		if o.identity.restCert != "" {
			scheme = "https://"
		}
		address = scheme + rest
	}
	audience, err := credential.ServerURL(address)
	if err != nil {
		return "", fmt.Errorf("agents cannot reach the REST API: %w; --rest-cert serves it by TLS, --public-url is for a proxy that does", err)
	}
	return audience, nil
}

// verifier checks tokens; nil if none are taken.
func (o *identityOptions) verifier(audience string) (*identity.Verifier, error) {
	if len(o.oidcAllow) == 0 {
		return nil, nil //nolint:nilnil // no tokens are no error
	}
	allow, err := identity.NewAllow(o.oidcAllow)
	if err != nil {
		return nil, fmt.Errorf("--oidc-allow: %w", err)
	}
	v, err := identity.NewVerifier(identity.VerifierConfig{Issuer: o.oidcIssuer, Audience: audience, Allow: allow})
	if err != nil {
		return nil, fmt.Errorf("--oidc-issuer: %w", err)
	}
	return v, nil
}

// openGate makes what lets agents in, if there is a key to sign with and an address to
// reach it at. rest is where the REST API listens.
func (s *stack) openGate(ctx context.Context, rest net.Listener) (*identity.Gate, error) {
	o := &s.o.identity
	if s.nats == nil {
		if err := s.externalSigner(); err != nil || s.signer == nil {
			return nil, err
		}
	}
	audience, err := s.o.audience(rest.Addr().String())
	if err != nil { // and nobody asked for it: validIdentity
		s.log.Info("no agents are let in by token or enrolment", "why", err)
		return nil, nil //nolint:nilnil // no gate is no error here
	}
	cfg := identity.Config{
		JetStream: s.js, Signer: s.signer, Audience: audience, Lifetime: o.lifetime, Registerer: s.registry, Logger: s.log,
	}
	if cfg.Verifier, err = o.verifier(audience); err != nil {
		return nil, usageError(err)
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

// agentURL is what agent.env tells agents that have a password.
func (s *stack) agentURL(password string) (string, error) {
	if s.o.identity.agentsNATS == "" {
		return s.nats.AgentURL(password), nil
	}
	addresses, err := s.agentsNATS()
	if err != nil {
		return "", err
	}
	for i, address := range addresses {
		u, err := url.Parse(address)
		if err != nil {
			return "", usageError(fmt.Errorf("--agents-nats: %w", err))
		}
		u.User = url.UserPassword(natsserver.AgentUser, password)
		addresses[i] = u.String()
	}
	return strings.Join(addresses, ","), nil
}

// unspecified says whether an address to listen on is none at which it can be reached.
func unspecified(address string) bool {
	host, _, err := net.SplitHostPort(address)
	ip := net.ParseIP(host)
	return err != nil || host == "" || ip != nil && ip.IsUnspecified()
}

// serveTLS puts TLS before a listener, if there is a certificate for it.
func (o *identityOptions) serveTLS(l net.Listener, log *slog.Logger) (net.Listener, error) {
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
