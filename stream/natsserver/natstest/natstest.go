// Package natstest starts NATS for tests, which end it.
package natstest

import (
	"testing"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/sallyport-ci/sallyport/stream"
	"github.com/sallyport-ci/sallyport/stream/natsserver"
)

// Start starts the embedded NATS in a folder of its own unless c names one. It has no streams. The
// connection (JetStream.Conn) is an administrator's.
func Start(t testing.TB, c natsserver.Config, options ...jetstream.JetStreamOpt) (*natsserver.Server, jetstream.JetStream) {
	t.Helper()
	if c.Dir == "" {
		c.Dir = t.TempDir()
	}
	server, err := natsserver.Start(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Shutdown)
	nc, err := server.Connect()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	js, err := jetstream.New(nc, options...)
	if err != nil {
		t.Fatal(err)
	}
	return server, js
}

// StartDeclared starts one with Sallyport's streams.
func StartDeclared(t testing.TB, c natsserver.Config, options ...jetstream.JetStreamOpt) (*natsserver.Server, jetstream.JetStream) {
	t.Helper()
	server, js := Start(t, c, options...)
	if err := stream.Declare(t.Context(), js, stream.Limits{}); err != nil {
		t.Fatal(err)
	}
	return server, js
}
