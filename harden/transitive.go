package harden

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"

	"github.com/go-git/go-git/v5"
	"github.com/go-git/go-git/v5/config"
	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/object"
	"github.com/go-git/go-git/v5/storage/memory"
)

// Reader reads files of repositories: to know what an action uses itself.
type Reader interface {
	// File returns a file of a repository, OWNER/NAME, at a commit. Errors wrap ErrUnknown if
	// there is none.
	File(ctx context.Context, repository, commit, name string) ([]byte, error)
}

// File implements Reader by the git protocol: one commit is fetched, without its history, into
// memory.
func (r *Remote) File(ctx context.Context, repository, commit, name string) ([]byte, error) {
	tree, err := r.tree(ctx, repository, commit)
	if err != nil {
		return nil, err
	}
	f, err := tree.File(name)
	if errors.Is(err, object.ErrFileNotFound) {
		return nil, fmt.Errorf("read %s of %s at %s: %w", name, repository, commit, ErrUnknown)
	}
	if err != nil {
		return nil, fmt.Errorf("read %s of %s at %s: %w", name, repository, commit, err)
	}
	in, err := f.Reader()
	if err != nil {
		return nil, fmt.Errorf("read %s of %s at %s: %w", name, repository, commit, err)
	}
	data, err := io.ReadAll(io.LimitReader(in, maxFile+1))
	if err = errors.Join(err, in.Close()); err != nil {
		return nil, fmt.Errorf("read %s of %s at %s: %w", name, repository, commit, err)
	}
	return data, nil
}

func (r *Remote) tree(ctx context.Context, repository, commit string) (*object.Tree, error) {
	r.mu.Lock()
	if r.trees == nil {
		r.trees = make(map[string]*object.Tree)
	}
	tree := r.trees[repository+"@"+commit]
	r.mu.Unlock()
	if tree != nil {
		return tree, nil
	}
	ctx, cancel := context.WithTimeout(ctx, r.timeout())
	defer cancel()
	repo, err := git.Init(memory.NewStorage(), nil)
	if err != nil {
		return nil, fmt.Errorf("fetch %s: %w", repository, err)
	}
	remote, err := repo.CreateRemote(&config.RemoteConfig{Name: "origin", URLs: []string{r.address(repository)}})
	if err != nil {
		return nil, fmt.Errorf("fetch %s: %w", repository, err)
	}
	err = remote.FetchContext(ctx, &git.FetchOptions{
		RefSpecs: []config.RefSpec{config.RefSpec(commit + ":refs/heads/it")}, Depth: 1, Tags: git.NoTags,
	})
	if err != nil && !errors.Is(err, git.NoErrAlreadyUpToDate) {
		return nil, fmt.Errorf("fetch commit %s of %s: %w", commit, repository, err)
	}
	c, err := repo.CommitObject(plumbing.NewHash(commit))
	if err == nil {
		tree, err = c.Tree()
	}
	if err != nil {
		return nil, fmt.Errorf("fetch commit %s of %s: %w", commit, repository, err)
	}
	r.mu.Lock()
	r.trees[repository+"@"+commit] = tree
	r.mu.Unlock()
	return tree, nil
}

// maxChain bounds how far actions are followed into what they use.
const maxChain = 10

// transitive tells of what pinned actions use themselves that is not pinned, down to its end: a
// pin holds the action still, not what it fetches when it runs. What these stand for goes into the
// lock, so that --update tells when it moves.
func (h *hardener) transitive(ctx context.Context, d *Document, kind Kind) (findings []Finding) {
	reader, ok := h.Resolver.(Reader)
	if !ok {
		return nil
	}
	for _, u := range d.uses(kind) {
		ref, ok := ParseReference(u.node.Value)
		if u.image || !ok || h.exempt(ref.Repository) {
			continue
		}
		for _, said := range h.follow(ctx, reader, ref, nil) {
			findings = append(findings, Finding{said.rule, said.severity, position(u.node), said.message})
		}
	}
	return findings
}

type saidOfChain struct {
	rule, message string
	severity      Severity
}

// follow looks into one action, which chain led to.
func (h *hardener) follow(ctx context.Context, reader Reader, ref Reference, chain []string) (out []saidOfChain) {
	key := ref.String()
	if known, ok := h.chains[key]; ok && chain == nil {
		return known
	}
	defer func() {
		if chain == nil {
			h.chains[key] = out
		}
	}()
	chain = append(chain, key)
	say := func(s Severity, format string, args ...any) {
		out = append(out, saidOfChain{"transitive", strings.Join(chain, " uses ") + fmt.Sprintf(format, args...), s})
	}
	now, news, err := h.resolver.action(ctx, ref)
	if news.young != nil {
		now, err = news.current(now), nil // it runs what it is now, however young
	}
	if why, _ := h.resolver.foreign(ctx, ref); why != "" && len(chain) > 1 {
		out = append(out, saidOfChain{"impostor-commit", strings.Join(chain, " uses ") + ": " + why, SeverityError})
		return out
	}
	if news.moved != nil && len(chain) > 1 {
		f := moveOf(Position{}, ref, news.moved)
		out = append(out, saidOfChain{f.Rule, strings.Join(chain[:len(chain)-1], " uses ") + " uses " + f.Message, f.Severity})
	}
	if err != nil {
		switch {
		case len(chain) == 1: // told where it is used
		case errors.Is(err, ErrUnknown):
			say(SeverityError, ", which does not exist: whoever makes it decides what runs")
		default:
			say(SeverityNote, ": what that uses is not known: %v", err)
		}
		return out
	}
	if len(chain) > maxChain {
		say(SeverityWarning, ", and so on: it is followed no further")
		return out
	}
	text, err := actionFile(ctx, reader, ref, now.Commit)
	if errors.Is(err, ErrUnknown) {
		return out // no action.yml: a Dockerfile, or a workflow that is looked at where it is
	}
	if err != nil {
		say(SeverityNote, ": what it uses could not be read: %v", err)
		return out
	}
	d, err := Parse(ref.Repository+"/action.yml", text)
	if err != nil || d.Root == nil {
		return out
	}
	kind := KindAction
	if strings.HasPrefix(ref.Path, "/.github/workflows/") {
		kind = KindWorkflow
	}
	for _, u := range d.uses(kind) {
		v := u.node.Value
		if image, isImage := strings.CutPrefix(v, "docker://"); u.image || isImage {
			if !strings.Contains(image, "@sha256:") && !strings.Contains(image, "${{") {
				say(SeverityWarning, " uses image %s, which is not pinned", image)
			}
			continue
		}
		next, ok := ParseReference(v)
		if !ok {
			continue // one of whoever uses it, or one that only the run knows
		}
		if !next.Pinned() {
			say(SeverityWarning, " uses %s, which is not pinned", next)
		}
		if !slices.Contains(chain, next.String()) {
			out = append(out, h.follow(ctx, reader, next, slices.Clip(chain))...)
		}
	}
	return out
}

// actionFile reads the file of an action or a reusable workflow.
func actionFile(ctx context.Context, reader Reader, ref Reference, commit string) (text []byte, err error) {
	if strings.HasPrefix(ref.Path, "/.github/workflows/") {
		return reader.File(ctx, ref.Repository, commit, strings.TrimPrefix(ref.Path, "/"))
	}
	for _, name := range []string{"action.yml", "action.yaml"} {
		text, err = reader.File(ctx, ref.Repository, commit, path.Join(strings.TrimPrefix(ref.Path, "/"), name))
		if !errors.Is(err, ErrUnknown) {
			return text, err
		}
	}
	return nil, err
}
