package checks

import (
	"strings"
	"testing"
)

// What is wrong in a repository's file is said in the words of the file, for it stands in the
// check, where everybody reads it.
func TestRulesFaults(t *testing.T) {
	for text, want := range map[string]string{
		"version: 1\ncheck:\n  stric: true\n":                                     "line 3: field stric not found",
		"version: 1\napprove:\n  - {target: a, owner: x, resaon: y}\n":            "line 3: field resaon not found",
		"version: 1\napprove: {target: a}\n":                                      "line 2: cannot unmarshal !!map",
		"version: 1\ncheck: {strict: perhaps}\n":                                  "line 2: cannot unmarshal !!str `perhaps` into bool",
		"check: {strict: true}\n":                                                 "version is missing: it is 1",
		"version: 2\n":                                                            "version 2, this program reads 1",
		"version: 1\n---\ncheck: {strict: true}\n":                                "more than one document",
		"version: 1\ncheck: {approvers: {new: read}}\n":                           "approver \"read\" is not write, maintain or admin",
		"version: 1\napprove: [{target: 'https://a.test/', owner: x, reason: y}]": "name its host alone",
		"version: 1\napprove: [{target: a, owner: x, reason: y, until: 1.2.27}]":  "is no day such as",
	} {
		_, err := ParseRules([]byte(text))
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "struct") || strings.Contains(err.Error(), "checks.") {
			t.Errorf("%q: %v", text, err)
		}
	}
}
