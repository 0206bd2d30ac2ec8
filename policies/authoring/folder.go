package authoring

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/agnivade/levenshtein"
	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/sallyport-ci/sallyport/detector"
	"github.com/sallyport-ci/sallyport/policies"
)

// Problem is something that is wrong with a file.
type Problem struct {
	// File as the caller named it.
	File string `json:"file"`
	// Line and Column, from 1; 0 if the problem is the whole file's.
	Line   int `json:"line"`
	Column int `json:"column"`
	// Rule that it breaks, for instance "metadata" or "rego_type_error".
	Rule string `json:"rule"`
	// Message for people.
	Message string `json:"message"`
}

// String is the problem in one line, as editors understand it.
func (p Problem) String() string {
	where := p.File
	if p.Line > 0 {
		where = fmt.Sprintf("%s:%d:%d", p.File, p.Line, max(p.Column, 1))
	}
	return fmt.Sprintf("%s: %s [%s]", where, p.Message, p.Rule)
}

// Sources are policies as their author wrote them, and what is compiled with them.
type Sources struct {
	// Files are the author's .rego files that could be parsed, by name.
	Files map[string]*ast.Module
	// Text of the author's .rego files, by name.
	Text map[string][]byte
	// Scenarios are texts of scenario scripts, by name.
	Scenarios map[string]string
	// Problems of files that could not be used.
	Problems []Problem

	// Exceptions that could be read.
	Exceptions []*detector.Exception

	beside map[string]*ast.Module // what is built in, without what the author replaces
	lists  map[string]any
	more   map[string][]any // what is added to lists
}

// BuiltIn are the policies that are compiled into the program.
func BuiltIn() (*Sources, error) {
	s := newSources()
	if err := s.addFolder(policies.FS, "policies"); err != nil {
		return nil, err
	}
	return s, nil
}

// Read reads policies from files and folders: *.rego, data/*.json, exceptions/*.yaml, and
// scenarios in *.txt below a folder scenarios or named by themselves. What cannot be used is a problem; an
// error means that a path could not be read at all.
func Read(paths ...string) (*Sources, error) {
	s := newSources()
	for _, name := range paths {
		info, err := os.Stat(name)
		if err != nil {
			return nil, fmt.Errorf("read policies: %w", err)
		}
		if info.IsDir() {
			err = s.addFolder(os.DirFS(name), filepath.Clean(name))
		} else {
			var data []byte
			if data, err = os.ReadFile(name); err == nil {
				s.add(name, data, isList(filepath.ToSlash(name)), filepath.Ext(name) == ".txt")
			}
		}
		if err != nil {
			return nil, fmt.Errorf("read policies: %w", err)
		}
	}
	built, err := BuiltIn()
	if err != nil {
		return nil, err
	}
	for name, list := range built.lists {
		if _, replaced := s.lists[name]; !replaced {
			s.lists[name] = list
		}
	}
	for name, more := range s.more {
		for _, m := range more {
			list, err := detector.AddToList(s.lists[name], m)
			if err != nil {
				s.Problems = append(s.Problems, Problem{File: "data/" + name + ".more.json", Rule: "list", Message: err.Error()})
				continue
			}
			s.lists[name] = list
		}
	}
	own := make(map[string]bool)
	for _, m := range s.Files {
		own[unit(m)] = true
	}
	for name, m := range built.Files {
		if !own[unit(m)] {
			s.beside["built in/"+name] = m
		}
	}
	if len(s.Text)+len(s.Scenarios)+len(s.Exceptions)+len(s.Problems)+len(s.more) == 0 {
		return nil, fmt.Errorf("read policies: there is nothing of policies in %s", strings.Join(paths, ", "))
	}
	return s, nil
}

func newSources() *Sources {
	return &Sources{
		Files: make(map[string]*ast.Module), Text: make(map[string][]byte), Scenarios: make(map[string]string),
		beside: make(map[string]*ast.Module), lists: make(map[string]any), more: make(map[string][]any),
	}
}

func isList(name string) bool {
	return path.Base(path.Dir(name)) == "data" && path.Ext(name) == ".json"
}

// isExceptions says whether a file holds exceptions.
func isExceptions(name string) bool {
	name = filepath.ToSlash(name)
	return path.Base(path.Dir(name)) == "exceptions" && slices.Contains([]string{".yaml", ".yml", ".json"}, path.Ext(name))
}

// exceptionProblem takes "read exceptions NAME:LINE: MESSAGE" apart.
func exceptionProblem(name string, err error) Problem {
	p := Problem{File: name, Rule: "exception", Message: strings.TrimPrefix(err.Error(), "read exceptions "+name)}
	if rest, ok := strings.CutPrefix(p.Message, ":"); ok {
		if line, message, ok := strings.Cut(rest, ": "); ok {
			if n, err := strconv.Atoi(line); err == nil {
				p.Line, p.Column, p.Message = n, 1, message
			}
		}
	}
	p.Message = strings.TrimPrefix(p.Message, ": ")
	return p
}

func (s *Sources) addFolder(folder fs.FS, name string) error {
	return fs.WalkDir(folder, ".", func(file string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		list := path.Dir(file) == "data" && path.Ext(file) == ".json"
		scenario := path.Ext(file) == ".txt" && slices.Contains(strings.Split(path.Dir(file), "/"), "scenarios")
		if path.Ext(file) != ".rego" && !list && !scenario && !isExceptions(file) {
			return nil
		}
		data, err := fs.ReadFile(folder, file)
		if err != nil {
			return err
		}
		s.add(path.Join(filepath.ToSlash(name), file), data, list, scenario)
		return nil
	})
}

func (s *Sources) add(name string, data []byte, list, scenario bool) {
	switch {
	case isExceptions(name):
		exceptions, wrong, err := detector.ParseExceptions(name, data)
		s.Exceptions = append(s.Exceptions, exceptions...)
		if err != nil {
			wrong = append(wrong, err)
		}
		for _, w := range wrong {
			s.Problems = append(s.Problems, exceptionProblem(name, w))
		}
	case list:
		var value any
		if err := json.Unmarshal(data, &value); err != nil {
			s.Problems = append(s.Problems, jsonProblem(name, data, err))
			return
		}
		list := strings.TrimSuffix(path.Base(filepath.ToSlash(name)), ".json")
		if base, more := strings.CutSuffix(list, ".more"); more {
			s.more[base] = append(s.more[base], value)
		} else {
			s.lists[list] = value
		}
	case scenario:
		s.Scenarios[name] = string(data)
	default:
		s.Text[name] = data
		m, err := ast.ParseModuleWithOpts(name, string(data), ast.ParserOptions{ProcessAnnotation: true, RegoVersion: ast.RegoV1})
		switch {
		case err != nil:
			s.Problems = append(s.Problems, problems(name, "parse", err)...)
		case m == nil:
			s.Problems = append(s.Problems, Problem{File: name, Rule: "parse", Message: "the file is empty"})
		default:
			s.Files[name] = m
		}
	}
}

// jsonProblem says where in a list the error is.
func jsonProblem(name string, data []byte, err error) Problem {
	p := Problem{File: name, Rule: "parse", Message: "read list: " + err.Error()}
	var syntax *json.SyntaxError
	if errors.As(err, &syntax) {
		before := string(data[:min(int(syntax.Offset), len(data))])
		p.Line = 1 + strings.Count(before, "\n")
		p.Column = len(before) - strings.LastIndexByte(before, '\n') - 1
	}
	return p
}

// problems takes OPA's errors apart.
func problems(file, rule string, err error) []Problem {
	var all ast.Errors
	if !errors.As(err, &all) {
		return []Problem{{File: file, Rule: rule, Message: err.Error()}}
	}
	var out []Problem
	for _, e := range all {
		p := Problem{File: file, Rule: e.Code, Message: e.Message}
		if e.Location != nil {
			p.File, p.Line, p.Column = e.Location.File, e.Location.Row, e.Location.Col
		}
		if d, ok := e.Details.(*ast.RefErrInvalidDetail); ok && len(d.OneOf) > 0 {
			p.Message += "; did you mean " + nearest(d) + "?"
		} else if e.Details != nil {
			if lines := e.Details.Lines(); len(lines) > 0 {
				p.Message += ": " + strings.Join(strings.Fields(strings.Join(lines, " ")), " ")
			}
		}
		out = append(out, p)
	}
	return out
}

// nearest is the field that somebody may have meant.
func nearest(d *ast.RefErrInvalidDetail) string {
	have, _ := ast.JSON(d.Ref[d.Pos].Value)
	written := fmt.Sprint(have)
	fields := make([]string, len(d.OneOf))
	for i, v := range d.OneOf {
		field, _ := ast.JSON(v)
		fields[i] = fmt.Sprint(field)
	}
	return slices.MinFunc(fields, func(a, b string) int {
		return cmp.Or(levenshtein.ComputeDistance(written, a)-levenshtein.ComputeDistance(written, b), strings.Compare(a, b))
	})
}

// unit is what a file belongs to: the package without the _test of its tests. An author's
// unit replaces the one that is built in.
func unit(m *ast.Module) string { return strings.TrimSuffix(m.Package.Path.String(), "_test") }

// isTest says whether a module holds tests.
func isTest(m *ast.Module) bool { return strings.HasSuffix(m.Package.Path.String(), "_test") }

// policyOf is the identity of the policy that a module belongs to; empty for what policies share.
func policyOf(m *ast.Module) string {
	id, ok := strings.CutPrefix(unit(m), detector.PolicyPackage)
	if !ok {
		return ""
	}
	id, _, _ = strings.Cut(id, ".")
	return id
}

// policies are the author's policies with their modules, tests apart.
func (s *Sources) policies() map[string]map[string]*ast.Module {
	out := make(map[string]map[string]*ast.Module)
	for name, m := range s.Files {
		id := policyOf(m)
		if id == "" || isTest(m) {
			continue
		}
		if out[id] == nil {
			out[id] = make(map[string]*ast.Module)
		}
		out[id][name] = m
	}
	return out
}

// modules are all modules to compile, as copies.
func (s *Sources) modules() map[string]*ast.Module {
	out := make(map[string]*ast.Module, len(s.Files)+len(s.beside))
	for name, m := range s.beside {
		out[name] = m.Copy()
	}
	for name, m := range s.Files {
		out[name] = m.Copy()
	}
	return out
}
