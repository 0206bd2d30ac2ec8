package harden

import (
	"slices"
	"strings"
	"testing"
)

func TestCompromised(t *testing.T) {
	const evil = "0e58ed8671d6b60d0890c21b07f8835ace038e67"
	for _, c := range []struct {
		uses string
		lock *LockedAction
		want string
	}{
		{"tj-actions/changed-files@" + evil + " # v45", nil, "error compromised tj-actions/changed-files@" + evil + " is the commit " + evil + " of an attacker. All tags were moved"},
		{"tj-actions/changed-files@v44", nil, "error compromised the tag of tj-actions/changed-files@v44 was an attacker's. All tags"},
		{"tj-actions/changed-files@v46", nil, "note incident tj-actions/changed-files was taken over once"},
		{"tj-actions/changed-files@" + commit(1) + " # v45.0.1", nil, "note incident"},
		{"tj-actions/changed-files@v40", &LockedAction{Uses: "tj-actions/changed-files@v40", Commit: evil, Seen: "2025-04-01"}, "of an attacker"},
		{"tj-actions/changed-files@v40", &LockedAction{Uses: "tj-actions/changed-files@v40", Commit: commit(2), Seen: "2025-03-14"}, "was seen first on 2025-03-14"},
		{"Checkmarx/ast-github-action@" + commit(1) + " # 2.3.28", nil, "warning compromised"},
		{"checkmarx/kics-github-action@v2.1", nil, "error compromised"},
		{"actions-cool/issues-helper@v3", nil, "Use nothing of it; actions/github-script does the same. Look at the runs of that time, and rotate every secret"},
		{"aquasecurity/trivy-action@0.35.0", nil, "note incident"},
		{"aquasecurity/setup-trivy@v0.2.6", nil, "note incident"},
		{"reviewdog/action-typos@v1", nil, "note incident"},
		{"actions/checkout@v4", nil, ""},
	} {
		s := settings()
		s.Resolver, s.Rules = nil, []string{"audit"}
		if c.lock != nil {
			s.Lock.Actions = append(s.Lock.Actions, *c.lock)
		}
		r, err := Text(t.Context(), s, ".github/workflows/x.yml", []byte("on: push\npermissions: {}\njobs:\n  a:\n    runs-on: x\n    steps:\n      - uses: "+c.uses+"\n"))
		if err != nil || r.Problem != nil {
			t.Fatal(err, r.Problem)
		}
		said := slices.DeleteFunc(saidOf(r), func(line string) bool { return strings.Contains(line, " safer ") }) // for another test
		got := strings.Join(said, "\n")
		got = strings.ReplaceAll(got, " 7:15 ", " ")
		if c.want == "" && got != "" || !strings.Contains(got, c.want) || strings.Count(got, "\n") > 0 {
			t.Errorf("%s: %q, want %q", c.uses, got, c.want)
		}
	}
}
