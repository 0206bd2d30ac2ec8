package engine

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"
)

// ServeConfig says what [Serve] opens and where it answers.
type ServeConfig struct {
	Library string // path of libchdb.so; see [Locate]
	Dir     string // database folder, made if it is not there
	Addr    string // TCP address to listen on, e.g. 127.0.0.1:8123; port 0 takes a free one

	// Public is where it answers besides, by TLS. Addr must be loopback.
	Public PublicConfig

	User, Password string // full rights; the password must not be empty
	// ReadOnlyUser may only read tables: no writes, no files, no network. Empty: no
	// such user.
	ReadOnlyUser, ReadOnlyPassword string

	// MaxMemory bounds all memory of the engine, in bytes. Zero: half of the machine's.
	MaxMemory int64
	// MaxStatements run at the same time; more wait for up to ten seconds. Zero: 32.
	MaxStatements int
	// MaxExecution is the longest a statement may run that names no
	// max_execution_time itself. A reader cannot go beyond it. Zero: five minutes.
	MaxExecution time.Duration

	// Ready, if not nil, is called once when the server answers, with its address and the
	// public one, if there is one.
	Ready  func(addr, public string)
	Logger *slog.Logger
}

// PublicConfig is an address that other machines reach. There is none if Addr is empty.
type PublicConfig struct {
	Addr      string // TCP address to listen on
	Cert, Key string // PEM files; a renewed certificate is taken up
}

const (
	defaultStatements = 32
	defaultExecution  = 5 * time.Minute
	slotWait          = 10 * time.Second
	stopWait          = 15 * time.Second
)

// Serve loads the library, opens the database and answers ClickHouse's HTTP interface
// until ctx ends; then it takes no new requests, lets the running ones finish for up
// to 15 seconds, ends the rest, closes the database and returns nil.
//
// It can run once in a process, for the library cannot be unloaded, and is meant for
// a process of its own. It fails with [ErrDataInUse] when another has the folder.
func Serve(ctx context.Context, cfg ServeConfig) error { //nolint:contextcheck // running statements outlive ctx, by stopWait
	if cfg.Password == "" || cfg.ReadOnlyUser != "" && cfg.ReadOnlyPassword == "" {
		return errors.New("serve the engine: a user has no password")
	}
	if !IsLoopback(cfg.Addr) {
		return fmt.Errorf("serve the engine: %s is no loopback address, and passwords would cross the network in clear", cfg.Addr)
	}
	if cfg.User == "" {
		cfg.User = "default"
	}
	if cfg.MaxStatements == 0 {
		cfg.MaxStatements = defaultStatements
	}
	if cfg.MaxExecution == 0 {
		cfg.MaxExecution = defaultExecution
	}
	if cfg.MaxMemory == 0 {
		cfg.MaxMemory = machineMemory() / 2
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	lib, err := loadLibrary(cfg.Library)
	if err != nil {
		return err
	}
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", cfg.Addr)
	if err != nil {
		return fmt.Errorf("serve the engine: %w", err)
	}
	public, err := listenPublic(ctx, cfg.Public)
	if err != nil {
		return errors.Join(err, listener.Close())
	}
	closeAll := func(err error) error {
		if public != nil {
			err = errors.Join(err, public.Close())
		}
		return errors.Join(err, listener.Close())
	}
	db, err := openDatabase(lib, cfg.Dir, cfg.MaxMemory, cfg.MaxStatements)
	if err != nil {
		return closeAll(err)
	}

	statements, endStatements := context.WithCancel(context.Background())
	defer endStatements()
	server := &http.Server{
		Handler:           newInterface(db, cfg),
		ReadHeaderTimeout: 10 * time.Second,
		IdleTimeout:       10 * time.Minute,
		MaxHeaderBytes:    1 << 20,
		BaseContext:       func(net.Listener) context.Context { return statements },
		ErrorLog:          slog.NewLogLogger(cfg.Logger.Handler(), slog.LevelDebug),
	}
	served := make(chan error, 2)
	go func() { served <- server.Serve(listener) }()
	publicAddr := ""
	if public != nil {
		publicAddr = public.Addr().String()
		go func() { served <- server.Serve(public) }()
	}
	if cfg.Ready != nil {
		cfg.Ready(listener.Addr().String(), publicAddr)
	}

	var failed error
	select {
	case <-ctx.Done():
	case failed = <-served:
	}
	failed = errors.Join(failed, stopServer(server, endStatements)) //nolint:contextcheck // ctx has ended; this is what comes after
	if err := db.close(); err != nil {
		// The data is in the files; a thread that will not end dies with the process.
		cfg.Logger.Debug("close the database", "error", err)
	}
	return failed
}

// listenPublic opens the public address; nil if there is none.
func listenPublic(ctx context.Context, cfg PublicConfig) (net.Listener, error) {
	if cfg.Addr == "" {
		return nil, nil
	}
	certificate, err := loadCertificate(cfg.Cert, cfg.Key)
	if err != nil {
		return nil, fmt.Errorf("serve the engine at %s: %w", cfg.Addr, err)
	}
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", cfg.Addr)
	if err != nil {
		return nil, fmt.Errorf("serve the engine: %w", err)
	}
	return tls.NewListener(listener, &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: certificate.get, NextProtos: []string{"http/1.1"}}), nil
}

// stopServer lets requests finish, then cancels their statements.
func stopServer(server *http.Server, endStatements func()) error {
	grace, cancel := context.WithTimeout(context.Background(), stopWait)
	defer cancel()
	if server.Shutdown(grace) == nil {
		return nil
	}
	endStatements()
	last, cancelLast := context.WithTimeout(context.Background(), stopWait)
	defer cancelLast()
	if err := server.Shutdown(last); err != nil {
		return fmt.Errorf("stop the engine: statements would not end: %w", errors.Join(err, server.Close()))
	}
	return nil
}

// An account is who a request comes from.
type account struct{ reader bool }

// authenticate compares hashes in constant time, so that neither the length nor the
// beginning of a password can be measured.
func (i *httpInterface) authenticate(q *request) (account, error) {
	full := sameSecret(q.user, i.cfg.User) & sameSecret(q.password, i.cfg.Password)
	reader := 0
	if i.cfg.ReadOnlyUser != "" {
		reader = sameSecret(q.user, i.cfg.ReadOnlyUser) & sameSecret(q.password, i.cfg.ReadOnlyPassword)
	}
	switch {
	case full == 1:
		return account{}, nil
	case reader == 1:
		return account{reader: true}, nil
	}
	return account{}, raise(codeAuthenticationFailed, "AUTHENTICATION_FAILED",
		q.user+": Authentication failed: password is incorrect, or there is no user with such name")
}

func sameSecret(given, want string) int {
	a, b := sha256.Sum256([]byte(given)), sha256.Sum256([]byte(want))
	return subtle.ConstantTimeCompare(a[:], b[:])
}
