package authoring

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestBuiltInIsWellWritten holds the built-in policies to what users' are held to.
func TestBuiltInIsWellWritten(t *testing.T) {
	s, err := BuiltIn()
	if err != nil {
		t.Fatal(err)
	}
	found, err := s.Check(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range found {
		t.Error(p)
	}
	if len(s.Files) < 70 {
		t.Errorf("only %d files", len(s.Files))
	}
}

const good = `# METADATA
# title: Mine
# description: Something.
# scope: package
# schemas:
#   - input: schema.policy_input
# custom:
#   class: threat
#   kinds: [egress]
#   severity: low
#   technique: T1041
#   remediation: Look.
package sallyport.policies.mine

violation contains "x" if input.behaviour.domain == "a.example.test"
`

const goodTest = `package sallyport.policies.mine_test

import data.sallyport.policies.mine

test_it if {
	count(mine.violation) == 1 with input as {"behaviour": {"domain": "a.example.test"}}
}
`

// TestCheck breaks a good policy in one way at a time.
func TestCheck(t *testing.T) {
	replace := func(pairs ...string) func(string) string { return strings.NewReplacer(pairs...).Replace }
	for name, c := range map[string]struct {
		change func(string) string
		test   string
		want   string // "" or LINE: RULE: part of the message
	}{
		"good":              {replace(), goodTest, ""},
		"no tests":          {replace(), "", "1: tests: there are no tests"},
		"parse":             {replace("contains", "containing"), goodTest, "15: rego_parse_error: unexpected if keyword"},
		"misspelt field":    {replace("domain", "domian"), goodTest, "15: rego_type_error: undefined ref: input.behaviour.domian; did you mean domain?"},
		"misspelt function": {replace(`input.behaviour.domain ==`, `uper("x") ==`), goodTest, "15: rego_type_error: undefined function uper"},
		"reaches outside":   {replace(`input.behaviour.domain ==`, `http.send({}).x ==`), goodTest, "15: rego_type_error: undefined function http.send"},
		"unused import":     {replace("mine\n\nviolation", "mine\n\nimport data.sallyport.hosts\n\nviolation"), goodTest, "15: rego_compile_error: import data.sallyport.hosts unused"},
		"no metadata":       {func(s string) string { return s[strings.Index(s, "package sally"):] }, goodTest, "1: metadata: there is no METADATA"},
		"severity":          {replace("severity: low", "severity: lowish"), goodTest, `1: metadata: custom.severity "lowish" is none of`},
		"class":             {replace("class: threat", "class: thread"), goodTest, `1: metadata: custom.class "thread" is neither`},
		"kind":              {replace("[egress]", "[egres]"), goodTest, "1: metadata: custom.kinds: there is no kind egres"},
		"no kinds":          {replace("#   kinds: [egress]\n", ""), goodTest, "1: metadata: custom.kinds is missing"},
		"technique":         {replace("T1041", "exfiltration"), goodTest, "1: metadata: custom.technique"},
		"no title":          {replace("# title: Mine\n", ""), goodTest, "1: metadata: title is missing"},
		"no schema":         {replace("# schemas:\n#   - input: schema.policy_input\n", ""), goodTest, "1: schema: "},
		"format":            {replace("if input", "if   input"), goodTest, "15: format: "},
		"no violation":      {replace(`violation contains "x"`, `offence contains "x"`), goodTest, "1: policy: there is no rule `violation"},
		"not a set":         {replace(`violation contains "x"`, `violation := "x"`), goodTest, "1: policy: there is no rule `violation"},
		"camel case":        {replace(`if input`, "if fooBar\n\nfooBar if input"), goodTest, "17: snake_case: rule fooBar"},
		"prefix":            {replace(`if input`, "if is_bad\n\nis_bad if input"), goodTest, "17: prefix: rule is_bad"},
		"unification":       {replace(" == ", " = "), goodTest, "15: unification: = unifies"},
		"print":             {replace(`if input.behaviour.domain == "a.example.test"`, "if {\n\tprint(input)\n\tinput.behaviour.domain == \"a.example.test\"\n}"), goodTest, "16: print: "},
		"constant":          {replace(`if input.behaviour.domain == "a.example.test"`, `if true == true`), goodTest, "15: constant_condition: "},
		"pattern":           {replace(`input.behaviour.domain == "a.example.test"`, `regex.match("a\\.example", input.behaviour.domain)`), goodTest, "15: raw_string: "},
		"a test outside":    {func(s string) string { return s + "\ntest_x if input.behaviour.domain == \"b\"\n" }, goodTest, "17: test_outside_test_package: "},
		"a test never run":  {replace(), goodTest + "\ntodo_test_later if 1 == mine.x\n", ": todo_test: "},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			if err := os.MkdirAll(filepath.Join(dir, "mine"), 0o755); err != nil {
				t.Fatal(err)
			}
			write(t, filepath.Join(dir, "mine", "mine.rego"), c.change(good))
			if c.test != "" {
				write(t, filepath.Join(dir, "mine", "mine_test.rego"), c.test)
			}
			s, err := Read(dir)
			if err != nil {
				t.Fatal(err)
			}
			found, err := s.Check(time.Now())
			if err != nil {
				t.Fatal(err)
			}
			if c.want == "" {
				if len(found) > 0 {
					t.Fatal(found)
				}
				return
			}
			line, rest, _ := strings.Cut(c.want, ": ")
			rule, part, _ := strings.Cut(rest, ": ")
			if !slices.ContainsFunc(found, func(p Problem) bool {
				return strings.HasPrefix(p.File, dir) && p.Rule == rule && strings.Contains(p.Message, part) && (line == "" || strings.Contains(p.String(), ".rego:"+line+":"))
			}) {
				t.Fatalf("%q, want %s", found, c.want)
			}
		})
	}
}

func write(t *testing.T, name, text string) {
	t.Helper()
	if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}
