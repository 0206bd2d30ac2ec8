package harden

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/go-git/go-git/v5"
	"github.com/go-git/go-git/v5/config"
	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/object"
	"github.com/go-git/go-git/v5/plumbing/transport"
	"github.com/go-git/go-git/v5/storage/memory"
	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote"
)

// Resolution is what a reference stands for.
type Resolution struct {
	// Commit is its hash, 40 hexadecimal digits.
	Commit string
	// Version is the most precise tag of the commit, for instance v4.2.2; empty if it has none.
	Version string
	// Tags are all tags of the commit.
	Tags []string
	// Branch says that the reference is a branch.
	Branch bool
	// Immutable says that the reference is the tag of an immutable release, which nobody can move.
	Immutable bool
}

// Resolver finds out what references stand for. It is safe for concurrent use.
type Resolver interface {
	// Resolve returns what a reference of a repository, OWNER/NAME, stands for: a tag, a branch,
	// or a whole or short commit. Errors wrap ErrUnknown if there is no such reference.
	Resolve(ctx context.Context, repository, ref string) (Resolution, error)
	// Digest returns an image's digest, sha256:….
	Digest(ctx context.Context, image string) (string, error)
}

// ErrUnknown says that there is no such repository, reference or image.
var ErrUnknown = errors.New("there is none")

// Remote resolves over the network: references by the git protocol, without a token, images by
// their registries. It asks about each repository once.
type Remote struct {
	// Server is where repositories are, https://github.com by default.
	Server string
	// Timeout bounds each question; 30 s by default.
	Timeout time.Duration

	depth int // of the history that is looked at; maxHistory by default

	mu    sync.Mutex
	known map[string]*remoteRefs
	trees map[string]*object.Tree // by OWNER/NAME@COMMIT
}

func (r *Remote) timeout() time.Duration { return cmp.Or(r.Timeout, 30*time.Second) }

func (r *Remote) address(repository string) string {
	return strings.TrimSuffix(cmp.Or(r.Server, "https://github.com"), "/") + "/" + repository
}

type remoteRefs struct {
	once     sync.Once
	err      error
	tags     map[string]string // name to commit, annotated tags followed
	branches map[string]string
	// annotated are the objects of annotated tags.
	annotated map[string]string

	walk    sync.Once
	walkErr error
	past    history
}

// Resolve implements Resolver.
func (r *Remote) Resolve(ctx context.Context, repository, ref string) (Resolution, error) {
	refs, err := r.refs(ctx, repository)
	if err != nil {
		return Resolution{}, err
	}
	var out Resolution
	switch tag, branch := refs.tags[ref], refs.branches[ref]; {
	case commitForm.MatchString(ref):
		out.Commit = ref
	case tag != "": // as GitHub does, a tag before a branch of the same name
		out.Commit = tag
	case branch != "":
		out.Commit, out.Branch = branch, true
	case shortForm.MatchString(ref):
		for _, of := range []map[string]string{refs.tags, refs.branches} {
			for _, commit := range of {
				if strings.HasPrefix(commit, ref) {
					if out.Commit != "" && out.Commit != commit {
						return Resolution{}, fmt.Errorf("resolve %s@%s: it is the beginning of several commits: %w", repository, ref, ErrUnknown)
					}
					out.Commit = commit
				}
			}
		}
	}
	if out.Commit == "" {
		return Resolution{}, fmt.Errorf("resolve %s@%s: %w", repository, ref, ErrUnknown)
	}
	for tag, commit := range refs.tags {
		if commit == out.Commit {
			out.Tags = append(out.Tags, tag)
		}
	}
	slices.Sort(out.Tags)
	out.Version = mostPrecise(out.Tags)
	return out, nil
}

func (r *Remote) refs(ctx context.Context, repository string) (*remoteRefs, error) {
	r.mu.Lock()
	if r.known == nil {
		r.known = make(map[string]*remoteRefs)
	}
	refs := r.known[repository]
	if refs == nil {
		refs = &remoteRefs{}
		r.known[repository] = refs
	}
	r.mu.Unlock()
	refs.once.Do(func() { refs.err = r.read(ctx, repository, refs) })
	return refs, refs.err
}

func (r *Remote) read(ctx context.Context, repository string, into *remoteRefs) error {
	ctx, cancel := context.WithTimeout(ctx, r.timeout())
	defer cancel()
	list, err := git.NewRemote(memory.NewStorage(), &config.RemoteConfig{Name: "origin", URLs: []string{r.address(repository)}}).
		ListContext(ctx, &git.ListOptions{PeelingOption: git.AppendPeeled})
	if errors.Is(err, transport.ErrRepositoryNotFound) || errors.Is(err, transport.ErrAuthenticationRequired) {
		return fmt.Errorf("read references of %s: %w", repository, ErrUnknown)
	}
	if err != nil {
		return fmt.Errorf("read references of %s: %w", repository, err)
	}
	into.tags, into.branches = make(map[string]string), make(map[string]string)
	peeled := make(map[string]string)
	for _, ref := range list {
		if ref.Type() != plumbing.HashReference {
			continue
		}
		full, hash := ref.Name().String(), ref.Hash().String()
		if tag, ok := strings.CutPrefix(full, "refs/tags/"); ok {
			if of, ok := strings.CutSuffix(tag, "^{}"); ok {
				peeled[of] = hash
			} else {
				into.tags[tag] = hash
			}
		} else if branch, ok := strings.CutPrefix(full, "refs/heads/"); ok {
			into.branches[branch] = hash
		}
	}
	into.annotated = make(map[string]string)
	for tag, commit := range peeled {
		into.annotated[tag], into.tags[tag] = into.tags[tag], commit
	}
	return nil
}

// mostPrecise returns the version with the most parts, the highest of these.
func mostPrecise(tags []string) string {
	best, bestParts := "", []int(nil)
	for _, t := range tags {
		parts, ok := versionParts(t)
		if !ok {
			continue
		}
		if best == "" || len(parts) > len(bestParts) || len(parts) == len(bestParts) && slices.Compare(parts, bestParts) > 0 {
			best, bestParts = t, parts
		}
	}
	return best
}

func versionParts(tag string) ([]int, bool) {
	if !versionWord.MatchString(tag) || strings.ContainsAny(tag, "-+") {
		return nil, false
	}
	var out []int
	for _, p := range strings.Split(strings.TrimPrefix(tag, "v"), ".") {
		n, err := strconv.Atoi(p)
		if err != nil {
			return nil, false
		}
		out = append(out, n)
	}
	return out, true
}

// Digest implements Resolver.
func (r *Remote) Digest(ctx context.Context, image string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, r.timeout())
	defer cancel()
	ref, err := name.ParseReference(image)
	if err != nil {
		return "", fmt.Errorf("image %s: %w", image, err)
	}
	d, err := remote.Head(ref, remote.WithContext(ctx), remote.WithAuthFromKeychain(authn.DefaultKeychain))
	if err != nil {
		return "", fmt.Errorf("ask for the digest of image %s: %w", image, err)
	}
	return d.Digest.String(), nil
}
