package organisation

import (
	"context"
	"fmt"
	"path"
	"slices"
	"strings"
	"sync"

	"github.com/sallyport-ci/sallyport/github"
)

// Selection says which repositories are looked at. Archived and disabled ones never are.
type Selection struct {
	// Match are patterns (path.Match) of names without the owner, of which one must match; all do
	// if there are none. Exclude are such of which none may.
	Match, Exclude []string
	// Topics of which a repository must have one; none are asked for if there are none.
	Topics []string
	// Visibility is "public", "private" (which internal ones count as) or "" for all.
	Visibility string
	// Forks are looked at, too.
	Forks bool
}

// Check says what is wrong with a selection within an organisation.
func (s *Selection) Check(organisation string) error {
	if organisation == "" || strings.Contains(organisation, "/") {
		return fmt.Errorf("%q is no organisation's name", organisation)
	}
	for _, p := range slices.Concat(s.Match, s.Exclude) {
		if _, err := path.Match(p, ""); err != nil {
			return fmt.Errorf("%q is no pattern: %w", p, err)
		}
	}
	if !slices.Contains([]string{"", "public", "private"}, s.Visibility) {
		return fmt.Errorf("visibility %q is neither public nor private", s.Visibility)
	}
	return nil
}

// Skips says why a repository is not looked at; empty if it is.
func (s *Selection) Skips(repo github.Repository) string {
	_, name, _ := strings.Cut(repo.Name, "/")
	matches := func(pattern string) bool {
		ok, _ := path.Match(strings.ToLower(pattern), strings.ToLower(name))
		return ok
	}
	switch {
	case repo.Archived:
		return "archived"
	case repo.Disabled:
		return "disabled"
	case repo.Fork && !s.Forks:
		return "a fork"
	case len(s.Match) > 0 && !slices.ContainsFunc(s.Match, matches):
		return "not asked for by its name"
	case slices.ContainsFunc(s.Exclude, matches):
		return "excluded by its name"
	case len(s.Topics) > 0 && !slices.ContainsFunc(s.Topics, func(t string) bool { return slices.Contains(repo.Topics, t) }):
		return "not asked for by its topics"
	case s.Visibility == "public" && repo.Private, s.Visibility == "private" && !repo.Private:
		return "not " + s.Visibility
	}
	return ""
}

// Each does something with repositories, at most parallel at once, and returns when all of it is
// done. Once ctx has ended no more are begun.
func Each(ctx context.Context, parallel int, repos []github.Repository, do func(github.Repository)) error {
	next := make(chan github.Repository)
	var workers sync.WaitGroup
	for range min(max(parallel, 1), len(repos)) {
		workers.Go(func() {
			for repo := range next {
				do(repo)
			}
		})
	}
feed:
	for _, repo := range repos {
		select {
		case next <- repo:
		case <-ctx.Done():
			break feed
		}
	}
	close(next)
	workers.Wait()
	return ctx.Err()
}
