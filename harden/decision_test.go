package harden

import (
	"errors"
	"slices"
	"strings"
	"testing"
)

// TestEditApprovals: a decision changes what it must of the file, and no other byte.
func TestEditApprovals(t *testing.T) {
	begin := "# ours\nversion: 1\nactions:\n"
	checkout := Approval{Action: "actions/checkout", Versions: ">=5", Owner: "platform", Reason: "reviewed"}
	for _, c := range []struct {
		name, before, after string
		a                   Approval
	}{
		{"new file", "", newApprovals + "  - action: actions/checkout\n    versions: '>=5'\n    owner: platform\n    reason: reviewed\n", checkout},
		{
			"at the end, indented as the others", begin + "- action: a/b # mine\n  owner: x\n  reason: 'y'",
			begin + "- action: a/b # mine\n  owner: x\n  reason: 'y'\n- action: actions/checkout\n  versions: '>=5'\n  owner: platform\n  reason: reviewed\n", checkout,
		},
		{
			"changed in its place", begin + "  - action: actions/checkout # the usual\n    versions: \">=4\" # old\n    owner:   platform\n    reason: reviewed\n\n  # the rest\n  - {action: \"a/*\", owner: x, reason: y}\n",
			begin + "  - action: actions/checkout # the usual\n    versions: '>=5' # old\n    owner:   platform\n    reason: reviewed\n\n  # the rest\n  - {action: \"a/*\", owner: x, reason: y}\n", checkout,
		},
		{
			"a field more", begin + "  - action: actions/checkout\n    owner: platform\n    reason: reviewed # last\n\n  - {action: \"a/*\", owner: x, reason: y}\n",
			begin + "  - action: actions/checkout\n    owner: platform\n    reason: reviewed # last\n    versions: '>=5'\n\n  - {action: \"a/*\", owner: x, reason: y}\n", checkout,
		},
		{
			"in flow style", begin + "  - {action: actions/checkout, owner: platform, reason: reviewed} # x\n",
			begin + "  - {action: actions/checkout, owner: platform, reason: \"one, [two]\", reviewer: alice} # x\n",
			Approval{Action: "actions/checkout", Owner: "platform", Reason: "one, [two]", Reviewer: "alice"},
		},
		{
			"CR LF", strings.ReplaceAll(begin+"  - action: actions/checkout\n    owner: platform\n    reason: reviewed\n", "\n", "\r\n"),
			strings.ReplaceAll(begin+"  - action: actions/checkout\n    owner: platform\n    reason: reviewed\n    versions: '>=5'\n", "\n", "\r\n"), checkout,
		},
		{
			"a reason of several lines becomes one", begin + "  - action: a/b\n    owner: x\n    reason: y\n",
			begin + "  - action: a/b\n    owner: x\n    reason: \"one\\ntwo\"\n", Approval{Action: "a/b", Owner: "x", Reason: "one\ntwo"},
		},
	} {
		got, err := EditApprovals("catalog.yaml", []byte(c.before), c.a)
		if err != nil || string(got) != c.after {
			t.Errorf("%s: %v\n%q, want\n%q", c.name, err, got, c.after)
			continue
		}
		if _, err := EditApprovals("catalog.yaml", got, c.a); !errors.Is(err, ErrDecided) {
			t.Errorf("%s: a second time: %v", c.name, err)
		}
	}
	for name, before := range map[string]string{
		"a literal reason":   begin + "  - action: actions/checkout\n    owner: platform\n    reason: |\n      y\n",
		"a flow list":        "version: 1\nactions: [{action: a/b, owner: x, reason: y}]\n",
		"actions come first": "actions:\n  - action: a/b\n    owner: x\n    reason: y\nversion: 1\n",
		"denied":             begin + "  - {action: actions/checkout, deny: true, owner: x, reason: y}\n",
	} {
		if got, err := EditApprovals("catalog.yaml", []byte(before), checkout); err == nil {
			t.Errorf("%s was taken:\n%s", name, got)
		}
	}
}

// FuzzEditApprovals: whatever the file and the words, what comes out says what was decided, and a
// second time there is nothing to do.
func FuzzEditApprovals(f *testing.F) {
	f.Add("version: 1\nactions:\n  - {action: a/b, owner: x, reason: y}\n", "a/b", "because: [it] # is")
	f.Add("", "actions/*", "true")
	f.Add("version: 1\nactions:\n- action: a/b\n  owner: x\n  reason: y", "a/b", "a\nb")
	f.Fuzz(func(t *testing.T, before, action, reason string) {
		a := Approval{Action: action, Owner: "platform", Reason: reason, Until: "2027-01-01"}
		after, err := EditApprovals("catalog.yaml", []byte(before), a)
		if err != nil {
			return
		}
		list, err := parseApprovals("catalog.yaml", after)
		if err != nil || !slices.ContainsFunc(list, func(x Approval) bool {
			return x.Action == action && !x.Deny && x.Reason == reason && x.Until == a.Until
		}) {
			t.Errorf("%v: %q", err, after)
		}
		if _, err := EditApprovals("catalog.yaml", after, a); !errors.Is(err, ErrDecided) {
			t.Errorf("a second time: %v: %q", err, after)
		}
	})
}
