// Package policies answers one question: which behaviours are wrong?
//
// Each policy is a Rego v1 package sallyport.policies.<id> in <id>/<id>.rego with
// its tests in <id>/<id>_test.rego. A policy has a METADATA annotation (scope:
// package) with title, description and, below custom, class, kinds (of behaviours that
// it looks at), severity, technique (MITRE ATT&CK), further techniques (also) and
// remediation, and a rule
//
//	violation contains message if { ... }
//
// where message is a sentence for people, or an object with the keys message and
// severity where the severity is not the policy's own. Lists that rules refer to
// are documents below data.sallyport.lists, one for each file data/<name>.json. What
// several policies ask is in lib, which is compiled with each of them.
//
// The input is described in docs/policy-input.md; its JSON schema is
// schemas/policy_input.json, which policies name in their annotation so that OPA's type
// checker finds fields that do not exist. This package holds files only:
// package detector compiles and evaluates them.
package policies

import (
	"embed"
	"encoding/json"
	"fmt"

	"github.com/open-policy-agent/opa/v1/ast"
)

// FS holds the policies, their tests and their lists.
//
//go:embed */*.rego data/*.json schemas/*.json
var FS embed.FS

// Schemas are the schemas that the annotations of policies name, as OPA's compiler takes
// them.
func Schemas() (*ast.SchemaSet, error) {
	const file = "schemas/policy_input.json"
	data, err := FS.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", file, err)
	}
	var schema any
	if err := json.Unmarshal(data, &schema); err != nil {
		return nil, fmt.Errorf("read %s: %w", file, err)
	}
	set := ast.NewSchemaSet()
	set.Put(ast.MustParseRef("schema.policy_input"), schema)
	return set, nil
}
