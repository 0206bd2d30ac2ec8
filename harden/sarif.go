package harden

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"path/filepath"
)

// RuleText says what a rule of findings is about.
var ruleTexts = map[string]string{
	"pin":                   "Not pinned: an action or image that is named by a tag or a branch can become something else",
	"unpinned":              "An action or reusable workflow is not pinned to a commit, and is not pinned by itself",
	"unpinned-image":        "An image is not pinned to a digest, and is not pinned by itself",
	"pin-comment":           "The comment behind a pin says another version than the commit is",
	"transitive":            "A pinned action uses something that is not pinned",
	"moved":                 "A reference stands for something else than when it was seen first",
	"moved-immutable":       "The tag of an immutable release, which nobody should be able to move, has moved",
	"cool-down":             "Something is too young to be taken, or its age is not known",
	"impostor-commit":       "A pinned commit is not of the repository that it is named under",
	"compromised":           "A version of an action that was an attacker's",
	"vulnerable":            "A version of an action with a vulnerability that is known",
	"permissions":           "The token may do more than the job needs, or nobody knows what it needs",
	"archived":              "An action that nobody looks after any more",
	"not-approved":          "An action that the organisation has not approved",
	"incident":              "An action that was taken over once",
	"safer":                 "Something that may do the same with less trust in somebody else",
	"agent":                 "The agent does not see all that a job does",
	"dependabot":            "Nobody keeps the pins up to date",
	"template-injection":    "What somebody else chooses is put into the text of a script",
	"untrusted-checkout":    "A stranger's code is checked out with the repository's secrets at hand",
	"excessive-permissions": "The token may do more than it needs",
	"persisted-credentials": "The token stays where every later step can read it",
	"secrets-inherit":       "All secrets are handed to a called workflow",
	"all-secrets":           "All secrets are given to a job",
	"download-and-run":      "What is downloaded is run at once",
	"self-hosted":           "Pull requests run on a machine of one's own",
	"dangerous-trigger":     "A stranger's deed starts it, with the repository's secrets at hand",
	"workflow-run":          "It runs with secrets after other workflows, on any branch",
	"problem":               "The file cannot be read, or cannot be changed safely",
}

type sarifText struct {
	Text string `json:"text"`
}

type sarifRegion struct {
	StartLine   int `json:"startLine"`
	StartColumn int `json:"startColumn"`
}

type sarifLocation struct {
	PhysicalLocation struct {
		ArtifactLocation struct {
			URI string `json:"uri"`
		} `json:"artifactLocation"`
		Region sarifRegion `json:"region"`
	} `json:"physicalLocation"`
}

type sarifRule struct {
	ID               string    `json:"id"`
	ShortDescription sarifText `json:"shortDescription"`
	HelpURI          string    `json:"helpUri"`
}

type sarifResult struct {
	RuleID    string          `json:"ruleId"`
	RuleIndex int             `json:"ruleIndex"`
	Level     Severity        `json:"level"`
	Message   sarifText       `json:"message"`
	Locations []sarifLocation `json:"locations"`
	// Fingerprints tell whether a result is one that was there before, also when lines above it
	// come and go.
	Fingerprints map[string]string `json:"partialFingerprints"`
}

// SARIF is what came of files as a SARIF 2.1.0 log: findings, and fixes that were not written,
// as results. Paths are as given, with slashes.
func SARIF(version string, results []*Result) ([]byte, error) {
	rules := []sarifRule{}
	index := make(map[string]int)
	out := []sarifResult{}
	seen := make(map[string]int)
	add := func(of *Result, rule string, level Severity, at Position, message string) {
		if _, known := index[rule]; !known {
			index[rule] = len(rules)
			rules = append(rules, sarifRule{rule, sarifText{ruleTexts[rule]}, "https://github.com/sallyport-ci/sallyport/blob/main/docs/harden.md"})
		}
		var l sarifLocation
		l.PhysicalLocation.ArtifactLocation.URI = filepath.ToSlash(of.File)
		l.PhysicalLocation.Region = sarifRegion{max(at.Line, 1), max(at.Column, 1)}
		out = append(out, sarifResult{rule, index[rule], level, sarifText{message}, []sarifLocation{l}, map[string]string{fingerprint: fingerprintOf(of, rule, at, seen)}})
	}
	for _, r := range results {
		if r.Problem != nil {
			add(r, "problem", SeverityError, r.Problem.At, r.Problem.Message)
		}
		for _, f := range r.Fixes {
			add(r, f.Rule, SeverityWarning, f.At, f.Reason)
		}
		for _, f := range r.Findings {
			add(r, f.Rule, f.Severity, f.At, f.Message)
		}
	}
	log := map[string]any{
		"$schema": "https://json.schemastore.org/sarif-2.1.0.json", "version": "2.1.0",
		"runs": []any{map[string]any{
			"tool": map[string]any{"driver": map[string]any{
				"name": "sallyport harden", "informationUri": "https://github.com/sallyport-ci/sallyport", "version": version, "language": "en-GB", "rules": rules,
			}},
			"columnKind": "unicodeCodePoints", "results": out,
		}},
	}
	data, err := json.MarshalIndent(log, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("write SARIF: %w", err)
	}
	return append(data, '\n'), nil
}

// fingerprint is the name of the fingerprints, with the version of how they are made.
const fingerprint = "sallyport/v1"

// fingerprintOf is the same for a result of a rule in a file as long as its line says the same; of
// several such each has its own.
func fingerprintOf(of *Result, rule string, at Position, seen map[string]int) string {
	line := ""
	if lines := bytes.Split(of.Before, []byte("\n")); at.Line >= 1 && at.Line <= len(lines) {
		line = string(bytes.TrimSpace(lines[at.Line-1]))
	}
	key := filepath.ToSlash(of.File) + "\x00" + rule + "\x00" + line
	seen[key]++
	sum := sha256.Sum256(fmt.Appendf(nil, "%s\x00%d", key, seen[key]))
	return hex.EncodeToString(sum[:16])
}
