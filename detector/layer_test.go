package detector

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"
)

const minePolicy = `# METADATA
# title: Mine
# scope: package
# custom:
#   severity: low
#   kinds: [egress]
package sallyport.policies.NAME

violation contains "MESSAGE" if input.behaviour.domain in data.sallyport.lists.mine
`

// folderOf is a folder of policies that tests change.
type folderOf struct {
	t *testing.T
	*Policies
	dir  string
	said []error
}

func newFolder(t *testing.T) *folderOf {
	t.Helper()
	f := &folderOf{t: t, dir: t.TempDir()}
	f.put("data/mine.json", `["a.example.test"]`)
	f.put("mine/mine.rego", strings.NewReplacer("NAME", "mine", "MESSAGE", "first").Replace(minePolicy))
	var err error
	if f.Policies, f.said, err = LoadPolicies(t.Context(), f.dir); err != nil || len(f.said) > 0 {
		t.Fatal(err, f.said)
	}
	return f
}

func (f *folderOf) put(name, text string) {
	f.t.Helper()
	name = filepath.Join(f.dir, filepath.FromSlash(name))
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		f.t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
		f.t.Fatal(err)
	}
}

func (f *folderOf) remove(name string) {
	f.t.Helper()
	if err := os.Remove(filepath.Join(f.dir, filepath.FromSlash(name))); err != nil {
		f.t.Fatal(err)
	}
}

// reload returns the problems in one text.
func (f *folderOf) reload() string {
	f.t.Helper()
	return textOf(f.Reload(f.t.Context()))
}

func textOf(errs []error) string {
	if len(errs) == 0 {
		return ""
	}
	return errors.Join(errs...).Error()
}

// says is what a policy says of a domain, "-" if there is no such policy.
func says(t *testing.T, p *Policies, id, domain string) string {
	t.Helper()
	if !slices.Contains(p.IDs(), id) {
		return "-"
	}
	input := ast.MustInterfaceToValue(map[string]any{"behaviour": map[string]any{"kind": "egress", "domain": domain}})
	v, err := p.Evaluate(t.Context(), id, input, false)
	if err != nil {
		t.Fatal(err)
	}
	return v.Message
}

func (f *folderOf) want(id, domain, want string) {
	f.t.Helper()
	if got := says(f.t, f.Policies, id, domain); got != want {
		f.t.Errorf("%s says %q of %s, want %q", id, got, domain, want)
	}
}

// TestLastGoodStays: what breaks stays as it was, what goes is gone, and neither depends on
// the other.
func TestLastGoodStays(t *testing.T) {
	f := newFolder(t)
	f.want("mine", "a.example.test", "first")

	// A list that does not parse.
	f.put("data/mine.json", `["b.example.test"`)
	if said := f.reload(); !strings.Contains(said, "read list data/mine.json") {
		t.Errorf("said %q", said)
	}
	f.want("mine", "a.example.test", "first")
	// Another policy goes, though the list is broken still.
	f.put("other/other.rego", strings.NewReplacer("NAME", "other", "MESSAGE", "other").Replace(minePolicy))
	f.reload()
	f.want("other", "a.example.test", "other")
	f.remove("other/other.rego")
	f.reload()
	f.want("other", "a.example.test", "-")
	f.put("data/mine.json", `["b.example.test"]`)
	if said := f.reload(); said != "" {
		t.Error(said)
	}
	f.want("mine", "a.example.test", "")
	f.want("mine", "b.example.test", "first")

	// A policy that does not parse, and one that does not compile.
	f.put("mine/mine.rego", "package sallyport.policies.mine\n\nviolation contains")
	if said := f.reload(); !strings.Contains(said, "mine/mine.rego:3") {
		t.Errorf("said %q", said)
	}
	f.want("mine", "b.example.test", "first")
	f.put("mine/mine.rego", strings.Replace(strings.NewReplacer("NAME", "mine", "MESSAGE", "second").Replace(minePolicy), "severity: low", "severity: loud", 1))
	if said := f.reload(); !strings.Contains(said, `custom.severity "loud"`) {
		t.Errorf("said %q", said)
	}
	f.want("mine", "b.example.test", "first")
	f.put("mine/mine.rego", strings.NewReplacer("NAME", "mine", "MESSAGE", "second").Replace(minePolicy))
	f.reload()
	f.want("mine", "b.example.test", "second")

	// Two annotations for one package are none.
	f.put("mine/more.rego", strings.NewReplacer("NAME", "mine", "MESSAGE", "third").Replace(minePolicy))
	if said := f.reload(); !strings.Contains(said, "mine/mine.rego:1") || !strings.Contains(said, "mine/more.rego:1") {
		t.Errorf("said %q", said)
	}
	f.want("mine", "b.example.test", "second")
}

// TestMoreOfAList adds to lists without replacing them.
func TestMoreOfAList(t *testing.T) {
	f := newFolder(t)
	f.put("data/mine.more.json", `["c.example.test"]`)
	f.put("data/known_bad_hosts.more.json", `{"worse.example.test": {"what": "test"}}`)
	if said := f.reload(); said != "" {
		t.Fatal(said)
	}
	f.want("mine", "a.example.test", "first")
	f.want("mine", "c.example.test", "first")
	lists := f.set.Load().lists
	if bad, _ := lists["known_bad_hosts"].(map[string]any); len(bad) < 2 || bad["worse.example.test"] == nil {
		t.Errorf("%d known bad hosts", len(bad))
	}
	f.put("data/mine.more.json", `{"c.example.test": true}`)
	if said := f.reload(); !strings.Contains(said, "it is an object, the list is an array") {
		t.Errorf("said %q", said)
	}
	f.want("mine", "a.example.test", "first")
}

// TestFingerprint changes with every file that matters.
func TestFingerprint(t *testing.T) {
	f := newFolder(t)
	before := fingerprint(f.dir)
	for _, name := range []string{"exceptions/x.yaml", "data/x.json", "x.rego"} {
		f.put(name, "")
		after := fingerprint(f.dir)
		if after == before {
			t.Errorf("%s changes nothing", name)
		}
		before = after
	}
	f.put("README.md", "")
	if fingerprint(f.dir) != before {
		t.Error("a page changes something")
	}
}

const exceptionsFile = `- policy: mine
  repository: acme/*
  target: "*.example.test"
  owner: alice
  reason: moving to the other host
  until: 2026-12-31
- policy: "*"
  program: curl
  owner: bob
  reason: test
  until: 2026-01-31
`

// TestParseExceptions names what is wrong with its line, and takes the rest.
func TestParseExceptions(t *testing.T) {
	all, problems, err := ParseExceptions("exceptions/a.yaml", []byte(exceptionsFile))
	if err != nil || len(problems) > 0 || len(all) != 2 {
		t.Fatal(all, problems, err)
	}
	if got := all[0].String(); got != "exceptions/a.yaml:1 (alice, until 2026-12-31)" {
		t.Error(got)
	}
	if last := time.Date(2026, 12, 31, 23, 59, 59, 0, time.UTC); !all[0].live(last) || all[0].live(last.Add(time.Second)) {
		t.Error("it does not end with its last day")
	}
	for change, want := range map[[2]string]string{
		{"  owner: alice\n", ""}:                                     "a.yaml:1: owner is missing",
		{"  reason: moving to the other host\n", ""}:                 "a.yaml:1: reason is missing",
		{"  until: 2026-12-31\n", ""}:                                "a.yaml:1: until is missing",
		{"until: 2026-12-31", "until: 31.12.2026"}:                   `a.yaml:1: until "31.12.2026" is no day`,
		{"until: 2026-12-31", "until: 2026-02-30"}:                   `until "2026-02-30" is no day`,
		{"repository: acme/*", "repositori: acme/*"}:                 `a.yaml:2: there is no field "repositori"`,
		{"repository: acme/*", `repository: "[a"`}:                   "a.yaml:2: repository: pattern",
		{"repository: acme/*", "repository: [a, b]"}:                 "a.yaml:2: repository is no text",
		{"repository: acme/*", `repository: ""`}:                     "a.yaml:2: repository is empty",
		{"repository: acme/*", "owner: carol"}:                       "a.yaml:4: owner is given twice",
		{"  repository: acme/*\n  target: \"*.example.test\"\n", ""}: "a.yaml:1: it holds everywhere",
	} {
		all, problems, err := ParseExceptions("a.yaml", []byte(strings.Replace(exceptionsFile, change[0], change[1], 1)))
		if err != nil || len(all) != 1 || all[0].Owner != "bob" || !strings.Contains(textOf(problems), want) {
			t.Errorf("%q: %d exceptions, %v, want %s", change, len(all), problems, want)
		}
	}
	for _, text := range []string{"policy: mine", "- [", "\t"} {
		if _, _, err := ParseExceptions("a.yaml", []byte(text)); err == nil {
			t.Errorf("%q is taken", text)
		}
	}
	if all, problems, err := ParseExceptions("a.yaml", nil); len(all)+len(problems) > 0 || err != nil {
		t.Error("an empty file is not empty")
	}
}

// TestExceptionsStay when their file breaks.
func TestExceptionsStay(t *testing.T) {
	f := newFolder(t)
	f.put("exceptions/a.yaml", exceptionsFile)
	if said := f.reload(); said != "" || len(f.Exceptions()) != 2 {
		t.Fatal(said, len(f.Exceptions()))
	}
	if expired := textOf(f.Expired(time.Date(2026, 6, 1, 0, 0, 0, 0, time.UTC))); !strings.Contains(expired, "a.yaml:7 (bob, until 2026-01-31)") || strings.Contains(expired, "alice") {
		t.Error(expired)
	}
	f.put("exceptions/a.yaml", "no: list")
	if said := f.reload(); !strings.Contains(said, "it is no list") || len(f.Exceptions()) != 2 {
		t.Error(said, len(f.Exceptions()))
	}
	f.remove("exceptions/a.yaml")
	if said := f.reload(); said != "" || len(f.Exceptions()) != 0 {
		t.Error(said, len(f.Exceptions()))
	}
}

// FuzzParseExceptions: whatever a file holds, it is read or refused.
func FuzzParseExceptions(f *testing.F) {
	f.Add([]byte(exceptionsFile))
	f.Add([]byte("- policy: &a x\n  owner: *a\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		all, _, err := ParseExceptions("x.yaml", data)
		for _, e := range all {
			if err != nil || e.Owner == "" || e.Reason == "" || e.Policy == "" || e.Until.IsZero() || e.Line == 0 {
				t.Errorf("%+v", e)
			}
		}
	})
}

// TestExcepted: a run whose only finding is expected is clean, teaches and says so; after the
// last day it is not. What counts is when the run was, not when it is judged.
func TestExcepted(t *testing.T) {
	for until, want := range map[string]int{"2099-12-31": 5, "2020-01-01": 6} {
		dir := t.TempDir()
		if err := os.Mkdir(filepath.Join(dir, "exceptions"), 0o755); err != nil {
			t.Fatal(err)
		}
		text := "- {policy: new_endpoint, repository: acme/shop, program: curl, target: 'gist.*', owner: alice, reason: expected, until: " + until + "}\n"
		if err := os.WriteFile(filepath.Join(dir, "exceptions", "a.yaml"), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		p, problems, err := LoadPolicies(t.Context(), dir)
		if err != nil || len(problems) > 0 {
			t.Fatal(err, problems)
		}
		j, err := NewJudge(EngineConfig{Policies: p})
		if err != nil {
			t.Fatal(err)
		}
		files, err := filepath.Glob(filepath.Join(recordings, "*.rec"))
		if err != nil {
			t.Fatal(err)
		}
		found := judged(t, j, files...)
		if len(found) != want || j.Counts().Excepted != uint64(6-want) {
			t.Errorf("until %s: %d findings, %d excepted; want %d", until, len(found), j.Counts().Excepted, want)
		}
		said := false
		for _, v := range j.Verdicts() {
			for _, r := range v.GetReasons() {
				said = said || r == "Excepted: new_endpoint, by exceptions/a.yaml:1 (alice, until "+until+"): expected"
			}
		}
		if said != (want == 5) {
			t.Errorf("until %s: the verdict says of the exception: %v", until, said)
		}
	}
}
