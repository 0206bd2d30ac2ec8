package detector

import (
	"encoding/json"
	"flag"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/open-policy-agent/opa/v1/ast"
	"pgregory.net/rapid"

	"github.com/sallyport-ci/sallyport/detector/scenario"
	"github.com/sallyport-ci/sallyport/policies"
)

var updateDetections = flag.Bool("update-detections", false, "write docs/detections.md")

// incident is an attack that happened, re-enacted.
type incident struct {
	title string // first line of its file
	text  string
	*scenario.Script
}

func incidents(t testing.TB) []incident {
	t.Helper()
	files, err := filepath.Glob("testdata/incidents/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatal("no incidents", err)
	}
	var all []incident
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		first, _, _ := strings.Cut(string(text), "\n")
		title, ok := strings.CutPrefix(first, "# incident: ")
		if !ok {
			t.Fatalf("%s does not begin with \"# incident: \"", file)
		}
		s, err := scenario.Parse(file, string(text))
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, incident{title, string(text), s})
	}
	return all
}

// TestIncidents re-enacts attacks that happened: each is found out, what looks like it but
// is ordinary work is not, and docs/detections.md says which policies did it (go test
// ./detector -run TestIncidents -update-detections writes it).
func TestIncidents(t *testing.T) {
	all, problems, err := LoadPolicies(t.Context(), "")
	if err != nil || len(problems) > 0 {
		t.Fatal(err, problems)
	}
	techniques := techniquesOf(t)
	var rows strings.Builder
	for _, x := range incidents(t) {
		name := strings.TrimSuffix(filepath.Base(x.Name), ".txt")
		caught, quiet := map[string]bool{}, 0
		t.Run(name, func(t *testing.T) {
			differences, err := Check(t.Context(), EngineConfig{Policies: all, Logger: slog.New(slog.DiscardHandler)}, x.Script)
			if err != nil {
				t.Fatal(err)
			}
			for _, d := range differences {
				t.Error(d)
			}
			// What is expected is what was found: Check has just said so.
			for _, r := range x.Runs {
				want, said := r.Findings()
				if !said {
					t.Errorf("%s:%d: the run says nothing about findings", x.Name, r.Line)
				}
				if len(want) == 0 {
					quiet++
				}
				for _, w := range want {
					policy, _, _ := strings.Cut(w, " ")
					caught[policy] = true
				}
			}
			if len(caught) == 0 || quiet == 0 {
				t.Errorf("%s: %d policies catch it, %d clean runs are beside it", x.Name, len(caught), quiet)
			}
		})
		var ids []string
		for policy := range caught {
			ids = append(ids, techniques[policy][0])
		}
		slices.Sort(ids)
		fmt.Fprintf(&rows, "| %s | %s | %s | [`%s`](../detector/testdata/incidents/%s.txt) | %d |\n",
			x.title, list(caught), strings.Join(slices.Compact(ids), ", "), name, name, quiet)
	}
	if t.Failed() {
		return // the page would tell of what is not so
	}
	page(t, rows.String(), attackTable(t, techniques))
}

// techniquesOf returns the ATT&CK techniques of every policy, its own first.
func techniquesOf(t *testing.T) map[string][]string {
	t.Helper()
	out := make(map[string][]string)
	err := fs.WalkDir(policies.FS, ".", func(name string, _ fs.DirEntry, err error) error {
		if err != nil || path.Ext(name) != ".rego" || strings.HasSuffix(name, "_test.rego") || path.Dir(name) == "lib" {
			return err
		}
		data, err := fs.ReadFile(policies.FS, name)
		if err != nil {
			return err
		}
		m, err := ast.ParseModuleWithOpts(name, string(data), ast.ParserOptions{ProcessAnnotation: true, RegoVersion: ast.RegoV1})
		if err != nil {
			return err
		}
		for _, a := range m.Annotations {
			if a.Scope != "package" {
				continue
			}
			own, _ := a.Custom["technique"].(string)
			ids := []string{own}
			also, _ := a.Custom["also"].([]any)
			for _, x := range also {
				id, _ := x.(string)
				ids = append(ids, id)
			}
			out[path.Dir(name)] = ids
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func list(names map[string]bool) string {
	var out []string
	for n := range names {
		out = append(out, "`"+n+"`")
	}
	slices.Sort(out)
	return strings.Join(out, ", ")
}

// attackTable says of each technique that matters to CI which policies look for it, or why
// none does.
func attackTable(t *testing.T, techniques map[string][]string) string {
	t.Helper()
	data, err := os.ReadFile("testdata/attack.json")
	if err != nil {
		t.Fatal(err)
	}
	var known []struct {
		ID, Name, Tactic, None string
	}
	if err := json.Unmarshal(data, &known); err != nil {
		t.Fatal(err)
	}
	by := make(map[string]map[string]bool)
	for policy, ids := range techniques {
		for _, id := range ids {
			if by[id] == nil {
				by[id] = make(map[string]bool)
			}
			by[id][policy] = true
		}
	}
	var rows strings.Builder
	for _, k := range known {
		what := list(by[k.ID])
		if (what == "") == (k.None == "") {
			t.Errorf("testdata/attack.json: %s has %d policies and this reason for having none: %q", k.ID, len(by[k.ID]), k.None)
		}
		if what == "" {
			what = "none: " + k.None
		}
		fmt.Fprintf(&rows, "| %s | [%s](https://attack.mitre.org/techniques/%s/) %s | %s |\n", k.Tactic, k.ID, strings.ReplaceAll(k.ID, ".", "/"), k.Name, what)
		delete(by, k.ID)
	}
	for id, policies := range by {
		t.Errorf("testdata/attack.json lacks %s of %s", id, list(policies))
	}
	return rows.String()
}

func page(t *testing.T, incidents, attack string) {
	t.Helper()
	const file = "../docs/detections.md"
	intro, err := os.ReadFile("testdata/detections.md")
	if err != nil {
		t.Fatal(err)
	}
	want := strings.NewReplacer("{{incidents}}\n", incidents, "{{attack}}\n", attack).Replace(string(intro))
	if *updateDetections {
		if err := os.WriteFile(file, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != want {
		t.Errorf("%s is out of date: go test ./detector -run TestIncidents -update-detections", file)
	}
}

// TestEveryPolicyCatchesSomething: a policy that no re-enacted attack breaks would be one
// of which nobody knows whether it works on what an agent really sends.
func TestEveryPolicyCatchesSomething(t *testing.T) {
	caught := map[string]bool{}
	for _, x := range incidents(t) {
		for _, r := range x.Runs {
			want, _ := r.Findings()
			for _, w := range want {
				policy, _, _ := strings.Cut(w, " ")
				caught[policy] = true
			}
		}
	}
	for policy := range techniquesOf(t) {
		if !caught[policy] {
			t.Errorf("no incident breaks policy %s", policy)
		}
	}
}

// TestNoInputMakesAPolicyFail mixes the words of all incidents: a policy that fails judges
// nothing, so whoever could make one fail would pass by it.
func TestNoInputMakesAPolicyFail(t *testing.T) {
	all, problems, err := LoadPolicies(t.Context(), "")
	if err != nil || len(problems) > 0 {
		t.Fatal(err, problems)
	}
	words := []string{"-", "--", "-c", "-e", "-v", "--volume=", "--volume=/:/x:ro", "--mount", "source=/,ro", "-t", "1", "", "\\", "[", "$(", "\u00e9\u4e16", "a\nb", strings.Repeat("x", 8192)}
	for _, x := range incidents(t) {
		for line := range strings.Lines(x.text) {
			if !strings.HasPrefix(line, "#") {
				words = append(words, strings.Fields(strings.NewReplacer(`"`, "", ">", "").Replace(line))...)
			}
		}
	}
	slices.Sort(words)
	word := rapid.SampledFrom(slices.Compact(words))
	rapid.Check(t, func(rt *rapid.T) {
		command := func(label string) string {
			var out []string
			for _, w := range rapid.SliceOfN(word, 1, 8).Draw(rt, label) {
				out = append(out, `"`+strings.NewReplacer(`"`, "", "\n", " ").Replace(w)+`"`)
			}
			return strings.Join(out, " ")
		}
		actor := command("parent") + " > " + command("actor")
		host := rapid.SampledFrom([]string{"webhook.site:443", "203.0.113.9:8443", "x.herokuapp.com:443", "api.github.com:443"}).Draw(rt, "host")
		file := rapid.SampledFrom([]string{
			"/root/.aws/credentials as credential aws_credentials", "/etc/shadow as credential system_passwords", "/w/.git/config as credential git_config_token",
			"/etc/cron.d/x as persistence cron", "/w/.github/workflows/x.yml as steering workflow_file", "/w/x.c as source source_file", "x as own own", "/opt/r/.runner as runner runner_credentials",
		}).Draw(rt, "file")
		lines := []string{
			"run 1", "step a", actor + " starts", actor + " starts in memory", actor + " starts on a socket", actor + " connects to " + host + " sending 80MB",
			actor + " pipes into " + command("reader"), actor + " reads file " + file, actor + " writes file " + file, actor + " reads environment of worker",
			actor + " looks up x.example.test TXT 20 names", actor + " requests POST api.github.com/" + strings.ReplaceAll(rapid.SampledFrom([]string{"user/repos", "", "repos/x", "repos/x/y/releases"}).Draw(rt, "path"), " ", ""),
			actor + " gains CAP_SYS_ADMIN", actor + " loads module x", actor + " signals agent", actor + " outlives the job", "end",
		}
		s, err := scenario.Parse("mixed", strings.Join(lines, "\n"))
		if err != nil {
			rt.Skip(err) // an empty actor, or words that are a sentence of their own
		}
		failed := uint64(0)
		for range 3 { // a policy that had no processor in its time is no failure
			e := judging(rt, all)
			for _, r := range s.Runs {
				if _, err := e.Apply(t.Context(), r.Batch); err != nil {
					rt.Fatal(err)
				}
			}
			if failed = e.Counts().PolicyErrors; failed == 0 {
				return
			}
		}
		rt.Fatalf("%d policies failed", failed)
	})
}

// TestListIsUpdatedWithoutARelease: a file in the operator's folder takes a list's place
// while the detector runs.
func TestListIsUpdatedWithoutARelease(t *testing.T) {
	dir := t.TempDir()
	all, problems, err := LoadPolicies(t.Context(), dir)
	if err != nil || len(problems) > 0 {
		t.Fatal(err, problems)
	}
	s, err := scenario.Parse("told", strings.Join([]string{"run 1", "step a", "curl connects to fresh.example.test:443", "curl connects to checkmarx.zone:443", "end"}, "\n"))
	if err != nil {
		t.Fatal(err)
	}
	found := func() string {
		f, err := judging(t, all).Apply(t.Context(), s.Runs[0].Batch)
		if err != nil {
			t.Fatal(err)
		}
		var hosts []string
		for _, x := range f {
			if x.GetPolicy().GetId() == "known_bad_host" {
				hosts = append(hosts, x.GetBehaviour().GetTarget())
			}
		}
		return strings.Join(hosts, " ")
	}
	if got := found(); got != "checkmarx.zone" {
		t.Fatalf("found %q before", got)
	}
	if err := os.Mkdir(filepath.Join(dir, "data"), 0o700); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "data", "known_bad_hosts.json")
	write := func(text string) {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(`{"domains": {"fresh.example.test": {"kind": "collector", "source": "today"}}, "addresses": {}}`)
	if problems := all.Reload(t.Context()); len(problems) > 0 {
		t.Fatal(problems)
	}
	if got := found(); got != "fresh.example.test" {
		t.Errorf("found %q with the new list", got)
	}
	// A list that is no JSON is named, and what was known is not forgotten.
	write(`{"domains": `)
	if problems := all.Reload(t.Context()); len(problems) != 1 || !strings.Contains(problems[0].Error(), "known_bad_hosts.json") {
		t.Errorf("problems %v", problems)
	}
	if got := found(); got == "" {
		t.Error("a broken list left no list at all")
	}
}
