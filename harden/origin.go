package harden

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Origin knows where commits come from, and since when they are there. A Resolver may be one. It
// is safe for concurrent use.
type Origin interface {
	// Published says since when a commit is there under tags of its repository (none: under a
	// branch).
	Published(ctx context.Context, repository, commit string, tags []string) (Published, error)
	// Versions lists the tags of a repository with their commits.
	Versions(ctx context.Context, repository string) (map[string]string, error)
	// Contains says whether a commit is on the way to a branch or tag of the repository itself.
	// What is in a fork alone is not, though it is to be had under the repository's name.
	Contains(ctx context.Context, repository, commit string) (bool, error)
}

// Historian knows what a branch was. An Origin may be one.
type Historian interface {
	// Before returns the newest commit of a branch that is not younger than a time. Errors wrap
	// ErrUnknown if there is none.
	Before(ctx context.Context, repository, branch string, until time.Time) (string, error)
}

// Published is since when a commit is there.
type Published struct {
	// When is the latest of the dates that are known: of the commit, its tags and releases.
	When time.Time
	// Vouched says that GitHub gave the date: it is that of a release. The date of a commit or a tag
	// is what its author says it is.
	Vouched bool
	// Immutable says that the first of the tags is that of an immutable release.
	Immutable bool
}

// ErrYoung says that what a reference stands for is younger than is taken.
var ErrYoung = errors.New("it is too young")

// young is a reference that stands for something younger than is taken.
type young struct {
	now   Resolution
	since Published
	// took is the version that is taken in its place; empty if nothing is.
	took string
}

// maxOlder bounds how many older versions are asked for their dates.
const maxOlder = 25

// aged returns what to take for a reference that stands for now: that, or the newest of what it
// allows that is old enough. why is said if nobody knows how old it is; then it is taken.
func (r *resolver) aged(ctx context.Context, ref Reference, now Resolution) (take Resolution, y *young, why string, err error) {
	origin, ok := r.remote.(Origin)
	if r.minAge <= 0 || ref.Pinned() {
		return now, nil, "", nil
	}
	if !ok {
		return now, nil, "nobody who knows is asked", nil
	}
	limit := r.now().Add(-r.minAge)
	since, err := origin.Published(ctx, ref.Repository, now.Commit, now.Tags)
	if err != nil {
		return now, nil, err.Error(), nil //nolint:nilerr // it is said
	}
	if !since.When.After(limit) {
		return now, nil, "", nil
	}
	y = &young{now: now, since: since}
	tooYoung := fmt.Errorf("what it stands for is of %s, and nothing is taken before it is %s old: %w", since.When.UTC().Format(time.DateOnly), days(r.minAge), ErrYoung)
	if now.Branch {
		past, ok := r.remote.(Historian)
		if !ok {
			return now, y, "", tooYoung
		}
		commit, err := past.Before(ctx, ref.Repository, ref.Ref, limit)
		if err != nil {
			return now, y, "", tooYoung
		}
		take, err = r.remote.Resolve(ctx, ref.Repository, commit)
		if err != nil {
			return now, y, "", tooYoung
		}
		take.Branch, y.took = true, commit
		return take, y, "", nil
	}
	versions, err := origin.Versions(ctx, ref.Repository)
	if err != nil {
		return now, y, "", tooYoung
	}
	for i, tag := range olderVersions(versions, ref.Ref) {
		commit := versions[tag]
		if i == maxOlder {
			break
		}
		if commit == now.Commit {
			continue
		}
		of := tagsOf(versions, commit)
		if since, err := origin.Published(ctx, ref.Repository, commit, of); err == nil && !since.When.After(limit) {
			y.took = tag
			return Resolution{Commit: commit, Version: tag, Tags: of, Immutable: since.Immutable}, y, "", nil
		}
	}
	return now, y, "", tooYoung
}

// olderVersions are the whole versions that a reference such as v4 allows, newest first.
func olderVersions(versions map[string]string, ref string) (out []string) {
	want, ok := versionParts(ref)
	if !ok || len(want) > 2 {
		return nil
	}
	for tag := range versions {
		parts, ok := versionParts(tag)
		if ok && len(parts) > 2 && slices.Equal(parts[:len(want)], want) && strings.HasPrefix(tag, "v") == strings.HasPrefix(ref, "v") {
			out = append(out, tag)
		}
	}
	slices.SortFunc(out, func(a, b string) int {
		x, _ := versionParts(a)
		y, _ := versionParts(b)
		return slices.Compare(y, x)
	})
	return out
}

func tagsOf(versions map[string]string, commit string) (out []string) {
	for tag, c := range versions {
		if c == commit {
			out = append(out, tag)
		}
	}
	slices.Sort(out)
	return out
}

// days is a span for people.
func days(d time.Duration) string {
	if n := int(d.Hours()+0.5) / 24; n != 1 {
		return fmt.Sprintf("%d days", n)
	}
	return "a day"
}

// youngOf tells of a reference for which something older is taken.
func youngOf(at Position, ref Reference, y *young) Finding {
	version := y.now.Version
	if version == "" {
		version = y.now.Commit
	}
	forged := ""
	if !y.since.Vouched {
		forged = ", as its author says"
	}
	return Finding{"cool-down", SeverityNote, at, fmt.Sprintf("%s is %s of %s%s, which is too young to be taken; until then it is %s", ref, version, y.since.When.UTC().Format(time.DateOnly), forged, y.took)}
}

// foreign says why a pinned commit is not to be trusted: it is in no branch or tag of the repository
// that it is named under. Anybody can have such a commit: GitHub shows those of all forks under the
// name of each. Empty if it is there, or if nobody is asked; unknown is why nobody knows.
func (r *resolver) foreign(ctx context.Context, ref Reference) (why, unknown string) {
	if !ref.Pinned() || r.lock.holds(ref.Repository, ref.Ref) {
		return "", ""
	}
	origin, ok := r.remote.(Origin)
	if !ok {
		return "", ""
	}
	switch has, err := origin.Contains(ctx, ref.Repository, ref.Ref); {
	case errors.Is(err, ErrUnknown):
		return fmt.Sprintf("there is no repository %s, or it may not be seen", ref.Repository), ""
	case err != nil:
		return "", err.Error()
	case !has:
		return fmt.Sprintf("commit %s is in no branch or tag of %s: it is that of a fork, or there is none; whoever made it decides what runs", ref.Ref, ref.Repository), ""
	}
	return "", ""
}

// holds says whether a tag or branch of a repository stood for a commit.
func (l *Lock) holds(repository, commit string) bool {
	for _, a := range l.Actions {
		if of, ok := ParseReference(a.Uses); ok && of.Repository == repository && a.Commit == commit && !of.Pinned() {
			return true
		}
	}
	return l.proposed != nil && l.proposed.holds(repository, commit)
}
