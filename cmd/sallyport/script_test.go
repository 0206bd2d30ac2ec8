package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/sallyport-ci/sallyport/cmd/internal/scripttest"
	"github.com/sallyport-ci/sallyport/recording"
	"github.com/sallyport-ci/sallyport/store/engine/enginetest"
	"github.com/sallyport-ci/sallyport/stream"
)

func TestMain(m *testing.M) {
	testscript.Main(withEngine{m}, map[string]func(){
		"sallyport":   func() { os.Exit(run(os.Args[1:])) },
		"nats-server": func() { os.Exit(runNATSServer()) },
		"poison":      func() { os.Exit(exitOf(poison())) },
		"aged":        func() { os.Exit(exitOf(aged(os.Args[1], os.Args[2]))) },
		"forget":      func() { os.Exit(exitOf(forget())) },
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

// poison publishes, on an agent's subject of the running `sallyport up`, what is no batch.
func poison() error {
	s, err := (streamOptions{data: os.Getenv("SALLYPORT_DATA")}).dial()
	if err != nil {
		return err
	}
	defer s.close()
	_, err = s.js.Publish(context.Background(), stream.EventSubject("odd"), []byte("no batch"))
	return err
}

// withEngine are the tests of this binary, which is a ClickHouse, too.
type withEngine struct{ *testing.M }

// Run implements testscript.TestingM.
func (w withEngine) Run() int { return enginetest.Run(w.M.Run) }

// TestScripts runs testdata/script/*.txtar: what a person types, and what comes.
func TestScripts(t *testing.T) { scripttest.Run(t) }
