package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/sallyport-ci/sallyport/cmd/internal/scripttest"
	"github.com/sallyport-ci/sallyport/deployments/grafana"
	"github.com/sallyport-ci/sallyport/recording"
	"github.com/sallyport-ci/sallyport/store/engine/enginetest"
	"github.com/sallyport-ci/sallyport/stream"
	"github.com/sallyport-ci/sallyport/test/slackfake"
)

func TestMain(m *testing.M) {
	testscript.Main(withEngine{m}, map[string]func(){
		"sallyport":   func() { os.Exit(run(os.Args[1:])) },
		"nats-server": func() { os.Exit(runNATSServer()) },
		"poison":      func() { os.Exit(exitOf(poison())) },
		"aged":        func() { os.Exit(exitOf(aged(os.Args[1], os.Args[2]))) },
		"spooled":     func() { os.Exit(exitOf(spool(os.Args[1], os.Args[2], os.Args[3]))) },
		"rows":        func() { os.Exit(exitOf(rows())) },
		"forget":      func() { os.Exit(exitOf(forget())) },
		"panels":      func() { os.Exit(exitOf(panels())) },
		"slack":       func() { os.Exit(exitOf(slack(os.Args[1], os.Args[2]))) },
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

// spool makes of a recording what an agent of that name leaves in its spool; of the agent that
// it had, if the name is -.
func spool(from, to, agent string) error {
	e, err := stream.NewEncoder()
	if err != nil {
		return err
	}
	if err := os.MkdirAll(to, 0o755); err != nil {
		return err
	}
	_, err = withRecording(from, func(r *recording.Reader) (struct{}, error) {
		for {
			b, err := r.Next()
			if err != nil {
				return struct{}{}, err
			}
			if agent != "-" {
				b.Events.AgentId = agent
			}
			data, err := e.Encode(nil, b.Events)
			if err != nil {
				return struct{}{}, err
			}
			name := stream.SpoolName{Epoch: b.Events.GetEpoch(), First: b.Events.GetFirstSequence(), Events: len(b.Events.GetEvents())}
			if err := os.WriteFile(filepath.Join(to, name.String()), data, 0o600); err != nil {
				return struct{}{}, err
			}
		}
	})
	return err
}

// rows says how many events are in the tables, and how many of them more than once.
func rows() error {
	data := os.Getenv("SALLYPORT_DATA")
	a, err := readAddresses(data)
	if err != nil {
		return err
	}
	password, err := os.ReadFile(filepath.Join(data, readerFile))
	if err != nil {
		return err
	}
	var parts []string
	for _, table := range []string{
		"process_events", "flow_events", "dns", "process_accesses", "file_accesses", "privileges", "executables", "http_requests", "job_events", "agent_status",
	} {
		parts = append(parts, "SELECT agent_id, epoch, sequence FROM "+table)
	}
	query := "SELECT count() AS rows, rows - uniqExact(agent_id, epoch, sequence) FROM (" + strings.Join(parts, " UNION ALL ") + ") FORMAT TSV"
	r, err := http.NewRequest(http.MethodPost, "http://"+a.ClickHouse+"/?database=sallyport", strings.NewReader(query))
	if err != nil {
		return err
	}
	r.SetBasicAuth("reader", strings.TrimSpace(string(password)))
	res, err := http.DefaultClient.Do(r)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil || res.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s: %w", res.Status, body, err)
	}
	count, twice, _ := strings.Cut(strings.TrimSpace(string(body)), "\t")
	fmt.Printf("%s rows, %s twice\n", count, twice)
	return nil
}

// slack serves Slack's API for one channel until it is killed: its address goes to a file, and
// what is posted to the standard output.
func slack(token, address string) error {
	api := slackfake.NewAPI(token, "C0123456789")
	server := httptest.NewServer(api)
	defer server.Close()
	if err := os.WriteFile(address, []byte(server.URL+"/api"), 0o600); err != nil {
		return err
	}
	seen := map[string]string{}
	for {
		changed := api.Changed()
		for _, p := range api.Posted() {
			if seen[p.TS] != p.Text {
				seen[p.TS] = p.Text
				fmt.Printf("%s in %q: %s\n", p.TS, p.ThreadTS, p.Text)
			}
		}
		for _, err := range api.Refusals() {
			return err
		}
		<-changed
	}
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

// panels asks the query of every panel of every dashboard as Grafana would, and says of
// each how many rows came.
func panels() error {
	data := os.Getenv("SALLYPORT_DATA")
	a, err := readAddresses(data)
	if err != nil {
		return err
	}
	password, err := os.ReadFile(filepath.Join(data, readerFile))
	if err != nil {
		return err
	}
	ask := func(query string) (lines []string, err error) {
		r, err := http.NewRequest(http.MethodPost, "http://"+a.ClickHouse+"/?database=sallyport", strings.NewReader(query+"\nFORMAT TSV"))
		if err != nil {
			return nil, err
		}
		r.SetBasicAuth("reader", strings.TrimSpace(string(password)))
		res, err := http.DefaultClient.Do(r)
		if err != nil {
			return nil, err
		}
		defer res.Body.Close()
		body, err := io.ReadAll(res.Body)
		if err != nil || res.StatusCode != http.StatusOK {
			return nil, fmt.Errorf("%s\n%s: %s: %w", query, res.Status, body, err)
		}
		return strings.Split(strings.TrimSuffix(string(body), "\n"), "\n"), nil
	}
	for _, d := range grafana.Dashboards() {
		c := grafana.Choice{From: time.Now().AddDate(-1, 0, 0), To: time.Now().Add(24 * time.Hour), Interval: time.Hour, Values: map[string][]string{}}
		for _, v := range d.Variables {
			query, err := grafana.Expand(v.Query, c)
			if err != nil {
				return err
			}
			values, err := ask(query)
			if err != nil {
				return err
			}
			if !v.Several {
				c.Values[v.Name] = values[:1]
			}
		}
		for _, p := range d.Panels {
			query, err := grafana.Expand(p.Query, c)
			if err != nil {
				return err
			}
			lines, err := ask(query)
			if err != nil {
				return fmt.Errorf("%s: %s: %w", d.Title, p.Title, err)
			}
			rows := len(lines)
			if lines[0] == "" {
				rows = 0
			}
			fmt.Printf("%s: %s: %d\n", d.Title, p.Title, rows)
		}
	}
	return nil
}

// withEngine are the tests of this binary, which is a ClickHouse, too.
type withEngine struct{ *testing.M }

// Run implements testscript.TestingM.
func (w withEngine) Run() int { return enginetest.Run(w.M.Run) }

// TestScripts runs testdata/script/*.txtar: what a person types, and what comes.
func TestScripts(t *testing.T) { scripttest.Run(t) }
