package harden

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/sallyport-ci/sallyport/harden/catalogue"
)

func TestInventory(t *testing.T) {
	c, err := catalogue.Embedded()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for name, text := range map[string]string{
		"one/.github/workflows/a.yml": "jobs:\n  a:\n    container: alpine:3.20\n    steps:\n      - uses: actions/checkout@v4\n      - uses: actions/checkout@" + commit(4) + " # v4.2.2\n      - uses: ./x\n",
		"two/.github/workflows/b.yml": "jobs:\n  a:\n    steps:\n      - uses: actions/checkout@v4\n      - uses: tj-actions/changed-files@" + commit(5) + " # v45\n      - uses: acme/own@main\n",
		"two/.github/workflows/c.yml": "jobs: [",
	} {
		name = filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	files, err := Find([]string{dir}, false)
	if err != nil {
		t.Fatal(err)
	}
	i := NewInventory(c)
	problems := i.AddFiles(files)
	used := i.Used()
	if len(problems) != 1 || len(used) != 3 {
		t.Fatalf("%d actions, %v", len(used), problems)
	}
	own, checkout, changed := used[0], used[1], used[2]
	if own.Name != "acme/own" || own.Known || own.Pinned() {
		t.Errorf("%+v", own)
	}
	if checkout.Uses() != 3 || len(checkout.Versions) != 2 || checkout.Pinned() || !checkout.Known || checkout.Versions[1].Version != "v4.2.2" || len(checkout.Versions[0].At) != 2 {
		t.Errorf("%+v", checkout)
	}
	if !changed.Pinned() || len(changed.Incidents) == 0 {
		t.Errorf("%+v", changed)
	}
}
