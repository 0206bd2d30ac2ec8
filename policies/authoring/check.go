package authoring

import (
	"bytes"
	"cmp"
	"fmt"
	"maps"
	"path"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/format"

	"github.com/sallyport-ci/sallyport/detector"
)

// technique is the form of a MITRE ATT&CK technique.
var technique = regexp.MustCompile(`^T\d{4}(\.\d{3})?$`)

// identifier is the form of a policy's identity, and of every name by OPA's style guide.
var identifier = regexp.MustCompile(`^_?[a-z][a-z0-9_]*$`)

// Check returns what is wrong with the author's files, ordered by file and line: what would
// keep the detector from loading them, what OPA's strict mode refuses, metadata that is
// missing, policies without tests, and what OPA's style guide advises against.
// Exceptions that have expired by now are a problem, too: their owners have to look.
func (s *Sources) Check(now time.Time) ([]Problem, error) {
	out := slices.Clone(s.Problems)
	for _, e := range s.Exceptions {
		if !now.Before(e.Until) {
			out = append(out, Problem{File: e.File, Line: e.Line, Column: 1, Rule: "expired", Message: fmt.Sprintf("the exception of %s from policy %s has expired: %s", e.Owner, e.Policy, e.Reason)})
		}
	}
	c, err := detector.NewCompiler()
	if err != nil {
		return nil, err
	}
	c = c.WithStrict(true).SetErrorLimit(0)
	// Once with all that is beside; what is built in stands in nobody's files.
	if c.Compile(s.modules()); c.Failed() {
		out = append(out, problems("", "compile", c.Errors)...)
	}
	for _, name := range slices.Sorted(maps.Keys(s.Files)) {
		m := s.Files[name]
		out = append(out, s.formatted(name)...)
		out = append(out, style(name, m)...)
	}
	byPolicy := s.policies()
	for _, id := range slices.Sorted(maps.Keys(byPolicy)) {
		out = append(out, s.policy(id, byPolicy[id])...)
	}
	out = slices.DeleteFunc(out, func(p Problem) bool { return strings.HasPrefix(p.File, "built in/") })
	slices.SortStableFunc(out, func(a, b Problem) int {
		return cmp.Or(strings.Compare(a.File, b.File), a.Line-b.Line, a.Column-b.Column, strings.Compare(a.Message, b.Message))
	})
	return slices.Compact(out), nil
}

// Format returns what the file would be by OPA's formatter, and whether it is so already.
func Format(name string, text []byte) (formatted []byte, same bool, err error) {
	formatted, err = format.SourceWithOpts(name, text, format.Opts{RegoVersion: ast.RegoV1})
	if err != nil {
		return nil, false, fmt.Errorf("format %s: %w", name, err)
	}
	return formatted, bytes.Equal(formatted, text), nil
}

func (s *Sources) formatted(name string) []Problem {
	formatted, same, err := Format(name, s.Text[name])
	switch {
	case err != nil:
		return problems(name, "format", err)
	case same:
		return nil
	}
	line := 1
	for a, b := range pairs(bytes.Split(s.Text[name], []byte("\n")), bytes.Split(formatted, []byte("\n"))) {
		if !bytes.Equal(a, b) {
			break
		}
		line++
	}
	return []Problem{{File: name, Line: line, Column: 1, Rule: "format", Message: "not formatted; sallyport policy fmt --write does it"}}
}

func pairs(a, b [][]byte) func(func(x, y []byte) bool) {
	return func(yield func(x, y []byte) bool) {
		for i := range min(len(a), len(b)) {
			if !yield(a[i], b[i]) {
				return
			}
		}
	}
}

// policy checks what belongs to one policy.
func (s *Sources) policy(id string, modules map[string]*ast.Module) []Problem {
	names := slices.Sorted(maps.Keys(modules))
	name := names[0]
	var about *ast.Annotations
	rule := false
	for _, n := range names {
		for _, a := range modules[n].Annotations {
			if a.Scope == "package" && about == nil {
				about, name = a, n
			}
		}
		for _, r := range modules[n].Rules {
			rule = rule || (r.Head.Name == "violation" || r.Head.Ref().String() == "violation") && r.Head.RuleKind() == ast.MultiValue
		}
	}
	line, column := 1, 1
	if about != nil && about.Location != nil {
		line, column = about.Location.Row, about.Location.Col
	}
	var out []Problem
	say := func(rule, format string, args ...any) {
		out = append(out, Problem{File: name, Line: line, Column: column, Rule: rule, Message: fmt.Sprintf(format, args...)})
	}
	if !identifier.MatchString(id) {
		say("policy", "the policy's identity %q is not of the form snake_case", id)
	}
	if !rule {
		say("policy", "there is no rule `violation contains message if { ... }`")
	}
	if about == nil {
		say("metadata", "there is no METADATA with scope: package (title, description; custom: severity, class, kinds, technique, remediation)")
	} else {
		if _, err := detector.Describe(id, modules); err != nil {
			_, what, _ := strings.Cut(err.Error(), "custom.")
			say("metadata", "custom.%s", what)
		}
		text := func(key string) string { t, _ := about.Custom[key].(string); return strings.TrimSpace(t) }
		for _, missing := range []struct{ key, value string }{
			{"title", about.Title}, {"description", about.Description}, {"custom.remediation", text("remediation")}, {"custom.class", text("class")},
		} {
			if strings.TrimSpace(missing.value) == "" {
				say("metadata", "%s is missing", missing.key)
			}
		}
		if about.Custom["kinds"] == nil {
			say("metadata", "custom.kinds is missing: the policy would be evaluated for every behaviour; for instance [egress, exec]")
		}
		if t := text("technique"); !technique.MatchString(t) {
			say("metadata", "custom.technique %q is no MITRE ATT&CK technique such as T1041 or T1003.007", t)
		}
		if !slices.ContainsFunc(about.Schemas, func(a *ast.SchemaAnnotation) bool { return a.Schema.String() == "schema.policy_input" }) {
			say("schema", "without the annotation `schemas: [{input: schema.policy_input}]` a misspelt field of the input is not found")
		}
	}
	tested := slices.ContainsFunc(slices.Collect(maps.Values(s.Files)), func(m *ast.Module) bool {
		return isTest(m) && policyOf(m) == id && slices.ContainsFunc(m.Rules, func(r *ast.Rule) bool { return strings.HasPrefix(r.Head.Name.String(), "test_") })
	})
	if !tested {
		say("tests", "there are no tests: a file %s_test.rego with package %s and rules test_...", id, strings.TrimPrefix(detector.PolicyPackage, "data.")+id+"_test")
	}
	if own := path.Base(path.Dir("./" + name)); len(modules) == 1 && path.Base(name) != id+".rego" {
		say("policy", "the file of policy %s in folder %s is not called %s.rego", id, own, id)
	}
	return out
}
