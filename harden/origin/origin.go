package origin

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/sallyport-ci/sallyport/github"
	"github.com/sallyport-ci/sallyport/harden"
)

// GitHub resolves by GitHub's interface. It asks about each thing once, and is safe for concurrent
// use.
type GitHub struct {
	client *github.Client
	remote *harden.Remote // images, and what the interface does not say

	mu       sync.Mutex
	tags     map[string]*answer[map[string]string]
	branches map[string]*answer[[]github.Tag]
	releases map[string]*answer[github.Release]
	commits  map[string]*answer[github.Commit]
	contains map[string]*answer[bool]
	about    map[string]*answer[harden.About]

	advisories map[string]*answer[[]github.Advisory]
}

// The interfaces that it is for.
var (
	_ harden.Resolver  = (*GitHub)(nil)
	_ harden.Reader    = (*GitHub)(nil)
	_ harden.Origin    = (*GitHub)(nil)
	_ harden.Historian = (*GitHub)(nil)
	_ harden.Reputable = (*GitHub)(nil)
)

// New makes one that asks by a client; images are asked for by remote.
func New(client *github.Client, remote *harden.Remote) *GitHub {
	return &GitHub{
		client: client, remote: remote, tags: make(map[string]*answer[map[string]string]), branches: make(map[string]*answer[[]github.Tag]),
		releases: make(map[string]*answer[github.Release]), commits: make(map[string]*answer[github.Commit]), contains: make(map[string]*answer[bool]),
		about: make(map[string]*answer[harden.About]), advisories: make(map[string]*answer[[]github.Advisory]),
	}
}

// answer is asked for once. One that failed because nobody waited is asked for again.
type answer[T any] struct {
	mu   sync.Mutex
	done bool
	is   T
	err  error
}

func once[T any](ctx context.Context, g *GitHub, of map[string]*answer[T], key string, ask func() (T, error)) (T, error) {
	g.mu.Lock()
	a := of[key]
	if a == nil {
		a = new(answer[T])
		of[key] = a
	}
	g.mu.Unlock()
	a.mu.Lock()
	defer a.mu.Unlock()
	if !a.done {
		a.is, a.err = ask()
		a.done = ctx.Err() == nil
	}
	return a.is, a.err
}

// unknown says it in the words of package harden.
func unknown(err error) error {
	if errors.Is(err, github.ErrNotFound) {
		return fmt.Errorf("%w (%w)", harden.ErrUnknown, err)
	}
	return err
}

// Versions implements harden.Origin.
func (g *GitHub) Versions(ctx context.Context, repository string) (map[string]string, error) {
	return once(ctx, g, g.tags, repository, func() (map[string]string, error) {
		list, err := g.client.Tags(ctx, repository)
		if err != nil {
			return nil, unknown(err)
		}
		out := make(map[string]string, len(list))
		for _, t := range list {
			out[t.Name] = t.Commit
		}
		return out, nil
	})
}

var (
	wholeForm = regexp.MustCompile(`^[0-9a-f]{40}$`)
	shortForm = regexp.MustCompile(`^[0-9a-f]{7,39}$`)
)

// Resolve implements harden.Resolver. A tag comes before a branch of the same name, as in a job. A
// short commit is one of the repository itself: what is in a fork alone is not taken.
func (g *GitHub) Resolve(ctx context.Context, repository, ref string) (harden.Resolution, error) {
	tags, err := g.Versions(ctx, repository)
	if err != nil {
		return harden.Resolution{}, fmt.Errorf("resolve %s@%s: %w", repository, ref, err)
	}
	var out harden.Resolution
	tagged := false
	if wholeForm.MatchString(ref) {
		out.Commit = ref
	} else if out.Commit, tagged = tags[ref]; !tagged {
		head, err := g.client.Head(ctx, repository, ref)
		switch {
		case err == nil:
			out.Commit, out.Branch = head, true
		case errors.Is(err, github.ErrNotFound) && shortForm.MatchString(ref):
			if out.Commit, err = g.short(ctx, repository, ref); err != nil {
				return harden.Resolution{}, fmt.Errorf("resolve %s@%s: %w", repository, ref, err)
			}
		default:
			return harden.Resolution{}, fmt.Errorf("resolve %s@%s: %w", repository, ref, unknown(err))
		}
	}
	for tag, commit := range tags {
		if commit == out.Commit {
			out.Tags = append(out.Tags, tag)
		}
	}
	slices.Sort(out.Tags)
	out.Version = harden.MostPrecise(out.Tags)
	if tagged {
		r, err := g.release(ctx, repository, ref)
		if err != nil && !errors.Is(err, github.ErrNotFound) {
			return harden.Resolution{}, fmt.Errorf("resolve %s@%s: %w", repository, ref, err)
		}
		out.Immutable = r.Immutable
	}
	return out, nil
}

// short is the whole commit that a short one begins.
func (g *GitHub) short(ctx context.Context, repository, ref string) (string, error) {
	c, err := g.client.Find(ctx, repository, ref)
	if err != nil {
		return "", unknown(err)
	}
	if !strings.HasPrefix(c.SHA, ref) {
		return "", harden.ErrUnknown // a reference of that name has come meanwhile
	}
	switch has, err := g.Contains(ctx, repository, c.SHA); {
	case err != nil:
		return "", err
	case !has:
		return "", fmt.Errorf("it is a commit of a fork: %w", harden.ErrUnknown)
	}
	return c.SHA, nil
}

func (g *GitHub) release(ctx context.Context, repository, tag string) (github.Release, error) {
	return once(ctx, g, g.releases, repository+"@"+tag, func() (github.Release, error) { return g.client.Release(ctx, repository, tag) })
}

func (g *GitHub) commit(ctx context.Context, repository, sha string) (github.Commit, error) {
	return once(ctx, g, g.commits, repository+"@"+sha, func() (github.Commit, error) { return g.client.Commit(ctx, repository, sha) })
}

// Published implements harden.Origin: the latest of the dates of the commit and of the releases of
// its tags. A release has the date on which GitHub published it; its tag may have been moved since,
// so that the date of the commit counts, too, unless the release is immutable.
func (g *GitHub) Published(ctx context.Context, repository, commit string, tags []string) (harden.Published, error) {
	var out harden.Published
	for _, tag := range tags {
		r, err := g.release(ctx, repository, tag)
		switch {
		case errors.Is(err, github.ErrNotFound):
			continue
		case err != nil:
			return harden.Published{}, err
		}
		if !r.Published.Before(out.When) {
			out.When, out.Vouched = r.Published, true
		}
		if r.Immutable {
			out.Immutable = true
		}
	}
	if out.Immutable {
		return out, nil
	}
	c, err := g.commit(ctx, repository, commit)
	if err != nil {
		return harden.Published{}, unknown(err)
	}
	if c.Time.After(out.When) {
		out.When, out.Vouched = c.Time, false
	}
	return out, nil
}

// maxCompared is how many branches and tags are asked whether a commit is on the way to them; then
// the git protocol is.
const maxCompared = 12

// Contains implements harden.Origin: first what tags and branches name, then GitHub's comparison
// with the default branch, the other branches and the latest tags, then the git protocol.
func (g *GitHub) Contains(ctx context.Context, repository, commit string) (bool, error) {
	return once(ctx, g, g.contains, repository+"@"+commit, func() (bool, error) { return g.findsCommit(ctx, repository, commit) })
}

func (g *GitHub) findsCommit(ctx context.Context, repository, commit string) (bool, error) {
	tags, err := g.Versions(ctx, repository)
	if err != nil {
		return false, err
	}
	for _, c := range tags {
		if c == commit {
			return true, nil
		}
	}
	if _, err := g.commit(ctx, repository, commit); errors.Is(err, github.ErrNotFound) {
		return false, nil
	} else if err != nil {
		return false, err
	}
	about, err := g.About(ctx, repository)
	if err != nil {
		return false, err
	}
	const most = 1000
	branches, err := once(ctx, g, g.branches, repository, func() ([]github.Tag, error) { return g.client.Branches(ctx, repository, most) })
	if err != nil {
		return false, err
	}
	var others []string
	for _, b := range branches {
		if b.Commit == commit {
			return true, nil
		}
		if b.Name != about.DefaultBranch {
			others = append(others, b.Name)
		}
	}
	names := append([]string{about.DefaultBranch}, others...)
	names = append(names, newest(tags)...)
	for i, name := range names {
		if i == maxCompared {
			return g.remote.Contains(ctx, repository, commit)
		}
		if has, err := g.client.Contains(ctx, repository, name, commit); has || err != nil {
			return has, err
		}
	}
	return false, nil
}

// newest are tags, those with the highest versions first.
func newest(tags map[string]string) []string {
	var out []string
	for t := range tags {
		out = append(out, t)
	}
	slices.SortFunc(out, func(a, b string) int { return cmp.Or(harden.CompareVersions(b, a), strings.Compare(a, b)) })
	return out
}

// Before implements harden.Historian.
func (g *GitHub) Before(ctx context.Context, repository, branch string, until time.Time) (string, error) {
	c, err := g.client.Before(ctx, repository, branch, until)
	if err != nil {
		return "", unknown(err)
	}
	return c.SHA, nil
}

// File implements harden.Reader.
func (g *GitHub) File(ctx context.Context, repository, commit, name string) ([]byte, error) {
	text, err := g.client.File(ctx, repository, commit, name)
	if err != nil {
		return nil, unknown(err)
	}
	return text, nil
}

// Digest implements harden.Resolver.
func (g *GitHub) Digest(ctx context.Context, image string) (string, error) {
	return g.remote.Digest(ctx, image)
}

// About implements harden.Reputable.
func (g *GitHub) About(ctx context.Context, repository string) (harden.About, error) {
	return once(ctx, g, g.about, repository, func() (harden.About, error) {
		r, err := g.client.Repository(ctx, repository)
		if err != nil {
			return harden.About{}, unknown(err)
		}
		return harden.About{Name: r.Name, DefaultBranch: r.DefaultBranch, Archived: r.Archived, Private: r.Private}, nil
	})
}

// Advisories implements harden.Reputable.
func (g *GitHub) Advisories(ctx context.Context, action string) ([]harden.Advisory, error) {
	list, err := once(ctx, g, g.advisories, action, func() ([]github.Advisory, error) { return g.client.ActionAdvisories(ctx, action) })
	if err != nil {
		return nil, err
	}
	var out []harden.Advisory
	for _, a := range list {
		one := harden.Advisory{ID: a.ID, Severity: a.Severity, Summary: a.Summary}
		for _, v := range a.Affected {
			one.Affected = append(one.Affected, harden.Range{Versions: v.Versions, Patched: v.Patched})
		}
		out = append(out, one)
	}
	return out, nil
}
