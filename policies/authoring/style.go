package authoring

import (
	"strings"
	"unicode/utf8"

	"github.com/open-policy-agent/opa/v1/ast"
)

// maxLine is how long a line may be by OPA's style guide, in characters. Longer ones are
// only told of where the formatter could not have made them.
const maxLine = 120

// style says where a file goes against OPA's style guide
// (https://www.openpolicyagent.org/docs/style-guide). OPA's strict mode finds unused
// imports, variables and arguments, and shadowed ones; these are what it does not look at.
func style(name string, m *ast.Module) []Problem {
	var out []Problem
	say := func(at *ast.Location, rule, message string) {
		p := Problem{File: name, Rule: rule, Message: message}
		if at != nil {
			p.Line, p.Column = at.Row, at.Col
		}
		out = append(out, p)
	}
	for _, r := range m.Rules {
		styleOfRule(r, isTest(m), say)
	}
	for _, c := range m.Comments {
		if text := string(c.Text); utf8.RuneCountInString(text) > maxLine {
			say(c.Location, "line_length", "the comment is longer than 120 characters")
		}
	}
	return out
}

type sayer func(at *ast.Location, rule, message string)

func styleOfRule(r *ast.Rule, test bool, say sayer) {
	name := r.Head.Name.String()
	if name != "" && !identifier.MatchString(name) {
		say(r.Location, "snake_case", "rule "+name+": names are written in snake_case")
	}
	for _, prefix := range []string{"get_", "list_", "is_"} {
		if strings.HasPrefix(name, prefix) {
			say(r.Location, "prefix", "rule "+name+": rules and functions are named for what they hold, without "+prefix)
		}
	}
	if strings.HasPrefix(name, "todo_test_") {
		say(r.Location, "todo_test", "test "+name+" is never run")
	}
	if strings.HasPrefix(name, "test_") && !test {
		say(r.Location, "test_outside_test_package", "test "+name+" is not in a package whose name ends in _test")
	}
	ast.WalkExprs(r, func(x *ast.Expr) bool {
		styleOfExpression(x, say)
		return false
	})
	ast.WalkVars(r, func(v ast.Var) bool {
		if !v.IsGenerated() && !v.IsWildcard() && !identifier.MatchString(string(v)) {
			say(r.Location, "snake_case", "variable "+string(v)+": names are written in snake_case")
		}
		return false
	})
}

// patterns are functions whose first argument is a regular expression.
var patterns = map[string]bool{"regex.match": true, "regex.replace": false, "regex.split": true, "regex.find_n": true, "regex.find_all_string_submatch_n": true}

func styleOfExpression(x *ast.Expr, say sayer) {
	terms, ok := x.Terms.([]*ast.Term)
	if !ok {
		// OPA puts true where a rule has no body; then the text is the rule's.
		if t, ok := x.Terms.(*ast.Term); ok && constant(t) && x.Location != nil && string(x.Location.Text) == t.String() {
			say(x.Location, "constant_condition", "the condition "+t.String()+" does not depend on anything")
		}
		return
	}
	if !x.IsCall() {
		return
	}
	switch operator := x.Operator().String(); {
	case operator == "eq" && x.Location != nil && !strings.Contains(string(x.Location.Text), ":=") && strings.Contains(string(x.Location.Text), " = "):
		say(x.Location, "unification", "= unifies: write == to compare and := to assign")
	case operator == "print":
		say(x.Location, "print", "a call of print was left in")
	case operator == "equal" && constant(terms[1]) && constant(terms[2]):
		say(x.Location, "constant_condition", "the comparison does not depend on anything")
	case patterns[operator] && len(terms) > 1:
		if s, ok := terms[1].Value.(ast.String); ok && strings.Contains(string(s), `\`) && !strings.Contains(string(s), "`") && terms[1].Location != nil && strings.HasPrefix(string(terms[1].Location.Text), `"`) {
			say(x.Location, "raw_string", "write a regular expression as a raw string, in backquotes")
		}
	}
}

func constant(t *ast.Term) bool {
	switch t.Value.(type) {
	case ast.Boolean, ast.Number, ast.String, ast.Null:
		return true
	}
	return false
}
