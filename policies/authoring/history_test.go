package authoring

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/sallyport-ci/sallyport/detector"
	sallyportv1 "github.com/sallyport-ci/sallyport/proto/sallyport/v1"
)

// recorded is the history that is in the repository: six clean runs and a compromised one.
func recorded(t *testing.T) History {
	t.Helper()
	files, err := filepath.Glob("../../testdata/recordings/*.rec")
	if err != nil || len(files) < 7 {
		t.Fatal(files, err)
	}
	slices.Sort(files)
	return Recordings(files...)
}

func inForce(t *testing.T, folder string) detector.EngineConfig {
	t.Helper()
	p, problems, err := detector.LoadPolicies(t.Context(), folder)
	if err != nil || len(problems) > 0 {
		t.Fatal(err, problems)
	}
	return detector.EngineConfig{Policies: p}
}

// TestDiff: the same policies find the same; a policy that is turned off takes its findings
// with it, and one that is new brings its own.
func TestDiff(t *testing.T) {
	h, old := recorded(t), inForce(t, "")
	d, err := Diff(t.Context(), old, inForce(t, t.TempDir()), h)
	if err != nil {
		t.Fatal(err)
	}
	if d.Any() || d.Old == 0 || d.Old != d.New || d.Runs < 7 {
		t.Fatalf("the same policies differ: %+v", d)
	}
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "p"), 0o755); err != nil {
		t.Fatal(err)
	}
	const policy = "# METADATA\n# title: T\n# description: D\n# scope: package\n# custom:\n#   severity: low\n#   class: new_behaviour\n#   kinds: [egress]\npackage sallyport.policies."
	write(t, filepath.Join(dir, "p", "off.rego"), policy+"new_endpoint\n\nviolation contains \"\" if false\n")
	write(t, filepath.Join(dir, "p", "seen.rego"), policy+"seen\n\nviolation contains \"sent\" if input.behaviour.kind == \"egress\"\n")
	if d, err = Diff(t.Context(), old, inForce(t, dir), h); err != nil {
		t.Fatal(err)
	}
	if len(d.Appear) == 0 || len(d.Disappear) == 0 || !d.Any() || len(d.Verdicts) == 0 {
		t.Fatalf("%+v", d)
	}
	for _, f := range d.Appear {
		if f.GetPolicy().GetId() != "seen" {
			t.Errorf("%s appeared", f.GetPolicy().GetId())
		}
	}
	for _, f := range d.Disappear {
		if f.GetPolicy().GetId() != "new_endpoint" {
			t.Errorf("%s disappeared", f.GetPolicy().GetId())
		}
	}
	if d.New != d.Old+len(d.Appear)-len(d.Disappear) {
		t.Errorf("%d findings became %d, with %d and without %d", d.Old, d.New, len(d.Appear), len(d.Disappear))
	}
}

// TestInputsComeBack: what policies saw of a history, written down and read again, is held
// to the schema and judged alike.
func TestInputsComeBack(t *testing.T) {
	c := inForce(t, "")
	inputs, err := Inputs(t.Context(), c, recorded(t))
	if err != nil {
		t.Fatal(err)
	}
	var text bytes.Buffer
	for _, in := range inputs {
		line, err := detector.MarshalInput(detector.Document(in))
		if err != nil {
			t.Fatal(err)
		}
		text.Write(append(line, '\n'))
	}
	back, err := ReadInput(t.Context(), &text)
	if err != nil {
		t.Fatal(err)
	}
	if len(back) != len(inputs) || len(back) < 100 {
		t.Fatalf("%d of %d inputs came back", len(back), len(inputs))
	}
	violations := 0
	for i, in := range inputs {
		for _, id := range c.Policies.Looking(in.GetBehaviour().GetKind()) {
			a, err := c.Policies.Evaluate(t.Context(), id, detector.Document(in), false)
			if err != nil {
				t.Fatal(err)
			}
			b, err := c.Policies.Evaluate(t.Context(), id, back[i], true)
			if err != nil {
				t.Fatal(err)
			}
			if a.Message != b.Message || len(b.Trace) == 0 {
				t.Errorf("%s says %q of an input and %q when it comes back", id, a.Message, b.Message)
			}
			if a.Message != "" {
				violations++
			}
		}
	}
	if violations < 5 {
		t.Errorf("only %d violations", violations)
	}
}

// TestReadInput refuses what is no input.
func TestReadInput(t *testing.T) {
	for text, want := range map[string]string{
		``:                                   "there is none",
		`{`:                                  "unexpected EOF",
		`{"behaviour": {"kindd": "egress"}}`: "kindd",
		`{"behaviour": {"kind": "egres"}}`:   "behaviour.kind",
		`{"behaviour": {"port": "443"}}`:     "port",
		`[]`:                                 "Expected: object",
	} {
		if _, err := ReadInput(t.Context(), strings.NewReader(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", text, err, want)
		}
	}
	if _, err := ReadInput(t.Context(), strings.NewReader(`{"behaviour": {"kind": "egress"}} {"behaviour": {"kind": "exec"}}`)); err != nil {
		t.Error(err)
	}
}

// TestBench evaluates each policy on what it looks at, and on nothing else.
func TestBench(t *testing.T) {
	c := inForce(t, "")
	inputs, err := Inputs(t.Context(), c, recorded(t))
	if err != nil {
		t.Fatal(err)
	}
	of := make(map[sallyportv1.BehaviourKind]int)
	for _, in := range inputs {
		of[in.GetBehaviour().GetKind()]++
	}
	timings, err := Bench(t.Context(), c.Policies, inputs, 3)
	if err != nil {
		t.Fatal(err)
	}
	if len(timings) != len(c.Policies.IDs()) {
		t.Errorf("%d policies", len(timings))
	}
	share := 0.0
	for _, x := range timings {
		share += x.Share
		if x.Policy == "new_endpoint" && (x.Evaluations != of[sallyportv1.BehaviourKind_BEHAVIOUR_KIND_EGRESS] || x.Violations == 0 || x.Each <= 0) {
			t.Errorf("%+v of %v", x, of)
		}
	}
	if share < 0.99 || share > 1.01 {
		t.Errorf("the shares sum up to %f", share)
	}
	if _, err := json.Marshal(timings); err != nil {
		t.Error(err)
	}
}
