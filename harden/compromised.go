package harden

import (
	"context"
	"fmt"
	"strings"

	"github.com/sallyport-ci/sallyport/harden/catalogue"
)

// compromised tells of versions in use that were an attacker's: by the commit, by the day on which
// the lock saw it first, by the tag.
func (h *hardener) compromised(at Position, ref Reference, commit, version, seen string) (findings []Finding) {
	for _, in := range h.Catalogue.Incidents(ref.String()) {
		why, severity := "", SeverityError
		switch {
		case in.HasCommit(commit):
			why = fmt.Sprintf("%s is the commit %s of an attacker", ref, commit)
		case !in.Names():
		case in.Covers(seen) && !ref.Pinned() && (in.HasTag(ref.Ref) || in.HasTag(version)):
			why = fmt.Sprintf("%s was seen first on %s, when it was an attacker's: what %s holds is not to be trusted", ref, seen, LockFile)
		case !ref.Pinned() && (in.HasTag(ref.Ref) || in.HasTag(version)):
			why = fmt.Sprintf("the tag of %s was an attacker's", ref)
		case ref.Pinned() && !in.Complete && version != "" && in.HasTag(version) && len(in.Commits) == 0:
			why, severity = fmt.Sprintf("%s is said to be %s, which was an attacker's for a time; whether this commit is one of theirs is not known", ref, version), SeverityWarning
		}
		if why == "" {
			findings = append(findings, Finding{"incident", SeverityNote, at, strings.TrimSpace(fmt.Sprintf("%s was taken over once (%s %s): %s", ref.Repository, in.When, in.ID, in.What))})
			continue
		}
		findings = append(findings, Finding{"compromised", severity, at, why + ". " + what(in)})
	}
	return findings
}

// what says what happened and what to do.
func what(in catalogue.Incident) string {
	parts := []string{in.What}
	when := in.Span()
	if in.ID != "" {
		when = in.ID + ", " + when
	}
	parts[0] = strings.TrimSuffix(parts[0], ".") + " (" + when + " UTC)."
	if in.Safe != "" {
		parts = append(parts, "Use "+in.Safe+".")
	}
	return strings.Join(append(parts, "Look at the runs of that time, and rotate every secret that their jobs had."), " ")
}

// reputation tells of what is known of actions themselves: that they were taken over once, that
// nobody looks after them any more, that there are advisories about them.
func (h *hardener) reputation(ctx context.Context, d *Document, kind Kind) (findings []Finding) {
	for _, u := range d.uses(kind) {
		if u.image {
			continue
		}
		ref, ok := ParseReference(u.node.Value)
		if !ok {
			continue
		}
		at := position(u.node)
		commit, version, seen := h.inUse(ctx, d, u, ref)
		if finding := h.archived(ctx, at, ref); finding != nil {
			findings = append(findings, *finding)
		}
		findings = append(findings, h.compromised(at, ref, commit, version, seen)...)
		findings = append(findings, h.advised(ctx, at, ref, version)...)
	}
	return findings
}

// archived tells of an action that nobody mends any more, by the catalogue or by GitHub.
func (h *hardener) archived(ctx context.Context, at Position, ref Reference) *Finding {
	instead := ""
	e, known := h.Catalogue.Lookup(ref.String())
	is := known && e.Archived
	if known && e.ReplacedBy != "" {
		instead = "; " + e.ReplacedBy + " takes its place"
	}
	if from, ok := h.Resolver.(Reputable); ok && !is {
		about, err := from.About(ctx, ref.Repository)
		is = err == nil && about.Archived
	}
	if !is {
		return nil
	}
	return &Finding{"archived", SeverityWarning, at, fmt.Sprintf("%s is archived: nobody mends it any more%s", ref.Repository, instead)}
}
