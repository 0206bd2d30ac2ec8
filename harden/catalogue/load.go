package catalogue

import (
	"bytes"
	_ "embed" // The catalogue is part of the program: it must work offline.
	"errors"
	"fmt"
	"io"
	"maps"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"go.yaml.in/yaml/v3"
)

//go:embed catalogue.yaml
var embedded []byte

// Catalogue holds entries by name. It does not change once loaded, so that any number of
// goroutines may ask it.
type Catalogue struct {
	entries   []*Entry
	byName    map[string]*Entry     // key in lower case
	incidents map[string][]Incident // of repositories, OWNER/NAME in lower case
}

// Embedded is the catalogue that is part of the program. It is read once.
func Embedded() (*Catalogue, error) { return readEmbedded() }

var readEmbedded = sync.OnceValues(loadEmbedded)

func loadEmbedded() (*Catalogue, error) {
	c, err := Load(embedded)
	if err != nil {
		return nil, fmt.Errorf("embedded catalogue: %w", err)
	}
	if c.incidents, err = loadIncidents(embeddedIncidents); err != nil {
		return nil, fmt.Errorf("embedded incidents: %w", err)
	}
	for _, e := range c.entries {
		e.Incidents = append(e.Incidents, c.incidents[strings.ToLower(repositoryOf(e.Name))]...)
	}
	return c, nil
}

type document struct {
	Read    string   `yaml:"read"`
	Actions []*Entry `yaml:"actions"`
}

// Load reads a catalogue in YAML. It is strict, since a slip would end as a missing or a
// needless permission in somebody's workflow: an unknown field, scope or access, an entry
// without source or out of order and a condition on nothing are errors, all of which are
// reported at once.
func Load(text []byte) (*Catalogue, error) {
	decoder := yaml.NewDecoder(bytes.NewReader(text))
	decoder.KnownFields(true)
	var doc document
	if err := decoder.Decode(&doc); err != nil {
		return nil, fmt.Errorf("read catalogue: %w", err)
	}
	if err := decoder.Decode(new(document)); !errors.Is(err, io.EOF) {
		return nil, errors.New("read catalogue: more than one document")
	}
	read, err := time.Parse(time.DateOnly, doc.Read)
	if err != nil {
		return nil, fmt.Errorf("read catalogue: day of reading: %w", err)
	}
	if len(doc.Actions) == 0 {
		return nil, errors.New("read catalogue: no actions")
	}

	c := &Catalogue{entries: doc.Actions, byName: make(map[string]*Entry, len(doc.Actions))}
	var wrong []error
	previous := ""
	for i, e := range doc.Actions {
		if e == nil {
			wrong = append(wrong, fmt.Errorf("entry %d is empty", i+1))
			continue
		}
		key := strings.ToLower(e.Name)
		if key <= previous {
			wrong = append(wrong, fmt.Errorf("%s: comes after %s: entries are sorted, each there once", e.Name, previous))
		}
		previous = key
		c.byName[key] = e
		for _, fault := range e.faults() {
			wrong = append(wrong, fmt.Errorf("%s: %s", e.Name, fault))
		}
		for j := range e.Sources {
			e.Sources[j].complete(e.Name, read)
		}
	}
	if len(wrong) > 0 {
		return nil, fmt.Errorf("read catalogue: %w", errors.Join(wrong...))
	}
	return c, nil
}

var (
	nameForm     = regexp.MustCompile(`^[A-Za-z0-9-]+/[A-Za-z0-9_.-]+(/[A-Za-z0-9_.-]+)*$`)
	pathForm     = regexp.MustCompile(`^[A-Za-z0-9_.-]+(/[A-Za-z0-9_.-]+)*$`)
	commitForm   = regexp.MustCompile(`^[0-9a-f]{40}$`)
	inputForm    = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_-]*$`)
	endpointForm = regexp.MustCompile(`^(\*\.)?[a-z0-9-]+(\.[a-z0-9-]+)+(:[0-9]+)?$`)
	pageForm     = regexp.MustCompile(`^https://(docs\.)?github\.com/[^ ?#]+$`)
	runsForm     = regexp.MustCompile(`^(composite|docker|plugin|node[0-9]+)$`)
	commandForm  = regexp.MustCompile("^`[^`]+`$")
	whenForm     = regexp.MustCompile(`^20[0-9]{2}(-(0[1-9]|1[0-2]))?$`)
)

func (e *Entry) faults() []string {
	var f []string
	add := func(format string, args ...any) { f = append(f, fmt.Sprintf(format, args...)) }
	if !nameForm.MatchString(e.Name) {
		add("name is not owner/repo or owner/repo/path")
	}
	if len(e.Sources) == 0 {
		add("no source: a fact needs one")
	}
	for _, s := range e.Sources {
		if s.Page != "" {
			if !pageForm.MatchString(s.Page) || s.Path != "" || s.Commit != "" || s.Repository != "" {
				add("source page %q is no page of GitHub's, or stands beside a path", s.Page)
			}
			continue
		}
		if !pathForm.MatchString(s.Path) || !filepath.IsLocal(s.Path) {
			add("source path %q is no path in a repository", s.Path)
		}
		if !commitForm.MatchString(s.Commit) {
			add("source commit %q is not 40 hex digits", s.Commit)
		}
		if s.Repository != "" && (!nameForm.MatchString(s.Repository) || strings.Count(s.Repository, "/") != 1) {
			add("source repository %q is not owner/repo", s.Repository)
		}
	}
	if e.Runs != "" && !runsForm.MatchString(e.Runs) {
		add("runs %q is nothing that an action can run on", e.Runs)
	}
	if t := e.Token; t != nil {
		if len(t.Inputs)+len(t.Env) == 0 && !t.Always {
			add("token has neither inputs nor env")
		}
		if t.Default && len(t.Inputs) == 0 {
			add("token has a default and no input")
		}
		for _, name := range append(append([]string(nil), t.Inputs...), t.Env...) {
			if !inputForm.MatchString(name) {
				add("token comes by %q, which is no name", name)
			}
		}
	}
	for _, n := range e.Needs {
		for _, fault := range n.faults() {
			add("%s: %s", n.Scope, fault)
		}
		if n.By != "" && (e.Token == nil || !slices.Contains(e.Token.Inputs, n.By)) {
			add("%s: by %q, which takes no token", n.Scope, n.By)
		}
		if !n.Bypass && e.Token == nil {
			add("%s: no token reaches the action, and the need does not go by another road", n.Scope)
		}
	}
	for _, host := range e.Endpoints {
		if !endpointForm.MatchString(host) {
			add("endpoint %q is not HOST or *.HOST with an optional port", host)
		}
	}
	if e.ReplacedBy != "" && !nameForm.MatchString(e.ReplacedBy) {
		add("replaced_by %q is no action", e.ReplacedBy)
	}
	for _, r := range e.Safer {
		if !nameForm.MatchString(r.Use) && !commandForm.MatchString(r.Use) {
			add("safer: %q is neither an action nor a command in backquotes", r.Use)
		}
		if r.Why == "" {
			add("safer: %s does not say why", r.Use)
		}
		if !pageForm.MatchString(r.Page) {
			add("safer: %s: its source %q is no page of GitHub's", r.Use, r.Page)
		}
	}
	for _, in := range e.Incidents {
		for _, fault := range in.faults() {
			add("incident %s: %s", in.ID, fault)
		}
	}
	return f
}

func (n Need) faults() []string {
	var f []string
	if limit, ok := scopes[n.Scope]; !ok {
		f = append(f, "unknown scope")
	} else if n.Access < limit.least || n.Access > limit.most {
		f = append(f, fmt.Sprintf("access %s is not one that the scope has", n.Access))
	}
	if n.Private && n.Access != Read {
		f = append(f, "private, but writes: a public repository is not written by all")
	}
	if n.Basis != Stated && n.Basis != Derived {
		f = append(f, fmt.Sprintf("basis %q is neither %s nor %s", n.Basis, Stated, Derived))
	}
	for _, c := range n.When {
		given := 0
		for _, is := range []bool{c.Is != nil, c.Not != nil, c.Contains != nil, c.Set != nil} {
			if is {
				given++
			}
		}
		if given != 1 || !inputForm.MatchString(c.Input) {
			f = append(f, fmt.Sprintf("condition on %q: give an input and one of is, not, contains, set", c.Input))
		}
		if c.Contains != nil && *c.Contains == "" {
			f = append(f, fmt.Sprintf("condition on %q: everything contains nothing", c.Input))
		}
	}
	return f
}

func (s *Source) complete(name string, read time.Time) {
	s.Read = read
	if s.Page != "" {
		s.URL = s.Page
		return
	}
	repository := s.Repository
	if repository == "" {
		parts := strings.SplitN(name, "/", 3)
		if len(parts) < 2 {
			return // Reported as a fault of the name.
		}
		repository = parts[0] + "/" + parts[1]
	}
	s.URL = "https://github.com/" + repository + "/blob/" + s.Commit + "/" + s.Path
}

// Over gives a catalogue of both, in which an entry of c takes the place of base's of the
// same name: an organisation's own file over the one in the program. Neither changes.
func (c *Catalogue) Over(base *Catalogue) *Catalogue {
	both := &Catalogue{byName: maps.Clone(base.byName), incidents: base.incidents}
	maps.Copy(both.byName, c.byName)
	for _, name := range slices.Sorted(maps.Keys(both.byName)) {
		both.entries = append(both.entries, both.byName[name])
	}
	return both
}

// Entries gives all entries in the order of their names. The caller must not change them.
func (c *Catalogue) Entries() []*Entry { return c.entries }

// Lookup finds the entry for uses, as it stands in a step: with or without @ref, in any
// case. Local actions and images are never there.
func (c *Catalogue) Lookup(uses string) (*Entry, bool) {
	name, _, _ := strings.Cut(strings.TrimSpace(uses), "@")
	e, ok := c.byName[strings.ToLower(strings.TrimSuffix(name, "/"))]
	return e, ok
}
