package catalogue

import (
	"strings"
	"testing"
)

func TestIncident(t *testing.T) {
	c := embeddedForTest(t)
	one := func(uses string) Incident {
		t.Helper()
		all := c.Incidents(uses)
		if len(all) != 1 {
			t.Fatalf("%d incidents of %s", len(all), uses)
		}
		return all[0]
	}
	tj := one("tj-actions/changed-files@v44")
	for tag, want := range map[string]bool{"v1": true, "v45": true, "v45.0.7": true, "v45.0.8": false, "v46": false, "main": false, "": false} {
		if got := tj.HasTag(tag); got != want {
			t.Errorf("%s was an attacker's: %v", tag, got)
		}
	}
	for day, want := range map[string]bool{"2025-03-11": false, "2025-03-12": true, "2025-03-15": true, "2025-03-16": false, "lately": false, "": false} {
		if got := tj.Covers(day); got != want {
			t.Errorf("on %s: %v", day, got)
		}
	}
	if !tj.HasCommit("0e58ed8671d6b60d0890c21b07f8835ace038e67") || tj.HasCommit("") {
		t.Error("commits")
	}
	still := one("actions-cool/issues-helper@v3")
	if !still.HasTag("anything") || !still.Covers("2026-12-31") || still.Covers("2026-05-17") || !strings.Contains(still.Span(), "until today") {
		t.Errorf("%+v", still)
	}
	if n := len(one("aquasecurity/trivy-action").Commits); n != 75 {
		t.Errorf("%d commits of trivy-action", n)
	}
	if got := c.Incidents("nobody/nothing@v1"); got != nil {
		t.Errorf("%+v", got)
	}
	if !one("reviewdog/action-setup/sub@v1").HasTag("v1") || one("reviewdog/action-setup@v1").HasTag("v1.3") {
		t.Error("reviewdog")
	}
}

func TestIncidentsAreStrict(t *testing.T) {
	const good = "read: 2026-12-01\nincidents:\n- {actions: [a/b], when: 2026-01, what: x, tags: [v1], from: 2026-01-01T00:00:00Z, sources: [\"https://example.test/x\"]}\n"
	if got, err := loadIncidents([]byte(good)); err != nil || len(got["a/b"]) != 1 {
		t.Fatal(got, err)
	}
	for _, c := range [][3]string{
		{"read: 2026-12-01", "read: today", "day of reading"}, {"[a/b]", "[]", "no action"}, {"[a/b]", "[a]", "not owner/repo"}, {"what: x", "why: x", "field why"},
		{`sources: ["https://example.test/x"]`, "sources: []", "no source"}, {`"https://example.test/x"`, "somewhere", "no page"},
		{"tags: [v1], from: 2026-01-01T00:00:00Z", "tags: [v1]", "from when"}, {"tags: [v1]", "versions: new", "no range"},
		{"tags: [v1]", "tags: [v1], complete: true", "all of them"}, {"from: 2026-01-01T00:00:00Z", "from: 2026-01-02T00:00:00Z, until: 2026-01-01T00:00:00Z", "ends before"},
	} {
		text := strings.Replace(good, c[0], c[1], 1)
		if _, err := loadIncidents([]byte(text)); err == nil || !strings.Contains(err.Error(), c[2]) {
			t.Errorf("%s: %v, want %s", text, err, c[2])
		}
	}
}
