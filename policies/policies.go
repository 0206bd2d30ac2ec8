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
// The input is described in docs/policy-input.md. This package holds files only:
// package detector compiles and evaluates them.
package policies

import "embed"

// FS holds the policies, their tests and their lists.
//
//go:embed */*.rego data/*.json
var FS embed.FS
