package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/sallyport-ci/sallyport/cmd/internal/process"
	"github.com/sallyport-ci/sallyport/store"
	"github.com/sallyport-ci/sallyport/stream"
	"github.com/sallyport-ci/sallyport/stream/natsserver"
)

// streamOptions are the flags of every command that speaks to the streams themselves.
type streamOptions struct {
	data     string
	external process.NATS
	dsnFile  string
}

// streamsHelp ends the help of every command that speaks to the streams.
const streamsHelp = `

Speaks to the NATS of the "sallyport up" of this machine, found by its data folder, or to
the one at --nats. An address with a password belongs into SALLYPORT_NATS, not into an
argument that others can read.`

func (o *streamOptions) flags(f *pflag.FlagSet) {
	f.StringVar(&o.data, "data", defaultDataDir(), "data folder of the running sallyport up")
	o.external.Flags(f, "nats", "", "address of another NATS: tls://HOST:PORT or nats://HOST:PORT, several with commas between them")
	f.StringVar(&o.dsnFile, "clickhouse-dsn-file", "", "file with the DSN of another ClickHouse; or the DSN itself in SALLYPORT_CLICKHOUSE_DSN")
}

// prepare completes the flags from the environment and says what is wrong with them.
func (o *streamOptions) prepare(cmd *cobra.Command) error {
	if f := cmd.Flags().Lookup("nats"); f.Changed && strings.Contains(o.external.URL, "@") {
		return usageError(errors.New("--nats holds a password, and everybody on this machine can read arguments: give the address in SALLYPORT_NATS, or use --nats-creds"))
	}
	if err := setFromEnvironment(cmd); err != nil {
		return err
	}
	if o.external.URL != "" {
		if err := o.external.Valid(); err != nil {
			return usageError(err)
		}
	}
	for server := range strings.SplitSeq(o.external.URL, ",") {
		// agent.env of sallyport up was sourced, for an agent.
		if u, err := url.Parse(strings.TrimSpace(server)); err == nil && u.User.Username() == natsserver.AgentUser {
			return usageError(errors.New("SALLYPORT_NATS names the user of the agents, who may do nothing but publish: unset it to ask the sallyport up of this machine, or give an administrator's address"))
		}
	}
	return nil
}

// dsn returns the DSN of another ClickHouse, empty if none is named.
func (o *streamOptions) dsn() (string, error) { return (&options{dsnFile: o.dsnFile}).dsn() }

// tables says whether it is known where ClickHouse is: that of `sallyport up` goes with its
// NATS.
func (o *streamOptions) tables() (bool, error) {
	dsn, err := o.dsn()
	return dsn != "" || o.external.URL == "", err
}

// connectTimeout bounds how long a server may take to answer a command.
const connectTimeout = 5 * time.Second

// streams is a connection to the streams.
type streams struct {
	js jetstream.JetStream
	nc *nats.Conn
	at string // without a password
}

func (s *streams) close() { s.nc.Close() }

// connect connects, and makes sure that there are Sallyport's streams.
func (o streamOptions) connect(ctx context.Context) (*streams, error) {
	s, err := o.dial()
	if err != nil {
		return nil, err
	}
	for _, name := range []string{stream.EventsStream, stream.DeadLettersStream} {
		if _, err := s.js.Stream(ctx, name); err != nil {
			s.close()
			if errors.Is(err, jetstream.ErrStreamNotFound) {
				return nil, fmt.Errorf("NATS at %s has no stream %s: `sallyport up` declares it", s.at, name)
			}
			return nil, fmt.Errorf("ask NATS at %s for stream %s: %w", s.at, name, err)
		}
	}
	return s, nil
}

func (o streamOptions) dial() (*streams, error) {
	settings := []nats.Option{nats.Timeout(connectTimeout)}
	server := o.external
	if server.URL == "" {
		a, err := readAddresses(o.data)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return nil, noServer(o.data, "its NATS with --nats")
		case errors.Is(err, fs.ErrPermission):
			return nil, fmt.Errorf("%s belongs to another user: use sudo", o.data)
		case err != nil:
			return nil, err
		case a.NATS == "":
			return nil, fmt.Errorf("the sallyport up with the data folder %s has no NATS of its own: name the one that it uses with --nats", o.data)
		}
		password, err := os.ReadFile(filepath.Join(o.data, operatorPasswordFile))
		if err != nil {
			return nil, fmt.Errorf("read the password for NATS: %w", err)
		}
		server.URL = "nats://" + a.NATS
		settings = append(settings, nats.UserInfo(natsserver.OperatorUser, strings.TrimSpace(string(password))))
	}
	at := withoutPasswords(server.URL)
	nc, err := server.Dial("sallyport", settings...)
	if err != nil {
		return nil, fmt.Errorf("connect to NATS at %s: %w; is it running?", at, err)
	}
	js, err := jetstream.New(nc, jetstream.WithPublishAsyncMaxPending(256))
	if err != nil {
		nc.Close()
		return nil, fmt.Errorf("use JetStream at %s: %w", at, err)
	}
	return &streams{js: js, nc: nc, at: at}, nil
}

// withoutPasswords leaves of addresses only where they lead.
func withoutPasswords(addresses string) string {
	var hosts []string
	for _, address := range strings.Split(addresses, ",") {
		address = strings.TrimSpace(address)
		if _, rest, ok := strings.Cut(address, "://"); ok {
			address = rest
		}
		hosts = append(hosts, address[strings.LastIndexByte(address, '@')+1:])
	}
	return strings.Join(hosts, ",")
}

// openStore opens the ClickHouse that is named or, as its owner, that of the running
// `sallyport up`; it does not connect.
func (o *streamOptions) openStore(ctx context.Context) (*store.Store, error) {
	if named, err := o.dsn(); err != nil || named != "" {
		if err != nil {
			return nil, err
		}
		return store.Open(ctx, named)
	}
	a, err := readAddresses(o.data)
	if err != nil {
		return nil, err
	}
	if a.ClickHouse == "" {
		return nil, errNoClickHouse
	}
	password, err := os.ReadFile(filepath.Join(o.data, ownerPasswordFile))
	if err != nil {
		return nil, fmt.Errorf("read the password for ClickHouse: %w", err)
	}
	dsn := url.URL{Scheme: "http", Host: a.ClickHouse, Path: "/sallyport", User: url.UserPassword("sallyport", strings.TrimSpace(string(password)))}
	return store.Open(ctx, dsn.String())
}

// saysWaiting returns what says that the stream takes no events (pipeline.PlayConfig.Waiting), and
// that it does again, below a line of progress.
func saysWaiting(line *progress, said io.Writer) func(error) {
	return func(err error) {
		line.done()
		if err != nil {
			fmt.Fprintln(said, "sallyport: the stream takes no events, trying again until it does:", err)
			return
		}
		fmt.Fprintln(said, "sallyport: the stream takes events again")
	}
}
