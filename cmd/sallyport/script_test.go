package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/rogpeppe/go-internal/testscript"

	"github.com/sallyport-ci/sallyport/cmd/internal/scripttest"
	"github.com/sallyport-ci/sallyport/recording"
	"github.com/sallyport-ci/sallyport/stream"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){
		"sallyport": func() { os.Exit(run(os.Args[1:])) },
		"poison":    func() { os.Exit(poison()) },
		"aged":      func() { os.Exit(exitOf(aged(os.Args[1], os.Args[2]))) },
		"forget":    func() { os.Exit(exitOf(forget())) },
	})
}

func exitOf(err error) int {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// aged makes of a recording one of another agent, thirty days older.
func aged(from, to string) error {
	f, err := recording.Create(to, recording.About{})
	if err != nil {
		return err
	}
	_, err = withRecording(from, func(r *recording.Reader) (struct{}, error) {
		for {
			b, err := r.Next()
			if err != nil {
				return struct{}{}, err
			}
			recording.Identity("aged").Renew(b.Events)
			recording.Shift(b.Events, -30*24*time.Hour)
			if err := f.Add(b.Recorded, b.Events); err != nil {
				return struct{}{}, err
			}
		}
	})
	return errors.Join(err, f.Close())
}

// forget takes from ingest what it remembers of agents, as seven days do.
func forget() error {
	s, err := (streamOptions{data: os.Getenv("SALLYPORT_DATA")}).dial()
	if err != nil {
		return err
	}
	defer s.close()
	bucket, err := s.js.Stream(context.Background(), "KV_"+stream.IngestedBucket)
	if err != nil {
		return err
	}
	return bucket.Purge(context.Background())
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
