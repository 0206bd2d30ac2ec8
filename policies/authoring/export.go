package authoring

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/sallyport-ci/sallyport/policies"
)

// Export writes the built-in policies, their lists and the schema of the input to a folder
// that is empty or not there, as OPA's own tools read them, and returns how many files it
// wrote: policies/**.rego, policies/lists.json, schemas/*.json.
func Export(folder string) (n int, err error) {
	entries, err := os.ReadDir(folder)
	if err == nil && len(entries) > 0 {
		return 0, fmt.Errorf("export policies: %s is not empty", folder)
	}
	lists := make(map[string]any)
	put := func(name string, data []byte) error {
		name = filepath.Join(folder, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			return err
		}
		n++
		return os.WriteFile(name, data, 0o644)
	}
	err = fs.WalkDir(policies.FS, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := fs.ReadFile(policies.FS, name)
		switch {
		case err != nil:
			return err
		case isList(name):
			var list any
			err = json.Unmarshal(data, &list)
			lists[strings.TrimSuffix(path.Base(name), ".json")] = list
			return err
		case path.Dir(name) == "schemas":
			return put(name, data)
		}
		return put(path.Join("policies", name), data)
	})
	if err == nil {
		var data []byte
		if data, err = json.MarshalIndent(map[string]any{"sallyport": map[string]any{"lists": lists}}, "", "  "); err == nil {
			err = put("policies/lists.json", append(data, '\n'))
		}
	}
	if err != nil {
		return n, fmt.Errorf("export policies: %w", err)
	}
	return n, nil
}
