package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/rogpeppe/go-internal/testscript"

	"github.com/sallyport-ci/sallyport/cmd/internal/scripttest"
	"github.com/sallyport-ci/sallyport/stream"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){
		"sallyport": func() { os.Exit(run(os.Args[1:])) },
		"poison":    func() { os.Exit(poison()) },
	})
}

// poison publishes, as an agent of the running `sallyport up`, what is no batch.
func poison() int {
	address, err := os.ReadFile(filepath.Join(os.Getenv("SALLYPORT_DATA"), agentFile))
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	nc, err := nats.Connect(strings.TrimPrefix(strings.TrimSpace(string(address)), "SALLYPORT_NATS="))
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer nc.Close()
	// Not by JetStream's client, which asks for more than an agent may.
	if _, err := nc.Request(stream.EventSubject("odd"), []byte("no batch"), 10*time.Second); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// TestScripts runs testdata/script/*.txtar: what a person types, and what comes.
func TestScripts(t *testing.T) { scripttest.Run(t) }
