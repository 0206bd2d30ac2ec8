package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/spf13/pflag"

	"github.com/sallyport-ci/sallyport/store"
	"github.com/sallyport-ci/sallyport/stream"
	"github.com/sallyport-ci/sallyport/stream/natsserver"
)

// streamOptions are the flags of every command that speaks to the streams themselves.
type streamOptions struct {
	data  string
	nats  string
	creds string
}

// streamsHelp ends the help of every command that speaks to the streams.
const streamsHelp = `

Speaks to the NATS of the "sallyport up" of this machine, found by its data folder, or to
the one at --nats, whose address holds a password: give it as SALLYPORT_NATS, not as an argument
that others can read.`

func (o *streamOptions) flags(f *pflag.FlagSet) {
	f.StringVar(&o.data, "data", defaultDataDir(), "data folder of the running sallyport up")
	f.StringVar(&o.nats, "nats", "", "address of another NATS, nats://USER:PASSWORD@HOST:4222; better in SALLYPORT_NATS")
	f.StringVar(&o.creds, "creds", "", "file of credentials for that NATS")
}

// connectTimeout bounds how long a server may take to answer a command.
const connectTimeout = 5 * time.Second

// streams is a connection to the streams.
type streams struct {
	js jetstream.JetStream
	nc *nats.Conn
	at string // without a password
	o  streamOptions
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
	settings := []nats.Option{nats.Name("sallyport"), nats.Timeout(connectTimeout), nats.MaxReconnects(-1)}
	address := o.nats
	if address == "" {
		a, err := readAddresses(o.data)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return nil, fmt.Errorf("no server runs with the data folder %s; start one with `sallyport up`, or name its NATS with SALLYPORT_NATS", o.data)
		case errors.Is(err, fs.ErrPermission):
			return nil, fmt.Errorf("%s belongs to another user: use sudo", o.data)
		case err != nil:
			return nil, err
		}
		address = "nats://" + a.NATS
	} else if !strings.Contains(address, "://") {
		address = "nats://" + address
	}
	u, err := url.Parse(address)
	if err != nil {
		return nil, usageError(errors.New("the address of NATS is not a URL, as nats://HOST:4222 is"))
	}
	switch password, err := os.ReadFile(filepath.Join(o.data, operatorPasswordFile)); {
	case o.creds != "":
		settings = append(settings, nats.UserCredentials(o.creds))
	case u.User != nil:
	case err == nil:
		settings = append(settings, nats.UserInfo(natsserver.OperatorUser, strings.TrimSpace(string(password))))
	case o.nats == "":
		return nil, fmt.Errorf("read the password for NATS: %w", err)
	}
	nc, err := nats.Connect(address, settings...)
	if err != nil {
		return nil, fmt.Errorf("connect to NATS at %s: %w; is `sallyport up` running?", u.Host, err)
	}
	js, err := jetstream.New(nc, jetstream.WithPublishAsyncMaxPending(256))
	if err != nil {
		nc.Close()
		return nil, fmt.Errorf("use JetStream at %s: %w", u.Host, err)
	}
	return &streams{js: js, nc: nc, at: u.Host, o: o}, nil
}

// openStore opens the ClickHouse of the running `sallyport up` as its owner; it does not connect.
func openStore(ctx context.Context, data string) (*store.Store, error) {
	a, err := readAddresses(data)
	if err != nil {
		return nil, err
	}
	password, err := os.ReadFile(filepath.Join(data, ownerPasswordFile))
	if err != nil {
		return nil, fmt.Errorf("read the password for ClickHouse: %w", err)
	}
	dsn := url.URL{Scheme: "http", Host: a.ClickHouse, Path: "/sallyport", User: url.UserPassword("sallyport", strings.TrimSpace(string(password)))}
	return store.Open(ctx, dsn.String())
}
