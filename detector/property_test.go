package detector

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"

	sallyportv1 "github.com/sallyport-ci/sallyport/proto/sallyport/v1"
)

// stableBaseline knows one endpoint; every other is new.
func stableBaseline(context.Context, string, string, string) (*sallyportv1.Baseline, error) {
	return &sallyportv1.Baseline{Repository: "acme/shop", Workflow: "CI", Job: "build", Stable: true, Runs: 5, Endpoints: []*sallyportv1.BaselineEndpoint{
		{Target: "registry.example.test", Port: 443, Protocol: "tcp", Programs: []string{"curl"}},
	}}, nil
}

func judging(t interface{ Fatal(...any) }, p *Policies) *Engine {
	e, err := NewEngine(EngineConfig{Policies: p, Baseline: stableBaseline, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// outcome is what an engine has to say about a story: its findings and what it
// would teach.
type outcome struct {
	findings map[string]string // by identity, policy and step
	lesson   string
}

func (o *outcome) add(findings []*sallyportv1.Finding) error {
	for _, f := range findings {
		if _, twice := o.findings[f.Id]; twice {
			return fmt.Errorf("finding %s of %s twice", f.Id, f.Policy.Id)
		}
		o.findings[f.Id] = f.Policy.Id + " " + f.Attribution.Step
	}
	return nil
}

func (o *outcome) end(e *Engine) {
	for _, l := range e.settle() {
		for _, p := range l.run.endpoints {
			o.lesson += fmt.Sprintln(p.Target, p.Port, p.Protocol, p.Programs, p.FirstNano, p.LastNano)
		}
	}
}

// TestVerdictsDoNotDependOnBatches: however the events of a job are cut into
// batches, however often batches come again, and wherever the detector is started
// anew, the findings and the lesson are the same.
func TestVerdictsDoNotDependOnBatches(t *testing.T) {
	p, _, err := LoadPolicies(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	rapid.Check(t, func(t *rapid.T) {
		s := drawStory(t)
		want := outcome{findings: map[string]string{}}
		e := judging(t, p)
		findings, err := e.Apply(t.Context(), s.batch)
		if err != nil {
			t.Fatal(err)
		}
		if err := want.add(findings); err != nil {
			t.Fatal(err)
		}
		want.end(e)

		got := outcome{findings: map[string]string{}}
		e = judging(t, p)
		for _, b := range cut(t, s.batch) {
			findings, err := e.Apply(t.Context(), b)
			if err != nil {
				t.Fatal(err)
			}
			if err := got.add(findings); err != nil {
				t.Fatal(err)
			}
			if rapid.IntRange(0, 4).Draw(t, "restart") == 0 {
				e = restarted(t, p, e)
			}
		}
		got.end(e)
		if !maps.Equal(got.findings, want.findings) {
			t.Errorf("findings in pieces %q, at once %q", slices.Sorted(maps.Values(got.findings)), slices.Sorted(maps.Values(want.findings)))
		}
		if got.lesson != want.lesson {
			t.Errorf("lesson in pieces:\n%sat once:\n%s", got.lesson, want.lesson)
		}
	})
}

func drawStory(t *rapid.T) *story {
	s := &story{sequence: 1, process: 100, now: time.Now().Add(-time.Minute).UnixNano()}
	s.begin("1", "push")
	word := func(label string, words ...string) string { return rapid.SampledFrom(words).Draw(t, label) }
	for range rapid.IntRange(0, 12).Draw(t, "sentences") {
		step, program := word("step", "a", "b"), word("program", "curl", "bash", "python3")
		switch word("verb", "connect", "connect", "pipe", "read") {
		case "connect":
			target := word("target", "registry.example.test", "other.example.test", "198.51.100.9", "169.254.169.254", "127.0.0.1")
			if err := s.connect(step, program, target, word("port", "443", "80")); err != nil {
				t.Fatal(err)
			}
		case "pipe":
			s.pipe(step, program, word("reader", "bash", "cat"))
		case "read":
			s.read(step, program, word("what", "mem", "maps"))
		}
	}
	s.add(1, 1, &sallyportv1.Event{Body: &sallyportv1.Event_JobEnded{JobEnded: &sallyportv1.JobEnded{Reason: sallyportv1.JobEndReason_JOB_END_REASON_WORKER_EXITED}}})
	return s
}

// cut cuts a batch into pieces and lets pieces come again later.
func cut(t *rapid.T, whole *sallyportv1.EventBatch) (pieces []*sallyportv1.EventBatch) {
	next := whole.FirstSequence
	for events := whole.Events; len(events) > 0; {
		n := rapid.IntRange(1, min(len(events), 7)).Draw(t, "piece")
		b := proto.CloneOf(whole)
		b.FirstSequence, b.Events = next, events[:n]
		pieces, events, next = append(pieces, b), events[n:], next+uint64(n)
		if rapid.IntRange(0, 3).Draw(t, "again") == 0 {
			pieces = append(pieces, proto.CloneOf(pieces[rapid.IntRange(0, len(pieces)-1).Draw(t, "which")]))
		}
	}
	return pieces
}

// restarted returns an engine that knows of the other what snapshots keep.
func restarted(t *rapid.T, p *Policies, before *Engine) *Engine {
	codec, err := newSnapshotCodec()
	if err != nil {
		t.Fatal(err)
	}
	after := judging(t, p)
	for id, x := range before.executions {
		data, err := codec.encode(id, x)
		if err != nil {
			t.Fatal(err)
		}
		back, err := codec.decode(data)
		if err != nil {
			t.Fatal(err)
		}
		back.Execution.baseline = x.baseline
		after.executions[back.ID] = back.Execution
	}
	return after
}

// BenchmarkApply folds a job that does over and over what it did before, as builds
// do: 1,000 events in a batch of two steps.
func BenchmarkApply(b *testing.B) {
	p, _, err := LoadPolicies(b.Context(), "")
	if err != nil {
		b.Fatal(err)
	}
	s := &story{sequence: 1, process: 100, now: time.Now().Add(-time.Minute).UnixNano()}
	s.begin("1", "push")
	for len(s.batch.Events) < 1000 {
		if err := s.connect("a", "curl", "registry.example.test", "443"); err != nil {
			b.Fatal(err)
		}
		s.execute(s.step("", "", "b"), s.program("cc"))
	}
	e := judging(b, p)
	events := len(s.batch.Events)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := e.Apply(b.Context(), s.batch); err != nil {
			b.Fatal(err)
		}
		s.batch.FirstSequence += uint64(events)
	}
	b.ReportMetric(float64(events)*float64(b.N)/b.Elapsed().Seconds(), "events/s")
}
