package ingest

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"text/tabwriter"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/nats-io/nats.go/jetstream"
	"google.golang.org/protobuf/proto"

	"github.com/sallyport-ci/sallyport/detector"
	"github.com/sallyport-ci/sallyport/recording"
	"github.com/sallyport-ci/sallyport/store/engine/enginetest"
)

var update = flag.Bool("update", false, "write the answers in docs/queries.md again")

//go:generate go test -run TestQueriesPage -update

// fence is a query of the page, with the answer if it has one.
var fence = regexp.MustCompile("(?s)```sql\n(.*?)```\n(?:\n```text\n.*?```\n)?")

// TestQueriesPage asks every question of docs/queries.md as the reader, of the recorded
// runs, and compares the answers with those on the page.
func TestQueriesPage(t *testing.T) {
	const page = "../docs/queries.md"
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	e := enginetest.Start(t)
	name, _ := e.Database(t)
	l := &lab{engine: e, dsn: e.DatabaseDSN(name)}
	l.store = openStore(t, l.dsn)
	if err := l.store.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	last := l.insertRecordings(t)
	now := last.Add(time.Hour).Truncate(time.Second)
	queries := 0
	answered := fence.ReplaceAllStringFunc(string(text), func(block string) string {
		queries++
		query := fence.FindStringSubmatch(block)[1]
		return "```sql\n" + query + "```\n\n```text\n" + askReader(t, e, name, query, now) + "```\n"
	})
	if queries < 15 {
		t.Errorf("%d queries, want 15", queries)
	}
	if *update {
		if err := os.WriteFile(page, []byte(answered), 0o644); err != nil {
			t.Fatal(err)
		}
	} else if answered != string(text) {
		t.Errorf("%s does not have these answers; go generate ./ingest writes them:\n%s", page, answered)
	}
}

// insertRecordings inserts the recorded runs: the first five as of ten days before, the
// sixth as of another repository that uses the same actions. It returns when the last
// event happened.
func (l *lab) insertRecordings(t *testing.T) (last time.Time) {
	t.Helper()
	rows, err := newEventRows()
	if err != nil {
		t.Fatal(err)
	}
	findings := &findingRows{store: l.store}
	files, err := filepath.Glob("../testdata/recordings/ci-*.rec")
	if err != nil || len(files) != 7 {
		t.Fatalf("recordings %v: %v", files, err)
	}
	for n, file := range files {
		policies, problems, err := detector.LoadPolicies(t.Context(), "")
		if err != nil || len(problems) > 0 {
			t.Fatal(err, problems)
		}
		judge, err := detector.NewEngine(detector.EngineConfig{Policies: policies})
		if err != nil {
			t.Fatal(err)
		}
		f, err := os.Open(file)
		if err != nil {
			t.Fatal(err)
		}
		r, err := recording.NewReader(f)
		if err != nil {
			t.Fatal(err)
		}
		for {
			b, err := r.Next()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			if n < 5 {
				recording.Shift(b.Events, -10*24*time.Hour)
			}
			if n == 5 {
				for _, a := range b.Events.GetAttributions() {
					a.Repository = "acme/blog"
				}
			}
			if _, end, ok := recording.Span(b.Events); ok && end.After(last) {
				last = end
			}
			rows.batchRows.add(b.Events, b.Recorded)
			found, err := judge.Apply(t.Context(), b.Events)
			if err != nil {
				t.Fatal(err)
			}
			for _, finding := range found {
				data, err := proto.Marshal(finding)
				if err != nil {
					t.Fatal(err)
				}
				if err := findings.add(&message{Msg: storedMsg{raw: &jetstream.RawStreamMsg{Data: data}}, stored: b.Recorded}); err != nil {
					t.Fatal(err)
				}
			}
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
	}
	rows.batchRows.add(fullBatch(last), last)
	// Another repository uses the same action, which asks for another name there and
	// speaks to another host.
	other := fullBatch(last)
	other.AgentId = "agent-2"
	other.Attributions[0].Repository = "example/web"
	for _, e := range other.GetEvents() {
		if d := e.GetDnsExchange(); d != nil {
			d.Name = "c2VjcmV0.tunnel.example.test"
		}
		if f := e.GetFlow(); f != nil && f.GetDomain() != "" {
			f.Domain = "metrics.example.test"
		}
	}
	rows.batchRows.add(other, last)
	if err := findings.prepare(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, table := range append(rows.tables(), findings.tables()...) {
		if err := l.store.Insert(t.Context(), "recordings", table); err != nil {
			t.Fatal(err)
		}
	}
	options, err := clickhouse.ParseDSN(l.dsn)
	if err != nil {
		t.Fatal(err)
	}
	conn, err := clickhouse.Open(options)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }() // nothing is under way then
	err = conn.Exec(t.Context(), `INSERT INTO intelligence (kind, indicator, source, severity, reason) VALUES
		('domain', 'gist.example.test', 'ours', 'high', 'serves the memory dumper'), ('address', '203.0.113.66', 'ours', 'low', 'unused here')`)
	if err != nil {
		t.Fatal(err)
	}
	return last
}

// askReader asks as the read-only user and returns the answer as a table.
func askReader(t *testing.T, e *enginetest.Engine, database, query string, now time.Time) string {
	t.Helper()
	at := fmt.Sprintf("toDateTime('%s', 'UTC')", now.UTC().Format(time.DateTime))
	query = strings.NewReplacer("now()", at, "today()", "toDate("+at+")").Replace(query)
	options, err := clickhouse.ParseDSN(e.ReadOnlyDSN())
	if err != nil {
		t.Fatal(err)
	}
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+options.Addr[0]+"/?database="+database, strings.NewReader(query+"\nFORMAT TabSeparatedWithNames"))
	if err != nil {
		t.Fatal(err)
	}
	request.SetBasicAuth(options.Auth.Username, options.Auth.Password)
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = answer.Body.Close() }() // only read
	body, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	if answer.StatusCode != http.StatusOK {
		t.Fatalf("%s\n%s", query, body)
	}
	if strings.Count(string(body), "\n") < 2 {
		t.Errorf("no answer to\n%s", query)
	}
	var table strings.Builder
	w := tabwriter.NewWriter(&table, 0, 0, 2, ' ', 0)
	if _, err := w.Write(body); err != nil {
		t.Fatal(err)
	}
	if err := w.Flush(); err != nil {
		t.Fatal(err)
	}
	return regexp.MustCompile(`(?m) +$`).ReplaceAllString(table.String(), "")
}
