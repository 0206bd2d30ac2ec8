package process

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"strings"
	"sync"

	"github.com/nats-io/nats.go"
	"github.com/spf13/pflag"
)

// NATS says where NATS is and who asks. Secrets are in files, or in the address if that
// comes by environment.
type NATS struct {
	// URL holds one address or several, with commas between them: tls:// or nats://.
	URL string
	// Creds is a file with a user's JWT and nkey, or with an nkey's seed alone.
	Creds string
	// CA is a file with the certificates that the servers' are checked against; those of
	// the machine if empty.
	CA string
	// Cert and Key are files with this client's certificate, if the servers ask for one.
	Cert, Key string
}

// Flags adds the flags to f; address is the name of that of URL.
func (n *NATS) Flags(f *pflag.FlagSet, address, value, help string) {
	f.StringVar(&n.URL, address, value, help)
	f.StringVar(&n.Creds, "nats-creds", "", "file with the credentials for NATS: a user's JWT and nkey, or an nkey's seed")
	f.StringVar(&n.CA, "nats-ca", "", "file with the certificates that NATS servers are checked against (default: the machine's)")
	f.StringVar(&n.Cert, "nats-cert", "", "file with the certificate to show to NATS, if it asks for one")
	f.StringVar(&n.Key, "nats-key", "", "file with the key of --nats-cert")
}

// Valid says what is wrong with the settings; the files they name are read.
func (n *NATS) Valid() error {
	_, err := n.options()
	return err
}

// options returns what a connection needs. An error is one of wrong usage, and never
// repeats an address: it may hold a password.
func (n *NATS) options() ([]nats.Option, error) {
	var encrypted bool
	for _, address := range strings.Split(n.URL, ",") {
		if !strings.Contains(address, "://") {
			address = "nats://" + strings.TrimSpace(address)
		}
		u, err := url.Parse(strings.TrimSpace(address))
		if err != nil || u.Host == "" {
			return nil, errors.New("the address of NATS is not of the form nats://HOST:PORT or tls://HOST:PORT, several with commas between them")
		}
		encrypted = encrypted || u.Scheme == "tls" || u.Scheme == "wss"
	}
	if (n.Cert == "") != (n.Key == "") {
		return nil, errors.New("--nats-cert and --nats-key go together")
	}
	var options []nats.Option
	if n.Creds != "" {
		text, err := os.ReadFile(n.Creds)
		if err != nil {
			return nil, fmt.Errorf("--nats-creds: %w", err)
		}
		if bytes.Contains(text, []byte("NATS USER JWT")) {
			options = append(options, nats.UserCredentials(n.Creds))
		} else {
			seed, err := nats.NkeyOptionFromSeed(n.Creds)
			if err != nil {
				return nil, fmt.Errorf("--nats-creds: %s holds neither a user's JWT nor an nkey's seed", n.Creds)
			}
			options = append(options, seed)
		}
	}
	if encrypted || n.CA != "" || n.Cert != "" {
		options = append(options, nats.Secure(&tls.Config{MinVersion: tls.VersionTLS12}))
	}
	// Both read their files now, so that a wrong one is said before anything starts.
	if n.CA != "" {
		if _, err := os.ReadFile(n.CA); err != nil {
			return nil, fmt.Errorf("--nats-ca: %w", err)
		}
		options = append(options, nats.RootCAs(n.CA))
	}
	if n.Cert != "" {
		if _, err := tls.LoadX509KeyPair(n.Cert, n.Key); err != nil {
			return nil, fmt.Errorf("--nats-cert and --nats-key: %w", err)
		}
		options = append(options, nats.ClientCert(n.Cert, n.Key))
	}
	return options, nil
}

// Connect returns a connection that is made now or when NATS can be reached, and made
// again for ever. What is published while it is away fails. name is what an operator of
// NATS sees, inbox the subject below which answers arrive: whoever may read those of
// others reads what they asked for. An error is one of wrong usage.
func (n *NATS) Connect(name, inbox string, log *slog.Logger, more ...nats.Option) (*nats.Conn, error) {
	options, err := n.options()
	if err != nil {
		return nil, err
	}
	said := &reasons{told: make(map[string]bool)}
	options = append(options,
		nats.Name(name),
		nats.CustomInboxPrefix(inbox),
		nats.RetryOnFailedConnect(true),
		nats.MaxReconnects(-1),
		// A server that cannot check who we are yet, or has not heard of us, may later.
		nats.IgnoreAuthErrorAbort(),
		nats.ReconnectBufSize(-1),
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) { log.Warn("NATS", "error", err) }),
		nats.DisconnectErrHandler(func(_ *nats.Conn, err error) {
			if err != nil {
				log.Warn("the connection to NATS is lost; it is made again", "error", err)
			}
		}),
		nats.ReconnectErrHandler(func(_ *nats.Conn, err error) {
			level := slog.LevelDebug
			if said.add(err) {
				level = slog.LevelWarn
			}
			log.Log(context.Background(), level, "NATS cannot be reached; trying again until it can", "error", err)
		}),
		nats.ReconnectHandler(func(nc *nats.Conn) {
			said.forget()
			log.Info("connected to NATS again", "server", nc.ConnectedServerName())
		}),
	)
	nc, err := nats.Connect(n.URL, append(options, more...)...)
	if err != nil {
		return nil, fmt.Errorf("connect to NATS: %w", err)
	}
	return nc, nil
}

// Dial returns a connection for one command: an error if NATS cannot be reached now. The
// error does not repeat the address.
func (n *NATS) Dial(name string, more ...nats.Option) (*nats.Conn, error) {
	options, err := n.options()
	if err != nil {
		return nil, err
	}
	return nats.Connect(n.URL, append(append(options, nats.Name(name), nats.MaxReconnects(-1)), more...)...)
}

// reasons are why NATS could not be reached since it was the last time: each is said once,
// for the attempts are many.
type reasons struct {
	mu   sync.Mutex
	told map[string]bool
}

// maxReasons bounds what is said.
const maxReasons = 16

// add says whether the reason is a new one.
func (r *reasons) add(err error) bool {
	if errors.Is(err, nats.ErrNoServers) { // which is no reason
		return false
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.told[err.Error()] || len(r.told) >= maxReasons {
		return false
	}
	r.told[err.Error()] = true
	return true
}

func (r *reasons) forget() {
	r.mu.Lock()
	defer r.mu.Unlock()
	clear(r.told)
}

// Connected returns nil while a connection is there, else why it is not.
func Connected(nc *nats.Conn) error {
	if nc.IsConnected() {
		return nil
	}
	if err := nc.LastError(); err != nil {
		return fmt.Errorf("not connected: %w", err)
	}
	return errors.New("not connected")
}
