// Package test tries the whole of Sallyport on real parts: the programs as they are
// built, the kernel, NATS, ClickHouse, and workflows run by act.
package test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

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
	up       *lab.Up
	world    *lab.Lab
	receiver *slackfake.Receiver
	start    func() *lab.Up
}

func newSystem(t *testing.T) *system {
	t.Helper()
	program, err := filepath.Abs("../bin/sallyport")
	if err != nil {
		t.Fatal(err)
	}
	act, err := filepath.Abs("../.bin/act")
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

	ctx := context.WithoutCancel(t.Context()) // what runs is stopped in order
	s := &system{receiver: slackfake.New("/hook", nil)}
	channel := httptest.NewServer(s.receiver)
	t.Cleanup(channel.Close)
	data := t.TempDir()
	var log bytes.Buffer
	s.start = func() *lab.Up {
		up, err := lab.StartUp(ctx, program, data, channel.URL+"/hook", &log)
		if err != nil {
			t.Fatalf("%v\n%s", err, log.Bytes())
		}
		return up
	}
	s.up = s.start()
	t.Cleanup(func() {
		if err := s.up.Stop(); err != nil {
			t.Error(err)
		}
		if t.Failed() {
			t.Logf("sallyport up printed:\n%s", log.Bytes())
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
	s.expect(t, "7", "new_endpoint changed", "pipe_to_interpreter changed", "process_memory_read changed")

	out, err := s.up.Query(t.Context(), "SELECT run_id, countIf(kind = 'executed') > 0, uniqExact(agent_id, epoch, sequence) = count() FROM process_events WHERE repository = '"+repository+"' GROUP BY run_id ORDER BY run_id")
	if err != nil {
		t.Fatal(err)
	}
	if want := "1\t1\t1\n2\t1\t1\n3\t1\t1\n4\t1\t1\n5\t1\t1\n6\t1\t1\n7\t1\t1\n"; out != want {
		t.Errorf("runs, whether processes were seen, whether each event is there once:\n%swant\n%s", out, want)
	}
	s.whole(t)
}

// whole checks that every event that agents numbered is in ClickHouse, once: what
// was on its way at Ctrl-C or at a kill has come in later.
func (s *system) whole(t *testing.T) {
	t.Helper()
	var tables []string
	for _, table := range []string{"process_events", "flow_events", "dns", "process_accesses", "job_events", "agent_status"} {
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
		if len(epochs) != 3 {
			return fmt.Errorf("%d epochs of the agent, want 3:\n%s", len(epochs), out)
		}
		return nil
	})
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
