package harden

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/format/packfile"
	"github.com/go-git/go-git/v5/plumbing/object"
	"github.com/go-git/go-git/v5/plumbing/protocol/packp"
	"github.com/go-git/go-git/v5/plumbing/protocol/packp/capability"
	"github.com/go-git/go-git/v5/plumbing/protocol/packp/sideband"
	"github.com/go-git/go-git/v5/plumbing/transport"
	"github.com/go-git/go-git/v5/plumbing/transport/client"
	"github.com/go-git/go-git/v5/storage/memory"
)

// errNoFilter says that a server does not give commits without their files.
var errNoFilter = errors.New("the server does not give commits without their files")

// maxHistory is how many commits of each branch and tag are looked at for another.
const maxHistory = 5000

// history is what is known of the commits of a repository.
type history struct {
	commits map[string]bool
	cut     bool // there are more
}

// Versions implements Origin.
func (r *Remote) Versions(ctx context.Context, repository string) (map[string]string, error) {
	refs, err := r.refs(ctx, repository)
	if err != nil {
		return nil, err
	}
	return refs.tags, nil
}

// Contains implements Origin by the git protocol: what branches and tags name is enough for most;
// for others their commits are fetched, without files, to a depth of 5,000.
func (r *Remote) Contains(ctx context.Context, repository, commit string) (bool, error) {
	refs, err := r.refs(ctx, repository)
	if err != nil {
		return false, err
	}
	var tips []plumbing.Hash
	for _, of := range []map[string]string{refs.tags, refs.branches} {
		for name, c := range of {
			if c == commit {
				return true, nil
			}
			if o := refs.annotated[name]; o != "" && refs.tags[name] == c {
				c = o // servers give what references name, not what that leads to
			}
			tips = append(tips, plumbing.NewHash(c))
		}
	}
	refs.walk.Do(func() {
		store, cut, err := r.commits(ctx, repository, tips, cmp.Or(r.depth, maxHistory))
		if err != nil {
			refs.walkErr = err
			return
		}
		refs.past = history{commits: make(map[string]bool, len(store.Commits)), cut: cut}
		for h := range store.Commits {
			refs.past.commits[h.String()] = true
		}
	})
	switch {
	case refs.walkErr != nil:
		return false, refs.walkErr
	case refs.past.commits[commit]:
		return true, nil
	case refs.past.cut:
		return false, fmt.Errorf("look for commit %s in %s: its history is longer than is looked at", commit, repository)
	}
	return false, nil
}

// Published implements Origin: it knows the dates that commits and annotated tags have, which are
// what their authors say.
func (r *Remote) Published(ctx context.Context, repository, commit string, tags []string) (Published, error) {
	refs, err := r.refs(ctx, repository)
	if err != nil {
		return Published{}, err
	}
	var wants []plumbing.Hash
	for _, t := range tags {
		if o := refs.annotated[t]; o != "" && refs.tags[t] == commit {
			wants = append(wants, plumbing.NewHash(o))
		}
	}
	annotated := slices.Clone(wants)
	if len(wants) == 0 {
		wants = []plumbing.Hash{plumbing.NewHash(commit)}
	}
	store, _, err := r.commits(ctx, repository, wants, 1)
	if errors.Is(err, errNoFilter) {
		store, err = r.whole(ctx, repository, wants)
	}
	if err != nil {
		return Published{}, err
	}
	c, err := object.GetCommit(store, plumbing.NewHash(commit))
	if err != nil {
		return Published{}, fmt.Errorf("fetch commit %s of %s: %w", commit, repository, err)
	}
	out := Published{When: c.Committer.When}
	for _, w := range annotated {
		if t, err := object.GetTag(store, w); err == nil {
			out.When = later(out.When, t.Tagger.When)
		}
	}
	return out, nil
}

func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}

// commits fetches commits and tags, and what leads to them to a depth, without their files. cut says
// that there are more.
func (r *Remote) commits(ctx context.Context, repository string, wants []plumbing.Hash, depth int) (store *memory.Storage, cut bool, err error) {
	return r.fetch(ctx, repository, wants, depth, packp.FilterTreeDepth(0))
}

// whole fetches single commits as the server has them, with their files.
func (r *Remote) whole(ctx context.Context, repository string, wants []plumbing.Hash) (*memory.Storage, error) {
	store, _, err := r.fetch(ctx, repository, wants, 1, "")
	return store, err
}

func (r *Remote) fetch(ctx context.Context, repository string, wants []plumbing.Hash, depth int, filter packp.Filter) (store *memory.Storage, cut bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, r.timeout())
	defer cancel()
	defer func() {
		if err != nil {
			err = fmt.Errorf("fetch commits of %s: %w", repository, err)
		}
	}()
	if len(wants) == 0 {
		return memory.NewStorage(), false, nil
	}
	at, err := transport.NewEndpoint(r.address(repository))
	if err != nil {
		return nil, false, err
	}
	road, err := client.NewClient(at)
	if err != nil {
		return nil, false, err
	}
	session, err := road.NewUploadPackSession(at, nil)
	if err != nil {
		return nil, false, err
	}
	defer func() { err = errors.Join(err, session.Close()) }()
	offered, err := session.AdvertisedReferencesContext(ctx)
	if err != nil {
		return nil, false, err
	}
	if filter != "" && !offered.Capabilities.Supports(capability.Filter) {
		return nil, false, errNoFilter
	}
	ask := packp.NewUploadPackRequestFromCapabilities(offered.Capabilities)
	ask.Wants, ask.Depth, ask.Filter = wants, packp.DepthCommits(depth), filter
	set := []capability.Capability{capability.Shallow}
	if filter != "" {
		set = append(set, capability.Filter)
	}
	for _, c := range set {
		if err := ask.Capabilities.Set(c); err != nil {
			return nil, false, err
		}
	}
	answer, err := session.UploadPack(ctx, ask)
	if err != nil {
		return nil, false, err
	}
	defer func() { err = errors.Join(err, answer.Close()) }()
	store = memory.NewStorage()
	var in = sideband.NewDemuxer(sideband.Sideband64k, answer)
	if err := packfile.UpdateObjectStorage(store, in); err != nil {
		return nil, false, err
	}
	return store, len(answer.Shallows) > 0, nil
}
