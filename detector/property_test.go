package detector

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"

	"github.com/sallyport-ci/sallyport/detector/scenario"
	sallyportv1 "github.com/sallyport-ci/sallyport/proto/sallyport/v1"
)

// stableBaseline knows one endpoint; every other is new.
func stableBaseline(context.Context, string, string, string) (*sallyportv1.Baseline, error) {
	b := &sallyportv1.Baseline{
		Repository: "acme/shop", Workflow: "CI", Job: "build", Stable: true, Runs: 5,
		Behaviours: []*sallyportv1.BaselineBehaviour{
			{Kind: kindEgress, Target: "registry.example.test", Port: 443, Protocol: "tcp", Programs: []string{"curl"}},
		},
	}
	for _, kind := range learnedKinds {
		b.Stability = append(b.Stability, &sallyportv1.KindStability{Kind: kind, Stable: true})
	}
	return b, nil
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

func (o *outcome) end(t interface{ Fatal(...any) }, e *Engine) {
	for _, v := range e.conclusions() {
		data, err := proto.MarshalOptions{Deterministic: true}.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		o.lesson += fmt.Sprintf("%x\n", data)
	}
	for _, x := range e.executions {
		o.lesson += fmt.Sprintln(x.Incomplete, x.Steps)
		for _, d := range x.Deeds {
			o.lesson += fmt.Sprintf("%+v\n", *d)
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
		batch := drawRun(t).Batch
		want := outcome{findings: map[string]string{}}
		e := judging(t, p)
		findings, err := e.Apply(t.Context(), batch)
		if err != nil {
			t.Fatal(err)
		}
		if err := want.add(findings); err != nil {
			t.Fatal(err)
		}
		want.end(t, e)

		got := outcome{findings: map[string]string{}}
		e = judging(t, p)
		for _, b := range cut(t, batch) {
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
		got.end(t, e)
		if !maps.Equal(got.findings, want.findings) {
			t.Errorf("findings in pieces %q, at once %q", slices.Sorted(maps.Values(got.findings)), slices.Sorted(maps.Values(want.findings)))
		}
		if got.lesson != want.lesson {
			t.Errorf("lesson in pieces:\n%sat once:\n%s", got.lesson, want.lesson)
		}
	})
}

// drawRun draws a run of sentences of every kind.
func drawRun(t *rapid.T) *scenario.Run {
	word := func(label string, words ...string) string { return rapid.SampledFrom(words).Draw(t, label) }
	lines := []string{"run 1"}
	for range rapid.IntRange(0, 14).Draw(t, "sentences") {
		actor := word("actor", "curl", "bash", "python3 -", "npm ci > node setup.js")
		lines = append(lines, "step "+word("step", "a", "b", "c uses acme/deploy@v1"))
		lines = append(lines, actor+" "+word("verb",
			"connects to registry.example.test:443", "connects to other.example.test:80", "connects to 198.51.100.9:443",
			"connects to registry.example.test:443 sending 20MB", "connects to 169.254.169.254:80", "connects to 127.0.0.1:80",
			"pipes into bash", "pipes into cat", "reads memory of worker", "reads map of worker", "looks up evil.example.test TXT 20 names",
			"reads file /root/.aws/credentials as credential", "requests POST api.github.com/user/repos", "starts on a socket",
			"starts in memory", "gains CAP_SYS_ADMIN", "outlives the job", "starts",
		))
	}
	s, err := scenario.Parse("drawn", strings.Join(append(lines, "end"), "\n"))
	if err != nil {
		t.Fatal(err)
	}
	return s.Runs[0]
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
	after, executions := judging(t, p), make(map[string]*execution)
	for id, x := range before.executions {
		data, err := codec.encode(id, x)
		if err != nil {
			t.Fatal(err)
		}
		back, err := codec.decode(data)
		if err != nil {
			t.Fatal(err)
		}
		back.Execution.knowledge = x.knowledge
		executions[back.ID] = back.Execution
	}
	after.restore(executions)
	return after
}

// BenchmarkApply folds a job that does over and over what it did before, as builds
// do: 1,000 events in a batch of two steps.
func BenchmarkApply(b *testing.B) {
	p, _, err := LoadPolicies(b.Context(), "")
	if err != nil {
		b.Fatal(err)
	}
	lines := []string{"run 1"}
	for range 300 {
		lines = append(lines, "step a", "curl connects to registry.example.test:443", "step b", "make > cc -c x.c -o x.o starts")
	}
	batch := parsed(b, append(lines, "end")...)[0].Batch
	batch.Events = batch.Events[:len(batch.Events)-1]
	for len(batch.Events) < 1000 {
		batch.Events = append(batch.Events, batch.Events[1:]...)
	}
	batch.Events = batch.Events[:1000]
	e := judging(b, p)
	events := len(batch.Events)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := e.Apply(b.Context(), batch); err != nil {
			b.Fatal(err)
		}
		batch.FirstSequence += uint64(events)
	}
	b.ReportMetric(float64(events)*float64(b.N)/b.Elapsed().Seconds(), "events/s")
}
