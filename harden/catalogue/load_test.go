package catalogue

import (
	"strings"
	"testing"
)

func embeddedForTest(t *testing.T) *Catalogue {
	t.Helper()
	c, err := Embedded()
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestEmbeddedLoadsAndNamesItsSources(t *testing.T) {
	c := embeddedForTest(t)
	for _, e := range c.Entries() {
		for _, s := range e.Sources {
			if s.URL == "" || s.Read.IsZero() {
				t.Errorf("%s: source %v has no address or no day", e.Name, s)
			}
		}
	}
	e, ok := c.Lookup("Actions/Checkout@v4")
	if !ok {
		t.Fatal("actions/checkout is not there")
	}
	const want = "https://github.com/actions/checkout/blob/02c73802609a582111d8af3a9cd6519263dd983a/action.yml"
	if got := e.Sources[0].URL; got != want {
		t.Errorf("address of the source is %s, want %s", got, want)
	}
	if got := e.Sources[0].String(); got != "action.yml read 2026-11-24 commit 02c73802609a582111d8af3a9cd6519263dd983a" {
		t.Errorf("source reads %q", got)
	}
}

func TestLookupKnowsNoLocalActionsAndImages(t *testing.T) {
	c := embeddedForTest(t)
	for _, uses := range []string{
		"", "@", "./", "./.github/actions/build", "docker://alpine:3.20", "actions", "actions/",
		"actions/checkout/sub@v4", "$/actions/checkout", "example/unheard-of@v1",
		"example/app/.github/workflows/build.yml@main", "${{ matrix.action }}",
	} {
		if e, ok := c.Lookup(uses); ok {
			t.Errorf("%q is taken for %s", uses, e.Name)
		}
	}
}

const good = `read: 2026-11-24
actions:
- name: example/a
  sources: [{path: action.yml, commit: 0123456789abcdef0123456789abcdef01234567}]
  token: {inputs: [token], default: true}
  needs:
  - {scope: contents, access: read, basis: stated}
- name: example/b
  sources: [{page: "https://github.com/example/b/commit/1"}]
`

func TestLoadRefuses(t *testing.T) {
	if _, err := Load([]byte(good)); err != nil {
		t.Fatalf("what the cases below spoil is not good itself: %v", err)
	}
	for _, test := range []struct{ name, old, new, want string }{
		{"unknown field", "basis: stated}", "basis: stated, why: because}", "field why not found"},
		{"unknown field of an entry", "  token:", "  needz: []\n  token:", "field needz not found"},
		{"unknown scope", "scope: contents", "scope: content", "unknown scope"},
		{"unknown access", "access: read", "access: admin", "neither read nor write"},
		{"access left out", "access: read, ", "", "not one that the scope has"},
		{"id-token is not read", "scope: contents", "scope: id-token", "not one that the scope has"},
		{"models are not written", "scope: contents, access: read", "scope: models, access: write", "not one that the scope has"},
		{"unknown basis", "basis: stated", "basis: felt", "basis"},
		{"no source", "sources: [{page: \"https://github.com/example/b/commit/1\"}]", "sources: []", "a fact needs one"},
		{"short commit", "0123456789abcdef0123456789abcdef01234567", "0123456", "40 hex digits"},
		{"page elsewhere", "https://github.com/example/b/commit/1", "https://example.test/b", "no page of GitHub's"},
		{"page and path", "{page:", "{path: action.yml, page:", "stands beside a path"},
		{"path out of the repository", "path: action.yml", "path: ../action.yml", "no path in a repository"},
		{"name", "name: example/b", "name: ./b", "owner/repo"},
		{"order", "name: example/b", "name: example/A", "sorted"},
		{"twice", "name: example/b", "name: example/a", "sorted"},
		{"need without token", "  token: {inputs: [token], default: true}\n", "", "no token reaches"},
		{"default without input", "inputs: [token], default: true", "env: [TOKEN], default: true", "no input"},
		{"empty token", "{inputs: [token], default: true}", "{}", "neither inputs nor env"},
		{"condition on nothing", "basis: stated}", "basis: stated, when: [{input: push}]}", "one of is, not"},
		{"condition on two things", "basis: stated}", "basis: stated, when: [{input: push, is: a, not: b}]}", "one of is, not"},
		{"condition that always holds", "basis: stated}", "basis: stated, when: [{input: push, contains: \"\"}]}", "everything contains"},
		{"by an input that takes no token", "basis: stated}", "basis: stated, by: password}", "takes no token"},
		{"public repositories written by all", "access: read, basis: stated}", "access: write, basis: stated, private: true}", "not written by all"},
		{"runs on nothing known", "  token:", "  runs: perl\n  token:", "nothing that an action can run on"},
		{"day", "read: 2026-11-24", "read: yesterday", "day of reading"},
		{"no actions", good[strings.Index(good, "actions:"):], "", "no actions"},
		{"empty entry", "- name: example/b\n", "-\n- name: example/b\n", "entry 2 is empty"},
		{"two documents", good, good + "---\nread: 2026-11-24\n", "more than one document"},
		{"endpoint", "  token:", "  endpoints: [\"https://example.test/\"]\n  token:", "endpoint"},
		{"incident without a month", "  token:", "  incidents: [{when: lately, what: stolen}]\n  token:", "no month"},
		{"incident of no time", "  token:", "  incidents: [{when: 2026-01, what: stolen, tags: [v1]}]\n  token:", "from when"},
		{"incident with a short commit", "  token:", "  incidents: [{when: 2026-01, what: stolen, commits: [abc], from: 2026-01-01T00:00:00Z}]\n  token:", "40 hex digits"},
		{"not YAML", good, "\t{", "read catalogue"},
		{"nothing", good, "", "read catalogue"},
	} {
		t.Run(test.name, func(t *testing.T) {
			if !strings.Contains(good, test.old) {
				t.Fatal("the text to spoil is not there")
			}
			_, err := Load([]byte(strings.Replace(good, test.old, test.new, 1)))
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("error is %v, want one that says %q", err, test.want)
			}
		})
	}
}

func TestLoadReportsAllFaultsAtOnce(t *testing.T) {
	_, err := Load([]byte(strings.NewReplacer("contents", "content", "name: example/b", "name: b").Replace(good)))
	if err == nil || !strings.Contains(err.Error(), "unknown scope") || !strings.Contains(err.Error(), "owner/repo") {
		t.Errorf("error is %v, want both faults", err)
	}
}

func FuzzLoad(f *testing.F) {
	f.Add([]byte(good))
	f.Add([]byte("read: 2026-11-24\nactions: [null, {name: a}]\n"))
	f.Add([]byte("actions: &a [*a]"))
	f.Fuzz(func(t *testing.T, text []byte) {
		c, err := Load(text)
		if err != nil {
			return
		}
		for _, e := range c.Entries() {
			if _, known, sources := c.For(e.Name, nil); !known || len(sources) == 0 {
				t.Errorf("%s was loaded and is not known, or has no source", e.Name)
			}
		}
	})
}

// TestEmbeddedIsAsLargeAsPromised holds the promise of docs/action-catalogue.md's readers:
// the most used actions are there, with those whose compromise everybody has heard of.
func TestEmbeddedIsAsLargeAsPromised(t *testing.T) {
	c := embeddedForTest(t)
	if n := len(c.Entries()); n < 150 {
		t.Errorf("%d actions, want at least 150", n)
	}
	for _, name := range []string{"tj-actions/changed-files", "reviewdog/action-setup", "aquasecurity/trivy-action", "aquasecurity/setup-trivy", "Checkmarx/ast-github-action", "checkmarx/kics-github-action@v2"} {
		if len(c.Incidents(name)) == 0 {
			t.Errorf("the compromise of %s is not there", name)
		}
	}
	for _, e := range c.Entries() {
		if e.ReplacedBy == "" {
			continue
		}
		if _, ok := c.Lookup(e.ReplacedBy); !ok {
			t.Errorf("%s is replaced by %s, of which nothing is known", e.Name, e.ReplacedBy)
		}
	}
}

func TestDated(t *testing.T) {
	for runs, want := range map[string]bool{
		"node12": true, "node16": true, "plugin": true,
		"node20": false, "node24": false, "composite": false, "docker": false, "": false,
	} {
		if got := (&Entry{Runs: runs}).Dated(); got != want {
			t.Errorf("a copy that ran on %q is dated: %v, want %v", runs, got, want)
		}
	}
}

func TestOwnEntriesTakeThePlace(t *testing.T) {
	base := embeddedForTest(t)
	own, err := Load([]byte(`read: 2026-11-24
actions:
- name: Actions/Checkout
  sources: [{page: "https://github.com/example/actions"}]
- name: example/deploy
  sources: [{page: "https://github.com/example/deploy"}]
  token: {inputs: [token], default: true}
  needs: [{scope: deployments, access: write, basis: stated}]
`))
	if err != nil {
		t.Fatal(err)
	}
	both := own.Over(base)
	if got, want := len(both.Entries()), len(base.Entries())+1; got != want {
		t.Errorf("%d entries, want %d", got, want)
	}
	if needs, known, _ := both.For("actions/checkout@v4", nil); !known || len(needs.Sure) > 0 {
		t.Errorf("the program's entry of actions/checkout is still there: %v", needs)
	}
	if needs, _, _ := both.For("example/deploy@main", nil); needs.Permissions(false)["deployments"] != Write {
		t.Errorf("the own entry is not there: %v", needs)
	}
	if needs, _, _ := base.For("actions/checkout@v4", nil); len(needs.Sure) == 0 {
		t.Error("the program's catalogue was changed")
	}
}

// TestSafer: whatever is said to be safer has a source and a reason, and is not what it replaces.
func TestSafer(t *testing.T) {
	n := 0
	for _, e := range embeddedForTest(t).Entries() {
		for _, r := range e.Safer {
			n++
			if r.Page == "" || r.Why == "" || strings.EqualFold(r.Use, e.Name) {
				t.Errorf("%s: %+v", e.Name, r)
			}
		}
	}
	if n < 10 {
		t.Errorf("%d replacements: were they lost?", n)
	}
	for fault, row := range map[string]string{
		"neither an action nor a command": `{use: "gh release", why: "x", page: "https://github.com/a/b/pull/1"}`,
		"does not say why":                `{use: "a/c", why: "", page: "https://github.com/a/b/pull/1"}`,
		"is no page of GitHub's":          `{use: "a/c", why: "x", page: ""}`,
	} {
		text := "read: 2026-11-24\nactions:\n- name: a/b\n  sources: [{path: action.yml, commit: 00a8bf2bdcfe93aefd70422d3dec07337959d3a4}]\n  safer: [" + row + "]\n"
		if _, err := Load([]byte(text)); err == nil || !strings.Contains(err.Error(), fault) {
			t.Errorf("%s: %v", row, err)
		}
	}
}
