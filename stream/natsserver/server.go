// Package natsserver runs the embedded NATS server of `sallyport up`, apart from package
// stream so that an agent need not carry it.
package natsserver

import (
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"time"

	natsserver "github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"github.com/sallyport-ci/sallyport/stream"
)

// Config says how the embedded NATS server runs.
type Config struct {
	// Dir holds its files.
	Dir string
	// Host is the address to listen on; 127.0.0.1 by default.
	Host string
	// Port to listen on; 0 takes a free one.
	Port int
	// MaxStore bounds its files in bytes; stream.Limits{}.Total() by default.
	MaxStore int64
	// AgentPassword, if set, is asked of connections from outside this process:
	// user "agent", who may publish events and heartbeats, ask for judgements of jobs, and nothing else. Without it nobody
	// outside this process may connect with more than that either.
	AgentPassword string
	// OperatorPassword, if set, admits user "operator", who may do everything,
	// from outside this process.
	OperatorPassword string
	// AgentSigner, if set, is the public key ("A…") of who signs credentials for agents:
	// user JWTs, which are good until they end and for what they say.
	AgentSigner string
	// Logger takes the server's own messages.
	Logger *slog.Logger
}

// Users of the embedded server.
const (
	// AgentUser may publish events and heartbeats, ask for judgements, and read the answers.
	AgentUser = "agent"
	// OperatorUser may do everything.
	OperatorUser = "operator"
)

// Server is an embedded NATS server with JetStream.
type Server struct {
	server   *natsserver.Server
	users    *users
	password string
}

// startTimeout is long because a server that was killed checks its files first.
const startTimeout = 60 * time.Second

// Start starts the server and waits until it takes connections.
func Start(cfg Config) (*Server, error) {
	if cfg.Host == "" {
		cfg.Host = "127.0.0.1"
	}
	if cfg.Port == 0 {
		cfg.Port = natsserver.RANDOM_PORT
	}
	if cfg.MaxStore == 0 {
		cfg.MaxStore = stream.Limits{}.Total()
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.OperatorPassword == "" {
		cfg.OperatorPassword = newPassword()
	}
	known, err := newUsers(cfg)
	if err != nil {
		return nil, err
	}
	s, err := natsserver.NewServer(&natsserver.Options{
		ServerName:         "sallyport",
		Host:               cfg.Host,
		Port:               cfg.Port,
		JetStream:          true,
		StoreDir:           cfg.Dir,
		JetStreamMaxStore:  cfg.MaxStore,
		JetStreamMaxMemory: 64 << 20,
		MaxPayload:         8 << 20,
		NoSigs:             true,
		// An agent that has a credential proves by signing it that it has the key, too.
		AlwaysEnableNonce:          true,
		CustomClientAuthentication: known,
	})
	if err != nil {
		return nil, fmt.Errorf("configure NATS server in %s: %w", cfg.Dir, err)
	}
	known.alive = func(id uint64) bool { return s.GetClient(id) != nil }
	messages := &serverLog{logger: cfg.Logger}
	s.SetLoggerV2(messages, false, false, false)
	s.Start()
	for deadline := time.Now().Add(startTimeout); !s.ReadyForConnections(100 * time.Millisecond); {
		fatal := messages.fatal.Load()
		if fatal == nil && time.Now().Before(deadline) {
			continue
		}
		s.Shutdown()
		s.WaitForShutdown()
		if fatal != nil {
			return nil, fmt.Errorf("start NATS server on %s:%d: %s", cfg.Host, cfg.Port, *fatal)
		}
		return nil, fmt.Errorf("start NATS server on %s:%d: not ready after %s", cfg.Host, cfg.Port, startTimeout)
	}
	if !s.JetStreamEnabled() {
		s.Shutdown()
		s.WaitForShutdown()
		return nil, fmt.Errorf("start NATS server in %s: JetStream is not available", cfg.Dir)
	}
	return &Server{server: s, users: known, password: cfg.OperatorPassword}, nil
}

// URL returns the address for clients on this machine, without credentials.
func (s *Server) URL() string { return s.server.ClientURL() }

// AgentURL returns the address with the agents' credentials.
func (s *Server) AgentURL(password string) string {
	u, err := url.Parse(s.URL())
	if err != nil { // the server made it
		return s.URL()
	}
	u.User = url.UserPassword(AgentUser, password)
	return u.String()
}

// Connect returns a connection inside this process, as operator.
func (s *Server) Connect(opts ...nats.Option) (*nats.Conn, error) {
	opts = append([]nats.Option{
		nats.InProcessServer(s.server),
		nats.UserInfo(OperatorUser, s.password),
		nats.MaxReconnects(-1),
		// Agents may read what is below _INBOX: what is asked for here is not for them.
		nats.CustomInboxPrefix(stream.Inbox(stream.PartUp)),
	}, opts...)
	nc, err := nats.Connect(s.URL(), opts...)
	if err != nil {
		return nil, fmt.Errorf("connect to embedded NATS server: %w", err)
	}
	return nc, nil
}

// Healthy returns nil while the server works.
func (s *Server) Healthy() error {
	if !s.server.Running() {
		return errors.New("NATS server is not running")
	}
	if !s.server.JetStreamEnabled() {
		return errors.New("JetStream is not available")
	}
	return nil
}

// Shutdown stops the server in order and waits for it.
func (s *Server) Shutdown() {
	s.server.Shutdown()
	s.server.WaitForShutdown()
}
