package authoring

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sallyport-ci/sallyport/detector"
)

// TestNew: what is new is well written and passes its own tests, whatever its kind; and a
// change that breaks the rule makes both kinds of test fail.
func TestNew(t *testing.T) {
	for _, kind := range Kinds() {
		t.Run(kind, func(t *testing.T) {
			dir := t.TempDir()
			files, err := New(dir, "unwanted_program", kind)
			if err != nil {
				t.Fatal(err)
			}
			if len(files) != 3 {
				t.Fatal(files)
			}
			if _, err := New(dir, "unwanted_program", kind); !errors.Is(err, fs.ErrExist) {
				t.Errorf("written over: %v", err)
			}
			report := test(t, dir)
			for _, r := range report.Results {
				if !r.Passed {
					t.Errorf("%s: %s", r.Name, r.Why)
				}
			}
			if len(report.Results) != 3 {
				t.Errorf("%d tests", len(report.Results))
			}
			if len(report.Coverage) != 1 || report.Coverage[0].Percent != 100 {
				t.Errorf("coverage %+v", report.Coverage)
			}
			text, err := os.ReadFile(files[0])
			if err != nil {
				t.Fatal(err)
			}
			write(t, files[0], strings.Replace(string(text), `:= {"unwanted-program"}`, `:= {"wanted"}`, 1))
			if n := test(t, dir).Failed(); n != 2 {
				t.Errorf("%d tests failed of a broken policy, want one in Rego and the scenario", n)
			}
		})
	}
}

func test(t *testing.T, dir string) *TestReport {
	t.Helper()
	s, err := Read(dir)
	if err != nil {
		t.Fatal(err)
	}
	found, err := s.Check(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range found {
		t.Error(p)
	}
	inForce, problems, err := detector.LoadPolicies(t.Context(), dir)
	if err != nil || len(problems) > 0 {
		t.Fatal(err, problems)
	}
	report, err := s.Test(t.Context(), inForce, nil, true)
	if err != nil {
		t.Fatal(err)
	}
	return report
}

// TestNewRefuses names that would be none.
func TestNewRefuses(t *testing.T) {
	dir := t.TempDir()
	for _, id := range []string{"", "Camel", "with-dash", "../up", "_x", "a b"} {
		if _, err := New(dir, id, "egress"); err == nil {
			t.Errorf("%q was taken", id)
		}
	}
	if _, err := New(dir, "fine", "egres"); err == nil || !strings.Contains(err.Error(), "egress") {
		t.Errorf("a kind that does not exist: %v", err)
	}
	if left, _ := filepath.Glob(filepath.Join(dir, "*")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}
