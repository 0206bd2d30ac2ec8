package organisation

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/sallyport-ci/sallyport/github"
	"github.com/sallyport-ci/sallyport/harden"
)

// Walk says how an organisation is gone through.
type Walk struct {
	// Organisation whose repositories they are, and which of them.
	Organisation string
	Selection
	// Parallel is how many repositories are read at once.
	Parallel int
	// Done is told of each, one at a time; may be nil.
	Done func(repository string, done, of int)
}

// Gather adds to an inventory what the default branches of the repositories use. Problems are
// files and repositories that could not be read; the others are in it all the same. The error is
// about the organisation, the selection or ctx.
func Gather(ctx context.Context, client *github.Client, w Walk, into *harden.Inventory) (problems []error, err error) {
	if err := w.Check(w.Organisation); err != nil {
		return nil, fmt.Errorf("inventory: %w", err)
	}
	var todo []github.Repository
	for repo, err := range client.Repositories(ctx, w.Organisation) {
		if err != nil {
			return nil, err
		}
		if w.Skips(repo) == "" {
			todo = append(todo, repo)
		}
	}
	var mu sync.Mutex
	done := 0
	err = Each(ctx, w.Parallel, todo, func(repo github.Repository) {
		sources, err := workflows(ctx, client, repo)
		mu.Lock()
		defer mu.Unlock()
		done++
		if err != nil && ctx.Err() == nil {
			problems = append(problems, err)
		}
		for _, s := range sources {
			if err := into.Add(repo.Name, s); err != nil {
				problems = append(problems, fmt.Errorf("%s: %w", repo.Name, err))
			}
		}
		if w.Done != nil {
			w.Done(repo.Name, done, len(todo))
		}
	})
	return problems, err
}

// workflows reads the workflows and actions of a repository's default branch; one without any
// commit has none.
func workflows(ctx context.Context, client *github.Client, repo github.Repository) ([]harden.Source, error) {
	sha, err := client.Head(ctx, repo.Name, repo.DefaultBranch)
	if errors.Is(err, github.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	_, files, err := ReadCommit(ctx, client, repo.Name, sha)
	if err != nil {
		return nil, err
	}
	return Sources(ctx, client, repo.Name, files, func(k harden.Kind) bool { return k == harden.KindWorkflow || k == harden.KindAction })
}
