package harden

import (
	"strings"
	"testing"
)

// TestSaferFindings: a note at each use, with its source, and none for what is exempt.
func TestSaferFindings(t *testing.T) {
	c := settings()
	c.Rules = []string{"audit"}
	text := []byte("permissions: {}\njobs:\n  a:\n    steps:\n      - uses: softprops/action-gh-release@" + commit(1) + " # v2.0.0\n")
	notes := func() (out []string) {
		t.Helper()
		r, err := Text(t.Context(), c, "x/.github/workflows/x.yml", text)
		if err != nil || r.Problem != nil {
			t.Fatal(err, r.Problem)
		}
		for _, f := range r.Findings {
			if f.Rule == "safer" && f.Severity == SeverityNote && f.At.Line == 5 {
				out = append(out, f.Message)
			}
		}
		return out
	}
	if got := notes(); len(got) != 1 || !strings.HasPrefix(got[0], "`gh release create` may do instead of softprops/action-gh-release: ") || !strings.HasSuffix(got[0], "(https://github.com/Azure/PSDocs.Azure/pull/409)") {
		t.Errorf("%q", got)
	}
	c.Exempt = []string{"softprops/*"}
	if got := notes(); len(got) != 0 {
		t.Errorf("exempt, and yet %q", got)
	}
}
