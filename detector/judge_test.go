package detector

import (
	"errors"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	sallyportv1 "github.com/sallyport-ci/sallyport/proto/sallyport/v1"
	"github.com/sallyport-ci/sallyport/recording"
)

const recordings = "../testdata/recordings"

// judged gives recordings to a judge and returns its findings.
func judged(t *testing.T, j *Judge, files ...string) (found []*sallyportv1.Finding) {
	t.Helper()
	for _, file := range files {
		f, err := os.Open(file)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
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
			findings, err := j.Apply(t.Context(), b.Events)
			if err != nil {
				t.Fatal(err)
			}
			found = append(found, findings...)
		}
		j.End()
	}
	return found
}

func newJudge(t *testing.T, runs uint32) *Judge {
	t.Helper()
	p, problems, err := LoadPolicies(t.Context(), "")
	if err != nil || len(problems) > 0 {
		t.Fatal(err, problems)
	}
	j, err := NewJudge(EngineConfig{Policies: p, RunsNeeded: runs, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	return j
}

// TestRecordedRuns judges real runs: clean ones teach and are quiet, the compromised one is
// found out.
func TestRecordedRuns(t *testing.T) {
	clean, err := filepath.Glob(filepath.Join(recordings, "ci-clean-*.rec"))
	if err != nil || len(clean) < 6 {
		t.Fatal(clean, err)
	}
	j := newJudge(t, 5)
	if found := judged(t, j, clean...); len(found) > 0 {
		t.Fatalf("findings for clean runs: %v", found)
	}
	b := j.Baseline("acme/shop", "CI", "build")
	if !b.GetStable() || int(b.GetRuns()) != len(clean) || len(b.GetBehaviours()) == 0 {
		t.Fatalf("baseline of build after %d clean runs: %v", len(clean), b)
	}
	var got []string
	for _, f := range judged(t, j, filepath.Join(recordings, "ci-compromised.rec")) {
		got = append(got, f.GetPolicy().GetId()+" "+f.GetAttribution().GetStep())
	}
	slices.Sort(got)
	if want := []string{
		"decoded_command changed", "masked_secret_printed changed", "new_endpoint changed", "pipe_to_interpreter changed", "process_memory_read changed",
	}; !slices.Equal(slices.Compact(got), want) {
		t.Errorf("findings %q, want %q", got, want)
	}
	if after := j.Baseline("acme/shop", "CI", "build"); after.GetRuns() != b.GetRuns() {
		t.Error("the compromised run taught")
	}
}

// TestRecordedRunsWithoutBaseline: what needs no baseline is found at once.
func TestRecordedRunsWithoutBaseline(t *testing.T) {
	var got []string
	for _, f := range judged(t, newJudge(t, 5), filepath.Join(recordings, "ci-compromised.rec")) {
		got = append(got, f.GetPolicy().GetId())
	}
	if text := strings.Join(got, " "); !strings.Contains(text, "process_memory_read") || strings.Contains(text, "new_endpoint") {
		t.Errorf("findings %q", got)
	}
}
