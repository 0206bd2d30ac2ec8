package harden

import (
	"bytes"
	"encoding/json"
	"slices"
	"testing"

	"github.com/owenrumney/go-sarif/v3/pkg/report/v210/sarif"
)

// TestSARIF holds the log to the published schema of SARIF 2.1.0, and to fields that it knows.
func TestSARIF(t *testing.T) {
	c := settings()
	c.Rules = []string{"pin"}
	var results []*Result
	for name, text := range map[string]string{
		"a/.github/workflows/x.yml": "jobs:\n  a:\n    runs-on: x\n    steps:\n      - uses: actions/checkout@v4\n      - uses: nobody/nothing@v1\n",
		"a/.github/workflows/y.yml": "jobs: [", "a b/ä/action.yml": "runs: {steps: [{uses: actions/checkout@v4}]}",
	} {
		r, err := Text(t.Context(), c, name, []byte(text))
		if err != nil {
			t.Fatal(err)
		}
		results = append(results, r)
	}
	for _, of := range [][]*Result{results, nil} {
		data, err := SARIF("1.0.0", of)
		if err != nil {
			t.Fatal(err)
		}
		var log sarif.Report
		d := json.NewDecoder(bytes.NewReader(data))
		d.DisallowUnknownFields()
		if err := d.Decode(&log); err != nil {
			t.Fatal(err)
		}
		whole, err := sarif.FromBytes(data)
		if err != nil {
			t.Fatal(err)
		}
		// The library writes out what is left out.
		whole.Runs[0].NewlineSequences, whole.Runs[0].Language = []string{"\r\n", "\n"}, "en-US"
		if err := whole.Validate(); err != nil {
			t.Errorf("%v\n%s", err, data)
		}
		if n := len(whole.Runs[0].Results); of != nil && n != 4 {
			t.Errorf("%d results, want 2 fixes, a finding and a problem", n)
		}
	}
}

// Fingerprints stay when lines above come and go, and tell results of one line apart.
func TestFingerprints(t *testing.T) {
	prints := func(above string) (out []string) {
		t.Helper()
		c := settings()
		c.Rules = []string{"pin"}
		r, err := Text(t.Context(), c, "a/.github/workflows/x.yml", []byte(above+"jobs:\n  a:\n    steps:\n      - uses: nobody/nothing@v1\n      - uses: nobody/nothing@v1\n      - uses: actions/checkout@v4\n"))
		if err != nil {
			t.Fatal(err)
		}
		data, err := SARIF("1", []*Result{r})
		if err != nil {
			t.Fatal(err)
		}
		var log struct {
			Runs []struct {
				Results []struct{ PartialFingerprints map[string]string }
			}
		}
		if err := json.Unmarshal(data, &log); err != nil {
			t.Fatal(err)
		}
		for _, r := range log.Runs[0].Results {
			out = append(out, r.PartialFingerprints[fingerprint])
		}
		return out
	}
	a, b := prints(""), prints("# more\n\n")
	if len(a) != 3 || !slices.Equal(a, b) || a[0] == a[1] || a[1] == a[2] || a[0] == "" {
		t.Errorf("%v, %v", a, b)
	}
}
