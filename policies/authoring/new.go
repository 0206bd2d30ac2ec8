package authoring

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// deed is what PROGRAM, which is not wanted, does in the scenario of a new policy, what one
// that is wanted does instead, and what a built-in policy says of the former.
type deed struct {
	bad, good string
	found     string
	step      string // of the finding
}

// deeds are those of each kind of behaviour.
var deeds = map[string]deed{
	"egress":         {bad: "PROGRAM connects to download.example.test:443", good: "make connects to download.example.test:443"},
	"exec":           {bad: "PROGRAM starts", good: "make starts"},
	"file":           {bad: "PROGRAM writes file /opt/shared/settings as shared settings", good: "make writes file /opt/shared/settings as shared settings"},
	"lookup":         {bad: "PROGRAM looks up download.example.test", good: "make looks up download.example.test"},
	"pipe":           {bad: "PROGRAM pipes into wc", good: "make pipes into wc"},
	"privilege":      {bad: "PROGRAM sends packets", good: "make starts", found: "expect privilege_use build\n"},
	"process_access": {bad: "PROGRAM reads map of sleep", good: "make starts", found: "expect process_memory_read build\n"},
	"request":        {bad: "PROGRAM requests GET download.example.test/v1", good: "make requests GET download.example.test/v1"},
	"survivor":       {bad: "PROGRAM outlives the job", good: "make starts", found: "expect survivor -\n", step: "-"},
}

// Kinds are the kinds of behaviour that a new policy can be about, ordered.
func Kinds() []string {
	kinds := make([]string, 0, len(deeds))
	for k := range deeds {
		kinds = append(kinds, k)
	}
	slices.Sort(kinds)
	return kinds
}

const newPolicy = `# METADATA
# scope: package
# schemas:
#   - input: schema.policy_input
# title: %[2]s
# description: >-
#   What it catches, and why that matters.
# custom:
#   class: threat
#   kinds: [%[3]s]
#   severity: medium
#   technique: T1059
#   remediation: >-
#     What somebody who gets the alert does.
package sallyport.policies.%[1]s

violation contains message if {
	input.behaviour.kind == "%[3]s"
	input.behaviour.program in unwanted
	message := sprintf("%%s is not wanted here (%%s)", [input.behaviour.program, input.behaviour.target])
}

unwanted := {"%[4]s"}
`

const newPolicyTest = `package sallyport.policies.%[1]s_test

import data.sallyport.policies.%[1]s

behaviour(program) := {"behaviour": {"kind": "%[3]s", "program": program, "target": "something"}}

test_unwanted_is_caught if {
	%[1]s.violation == {"%[4]s is not wanted here (something)"} with input as behaviour("%[4]s")
}

test_others_are_clean if {
	count(%[1]s.violation) == 0 with input as behaviour("make")
}
`

const newScenario = `# %[2]s: what has to be found, and what has not.

run bad
  step build
    %[3]s
end
%[5]sexpect %[1]s %[6]s

run good
  step build
    %[4]s
end
expect none
`

// New writes a policy, its Rego tests and a scenario below dir, and returns their files.
// They pass Check and Test as they are. It replaces nothing.
func New(dir, id, kind string) (files []string, err error) {
	if !identifier.MatchString(id) || strings.HasPrefix(id, "_") {
		return nil, fmt.Errorf("new policy: %q is not a name such as unwanted_program", id)
	}
	d, ok := deeds[kind]
	if !ok {
		return nil, fmt.Errorf("new policy: there is no kind %q, but %s", kind, strings.Join(Kinds(), ", "))
	}
	if d.step == "" {
		d.step = "build"
	}
	// Of its own, so that new policies do not find each other's.
	program := strings.ReplaceAll(id, "_", "-")
	title := strings.ReplaceAll(id, "_", " ")
	title = strings.ToUpper(title[:1]) + title[1:]
	texts := []struct{ name, text string }{
		{filepath.Join(dir, id, id+".rego"), fmt.Sprintf(newPolicy, id, title, kind, program)},
		{filepath.Join(dir, id, id+"_test.rego"), fmt.Sprintf(newPolicyTest, id, title, kind, program)},
		{filepath.Join(dir, "scenarios", id+".txt"), fmt.Sprintf(newScenario, id, title, strings.Replace(d.bad, "PROGRAM", program, 1), d.good, d.found, d.step)},
	}
	for _, t := range texts {
		if _, err := os.Lstat(t.name); err == nil {
			return nil, fmt.Errorf("new policy: %s is there already: %w", t.name, fs.ErrExist)
		} else if !errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("new policy: %w", err)
		}
	}
	for _, t := range texts {
		if err := os.MkdirAll(filepath.Dir(t.name), 0o755); err != nil {
			return files, fmt.Errorf("new policy: %w", err)
		}
		if err := os.WriteFile(t.name, []byte(t.text), 0o644); err != nil {
			return files, fmt.Errorf("new policy: %w", err)
		}
		files = append(files, t.name)
	}
	return files, nil
}
