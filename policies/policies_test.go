package policies

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"path"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/storage"
	"github.com/open-policy-agent/opa/v1/storage/inmem"
	"github.com/open-policy-agent/opa/v1/tester"
)

var update = flag.Bool("update", false, "write docs/policies.md")

func load(t *testing.T) (map[string]*ast.Module, storage.Store) {
	t.Helper()
	modules, lists := map[string]*ast.Module{}, map[string]any{}
	err := fs.WalkDir(FS, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := fs.ReadFile(FS, name)
		if err != nil {
			return err
		}
		if strings.HasSuffix(name, ".json") {
			var list any
			if err := json.Unmarshal(data, &list); err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
			lists[strings.TrimSuffix(path.Base(name), ".json")] = list
			return nil
		}
		m, err := ast.ParseModuleWithOpts(name, string(data), ast.ParserOptions{ProcessAnnotation: true, RegoVersion: ast.RegoV1})
		modules[name] = m
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return modules, inmem.NewFromObject(map[string]any{"sallyport": map[string]any{"lists": lists}})
}

// TestRego runs the tests beside the policies, as `opa test` would.
func TestRego(t *testing.T) {
	modules, store := load(t)
	ctx := context.Background()
	err := storage.Txn(ctx, store, storage.TransactionParams{}, func(txn storage.Transaction) error {
		results, err := tester.NewRunner().SetStore(store).SetModules(modules).RaiseBuiltinErrors(true).
			SetTimeout(10*time.Second).RunTests(ctx, txn)
		if err != nil {
			return err
		}
		tests := map[string]int{}
		for r := range results {
			tests[r.Package]++
			t.Run(r.Package+"."+r.Name, func(t *testing.T) {
				if r.Error != nil {
					t.Fatalf("%s: %v", r.Location, r.Error)
				}
				if !r.Pass() {
					t.Fatalf("%s: failed at %v", r.Location, r.FailedAt)
				}
			})
		}
		for name, m := range modules {
			if p := m.Package.Path.String(); !strings.HasSuffix(p, "_test") && tests[p+"_test"] == 0 {
				t.Errorf("%s has no tests", name)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

var technique = regexp.MustCompile(`^T\d{4}(\.\d{3})?$`)

// TestMetadata checks that every policy says all that a finding has to say, and
// that docs/policies.md says it too (go test ./policies -update writes it).
func TestMetadata(t *testing.T) {
	modules, _ := load(t)
	var page strings.Builder
	page.WriteString("# Policies\n\n<!-- Made from the policies' metadata by `go test ./policies -update`. -->\n\n")
	names := make([]string, 0, len(modules))
	for name := range modules {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		if strings.HasSuffix(name, "_test.rego") || path.Dir(name) == "lib" {
			continue
		}
		id := strings.TrimSuffix(path.Base(name), ".rego")
		m := modules[name]
		if path.Dir(name) != id || m.Package.Path.String() != "data.sallyport.policies."+id {
			t.Errorf("%s: folder, file and package %s differ", name, m.Package.Path)
		}
		if modules[id+"/"+id+"_test.rego"] == nil {
			t.Errorf("%s: no test file beside it", name)
		}
		if len(m.Annotations) == 0 {
			t.Errorf("%s: no METADATA", name)
			continue
		}
		a := m.Annotations[0]
		text := func(key string) string { s, _ := a.Custom[key].(string); return s }
		if len(a.Schemas) != 1 || a.Schemas[0].Schema.String() != "schema.policy_input" {
			t.Errorf("%s: no schema of its input", name)
		}
		if a.Title == "" || a.Description == "" || text("remediation") == "" {
			t.Errorf("%s: title, description or remediation is missing", name)
		}
		if !slices.Contains([]string{"low", "medium", "high", "critical"}, text("severity")) {
			t.Errorf("%s: severity %q", name, text("severity"))
		}
		if !technique.MatchString(text("technique")) {
			t.Errorf("%s: technique %q", name, text("technique"))
		}
		also, _ := a.Custom["also"].([]any)
		for _, x := range also {
			if s, _ := x.(string); !technique.MatchString(s) {
				t.Errorf("%s: also %v", name, x)
			}
		}
		if class := text("class"); class != "threat" && class != "new_behaviour" {
			t.Errorf("%s: class %q", name, class)
		}
		kinds, _ := a.Custom["kinds"].([]any)
		if len(kinds) == 0 {
			t.Errorf("%s: no kinds: it would be evaluated for every behaviour", name)
		}
		fmt.Fprintf(&page, "## %s\n\n`%s` · %s · %s · %s · [%s](https://attack.mitre.org/techniques/%s/)\n\n%s\n\n**What to do:** %s\n\n",
			a.Title, id, text("severity"), strings.ReplaceAll(text("class"), "_", " "), strings.Trim(fmt.Sprint(kinds), "[]"),
			text("technique"), strings.ReplaceAll(text("technique"), ".", "/"), a.Description, text("remediation"))
	}
	want := strings.TrimRight(page.String(), "\n") + "\n"
	const file = "../docs/policies.md"
	if *update {
		if err := os.WriteFile(file, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != want {
		t.Errorf("%s is out of date: go test ./policies -update", file)
	}
}
