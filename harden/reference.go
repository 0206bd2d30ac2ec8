package harden

import (
	"regexp"
	"strings"
)

// Reference is what a step or job uses.
type Reference struct {
	// Repository is OWNER/NAME, Path what is meant within it, Ref what stands behind the @.
	Repository, Path, Ref string
}

var (
	actionForm = regexp.MustCompile(`^([A-Za-z0-9][A-Za-z0-9-]*/[A-Za-z0-9._-]+)(/[^@\s]+)?@([^\s]+)$`)
	commitForm = regexp.MustCompile(`^[0-9a-f]{40}$`)
	shortForm  = regexp.MustCompile(`^[0-9a-f]{7,39}$`)
	// versionWord is a version in a comment.
	versionWord = regexp.MustCompile(`^v?\d+(\.\d+)*([-.+][0-9A-Za-z.+-]+)?$`)
)

// ParseReference reads a reference to an action or a reusable workflow in a repository; false
// for local ones, images and expressions.
func ParseReference(uses string) (Reference, bool) {
	if strings.HasPrefix(uses, ".") || strings.HasPrefix(uses, "$") || strings.HasPrefix(uses, "docker://") || strings.Contains(uses, "${{") {
		return Reference{}, false
	}
	m := actionForm.FindStringSubmatch(uses)
	if m == nil {
		return Reference{}, false
	}
	return Reference{Repository: m[1], Path: m[2], Ref: m[3]}, true
}

// Pinned says whether the reference is a whole commit.
func (r Reference) Pinned() bool { return commitForm.MatchString(r.Ref) }

// String is the reference as a workflow writes it.
func (r Reference) String() string { return r.Repository + r.Path + "@" + r.Ref }

// versionComment is the version that a comment begins with, with or without "tag=" and the
// like; empty if there is none.
func versionComment(comment string) string {
	words := strings.Fields(strings.TrimLeft(comment, "# \t"))
	for _, w := range words[:min(len(words), 2)] {
		w = strings.TrimPrefix(strings.TrimPrefix(strings.TrimPrefix(w, "tag="), "pin@"), "@")
		if versionWord.MatchString(w) {
			return w
		}
	}
	return ""
}

// keptComment is a comment with another version: what else it says stays.
func keptComment(old, version string) string {
	said := strings.TrimSpace(strings.TrimLeft(old, "#"))
	if v := versionComment(old); v != "" {
		return strings.Replace(said, v, version, 1)
	}
	if said == "" {
		return version
	}
	return version + " # " + said // other tools look for their own marks behind a #
}
