package detector

import (
	"bytes"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"

	"github.com/sallyport-ci/sallyport/detector/scenario"
	sallyportv1 "github.com/sallyport-ci/sallyport/proto/sallyport/v1"
)

// TestBaselineIsAFunctionOfItsRuns: the same runs teach the same, however their events are cut
// into batches and however often batches come again; and a run that does not teach changes
// nothing.
func TestBaselineIsAFunctionOfItsRuns(t *testing.T) {
	p, _, err := LoadPolicies(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	learned := func(t *rapid.T, runs []*scenario.Run, inPieces bool) []byte {
		j, err := NewJudge(EngineConfig{Policies: p, Logger: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range runs {
			pieces := []*sallyportv1.EventBatch{r.Batch}
			if inPieces {
				pieces = cut(t, r.Batch)
			}
			for _, b := range pieces {
				if _, err := j.Apply(t.Context(), proto.CloneOf(b)); err != nil {
					t.Fatal(err)
				}
			}
		}
		j.End()
		b := j.Baseline("acme/shop", "CI", "build")
		if b == nil {
			return nil
		}
		data, err := proto.MarshalOptions{Deterministic: true}.Marshal(b)
		if err != nil {
			t.Fatal(err)
		}
		return data
	}
	rapid.Check(t, func(t *rapid.T) {
		var lines, withOthers []string
		for run := range rapid.IntRange(1, 7).Draw(t, "runs") {
			said := []string{fmt.Sprintf("run %d", run+1), "step a"}
			for range rapid.IntRange(0, 6).Draw(t, "sentences") {
				said = append(said, rapid.SampledFrom([]string{
					"curl connects to registry.example.test:443", "npm ci > node x.js connects to cdn-4.example.test:443",
					"git reads file /root/.gitconfig as credential git", "make starts", "curl requests GET api.github.com/repos/a/b", "dig looks up a.example.test",
				}).Draw(t, "sentence"))
			}
			said = append(said, "end")
			lines, withOthers = append(lines, said...), append(withOthers, said...)
			switch rapid.IntRange(0, 3).Draw(t, "other") {
			case 0: // anybody's code
				withOthers = append(withOthers, fmt.Sprintf("run %d on pull_request ref refs/pull/1/merge", 100+run), "step a", "curl connects to other.example.test:443", "end")
			case 1: // a threat
				withOthers = append(withOthers, fmt.Sprintf("run %d", 100+run), "step a", "python3 - reads memory of worker", "end")
			case 2: // not seen to its end
				withOthers = append(withOthers, fmt.Sprintf("run %d", 100+run), "step a", "curl connects to other.example.test:443", "stopped")
			}
		}
		parse := func(lines []string) []*scenario.Run {
			s, err := scenario.Parse("drawn", strings.Join(lines, "\n"))
			if err != nil {
				t.Fatal(err)
			}
			return s.Runs
		}
		runs := parse(lines)
		want := learned(t, runs, false)
		if len(want) == 0 {
			t.Fatal("nothing was learned")
		}
		if got := learned(t, runs, true); !bytes.Equal(got, want) {
			t.Errorf("in pieces another baseline is learned")
		}
		if got := learned(t, parse(lines), false); !bytes.Equal(got, want) {
			t.Errorf("the same runs teach something else")
		}
		// Runs have other times and processes when others are told in between: what is
		// learned of them is compared without times.
		if a, b := timeless(t, want), timeless(t, learned(t, parse(withOthers), true)); a != b {
			t.Errorf("runs that do not teach change the baseline:\n%s\n%s", a, b)
		}
	})
}

// timeless is a baseline without its times.
func timeless(t *rapid.T, data []byte) string {
	b := new(sallyportv1.Baseline)
	if err := proto.Unmarshal(data, b); err != nil {
		t.Fatal(err)
	}
	out := Summary(b)
	for _, x := range b.GetBehaviours() {
		out += fmt.Sprintf("\n%s %s %d %s %v %d", x.GetKind(), x.GetTarget(), x.GetPort(), x.GetProtocol(), x.GetPrograms(), x.GetRuns())
	}
	return out
}
