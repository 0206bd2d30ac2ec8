package routes

import (
	_ "embed" // The table is part of the program: it must work offline.
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/sallyport-ci/sallyport/harden/catalogue"
)

//go:embed operations.txt
var operationsText string

//go:embed permissions.txt
var permissionsText string

// Table knows what calls need. It does not change, so that any number of goroutines may ask it.
type Table struct {
	rules []rule
	names map[string]Call
}

// Call is a method and a path, which may have {parameters}.
type Call struct{ Method, Path string }

// String is the call as documentation writes it.
func (c Call) String() string { return c.Method + " " + c.Path }

// Need is what a call needs.
type Need struct {
	// Scope that it needs; empty if it needs none.
	Scope  catalogue.Scope
	Access catalogue.Access
	// Never says that no job's token may make the call.
	Never bool
}

type rule struct {
	methods []string // any if there are none
	parts   []string
	need    Need
}

// Embedded is the table that is part of the program. It is read once.
func Embedded() (*Table, error) { return embedded() }

var embedded = sync.OnceValues(read)

func read() (*Table, error) {
	t := &Table{names: make(map[string]Call)}
	for n, line := range lines(permissionsText) {
		r, err := parseRule(line)
		if err != nil {
			return nil, fmt.Errorf("permissions.txt: rule %d: %w", n+1, err)
		}
		t.rules = append(t.rules, r)
	}
	for n, line := range lines(operationsText) {
		f := strings.Fields(line)
		if len(f) != 3 {
			return nil, fmt.Errorf("operations.txt: operation %d: %q is no method, path and name", n+1, line)
		}
		t.names[octokitName(f[2])] = Call{f[0], f[1]}
	}
	return t, nil
}

func lines(text string) (out []string) {
	for l := range strings.Lines(text) {
		if l = strings.TrimSpace(l); l != "" && l[0] != '#' {
			out = append(out, l)
		}
	}
	return out
}

func parseRule(line string) (rule, error) {
	f := strings.Fields(line)
	if len(f) < 3 || !strings.HasPrefix(f[1], "/") {
		return rule{}, fmt.Errorf("%q has no methods, path and scope", line)
	}
	r := rule{parts: split(f[1])}
	if f[0] != "-" {
		r.methods = strings.Split(f[0], ",")
	}
	switch {
	case f[2] == "none" && len(f) == 3:
	case f[2] == "never" && len(f) == 3:
		r.need.Never = true
	case len(f) == 4 && (f[3] == "read" || f[3] == "write"):
		r.need.Scope, r.need.Access = catalogue.Scope(f[2]), catalogue.Read
		if f[3] == "write" {
			r.need.Access = catalogue.Write
		}
		if !r.need.Scope.Allows(r.need.Access) {
			return rule{}, fmt.Errorf("%q: there is no such permission", line)
		}
	default:
		return rule{}, fmt.Errorf("%q: %q is no scope and access", line, strings.Join(f[2:], " "))
	}
	return r, nil
}

func split(path string) []string {
	path, _, _ = strings.Cut(path, "?")
	return strings.FieldsFunc(path, func(r rune) bool { return r == '/' })
}

// octokitName is how octokit names an operation: issues/create-comment is issues.createComment.
func octokitName(id string) string {
	group, name, _ := strings.Cut(id, "/")
	return camel(group) + "." + camel(name)
}

func camel(s string) string {
	parts := strings.FieldsFunc(s, func(r rune) bool { return r == '-' || r == '_' })
	for i := range parts {
		if i > 0 {
			parts[i] = strings.ToUpper(parts[i][:1]) + parts[i][1:]
		}
	}
	return strings.Join(parts, "")
}

// Named finds a call by octokit's name for it, such as pulls.list.
func (t *Table) Named(name string) (Call, bool) {
	c, ok := t.names[name]
	return c, ok
}

// For says what a call needs; false if that is not known. The path is that of the interface,
// /repos/OWNER/NAME/…, with or without a query; whatever stands for a part may be in its place.
func (t *Table) For(c Call) (Need, bool) {
	parts := split(c.Path)
	method := strings.ToUpper(c.Method)
	if len(parts) == 0 {
		return Need{}, false
	}
	switch parts[0] {
	case "search", "rate_limit", "meta":
		return Need{}, method == "GET"
	case "repos":
	default:
		return Need{}, false
	}
	if len(parts) < 3 {
		return Need{}, false
	}
	parts = parts[3:]
	best := -1
	var need Need
	for _, r := range t.rules {
		if len(r.methods) > 0 && !slices.Contains(r.methods, method) || len(r.parts) <= best || !begins(parts, r.parts) {
			continue
		}
		best, need = len(r.parts), r.need
	}
	return need, best >= 0 && (best > 0 || len(parts) == 0)
}

func begins(parts, with []string) bool {
	if len(parts) < len(with) {
		return false
	}
	for i, w := range with {
		if w != "*" && w != parts[i] {
			return false
		}
	}
	return true
}

// Form is the path of a call with parameters in the place of what differs from run to run, as
// GitHub's description names it; the path itself if GitHub describes none such.
func (t *Table) Form(c Call) string {
	parts := split(c.Path)
	best, fixed := "", -1
	for _, known := range t.names {
		if known.Method != strings.ToUpper(c.Method) {
			continue
		}
		form := split(known.Path)
		if n := fits(parts, form); n > fixed {
			best, fixed = known.Path, n
		}
	}
	if best == "" {
		return "/" + strings.Join(parts, "/")
	}
	return best
}

// fits counts the parts that a path and a form have in common; -1 if it is not of the form.
func fits(parts, form []string) (n int) {
	if len(parts) < len(form) || len(parts) > len(form) && form[len(form)-1] != "{path}" && form[len(form)-1] != "{ref}" && form[len(form)-1] != "{basehead}" {
		return -1
	}
	for i, f := range form {
		switch {
		case f == parts[i]:
			n++
		case !strings.HasPrefix(f, "{"):
			return -1
		}
	}
	return n
}
