// Package test tries the whole of Sallyport on real parts: the programs as they are
// built, the kernel, NATS, ClickHouse, and workflows run by act.
package test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	sallyportv1 "github.com/sallyport-ci/sallyport/proto/sallyport/v1"
	"github.com/sallyport-ci/sallyport/stream"
	"github.com/sallyport-ci/sallyport/test/lab"
	"github.com/sallyport-ci/sallyport/test/slackfake"
)

func TestMain(m *testing.M) {
	lab.BeWorld()
	os.Exit(m.Run())
}

// repository is one that no other test uses: agents see the whole machine, and with
// it the workflows of tests that run at the same time.
const repository = "acme/system"

// system is a running Sallyport with a world of workflows and a channel of alerts.
type system struct {
	data     string // its folder
	log      *output
	up       *lab.Up
	world    *lab.Lab
	receiver *slackfake.Receiver
	start    func() *lab.Up
}

// output is what a program prints. It is safe for concurrent use.
type output struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}

// built returns the paths of sallyport and act; the test is skipped where it cannot run.
func built(t *testing.T) (program, act string) {
	t.Helper()
	program, err := filepath.Abs("../bin/sallyport")
	if err != nil {
		t.Fatal(err)
	}
	act, err = filepath.Abs("../.bin/act")
	if err != nil {
		t.Fatal(err)
	}
	reason := ""
	for _, path := range []string{program, act} {
		if _, err := os.Stat(path); err != nil {
			reason = filepath.Base(path) + " is not built (make test builds it)"
		}
	}
	if os.Geteuid() != 0 {
		reason = "eBPF and network namespaces need root"
	}
	if reason != "" && os.Getenv("SALLYPORT_REQUIRE_ALL") != "" {
		t.Fatal(reason)
	} else if reason != "" {
		t.Skip("skipped: " + reason)
	}
	return program, act
}

func newSystem(t *testing.T) *system {
	t.Helper()
	return newSystemWith(t, nil)
}

// newSystemWith is newSystem with a data folder that something is in.
func newSystemWith(t *testing.T, prepare func(data string)) *system {
	t.Helper()
	program, act := built(t)
	var err error
	ctx := context.WithoutCancel(t.Context()) // what runs is stopped in order
	s := &system{receiver: slackfake.New("/hook", nil)}
	channel := httptest.NewServer(s.receiver)
	t.Cleanup(channel.Close)
	s.data, s.log = t.TempDir(), &output{}
	if prepare != nil {
		prepare(s.data)
	}
	s.start = func() *lab.Up {
		up, err := lab.StartUp(ctx, program, s.data, channel.URL+"/hook", s.log)
		if err != nil {
			t.Fatalf("%v\n%s", err, s.log)
		}
		return up
	}
	s.up = s.start()
	t.Cleanup(func() {
		if err := s.up.Stop(); err != nil {
			t.Error(err)
		}
		if t.Failed() {
			t.Logf("sallyport up printed:\n%s", s.log)
		}
	})
	if s.world, err = lab.Open(ctx, t.TempDir(), act, repository); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.world.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func (s *system) run(t *testing.T, workflow string, id int) {
	t.Helper()
	var out bytes.Buffer
	if err := s.world.Run(t.Context(), workflow, id, &out); err != nil {
		t.Fatalf("%v\n%s", err, out.Bytes())
	}
}

func eventually(t *testing.T, what string, f func() error) {
	t.Helper()
	deadline := time.Now().Add(time.Minute)
	for {
		err := f()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s: %v", what, err)
		}
		time.Sleep(100 * time.Millisecond)
	}
}

// learned waits until a job's baseline has learned from a number of runs.
func (s *system) learned(t *testing.T, job string, runs int, stable bool) {
	t.Helper()
	eventually(t, "baseline of "+job, func() error {
		out, err := s.up.Ask(t.Context(), "baseline", job, "--json", "--repository", repository)
		if err != nil {
			return err
		}
		var b struct {
			Stable bool
			Runs   int
		}
		if err := json.Unmarshal([]byte(out), &b); err != nil {
			return err
		}
		if b.Runs != runs || b.Stable != stable {
			return fmt.Errorf("%d runs, stable %t, want %d, %t", b.Runs, b.Stable, runs, stable)
		}
		return nil
	})
}

// finding is what the tests look at in a finding.
type finding struct {
	ID     string
	Policy struct {
		ID, Title string
	}
	Attribution struct {
		Repository, Job, Step string
		RunID                 string `json:"run_id"`
	}
}

func (s *system) findings(t *testing.T) (all []finding) {
	t.Helper()
	out, err := s.up.Ask(t.Context(), "findings", "--json", "--limit", "0", "--repository", repository)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(out) {
		var f finding
		if err := json.Unmarshal([]byte(line), &f); err != nil {
			t.Fatal(err)
		}
		all = append(all, f)
	}
	return all
}

// expect waits until exactly these findings, as "policy step", are there for a
// run, in the API, in ClickHouse and in the channel.
func (s *system) expect(t *testing.T, run string, want ...string) {
	t.Helper()
	slices.Sort(want)
	eventually(t, "findings of run "+run, func() error {
		var got, titles []string
		for _, f := range s.findings(t) {
			if f.Attribution.RunID == run {
				got = append(got, f.Policy.ID+" "+f.Attribution.Step)
				titles = append(titles, f.Policy.Title)
			}
		}
		slices.Sort(got)
		got = slices.Compact(got)
		if !slices.Equal(got, want) {
			return fmt.Errorf("%q, want %q", got, want)
		}
		var told strings.Builder
		for _, text := range s.told() {
			told.WriteString(text)
		}
		for _, title := range titles {
			if !strings.Contains(told.String(), title) {
				return fmt.Errorf("the channel was not told of %q", title)
			}
		}
		return nil
	})
	out, err := s.up.Query(t.Context(), "SELECT DISTINCT policy || ' ' || step FROM findings WHERE repository = '"+repository+"' AND run_id = '"+run+"' ORDER BY 1")
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.Split(strings.TrimSpace(out), "\n"); !slices.Equal(got, want) {
		t.Errorf("ClickHouse has findings %q, want %q", got, want)
	}
}

// told returns the text of every alert that is about the tests' own repository.
func (s *system) told() (texts []string) {
	for _, m := range s.receiver.Messages() {
		var all strings.Builder
		for _, text := range m.Texts() {
			all.WriteString(text.Text)
		}
		if strings.Contains(all.String(), repository) {
			texts = append(texts, all.String())
		}
	}
	return texts
}

// TestFromKernelToChannel is the product in short: clean runs teach, also across
// a restart and a kill, a clean run after that is quiet, an attack is told of.
func TestFromKernelToChannel(t *testing.T) {
	s := newSystem(t)
	for run := 1; run <= 5; run++ {
		s.run(t, "ci.yml", run)
		s.learned(t, "build", run, run == 5)
		switch run {
		case 2: // Ctrl-C
			if err := s.up.Stop(); err != nil {
				t.Fatal(err)
			}
			s.up = s.start()
		case 4: // no time to do anything in order
			if err := s.up.Kill(); err != nil {
				t.Fatal(err)
			}
			s.up = s.start()
		}
	}
	s.run(t, "ci.yml", 6)
	s.learned(t, "build", 6, true)
	if f := s.findings(t); len(f) > 0 {
		t.Fatalf("findings for clean runs: %+v", f)
	}
	if m := s.told(); len(m) > 0 {
		t.Fatalf("alerts for clean runs: %q", m)
	}
	if err := s.world.Compromise(); err != nil {
		t.Fatal(err)
	}
	s.run(t, "ci.yml", 7)
	s.expect(t, "7", "decoded_command changed", "masked_secret_printed changed", "new_endpoint changed", "pipe_to_interpreter changed", "process_memory_read changed")

	out, err := s.up.Query(t.Context(), "SELECT run_id, countIf(kind = 'executed') > 0, uniqExact(agent_id, epoch, sequence) = count() FROM process_events WHERE repository = '"+repository+"' GROUP BY run_id ORDER BY run_id")
	if err != nil {
		t.Fatal(err)
	}
	if want := "1\t1\t1\n2\t1\t1\n3\t1\t1\n4\t1\t1\n5\t1\t1\n6\t1\t1\n7\t1\t1\n"; out != want {
		t.Errorf("runs, whether processes were seen, whether each event is there once:\n%swant\n%s", out, want)
	}
	s.whole(t, 3)
}

// whole checks that every event that agents numbered is in ClickHouse, once: what
// was on its way at Ctrl-C or at a kill has come in later. An agent's every start is
// an epoch.
func (s *system) whole(t *testing.T, starts int) {
	t.Helper()
	var tables []string
	for _, table := range []string{"process_events", "flow_events", "dns", "process_accesses", "file_accesses", "privileges", "executables", "http_requests", "job_events", "agent_status"} {
		tables = append(tables, "SELECT epoch, sequence FROM "+table)
	}
	eventually(t, "every event once", func() error {
		out, err := s.up.Query(t.Context(), "SELECT epoch, count(), uniqExact(sequence), max(sequence) FROM ("+strings.Join(tables, " UNION ALL ")+") GROUP BY epoch ORDER BY epoch")
		if err != nil {
			return err
		}
		epochs := strings.Split(strings.TrimSpace(out), "\n")
		for _, epoch := range epochs {
			if n := strings.Fields(epoch); n[1] != n[2] || n[1] != n[3] {
				return fmt.Errorf("epoch, events, different ones, last number: %s", epoch)
			}
		}
		if len(epochs) != starts {
			return fmt.Errorf("%d epochs of the agent, want %d:\n%s", len(epochs), starts, out)
		}
		return nil
	})
}

// TestTroubleStaysWhereItIs meets everything at once that is not as it should be:
// messages that are none, ClickHouse dying, a policy that does not compile, command
// lines and answers that nobody expects. The rest goes on, and nothing is lost.
func TestTroubleStaysWhereItIs(t *testing.T) {
	s := newSystem(t)
	said := func(what string) func() error {
		return func() error {
			if !strings.Contains(s.log.String(), what) {
				return fmt.Errorf("sallyport up did not say %q", what)
			}
			return nil
		}
	}

	policy := filepath.Join(s.data, "policies", "broken.rego")
	if err := os.MkdirAll(filepath.Dir(policy), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(policy, []byte("package sallyport.policies.broken\n\nviolations contains {"), 0o644); err != nil {
		t.Fatal(err)
	}
	eventually(t, "broken policy", said("broken.rego:3"))

	bad := s.publishBad(t)
	eventually(t, "dead letters", func() error {
		for _, part := range []string{"ingest", "detector"} {
			if n := s.metric(t, "sallyport_"+part+"_dead_letters_total"); n != float64(bad) {
				return fmt.Errorf("%s kept %g dead letters, want %d", part, n, bad)
			}
		}
		return nil
	})

	for run := 1; run <= 3; run++ {
		if run == 2 {
			children, err := s.up.Children()
			if err != nil {
				t.Fatal(err)
			}
			if len(children) != 1 {
				t.Fatalf("%d children, want ClickHouse only", len(children))
			}
			if err := children[0].Kill(); err != nil {
				t.Fatal(err)
			}
		}
		s.run(t, "odd.yml", 60+run)
	}
	eventually(t, "ClickHouse starting again", func() error {
		if n := s.metric(t, "sallyport_clickhouse_restarts_total"); n != 1 {
			return fmt.Errorf("it was started again %g times, want 1", n)
		}
		return nil
	})
	s.learned(t, "odd", 3, false)
	s.whole(t, 1)

	for _, q := range []struct{ what, sql, want string }{
		{"the long command line, cut and marked", "SELECT DISTINCT arraySlice(arguments, 1, 2), length(arguments[3]) > 1000, arguments_truncated FROM processes WHERE step = 'long' AND program = 'true'",
			"['/bin/true','start']\t1\ttrue\n"},
		{"names that are not UTF-8", "SELECT DISTINCT program, arguments[2], isValidUTF8(executable) FROM processes WHERE step = 'invalid' AND endsWith(program, '.bin')",
			`\\xff.bin` + "\t" + `\\xfe argument \\xc3(` + "\t1\n"},
		{"the question that was answered with a loop", "SELECT DISTINCT name, addresses FROM dns WHERE step = 'loop' AND name = 'loop.example.test'",
			"loop.example.test\t[]\n"},
		{"what honest steps do", "SELECT count() FROM egress WHERE step = 'honest' AND domain = 'registry.example.test'", "3\n"},
	} {
		eventually(t, q.what, func() error {
			out, err := s.up.Query(t.Context(), q.sql+" AND repository = '"+repository+"'")
			if err != nil {
				return err
			}
			if out != q.want {
				return fmt.Errorf("got\n%swant\n%s", out, q.want)
			}
			return nil
		})
	}
}

// publishBad sends messages of which no part can make sense, as somebody who has
// an agent's password might, and returns how many.
func (s *system) publishBad(t *testing.T) int {
	t.Helper()
	url, err := s.up.AgentURL()
	if err != nil {
		t.Fatal(err)
	}
	nc, err := nats.Connect(url)
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	encoder, err := stream.NewEncoder()
	if err != nil {
		t.Fatal(err)
	}
	whole, err := encoder.Encode(nil, &sallyportv1.EventBatch{AgentId: "stranger", Epoch: 1, FirstSequence: 1, Events: []*sallyportv1.Event{{TimeUnixNano: 1}}})
	if err != nil {
		t.Fatal(err)
	}
	pointing, err := encoder.Encode(nil, &sallyportv1.EventBatch{AgentId: "stranger", Epoch: 1, FirstSequence: 1, Events: []*sallyportv1.Event{{TimeUnixNano: 1, Process: 7}}})
	if err != nil {
		t.Fatal(err)
	}
	messages := [][]byte{nil, []byte("hello"), []byte(`{"foreign":"json"}`), whole[:len(whole)-3], pointing}
	for _, m := range messages {
		if _, err := js.Publish(t.Context(), stream.EventSubject("stranger"), m); err != nil {
			t.Fatal(err)
		}
	}
	return len(messages)
}

// metric returns the sum of a metric's values over all its labels.
func (s *system) metric(t *testing.T, name string) (sum float64) {
	t.Helper()
	response, err := http.Get("http://" + s.up.Metrics + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range families[name].GetMetric() {
		sum += m.GetCounter().GetValue() + m.GetGauge().GetValue()
	}
	return sum
}

// TestNobodyDodgesAttribution runs steps that clear or forge their environment or
// leave their session.
func TestNobodyDodgesAttribution(t *testing.T) {
	s := newSystem(t)
	s.run(t, "evasion.yml", 41)
	s.expect(t, "41", "bare_address bare", "metadata_address metadata", "pipe_to_interpreter substitution")

	commit, err := s.world.Commit(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "requests by step", func() error {
		out, err := s.up.Query(t.Context(), `SELECT DISTINCT p.step, e.domain FROM egress AS e
			JOIN processes AS p ON p.process_id = e.process_id AND p.run_id = e.run_id
			WHERE e.repository = '`+repository+`' AND e.run_id = '41' AND e.destination_port = 80 AND e.domain = 'registry.example.test' AND p.program = 'curl'
				AND arrayExists(a -> a LIKE concat('%/', p.step), p.arguments) ORDER BY 1`)
		if err != nil {
			return err
		}
		if want := "cleared\tregistry.example.test\nforged\tregistry.example.test\nforked\tregistry.example.test\n"; out != want {
			return fmt.Errorf("got\n%swant\n%s", out, want)
		}
		return nil
	})
	want := strings.Join([]string{repository, "Evasion", "41", "1", "dodge", commit, "refs/heads/main", "push", "alice"}, "\t") + "\n"
	for _, table := range []string{"process_events", "flow_events", "dns"} {
		out, err := s.up.Query(t.Context(), "SELECT DISTINCT repository, workflow, run_id, run_attempt, job, commit, ref, event, actor FROM "+table+" WHERE execution_id IN (SELECT execution_id FROM job_events WHERE repository = '"+repository+"')")
		if err != nil {
			t.Fatal(err)
		}
		if out != want {
			t.Errorf("attribution of %s:\n%swant\n%s", table, out, want)
		}
	}
}

// TestRunWatchesOneCommand tries what a newcomer tries first.
func TestRunWatchesOneCommand(t *testing.T) {
	s := newSystem(t) // for its skipping, and as the address to talk to
	program, err := filepath.Abs("../bin/sallyport")
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), program, "run", "--json", "--", "bash", "-c", "exec 3<>/dev/tcp/"+strings.Replace(s.up.REST, ":", "/", 1)+"; exit 7")
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err = cmd.Run()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != 7 {
		t.Fatalf("%v, want exit code 7\n%s", err, out.Bytes())
	}
	_, port, _ := strings.Cut(s.up.REST, ":")
	if !json.Valid(out.Bytes()) || !strings.Contains(out.String(), port) {
		t.Errorf("the report is not JSON or lacks port %s:\n%s", port, out.Bytes())
	}
}
