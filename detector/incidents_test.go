package detector

import (
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sallyport-ci/sallyport/detector/scenario"
)

// TestIncidents re-enacts attacks that happened: each is found out, and what looks like it
// but is ordinary work is not.
func TestIncidents(t *testing.T) {
	policies, problems, err := LoadPolicies(t.Context(), "")
	if err != nil || len(problems) > 0 {
		t.Fatal(err, problems)
	}
	files, err := filepath.Glob("testdata/incidents/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatal("no incidents", err)
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
			differences, err := Check(t.Context(), EngineConfig{Policies: policies, Logger: slog.New(slog.DiscardHandler)}, s)
			if err != nil {
				t.Fatal(err)
			}
			for _, d := range differences {
				t.Error(d)
			}
		})
	}
}
