package detector

import (
	"context"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/sallyport-ci/sallyport/policies"
)

// TestSchemaOfInput has a policy that misspells a field refused with its line, whoever
// misspells it, and leaves policies without the annotation alone.
func TestSchemaOfInput(t *testing.T) {
	const head = "# METADATA\n# title: T\n# scope: package\n%s# custom:\n#   severity: low\npackage sallyport.policies.mine\n\n"
	for name, c := range map[string]struct{ annotation, rule, want string }{
		"misspelt":             {"# schemas:\n#   - input: schema.policy_input\n", `violation contains "x" if input.behaviour.domian == "a"`, "mine.rego:10"},
		"deep":                 {"# schemas:\n#   - input: schema.policy_input\n", `violation contains "x" if input.ancestry[_].argumnets[0] == "a"`, "argumnets"},
		"wrong type":           {"# schemas:\n#   - input: schema.policy_input\n", `violation contains "x" if startswith(input.behaviour.port, "4")`, "invalid argument"},
		"right":                {"# schemas:\n#   - input: schema.policy_input\n", `violation contains "x" if input.ancestry[_].arguments[0] == "a"`, ""},
		"a label":              {"# schemas:\n#   - input: schema.policy_input\n", `violation contains "x" if startswith(input.process.container.pod_labels["actions.github.com/scale-set-name"], "arc")`, ""},
		"without annotation":   {"", `violation contains "x" if input.behaviour.domian == "a"`, ""},
		"a schema that is not": {"# schemas:\n#   - input: schema.policy_imput\n", `violation contains "x" if input.behaviour.domain == "a"`, "schema"},
	} {
		t.Run(name, func(t *testing.T) {
			text := strings.Replace(head, "%s", c.annotation, 1) + c.rule + "\n"
			_, problems := compilePolicies(context.Background(), nil, readLayer(policies.FS), readLayer(fstest.MapFS{"mine.rego": {Data: []byte(text)}}))
			if c.want == "" {
				if len(problems) > 0 {
					t.Fatal(problems)
				}
				return
			}
			if len(problems) != 1 || !strings.Contains(problems[0].Error(), c.want) {
				t.Fatalf("problems %v, want %q", problems, c.want)
			}
			t.Log(problems[0])
		})
	}
}
