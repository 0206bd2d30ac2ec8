package pipeline

import (
	"errors"
	"io"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sallyport-ci/sallyport/detector"
	"github.com/sallyport-ci/sallyport/policies/authoring"
	sallyportv1 "github.com/sallyport-ci/sallyport/proto/sallyport/v1"
	"github.com/sallyport-ci/sallyport/recording"
	"github.com/sallyport-ci/sallyport/stream"
)

// TestHistory has the runs of testdata go through the real pipeline and reads them back from
// the tables: policies find in them what they find in the recordings, and the runs come to
// the same verdicts.
func TestHistory(t *testing.T) {
	l := newLine(t, stream.Limits{Partitions: 2})
	l.start(t)
	paths := append(files(t, "ci-clean-*.rec"), files(t, "ci-compromised.rec")...)
	began := time.Now()
	// Of today: older than 35 days ingest takes a time for a clock that jumped.
	for i := range paths {
		paths[i] = moved(t, paths[i], began.Add(time.Duration(i-len(paths))*time.Minute))
	}
	l.play(t, PlayConfig{}, paths...)

	policies, problems, err := detector.LoadPolicies(t.Context(), "")
	if err != nil || len(problems) > 0 {
		t.Fatal(err, problems)
	}
	c := detector.EngineConfig{Policies: policies}
	want, err := authoring.Judge(t.Context(), c, authoring.Recordings(paths...))
	if err != nil {
		t.Fatal(err)
	}
	from := func(repository string, from, to time.Time) *authoring.Judgement {
		t.Helper()
		got, err := authoring.Judge(t.Context(), c, func(each func(*sallyportv1.EventBatch) error, ended func()) error {
			return l.store.History(t.Context(), repository, from, to, each, ended)
		})
		if err != nil {
			t.Fatal(err)
		}
		return got
	}
	got := from("", began.Add(-time.Hour), time.Now().Add(time.Hour))
	if a, b := told(want), told(got); !slices.Equal(a, b) || len(a) == 0 {
		t.Errorf("findings in the recordings:\n%s\nfrom the tables:\n%s", strings.Join(a, "\n"), strings.Join(b, "\n"))
	}
	if a, b := concluded(want), concluded(got); !slices.Equal(a, b) || len(a) < len(paths) {
		t.Errorf("verdicts on the recordings:\n%s\nfrom the tables:\n%s", strings.Join(a, "\n"), strings.Join(b, "\n"))
	}
	if n := got.Counts.PolicyErrors; n > 0 {
		t.Errorf("%d policies failed", n)
	}
	if other := from("acme/other", began.Add(-time.Hour), time.Now().Add(time.Hour)); len(other.Verdicts) > 0 {
		t.Errorf("%d runs of another repository", len(other.Verdicts))
	}
	if early := from("", began.Add(-48*time.Hour), began.Add(-24*time.Hour)); len(early.Verdicts) > 0 {
		t.Errorf("%d runs of another day", len(early.Verdicts))
	}
}

// moved copies a recording so that its last event happens at the given time.
func moved(t *testing.T, path string, to time.Time) string {
	t.Helper()
	var last uint64
	var batches []*recording.Batch
	r := open(t, path)
	for {
		b, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		batches = append(batches, b)
		for _, e := range b.Events.GetEvents() {
			last = max(last, e.GetTimeUnixNano())
		}
	}
	name := filepath.Join(t.TempDir(), filepath.Base(path))
	f, err := recording.Create(name, r.About())
	if err != nil {
		t.Fatal(err)
	}
	for _, b := range batches {
		recording.Shift(b.Events, to.Sub(time.Unix(0, int64(last))))
		if err := f.Add(b.Recorded, b.Events); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	return name
}

func told(j *authoring.Judgement) (out []string) {
	for _, f := range j.Findings {
		out = append(out, f.GetId()+" "+f.GetPolicy().GetId()+" "+f.GetMessage())
	}
	slices.Sort(out)
	return out
}

func concluded(j *authoring.Judgement) (out []string) {
	for _, v := range j.Verdicts {
		a := v.GetAttribution()
		out = append(out, strings.Join(append([]string{
			a.GetRunId(), a.GetJob(), detector.ConclusionName(v.GetConclusion()), v.GetTeachesNot(), v.GetIncomplete(),
		}, v.GetReasons()...), " | "))
	}
	slices.Sort(out)
	return out
}
