package detector

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"
)

// layer is what one place says of policies: those that are compiled in, a bundle, a folder.
// A later layer replaces what an earlier one calls the same.
type layer struct {
	modules    map[string]*ast.Module
	lists      map[string]any
	more       map[string][]any // what is added to lists
	exceptions []*Exception

	problems   []error
	unparsed   map[string]bool // files with policies that nobody can read
	unlisted   map[string]bool // lists that nobody can read
	unexcepted map[string]bool // files with exceptions that nobody can read
}

func newLayer() *layer {
	return &layer{
		modules: make(map[string]*ast.Module), lists: make(map[string]any), more: make(map[string][]any),
		unparsed: make(map[string]bool), unlisted: make(map[string]bool), unexcepted: make(map[string]bool),
	}
}

func (l *layer) problem(err error) { l.problems = append(l.problems, err) }

// moreSuffix ends the names of files that add to a list.
const moreSuffix = ".more"

// readLayer reads a folder: *.rego, tests apart, data/*.json, exceptions/*.yaml.
func readLayer(folder fs.FS) *layer {
	l := newLayer()
	err := fs.WalkDir(folder, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			l.problem(fmt.Errorf("read policies: %w", err))
			if d != nil && d.IsDir() {
				return fs.SkipDir
			}
			return nil
		}
		kind := fileKind(name)
		if d.IsDir() || kind == fileOther {
			return nil
		}
		data, err := fs.ReadFile(folder, name)
		if err == nil {
			err = l.add(name, data)
		}
		if err == nil {
			return nil
		}
		l.problem(err)
		switch kind {
		case fileList:
			l.unlisted[listName(name)] = true
		case fileExceptions:
			l.unexcepted[name] = true
		default:
			l.unparsed[name] = true
		}
		return nil
	})
	if err != nil {
		l.problem(fmt.Errorf("read policies: %w", err))
	}
	return l
}

// Kinds of files in a folder of policies.
const (
	fileOther = iota
	filePolicy
	fileList
	fileExceptions
)

func fileKind(name string) int {
	switch ext := path.Ext(name); {
	case ext == ".rego" && !strings.HasSuffix(name, "_test.rego"):
		return filePolicy
	case ext == ".json" && path.Dir(name) == "data":
		return fileList
	case slices.Contains([]string{".yaml", ".yml", ".json"}, ext) && path.Dir(name) == "exceptions":
		return fileExceptions
	}
	return fileOther
}

func listName(file string) string {
	return strings.TrimSuffix(strings.TrimSuffix(path.Base(file), ".json"), moreSuffix)
}

// add reads one file.
func (l *layer) add(name string, data []byte) error {
	switch fileKind(name) {
	case fileList:
		var list any
		if err := json.Unmarshal(data, &list); err != nil {
			return fmt.Errorf("read list %s: %w", name, err)
		}
		if strings.HasSuffix(name, moreSuffix+".json") {
			l.more[listName(name)] = append(l.more[listName(name)], list)
		} else {
			l.lists[listName(name)] = list
		}
	case fileExceptions:
		exceptions, problems, err := ParseExceptions(name, data)
		l.exceptions = append(l.exceptions, exceptions...)
		l.problems = append(l.problems, problems...)
		return err
	case filePolicy:
		m, err := ast.ParseModuleWithOpts(name, string(data), ast.ParserOptions{ProcessAnnotation: true, RegoVersion: ast.RegoV1})
		if err != nil {
			return fmt.Errorf("parse policy: %w", err)
		}
		if m != nil {
			l.modules[name] = m
		}
	}
	return nil
}

// mergeLists returns the lists of all layers. One that cannot be read stays as it was in
// before.
func mergeLists(before map[string]any, layers []*layer) (lists map[string]any, problems []error) {
	lists = make(map[string]any)
	for _, l := range layers {
		for name, list := range l.lists {
			lists[name] = list
		}
		for name, more := range l.more {
			for _, m := range more {
				list, err := addTo(lists[name], m)
				if err != nil {
					problems = append(problems, fmt.Errorf("read list data/%s%s.json: %w", name, moreSuffix, err))
					continue
				}
				lists[name] = list
			}
		}
		for name := range l.unlisted {
			if was, ok := before[name]; ok {
				lists[name] = was
			}
		}
	}
	return lists, problems
}

// AddToList adds what a file NAME.more.json holds to a list: entries to an array, keys to an
// object.
func AddToList(list, more any) (any, error) { return addTo(list, more) }

func addTo(list, more any) (any, error) {
	switch m := more.(type) {
	case []any:
		old, ok := list.([]any)
		if list == nil || ok {
			return append(slices.Clip(old), m...), nil
		}
	case map[string]any:
		old, ok := list.(map[string]any)
		if list == nil || ok {
			out := make(map[string]any, len(old)+len(m))
			for _, part := range []map[string]any{old, m} {
				for k, v := range part {
					out[k] = v
				}
			}
			return out, nil
		}
	}
	return nil, fmt.Errorf("it is %s, the list is %s", jsonKind(more), jsonKind(list))
}

func jsonKind(v any) string {
	switch v.(type) {
	case []any:
		return "an array"
	case map[string]any:
		return "an object"
	}
	return "neither an array nor an object"
}
