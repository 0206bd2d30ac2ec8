package harden

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/sallyport-ci/sallyport/harden/catalogue"
)

// TestFollow: what actions use themselves is in the inventory, with the way there, and a circle
// ends.
func TestFollow(t *testing.T) {
	dir := t.TempDir()
	composite := func(uses ...string) string {
		return "runs:\n  using: composite\n  steps:\n    - uses: " + strings.Join(uses, "\n    - uses: ") + "\n"
	}
	commits := repositories(t, dir, map[string]map[string]string{
		"acme/leaf":  {"action.yml": "runs: {using: node24, main: x.js}\n"},
		"acme/tool":  {"sub/action.yml": composite("acme/leaf@v1.0.0", "docker://alpine:3.20")},
		"acme/scan":  {"action.yml": composite("acme/tool/sub@COMMIT(acme/tool) # v1.0.0", "./own")},
		"acme/round": {"action.yml": composite("acme/round@main")},
		"acme/flows": {".github/workflows/x.yml": "jobs:\n  a:\n    steps:\n      - uses: acme/leaf@main\n"},
	}, "acme/leaf", "acme/tool", "acme/scan", "acme/round", "acme/flows")
	c, err := catalogue.Embedded()
	if err != nil {
		t.Fatal(err)
	}
	i := NewInventory(c)
	workflow := "jobs:\n  a:\n    steps:\n      - uses: acme/scan@v1.0.0\n      - uses: acme/leaf@v1.0.0\n      - uses: acme/round@main\n      - uses: acme/gone@v1\n  b:\n    uses: acme/flows/.github/workflows/x.yml@v1.0.0\n"
	if err := i.Add("acme/shop", Source{Name: ".github/workflows/ci.yml", Text: []byte(workflow)}); err != nil {
		t.Fatal(err)
	}
	problems, err := i.Follow(t.Context(), &Remote{Server: "file://" + dir})
	if err != nil || len(problems) != 1 || !strings.Contains(problems[0].Error(), "acme/gone@v1") {
		t.Errorf("%v, %v", problems, err)
	}
	var got []string
	for _, u := range i.Used() {
		for _, v := range u.Versions {
			for _, at := range v.At {
				got = append(got, strings.ReplaceAll(fmt.Sprintf("%s@%s %s %s", u.Name, v.Ref, v.Version, at), commits["acme/tool"], "TOOL"))
			}
		}
	}
	want := []string{
		"acme/flows/.github/workflows/x.yml@v1.0.0  acme/shop/.github/workflows/ci.yml:9",
		"acme/gone@v1  acme/shop/.github/workflows/ci.yml:7",
		"acme/leaf@main  acme/shop/.github/workflows/ci.yml:9 through acme/flows/.github/workflows/x.yml@v1.0.0",
		"acme/leaf@v1.0.0  acme/shop/.github/workflows/ci.yml:4 through acme/scan@v1.0.0, acme/tool/sub@TOOL",
		"acme/leaf@v1.0.0  acme/shop/.github/workflows/ci.yml:5",
		"acme/round@main  acme/shop/.github/workflows/ci.yml:6",
		"acme/scan@v1.0.0  acme/shop/.github/workflows/ci.yml:4",
		"acme/tool/sub@TOOL v1.0.0 acme/shop/.github/workflows/ci.yml:4 through acme/scan@v1.0.0",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func TestDiffInventories(t *testing.T) {
	c, err := catalogue.Embedded()
	if err != nil {
		t.Fatal(err)
	}
	of := func(uses ...string) []*UsedAction {
		i := NewInventory(c)
		for n, u := range uses {
			repository, u, _ := strings.Cut(u, " ")
			text := strings.Repeat("# moved\n", n) + "jobs: {a: {steps: [{uses: " + u + "}]}}\n"
			if err := i.Add(repository, Source{Name: ".github/workflows/" + repository + ".yml", Text: []byte(text)}); err != nil {
				t.Fatal(err)
			}
		}
		return i.Used()
	}
	before := of("shop a/same@v1", "shop a/went@v1", "shop a/newer@v1", "shop a/pinned@v1", "shop a/loose@"+commit(1), "shop a/other@v1")
	after := of("new a/other@v1", "shop A/Same@v1", "shop a/came@v2", "shop a/newer@v2", "shop a/pinned@"+commit(2), "shop a/loose@v1", "shop a/other@v1")
	var got []string
	for _, d := range DiffInventories(before, after) {
		got = append(got, fmt.Sprintf("%s %s %s %v %v", d.Repository, d.Action, d.Kind, d.Before, d.After))
	}
	want := []string{
		"shop a/came came [] [v2]",
		"shop a/loose unpinned [" + commit(1) + "] [v1]",
		"shop a/newer version [v1] [v2]",
		"new a/other came [] [v1]",
		"shop a/pinned pinned [v1] [" + commit(2) + "]",
		"shop a/went went [v1] []",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if d := DiffInventories(after, after); len(d) != 0 {
		t.Errorf("the same differs: %v", d)
	}
}
