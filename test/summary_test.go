package test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestSummary: the last step of a job writes what the job did: while it is learned, when
// nothing is new, and when something is.
func TestSummary(t *testing.T) {
	s := newSystem(t)
	agent, err := filepath.Abs("../bin/sallyport-agent")
	if err != nil {
		t.Fatal(err)
	}
	reports := t.TempDir()
	s.world.Set("AGENT", agent)
	s.world.Set("SOCKET", filepath.Join(s.data, "agent", "agent.sock"))
	s.world.Set("REPORTS", reports)
	summary := func(run string, has []string, hasNot ...string) string {
		t.Helper()
		data, err := os.ReadFile(filepath.Join(reports, run+".md"))
		if err != nil {
			t.Fatal(err)
		}
		for _, words := range has {
			if !strings.Contains(string(data), words) {
				t.Errorf("run %s: %q is missing in\n%s", run, words, data)
			}
		}
		for _, words := range hasNot {
			if strings.Contains(string(data), words) {
				t.Errorf("run %s: %q is in\n%s", run, words, data)
			}
		}
		return string(data)
	}
	for run := 1; run <= 6; run++ {
		s.run(t, "report.yml", run)
		s.learned(t, "report", run, run >= 5)
	}
	summary("1", []string{"### Sallyport: `report`", "**👀 Learning, run 1 of 5 · 1 destination · ", "| `dependencies` | `registry.example.test:80` | 👀 being learned |"}, "What is missing")
	summary("3", []string{"**👀 Learning, run 3 of 5 · ", "| `dependencies` | `registry.example.test:80` | known |"})
	summary("6", []string{"**✅ Nothing new · 1 destination · ", "| `dependencies` | `registry.example.test:80` | known |", "baseline stable after 5 clean runs"}, "What is missing", "first seen")

	if err := os.WriteFile(filepath.Join(reports, "more"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	s.run(t, "report.yml", 7)
	t.Log(summary("7", []string{
		"**🔴 1 finding · 2 destinations · ", "#### 🟠 High: New endpoint", "- **Where:** step `more` by ", "- **Destination:** `gist.example.test:80` tcp",
		"- **What to do:** ", "sallyport baseline approve ", "| `dependencies` | `registry.example.test:80` | known |", "| `more` | `gist.example.test:80` | 🆕 **first seen** |",
		"Names were asked for at ",
	}, "What is missing"))
	s.expect(t, "7", "new_endpoint more")
}
