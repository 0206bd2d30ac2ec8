package detector

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/protobuf/proto"

	"github.com/sallyport-ci/sallyport/detector/scenario"
	sallyportv1 "github.com/sallyport-ci/sallyport/proto/sallyport/v1"
	"github.com/sallyport-ci/sallyport/stream"
	"github.com/sallyport-ci/sallyport/stream/natsserver"
	"github.com/sallyport-ci/sallyport/stream/natsserver/natstest"
)

// story is a job told to a detector.
type story struct {
	js      jetstream.JetStream
	encoder *stream.Encoder
	stop    func()
}

// tell starts a detector on an embedded NATS server.
func tell(t *testing.T) *story {
	t.Helper()
	s := &story{}
	_, s.js = natstest.StartDeclared(t, natsserver.Config{})
	var err error
	if s.encoder, err = stream.NewEncoder(); err != nil {
		t.Fatal(err)
	}
	s.start(t)
	t.Cleanup(func() { s.stop() })
	return s
}

func (s *story) start(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	policies, problems, err := LoadPolicies(ctx, "")
	if err != nil || len(problems) > 0 {
		t.Fatal(err, problems)
	}
	d, err := New(ctx, Config{JetStream: s.js, Policies: policies, RunsNeeded: 5, Logger: slog.New(slog.DiscardHandler), Metrics: prometheus.NewRegistry()})
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- d.Run(ctx) }()
	s.stop = func() {
		cancel()
		if err := <-done; err != nil && !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	}
}

func (s *story) publish(t *testing.T, b *sallyportv1.EventBatch) {
	t.Helper()
	data, err := s.encoder.Encode(nil, b)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.js.Publish(t.Context(), stream.EventSubject(b.AgentId), data); err != nil {
		t.Fatal(err)
	}
}

// judged waits until the detector has acknowledged everything, and returns the
// findings of a run as "policy step".
func (s *story) judged(t *testing.T, run string) (found []string) {
	t.Helper()
	s.waitDone(t)
	findings, err := s.js.Stream(t.Context(), stream.FindingsStream)
	if err != nil {
		t.Fatal(err)
	}
	state := findings.CachedInfo().State
	for n := state.FirstSeq; n <= state.LastSeq && n > 0; n++ {
		m, err := findings.GetMsg(t.Context(), n)
		if err != nil {
			t.Fatal(err)
		}
		f, err := stream.DecodeFinding(m.Data)
		if err != nil {
			t.Fatal(err)
		}
		if f.Attribution.RunId == run {
			found = append(found, Lines([]*sallyportv1.Finding{f})...)
		}
	}
	slices.Sort(found)
	return found
}

func (s *story) waitDone(t *testing.T) {
	t.Helper()
	deadline := time.Now().Add(30 * time.Second)
	for {
		events, err := s.js.Stream(t.Context(), stream.EventsStream)
		if err != nil {
			t.Fatal(err)
		}
		c, err := events.Consumer(t.Context(), stream.DetectorConsumer)
		if err != nil {
			t.Fatal(err)
		}
		info := c.CachedInfo()
		if info.Delivered.Stream >= events.CachedInfo().State.LastSeq && info.NumAckPending == 0 {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("the detector has not acknowledged: %+v", info)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// baseline waits until the job's baseline reads as told.
func (s *story) baseline(t *testing.T, a *sallyportv1.Attribution, want string) {
	t.Helper()
	baselines, err := OpenBaselines(t.Context(), s.js)
	if err != nil {
		t.Fatal(err)
	}
	got := ""
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		b, err := baselines.Get(t.Context(), a.GetRepository(), a.GetWorkflow(), a.GetJob())
		if err != nil && !errors.Is(err, ErrNoBaseline) {
			t.Fatal(err)
		}
		if got = Summary(b); got == want {
			return
		}
	}
	t.Fatalf("the baseline is %q, want %q", got, want)
}

// verdict waits until the verdict on a run reads as told.
func (s *story) verdict(t *testing.T, a *sallyportv1.Attribution, want string) {
	t.Helper()
	verdicts, err := OpenVerdicts(t.Context(), s.js)
	if err != nil {
		t.Fatal(err)
	}
	got := "none"
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		of, err := verdicts.OfRun(t.Context(), a.GetRepository(), a.GetRunId())
		if err != nil {
			t.Fatal(err)
		}
		for _, v := range of {
			if got = ConclusionName(v.GetConclusion()); got == want {
				return
			}
		}
	}
	t.Fatalf("the verdict on run %s is %s, want %s", a.GetRunId(), got, want)
}

func scripts(t *testing.T, each func(t *testing.T, s *scenario.Script)) {
	t.Helper()
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatal("no scenarios", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			s, err := scenario.Parse(file, string(text))
			if err != nil {
				t.Fatal(err)
			}
			each(t, s)
		})
	}
}

// TestScenarios judges the scenarios in this process.
func TestScenarios(t *testing.T) {
	policies, problems, err := LoadPolicies(t.Context(), "")
	if err != nil || len(problems) > 0 {
		t.Fatal(err, problems)
	}
	scripts(t, func(t *testing.T, s *scenario.Script) {
		differences, err := Check(t.Context(), EngineConfig{Policies: policies, Logger: slog.New(slog.DiscardHandler)}, s)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range differences {
			t.Error(d)
		}
	})
}

// TestScenariosOverStreams tells the scenarios to a detector on a real NATS server, in
// batches of a few events: what comes out is the same.
func TestScenariosOverStreams(t *testing.T) {
	scripts(t, func(t *testing.T, script *scenario.Script) {
		s := tell(t)
		for _, r := range script.Runs {
			for _, b := range r.Pieces(3) {
				s.publish(t, b)
			}
			if want, said := r.Findings(); said {
				if got := s.judged(t, r.Attribution.GetRunId()); !slices.Equal(got, want) {
					t.Errorf("%s:%d: findings of run %s are %q, want %q", script.Name, r.Line, r.Attribution.GetRunId(), got, want)
				}
			}
			if want, _ := r.Verdict(); want != "" {
				s.verdict(t, r.Attribution, want)
			}
			if want, _ := r.Baseline(); want != "" {
				s.baseline(t, r.Attribution, want)
			}
		}
	})
}

// parsed returns the runs of a script given as lines.
func parsed(t testing.TB, lines ...string) []*scenario.Run {
	t.Helper()
	s, err := scenario.Parse("told", strings.Join(lines, "\n"))
	if err != nil {
		t.Fatal(err)
	}
	return s.Runs
}

// TestRestartInTheMiddle: a detector that is replaced between two batches of a run
// neither forgets nor repeats, and a message that is none is kept apart.
func TestRestartInTheMiddle(t *testing.T) {
	s := tell(t)
	whole := parsed(t, "run 1", "step setup", "curl pipes into bash",
		"curl pipes into bash", // the same behaviour: not told twice
		"python3 reads memory of worker", "end")[0].Batch
	half := proto.CloneOf(whole)
	half.Events = whole.Events[:3]
	s.publish(t, half)
	s.waitDone(t)
	s.stop()
	if _, err := s.js.Publish(t.Context(), stream.EventSubject("agent-1"), []byte("garbage")); err != nil {
		t.Fatal(err)
	}
	s.start(t)
	s.publish(t, half) // again, as an agent that heard no answer would
	rest := proto.CloneOf(whole)
	rest.FirstSequence, rest.Events = whole.FirstSequence+3, whole.Events[3:]
	s.publish(t, rest)
	if got, want := s.judged(t, "1"), []string{"pipe_to_interpreter setup", "process_memory_read setup"}; !slices.Equal(got, want) {
		t.Errorf("findings %q, want %q", got, want)
	}
	dead, err := s.js.Stream(t.Context(), stream.DeadLettersStream)
	if err != nil {
		t.Fatal(err)
	}
	if n := dead.CachedInfo().State.Msgs; n != 1 {
		t.Errorf("%d dead letters, want 1", n)
	}
}

// TestPolicyThatDoesNotCompile: it is named with its line, the others go on, and
// mending it is enough.
func TestPolicyThatDoesNotCompile(t *testing.T) {
	dir := t.TempDir()
	bad := filepath.Join(dir, "bad.rego")
	if err := os.WriteFile(bad, []byte("package sallyport.policies.bad\n\nviolation contains message if {\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	p, problems, err := LoadPolicies(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	if len(problems) != 1 || !strings.Contains(problems[0].Error(), "bad.rego:") {
		t.Fatalf("problems %v, want one with bad.rego and a line", problems)
	}
	e, err := NewEngine(EngineConfig{Policies: p, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	batch := parsed(t, "run 1", "step setup", "curl pipes into bash", "end")[0].Batch
	if f, err := e.Apply(t.Context(), batch); err != nil || len(f) != 1 {
		t.Errorf("findings %v, %v, want the one of the policies that are well", f, err)
	}
}

// FuzzApply: no batch that a decoder lets through makes the engine fail.
func FuzzApply(f *testing.F) {
	p, _, err := LoadPolicies(context.Background(), "")
	if err != nil {
		f.Fatal(err)
	}
	seed, err := proto.Marshal(parsed(f, "run 1", "step a", "curl connects to x.example.test:443", "curl pipes into bash",
		"gh requests POST api.github.com/user/repos", "sh looks up x.example.test TXT 3 names", "aws reads file /root/.aws/credentials as credential",
		"sudo gains CAP_SYS_ADMIN", "step b", "python3 reads memory of worker", "sleep 100 outlives the job", "end")[0].Batch)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(seed)
	encoder, err := stream.NewEncoder()
	if err != nil {
		f.Fatal(err)
	}
	decoder, err := stream.NewDecoder()
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		b := new(sallyportv1.EventBatch)
		if proto.Unmarshal(data, b) != nil {
			return
		}
		wire, err := encoder.Encode(nil, b)
		if err != nil {
			return
		}
		checked := new(sallyportv1.EventBatch)
		if decoder.Decode(wire, checked) != nil {
			return
		}
		e, err := NewEngine(EngineConfig{Policies: p, Logger: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := e.Apply(t.Context(), checked); err != nil {
			t.Error(err)
		}
		if again, err := e.Apply(t.Context(), checked); err != nil || len(again) > 0 {
			t.Errorf("applied again: %v, %v", again, err)
		}
	})
}
