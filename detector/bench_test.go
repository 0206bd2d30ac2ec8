package detector

import (
	"fmt"
	"log/slog"
	"runtime"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/sallyport-ci/sallyport/detector/scenario"
	sallyportv1 "github.com/sallyport-ci/sallyport/proto/sallyport/v1"
	"github.com/sallyport-ci/sallyport/stream/natsserver"
	"github.com/sallyport-ci/sallyport/stream/natsserver/natstest"
)

// BenchmarkJudgeNew judges behaviours that no run had before with all policies that ship:
// of every kind, in the shares that builds have them.
func BenchmarkJudgeNew(b *testing.B) {
	p, _, err := LoadPolicies(b.Context(), "")
	if err != nil {
		b.Fatal(err)
	}
	lines := []string{"run 1"}
	for i := range 400 {
		lines = append(lines, "step s"+fmt.Sprint(i%8))
		switch {
		case i%2 == 0:
			lines = append(lines, fmt.Sprintf("make > tool-%s --option-%s src starts", letters(i), letters(i*7)))
		case i%10 < 6:
			lines = append(lines, fmt.Sprintf("npm ci > node connects to host-%s.example.test:443", letters(i)))
		case i%10 == 7:
			lines = append(lines, fmt.Sprintf("npm looks up host-%s.example.test", letters(i)))
		default:
			lines = append(lines, fmt.Sprintf("tool-%s writes file /home/runner/%s/.bashrc as persistence", letters(i), letters(i)))
		}
	}
	s, err := scenario.Parse("bench", strings.Join(append(lines, "end"), "\n"))
	if err != nil {
		b.Fatal(err)
	}
	batch := s.Runs[0].Batch
	batch.Events = batch.Events[:len(batch.Events)-1]
	e := judging(b, p)
	b.ReportAllocs()
	n := 0
	for b.Loop() {
		for _, a := range batch.Attributions { // another execution: all is new to it
			a.ExecutionId = fmt.Sprintf("%016x", n)
		}
		n++
		if _, err := e.Apply(b.Context(), batch); err != nil {
			b.Fatal(err)
		}
		e.restore(make(map[string]*execution))
	}
	b.ReportMetric(float64(e.Counts().Behaviours)/b.Elapsed().Seconds(), "behaviours/s")
	b.ReportMetric(0, "ns/op")
}

// letters are a name that holds no digits, which patterns would take for the same.
func letters(n int) string {
	out := ""
	for n++; n > 0; n /= 26 {
		out += string(rune('a' + n%26))
	}
	return out
}

// BenchmarkMemory measures what an active run of a large build takes, and a baseline of 100
// behaviours that is in use.
func BenchmarkMemory(b *testing.B) {
	p, _, err := LoadPolicies(b.Context(), "")
	if err != nil {
		b.Fatal(err)
	}
	heap := func() uint64 {
		runtime.GC()
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	for b.Loop() {
		before := heap()
		e, err := NewEngine(EngineConfig{Policies: p, Logger: slog.New(slog.DiscardHandler)})
		if err != nil {
			b.Fatal(err)
		}
		const runs = 20
		for run := range runs {
			lines := []string{fmt.Sprintf("run %d", run+1)}
			for i := range 1500 { // a large build: 1,500 behaviours
				lines = append(lines, "step s"+fmt.Sprint(i%20), fmt.Sprintf("make > tool-%s --o-%s starts", letters(i%50), letters(i)))
				if i%15 == 0 {
					lines = append(lines, fmt.Sprintf("npm connects to host-%s.example.test:443", letters(i)))
				}
			}
			s, err := scenario.Parse("bench", strings.Join(append(lines, "end"), "\n"))
			if err != nil {
				b.Fatal(err)
			}
			batch := s.Runs[0].Batch
			batch.Events = batch.Events[:len(batch.Events)-1]
			batch.AgentId = fmt.Sprint("agent-", run)
			for _, a := range batch.Attributions {
				a.ExecutionId = fmt.Sprintf("%016x", run)
			}
			if _, err := e.Apply(b.Context(), batch); err != nil {
				b.Fatal(err)
			}
		}
		b.ReportMetric(float64(heap()-before)/runs/1024, "KiB/run")

		before = heap()
		const baselines = 200
		known := make([]*knowledge, baselines)
		size := 0
		for i := range known {
			x := &sallyportv1.Baseline{Repository: "acme/shop", Workflow: "CI", Job: fmt.Sprint(i)}
			for run := range 5 {
				var deeds []*deed
				for n := range 100 {
					deeds = append(deeds, &deed{Kind: learnedKinds[n%2], Target: fmt.Sprintf("host-%s.example.test", letters(n)), Port: 443, Protocol: "tcp", Programs: []string{"node", "npm"}, First: int64(run), Last: int64(run)})
				}
				x = learn(x, "acme/shop", "CI", x.GetJob(), cleanRun{execution: fmt.Sprintf("%016x", run), ended: time.Unix(int64(run), 0), deeds: deeds}, 5, e.rules)
			}
			size = proto.Size(x)
			known[i] = know(x, e.rules)
		}
		b.ReportMetric(float64(heap()-before)/baselines/1024, "KiB/baseline")
		b.ReportMetric(float64(size)/1024, "KiB/baseline-stored")
		runtime.KeepAlive(known)
		runtime.KeepAlive(e)
	}
	b.ReportMetric(0, "ns/op")
}

// BenchmarkRestart measures how long a detector takes to be there again with 10,000
// baselines and 200 executions under way.
func BenchmarkRestart(b *testing.B) {
	_, js := natstest.StartDeclared(b, natsserver.Config{})
	baselines, err := OpenBaselines(b.Context(), js)
	if err != nil {
		b.Fatal(err)
	}
	one, err := stableBaseline(b.Context(), "", "", "")
	if err != nil {
		b.Fatal(err)
	}
	for i := range 10_000 {
		one.Job = fmt.Sprint(i)
		if err := baselines.Import(b.Context(), one); err != nil {
			b.Fatal(err)
		}
	}
	p, _, err := LoadPolicies(b.Context(), "")
	if err != nil {
		b.Fatal(err)
	}
	config := Config{JetStream: js, Policies: p, Logger: slog.New(slog.DiscardHandler)}
	d, err := New(b.Context(), config)
	if err != nil {
		b.Fatal(err)
	}
	for i := range 200 {
		batch := parsed(b, "run 1", "step a", "npm connects to registry.example.test:443", "make > cc -c x.c starts", "end")[0].Batch
		batch.Events = batch.Events[:len(batch.Events)-1]
		for _, a := range batch.Attributions {
			a.ExecutionId, a.Job = fmt.Sprintf("%016x", i), fmt.Sprint(i)
		}
		if _, err := d.engine.Apply(b.Context(), batch); err != nil {
			b.Fatal(err)
		}
	}
	if err := d.save(b.Context()); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if d, err = New(b.Context(), config); err != nil {
			b.Fatal(err)
		}
		if len(d.engine.executions) != 200 {
			b.Fatalf("%d executions", len(d.engine.executions))
		}
	}
}
