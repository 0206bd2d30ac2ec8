package identity

import (
	"fmt"
	"regexp"
	"strings"

	"github.com/sallyport-ci/sallyport/stream"
)

// Allow is which repositories are let in.
type Allow struct{ patterns []*regexp.Regexp }

// NewAllow returns the repositories that patterns name: OWNER/NAME, in which * stands for
// any characters but a slash, in upper or lower case. Without a pattern it is none.
func NewAllow(patterns []string) (*Allow, error) {
	a := new(Allow)
	for _, p := range patterns {
		if !stream.ValidRepository(strings.ReplaceAll(p, "*", "x")) {
			return nil, fmt.Errorf("%q is not OWNER/NAME, with * for any characters but a slash", p)
		}
		a.patterns = append(a.patterns, wildcard(p))
	}
	return a, nil
}

// wildcard returns the expression of a pattern in which * stands for any characters but a
// slash.
func wildcard(pattern string) *regexp.Regexp {
	words := strings.Split(pattern, "*")
	for i, w := range words {
		words[i] = regexp.QuoteMeta(w)
	}
	return regexp.MustCompile(`(?i)\A` + strings.Join(words, "[^/]*") + `\z`)
}

// Lets says whether a repository is let in.
func (a *Allow) Lets(repository string) bool {
	for _, p := range a.patterns {
		if p.MatchString(repository) {
			return true
		}
	}
	return false
}
