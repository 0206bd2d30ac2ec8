package harden

import (
	"context"
	"fmt"
	"strings"

	"github.com/Masterminds/semver/v3"
)

// Reputable knows what GitHub says of repositories. A Resolver may be one. It is safe for
// concurrent use.
type Reputable interface {
	// About returns what a repository is. Errors wrap ErrUnknown if there is none, or if it may not
	// be seen.
	About(ctx context.Context, repository string) (About, error)
	// Advisories are those about an action, OWNER/NAME.
	Advisories(ctx context.Context, action string) ([]Advisory, error)
}

// About is what a repository is.
type About struct {
	// Name is its own OWNER/NAME: another than was asked for if it was renamed.
	Name, DefaultBranch string
	// Private is true of internal ones, too.
	Archived, Private bool
}

// Advisory is a published one.
type Advisory struct {
	// ID is GitHub's, Severity its word: low, medium, high, critical.
	ID, Severity, Summary string
	Affected              []Range
}

// Range are versions, as GitHub writes them ("<= 45.0.7"), and the first mended one; empty if there
// is none.
type Range struct{ Versions, Patched string }

// MostPrecise returns the version with the most parts, the highest of these, of some tags; empty if
// none is a version.
func MostPrecise(tags []string) string { return mostPrecise(tags) }

// CompareVersions says which of two tags is the higher version: negative if it is b, 0 if neither
// is. What is no version is lower than any.
func CompareVersions(a, b string) int {
	x, _ := versionParts(a)
	y, _ := versionParts(b)
	for i := range max(len(x), len(y)) {
		at := func(p []int) int {
			if i < len(p) {
				return p[i]
			}
			return -1
		}
		if d := at(x) - at(y); d != 0 {
			return d
		}
	}
	return 0
}

// within says whether a tag is in a range of versions; false if either cannot be read.
func within(tag, versions string) bool {
	v, err := semver.NewVersion(tag)
	if err != nil {
		return false
	}
	c, err := semver.NewConstraint(versions)
	return err == nil && c.Check(v)
}

// inUse is what a reference stands for, as far as it is known without asking again.
func (h *hardener) inUse(ctx context.Context, d *Document, u use, ref Reference) (commit, version, seen string) {
	version = ref.Ref
	if ref.Pinned() {
		commit, version = ref.Ref, versionComment(d.commentBehind(u.node))
	}
	if locked := h.resolver.lock.action(ref.Repository + "@" + ref.Ref); locked != nil {
		commit, seen = locked.Commit, locked.Seen
		if locked.Version != "" {
			version = locked.Version
		}
	} else if _, ok := h.Resolver.(Reputable); ok && ref.Pinned() && version == "" {
		if now, err := h.Resolver.Resolve(ctx, ref.Repository, ref.Ref); err == nil {
			version = now.Version
		}
	}
	return commit, version, seen
}

// advised tells of GitHub's advisories about the version of an action.
func (h *hardener) advised(ctx context.Context, at Position, ref Reference, version string) (findings []Finding) {
	from, ok := h.Resolver.(Reputable)
	if !ok || version == "" {
		return nil
	}
	list, err := from.Advisories(ctx, ref.Repository)
	if err != nil {
		return []Finding{{"vulnerable", SeverityNote, at, fmt.Sprintf("whether there are advisories about %s is not known: %v", ref.Repository, err)}}
	}
	for _, a := range list {
		for _, r := range a.Affected {
			if !within(version, r.Versions) {
				continue
			}
			severity := SeverityWarning
			if a.Severity == "high" || a.Severity == "critical" {
				severity = SeverityError
			}
			mended := "nothing mends it yet"
			if r.Patched != "" {
				mended = "mended in " + r.Patched
			}
			findings = append(findings, Finding{"vulnerable", severity, at, fmt.Sprintf("%s %s has a vulnerability that is known (%s, %s): %s; %s", ref.Repository, version, a.ID, a.Severity, strings.TrimSuffix(a.Summary, "."), mended)})
			break
		}
	}
	return findings
}
