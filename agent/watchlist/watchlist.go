// Package watchlist says which files matter, and why.
package watchlist

import (
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"
)

// Rule names files that matter for one reason. Patterns are the last names of a
// path: ".aws/credentials" is that file in any folder. A leading slash is for the
// reader only: in a container the file lies deeper on the machine. A star stands for
// any part of one name (path.Match).
type Rule struct {
	// Name of the rule, for instance "aws_credentials".
	Name string `json:"name"`
	// Category groups rules: "credential", "runner", "persistence", "steering".
	Category string `json:"category"`
	// Read are patterns of files whose reading matters.
	Read []string `json:"read,omitempty"`
	// Write are patterns of files whose changing matters.
	Write []string `json:"write,omitempty"`
	// Folders are paths of folders of the machine: what comes into them or leaves
	// them matters, and in those of a file system in memory reads and writes, too.
	Folders []string `json:"folders,omitempty"`
	// Except are names of programs below /usr or /bin that do this every day.
	Except []string `json:"except,omitempty"`
}

// Name is what is told to the kernel, which compares single names.
type Name struct {
	// Text is the name of a file, or with Folder that of the folder it is in.
	Text   string
	Folder bool
	Write  bool
}

// List is a set of rules. It does not change once made.
type List struct {
	rules []Rule
	read  map[string][]pattern // by their last name, "" if the kernel cannot compare that
	write map[string][]pattern
}

type pattern struct {
	names []string // last first
	rule  *Rule
}

//go:embed default.json
var defaults []byte

// MaxName is how long, in bytes, a name may be that the kernel compares.
const MaxName = 31

// Default returns the built-in rules.
func Default() *List {
	l, err := Parse(strings.NewReader(string(defaults)), nil)
	if err != nil {
		panic(err) // a test reads them
	}
	return l
}

// Load returns the built-in rules with those of a file on top of them; without a
// file the built-in ones alone.
func Load(file string) (*List, error) {
	base := Default()
	if file == "" {
		return base, nil
	}
	f, err := os.Open(file)
	if err != nil {
		return nil, fmt.Errorf("read watch list: %w", err)
	}
	defer func() { _ = f.Close() }()
	l, err := Parse(f, base)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	return l, nil
}

// Parse reads rules as JSON, an array of Rule, and puts them on top of base (which may
// be nil): each replaces the rule of its name there or, with no patterns and no
// folders, takes it away.
// The error names the rule and the pattern.
func Parse(r io.Reader, base *List) (*List, error) {
	decoder := json.NewDecoder(r)
	decoder.DisallowUnknownFields()
	var rules []Rule
	if err := decoder.Decode(&rules); err != nil {
		return nil, fmt.Errorf("read watch list: %w", err)
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("read watch list: something follows the array of rules")
	}
	l := &List{read: map[string][]pattern{}, write: map[string][]pattern{}}
	if base != nil {
		l.rules = slices.Clone(base.rules)
	}
	for _, rule := range rules {
		if rule.Name == "" || rule.Category == "" {
			return nil, errors.New("read watch list: a rule has no name or no category")
		}
		l.rules = slices.DeleteFunc(l.rules, func(old Rule) bool { return old.Name == rule.Name })
		if len(rule.Read)+len(rule.Write)+len(rule.Folders) > 0 {
			l.rules = append(l.rules, rule)
		}
	}
	for i := range l.rules {
		rule := &l.rules[i]
		if err := errors.Join(enter(l.read, rule.Read, rule), enter(l.write, rule.Write, rule)); err != nil {
			return nil, fmt.Errorf("read watch list: rule %s: %w", rule.Name, err)
		}
		for _, folder := range rule.Folders {
			if !path.IsAbs(folder) {
				return nil, fmt.Errorf("read watch list: rule %s: folder %q is not an absolute path", rule.Name, folder)
			}
		}
	}
	return l, nil
}

func enter(into map[string][]pattern, patterns []string, rule *Rule) error {
	for _, text := range patterns {
		names := strings.Split(strings.Trim(text, "/"), "/")
		slices.Reverse(names)
		for _, name := range names {
			if _, err := path.Match(name, "x"); err != nil || name == "" {
				return fmt.Errorf("pattern %q is malformed", text)
			}
		}
		key := names[0]
		if !comparable(key) {
			if len(names) < 2 || !comparable(names[1]) {
				return fmt.Errorf("pattern %q: the kernel compares names of at most %d bytes without a star: the last name or the one before must be one", text, MaxName)
			}
			key = ""
		}
		into[key] = append(into[key], pattern{names, rule})
	}
	return nil
}

func comparable(name string) bool {
	return len(name) <= MaxName && !strings.ContainsAny(name, `*?[\`)
}

// Names returns what the kernel is to look for, ordered, each once.
func (l *List) Names() []Name {
	var names []Name
	for write, side := range map[bool]map[string][]pattern{false: l.read, true: l.write} {
		for key, patterns := range side {
			for _, p := range patterns {
				n := Name{Text: key, Write: write}
				if key == "" {
					n.Text, n.Folder = p.names[1], true
				}
				names = append(names, n)
			}
		}
	}
	slices.SortFunc(names, func(a, b Name) int {
		return strings.Compare(fmt.Sprint(a.Text, "/", a.Folder, a.Write), fmt.Sprint(b.Text, "/", b.Folder, b.Write))
	})
	return slices.Compact(names)
}

// Folder is a folder or file to be watched, and the rule by which it is.
type Folder struct {
	Path string
	Rule *Rule
}

// Folders returns the folders of all rules.
func (l *List) Folders() (all []Folder) {
	for i := range l.rules {
		for _, f := range l.rules[i].Folders {
			all = append(all, Folder{path.Clean(f), &l.rules[i]})
		}
	}
	return all
}

// Readable returns the files that there are now whose reading matters, below a home
// folder and, of patterns with a leading slash, below the root.
func (l *List) Readable(home string) (all []Folder) {
	for i := range l.rules {
		for _, text := range l.rules[i].Read {
			top := home
			if path.IsAbs(text) {
				top, text = "/", text[1:]
			}
			found, err := fs.Glob(os.DirFS(top), text)
			if err != nil {
				continue // folders that cannot be read are passed over, and patterns were checked
			}
			for _, name := range found {
				all = append(all, Folder{path.Join(top, name), &l.rules[i]})
			}
		}
	}
	return all
}

// Match returns the first rule that a file's path matches when a program (the path
// of its executable) reads or writes it, or nil.
func (l *List) Match(file, program string, write bool) *Rule {
	side := l.read
	if write {
		side = l.write
	}
	names := strings.Split(strings.TrimPrefix(file, "/"), "/")
	slices.Reverse(names)
	for _, key := range []string{names[0], ""} {
		for _, p := range side[key] {
			if p.matches(names) && !p.rule.Excepts(program) {
				return p.rule
			}
		}
	}
	return nil
}

func (p pattern) matches(names []string) bool {
	if len(p.names) > len(names) {
		return false
	}
	for i, name := range p.names {
		if ok, err := path.Match(name, names[i]); !ok || err != nil {
			return false
		}
	}
	return true
}

// Excepts says whether a program does every day what the rule is about.
func (r *Rule) Excepts(program string) bool {
	return (strings.HasPrefix(program, "/usr/") || strings.HasPrefix(program, "/bin/")) && slices.Contains(r.Except, path.Base(program))
}
