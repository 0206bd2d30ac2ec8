package harden

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

const approvalsText = `version: 1
actions:
  - {action: actions/*, owner: platform, reason: GitHub's own}
  - {action: actions/checkout, versions: ">=4.2 <6", owner: platform, reviewer: alice, reason: reviewed}
  - {action: acme/deploy, owner: shop, reason: ours, until: 2026-11-23}
  - {action: "tj-actions/*", deny: true, owner: security, reason: taken over in 2025}
`

func approvals(t *testing.T, text, policy string) (*Approvals, error) {
	t.Helper()
	dir := t.TempDir()
	name := filepath.Join(dir, ApprovalsFile)
	if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	if policy != "" {
		file := filepath.Join(dir, "own.rego")
		if err := os.WriteFile(file, []byte(policy), 0o644); err != nil {
			t.Fatal(err)
		}
		policy = file
	}
	return ReadApprovals(t.Context(), name, policy, settings().Now())
}

func judgedUses(t *testing.T, a *Approvals) string {
	t.Helper()
	c := settings()
	c.Approvals, c.Rules = a, []string{"approvals"}
	var b strings.Builder
	b.WriteString("jobs:\n  a:\n    steps:\n")
	for _, u := range []string{
		"actions/cache@v4", "actions/checkout@v4.2.2", "actions/checkout@" + commit(4) + " # v4.2.2", "actions/checkout@v4.1.0", "actions/checkout@" + commit(4),
		"acme/deploy@v1", "tj-actions/changed-files@v45", "nobody/nothing@v1", "./local",
	} {
		b.WriteString("      - uses: " + u + "\n")
	}
	r, err := Text(t.Context(), c, "x/.github/workflows/x.yml", []byte(b.String()))
	if err != nil || r.Problem != nil {
		t.Fatal(err, r.Problem)
	}
	var out []string
	for _, f := range r.Findings {
		out = append(out, f.Message)
	}
	return strings.Join(out, "\n")
}

func TestApprovals(t *testing.T) {
	a, err := approvals(t, approvalsText, "")
	if err != nil {
		t.Fatal(err)
	}
	want := strings.Join([]string{
		"actions/checkout is approved in versions >=4.2 <6, and this is v4.1.0",
		"actions/checkout is approved in versions >=4.2 <6, and this is none that is known",
		"acme/deploy: its approval by shop ended on 2026-11-23",
		"tj-actions/changed-files is denied by security: taken over in 2025",
		"nobody/nothing is not approved: ask for it, or use what is",
	}, "\n")
	if got := judgedUses(t, a); got != want {
		t.Errorf("it says\n%s\nwant\n%s", got, want)
	}
	// An organisation's own policy.
	a, err = approvals(t, approvalsText, "package sallyport.actions\n\nviolation contains \"not pinned\" if not input.action.pinned\n")
	if err != nil {
		t.Fatal(err)
	}
	if got := judgedUses(t, a); strings.Count(got, "not pinned") != 6 {
		t.Errorf("its own policy says\n%s", got)
	}
	if none, err := ReadApprovals(t.Context(), filepath.Join(t.TempDir(), "x"), "", time.Now()); none != nil || err != nil {
		t.Error(none, err)
	}
}

func TestApprovalsRefuse(t *testing.T) {
	for change, want := range map[[2]string]string{
		{"owner: platform, reason: GitHub's own", "reason: x"}: "catalog.yaml:3: owner is missing",
		{"reason: ours, ", ""}:                                 "catalog.yaml:5: reason is missing",
		{">=4.2 <6", "many"}:                                   `catalog.yaml:4: versions "many"`,
		{"2026-11-23", "soon"}:                                 `catalog.yaml:5: until "soon"`,
		{"deny: true", "denied: true"}:                         `catalog.yaml:6: there is no field "denied"`,
		{"version: 1", "version: 2"}:                           "version 2",
		{"action: actions/*", `action: "actions/[*"`}:          "catalog.yaml:3: action",
	} {
		if _, err := approvals(t, strings.Replace(approvalsText, change[0], change[1], 1), ""); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v: %v, want %s", change, err, want)
		}
	}
	if _, err := approvals(t, approvalsText, "package x\n\nviolation {"); err == nil {
		t.Error("a policy that does not compile")
	}
}

func TestDecide(t *testing.T) {
	name := filepath.Join(t.TempDir(), ApprovalsFile)
	for _, a := range []Approval{
		{Action: "actions/checkout", Versions: ">=4", Owner: "platform", Reviewer: "alice", Reason: "reviewed: \"fine\"", Until: "2027-01-01"},
		{Action: "tj-actions/*", Deny: true, Owner: "security", Reason: "taken over"},
	} {
		if err := Decide(name, a); err != nil {
			t.Fatal(err)
		}
	}
	if err := Decide(name, Approval{Action: "tj-actions/*", Deny: true, Owner: "security", Reason: "taken over"}); !errors.Is(err, ErrDecided) {
		t.Errorf("decided twice: %v", err)
	}
	if err := Decide(name, Approval{Action: "x", Owner: "x"}); err == nil {
		t.Error("without a reason")
	}
	data, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	list, err := parseApprovals(name, data)
	if err != nil || len(list) != 2 || list[0].Reason != "reviewed: \"fine\"" || !list[1].Deny {
		t.Errorf("%+v, %v\n%s", list, err, data)
	}
	if err := os.WriteFile(name, []byte("version: 1\nactions: []\n# the end\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := Decide(name, list[0]); err == nil {
		t.Error("added to a list in flow style")
	}
}
