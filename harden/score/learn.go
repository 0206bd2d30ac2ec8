package score

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/Masterminds/semver/v3"

	"github.com/sallyport-ci/sallyport/github"
	"github.com/sallyport-ci/sallyport/harden"
	"github.com/sallyport-ci/sallyport/harden/catalogue"
	"github.com/sallyport-ci/sallyport/harden/origin"
)

// Learner learns facts. It remembers what it was told of repositories and is not safe for
// concurrent use.
type Learner struct {
	// Client asks GitHub, Origin, which asks by it, too, where commits come from.
	Client *github.Client
	Origin *origin.GitHub
	// Catalogue says what is known of actions.
	Catalogue *catalogue.Catalogue
	// Seen is what agents saw; may be nil.
	Seen Seen
	// Now is the clock.
	Now func() time.Time

	known map[string]*repository
}

// repository is what does not depend on the commit.
type repository struct {
	about      github.Repository
	releases   []github.Release
	tags       map[string]string
	owner      Owner
	policy     bool
	advisories []harden.Advisory
	faults     map[string]error // by part
}

// Learn learns what it can of an action as it is used; version is what the comment behind a pin
// says. What cannot be learned is in Facts.Unknown. The error is ctx's.
func (l *Learner) Learn(ctx context.Context, ref harden.Reference, version string) (*Facts, error) {
	f := &Facts{Action: ref.Repository + ref.Path, Ref: ref.Ref, Version: version, Learned: l.Now().UTC().Truncate(time.Second), Unknown: make(map[string]string)}
	r := l.repository(ctx, ref.Repository)
	now, err := l.Origin.Resolve(ctx, ref.Repository, ref.Ref)
	var commit github.Commit
	if err == nil {
		commit, err = l.Client.Commit(ctx, ref.Repository, now.Commit)
	}
	if err != nil {
		for _, part := range []string{"origin", "dependencies", "release"} {
			f.Unknown[part] = err.Error()
		}
	} else {
		f.Commit = commit.SHA
	}
	switch tags := r.tagsOf(f.Commit); {
	case f.Commit != "" && len(tags) > 0:
		f.Version = cmp.Or(harden.MostPrecise(tags), f.Version)
	case !ref.Pinned():
		f.Version = ""
		if _, isTag := r.tags[ref.Ref]; isTag {
			f.Version = ref.Ref
		}
	}
	l.fill(f, r)
	if f.Commit != "" {
		l.learnOrigin(ctx, f, r, ref.Repository, commit.Verified)
		l.learnRelease(ctx, f, r, ref.Repository)
		l.learnInside(ctx, f, ref)
	}
	return f, ctx.Err()
}

func (r *repository) tagsOf(commit string) (out []string) {
	for tag, of := range r.tags {
		if of == commit {
			out = append(out, tag)
		}
	}
	slices.Sort(out)
	return out
}

func (l *Learner) repository(ctx context.Context, name string) *repository {
	key := strings.ToLower(name)
	if r := l.known[key]; r != nil {
		return r
	}
	r := &repository{faults: make(map[string]error)}
	if l.known == nil {
		l.known = make(map[string]*repository)
	}
	l.known[key] = r
	try := func(err error, parts ...string) {
		for _, p := range parts {
			if err != nil && r.faults[p] == nil {
				r.faults[p] = err
			}
		}
	}
	owner, _, _ := strings.Cut(name, "/")
	var err error
	r.about, err = l.Client.Repository(ctx, name)
	try(err, "maintenance", "popularity", "policy")
	r.releases, err = l.Client.Releases(ctx, name)
	try(err, "maintenance")
	r.tags, err = l.Origin.Versions(ctx, name)
	try(err, "release")
	r.owner.Organisation, r.owner.Verified, err = l.Client.Verified(ctx, owner)
	try(err, "owner")
	r.advisories, err = l.Origin.Advisories(ctx, name)
	try(err, "incidents")
	if r.faults["policy"] == nil {
		r.policy, err = l.policy(ctx, name, owner, r.about.DefaultBranch)
		try(err, "policy")
	}
	return r
}

// policy says whether there is a security policy, in the repository or for all of its owner's.
func (l *Learner) policy(ctx context.Context, name, owner, branch string) (bool, error) {
	for _, at := range []struct{ repository, branch, file string }{
		{name, branch, "SECURITY.md"}, {name, branch, ".github/SECURITY.md"}, {name, branch, "docs/SECURITY.md"},
		{owner + "/.github", "", "SECURITY.md"}, {owner + "/.github", "", ".github/SECURITY.md"},
	} {
		_, err := l.Client.File(ctx, at.repository, at.branch, at.file)
		if err == nil {
			return true, nil
		}
		if !errors.Is(err, github.ErrNotFound) {
			return false, err
		}
	}
	return false, nil
}

// fill takes over what is known of the repository, the catalogue's facts and what was seen.
func (l *Learner) fill(f *Facts, r *repository) {
	unknown := func(part string) bool {
		if err := r.faults[part]; err != nil {
			f.Unknown[part] = err.Error()
			return true
		}
		return false
	}
	if !unknown("maintenance") {
		f.Upkeep = &Upkeep{Archived: r.about.Archived, Pushed: r.about.Pushed.UTC()}
		for _, x := range r.releases {
			if x.Published.After(f.Upkeep.Released) {
				f.Upkeep.Released = x.Published.UTC()
			}
		}
	}
	if !unknown("popularity") {
		f.Stars = &r.about.Stars
	}
	if !unknown("owner") {
		f.Owner = &r.owner
	}
	if !unknown("policy") {
		f.Policy = &r.policy
	}
	entry, known := l.Catalogue.Lookup(f.Action + "@v0")
	if !unknown("incidents") {
		f.Incidents = &[]Incident{}
		for _, i := range l.Catalogue.Incidents(f.Action) {
			*f.Incidents = append(*f.Incidents, Incident{strings.TrimSpace(i.When + " " + i.ID), i.What, compromised, attacked(i, f.Commit, append(r.tagsOf(f.Commit), f.Ref))})
		}
		for _, a := range r.advisories {
			var ranges []string
			for _, v := range a.Affected {
				ranges = append(ranges, v.Versions)
			}
			*f.Incidents = append(*f.Incidents, Incident{a.ID, a.Summary, a.Severity, affects(ranges, f.Version)})
		}
	}
	switch {
	case !known:
		f.Unknown["permissions"] = "the catalogue does not know it"
	case entry.Unsure != "":
		f.Unknown["permissions"] = "the catalogue cannot say all: " + entry.Unsure
	default:
		f.Permissions = &[]Permission{}
		for _, n := range entry.Needs {
			*f.Permissions = append(*f.Permissions, Permission{string(n.Scope), n.Access == catalogue.Write, len(n.When) > 0})
		}
	}
	hosts, err := l.Seen.of(f.Action, f.Ref, f.Commit)
	if err != nil {
		f.Unknown["destinations"] = err.Error()
		return
	}
	f.Destinations = &Destinations{Seen: append([]string{}, hosts...), Expected: []string{}}
	if known {
		f.Destinations.Expected = append(f.Destinations.Expected, entry.Endpoints...)
	}
}

// affects says whether a version is in one of several ranges as advisories write them.
func affects(ranges []string, version string) string {
	v, err := semver.NewVersion(version)
	if err != nil || len(ranges) == 0 {
		return AffectsUnknown
	}
	for _, r := range ranges {
		c, err := semver.NewConstraint(r)
		if err != nil {
			return AffectsUnknown
		}
		if c.Check(v) {
			return AffectsYes
		}
	}
	return AffectsNo
}

// attacked says whether a commit under these tags was an attacker's. A tag that was one's is
// clean again where it was moved back: without all commits of the attack that is not known.
func attacked(in catalogue.Incident, commit string, tags []string) string {
	switch {
	case commit != "" && in.HasCommit(commit):
		return AffectsYes
	case commit != "" && in.Complete, in.Names() && !slices.ContainsFunc(tags, in.HasTag):
		return AffectsNo
	}
	return AffectsUnknown
}

// learnOrigin learns whether a tag or a branch leads to the commit.
func (l *Learner) learnOrigin(ctx context.Context, f *Facts, r *repository, name string, signed bool) {
	within, err := l.Origin.Contains(ctx, name, f.Commit)
	if err != nil {
		f.Unknown["origin"] = err.Error()
		return
	}
	f.Origin = &Origin{Within: within, Signed: signed}
	if tags := r.tagsOf(f.Commit); len(tags) > 0 {
		f.Origin.Where = "tag " + cmp.Or(harden.MostPrecise(tags), tags[0])
	} else if within {
		f.Origin.Where = "the history of a branch or tag"
	}
}

// learnRelease finds the release of the commit.
func (l *Learner) learnRelease(ctx context.Context, f *Facts, r *repository, name string) {
	if err := r.faults["release"]; err != nil {
		f.Unknown["release"] = err.Error()
		return
	}
	tags := r.tagsOf(f.Commit)
	f.Release = &Release{}
	if precise := harden.MostPrecise(tags); precise != "" {
		tags = append([]string{precise}, tags...)
	}
	for _, tag := range tags {
		at := slices.IndexFunc(r.releases, func(x github.Release) bool { return x.Tag == tag })
		var found github.Release
		var err error
		if at >= 0 {
			found = r.releases[at]
		} else if found, err = l.Client.Release(ctx, name, tag); err != nil {
			if errors.Is(err, github.ErrNotFound) {
				continue
			}
			f.Release, f.Unknown["release"] = nil, err.Error()
			return
		}
		f.Release = &Release{found.Tag, found.Published.UTC(), found.Immutable}
		return
	}
}

// learnInside finds what the action uses itself.
func (l *Learner) learnInside(ctx context.Context, f *Facts, ref harden.Reference) {
	uses, err := harden.Inside(ctx, l.Origin, ref, f.Commit)
	if errors.Is(err, harden.ErrUnknown) {
		err = errors.New("it has no action.yml that says what it uses")
	}
	if err != nil {
		f.Unknown["dependencies"] = err.Error()
		return
	}
	uses = append([]harden.InnerUse{}, uses...)
	f.Inside = &uses
}
