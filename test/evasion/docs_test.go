package evasion

import (
	"os"
	"slices"
	"strings"
	"testing"
)

// TestPages: docs/evasions.md lists the tricks that are tried, and no others, and what is
// not seen stands with its reason in docs/limits.md.
func TestPages(t *testing.T) {
	page, err := os.ReadFile("../../docs/evasions.md")
	if err != nil {
		t.Fatal(err)
	}
	limits, err := os.ReadFile("../../docs/limits.md")
	if err != nil {
		t.Fatal(err)
	}
	notSeen := map[string]bool{}
	var listed []string
	for line := range strings.Lines(string(page)) {
		cells := strings.Split(strings.Trim(strings.TrimSpace(line), "|"), "|")
		if !strings.HasPrefix(line, "|") || len(cells) != 2 || strings.HasPrefix(cells[0], "-") {
			continue
		}
		name := strings.TrimSpace(cells[0])
		if name == "trick" {
			continue
		}
		listed = append(listed, name)
		notSeen[name] = strings.HasPrefix(strings.TrimSpace(cells[1]), "not seen")
	}
	var tried []string
	for _, c := range tricks() {
		tried = append(tried, c.name)
		if notSeen[c.name] != (c.unseen != "") {
			t.Errorf("%s: by the page unseen: %t, by the table: %q", c.name, notSeen[c.name], c.unseen)
		}
		if !strings.Contains(string(limits), c.unseen) {
			t.Errorf("%s: docs/limits.md does not say: %s", c.name, c.unseen)
		}
	}
	slices.Sort(listed)
	slices.Sort(tried)
	for i, name := range tried {
		if i > 0 && tried[i-1] == name {
			t.Errorf("two tricks are named %q", name)
		}
		if _, ok := slices.BinarySearch(listed, name); !ok {
			t.Errorf("docs/evasions.md does not list %q", name)
		}
	}
	for _, name := range listed {
		if _, ok := slices.BinarySearch(tried, name); !ok {
			t.Errorf("docs/evasions.md lists %q, which is not tried", name)
		}
	}
}
