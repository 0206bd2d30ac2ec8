package rollout

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/sallyport-ci/sallyport/github"
	"github.com/sallyport-ci/sallyport/harden"
	"github.com/sallyport-ci/sallyport/harden/catalogue"
	"github.com/sallyport-ci/sallyport/harden/organisation"
)

// DefaultBranch is the branch of proposals.
const DefaultBranch = "sallyport/harden"

// passing is the branch by which GitHub signs a token's commit, and which is gone afterwards.
const passing = "-passing"

// Options say which repositories are looked at, and what is done.
type Options struct {
	// Organisation whose repositories they are.
	Organisation string
	// Selection of them.
	organisation.Selection

	// Harden is what is done to each; its Lock is that of the repository.
	Harden harden.Config
	// Branch of proposals; DefaultBranch by default.
	Branch string
	// Draft opens pull requests as drafts.
	Draft bool
	// Reopen makes a new pull request where a person has closed one.
	Reopen bool
	// MaxNew bounds how many pull requests are opened; 0 for no bound.
	MaxNew int
	// DryRun writes nothing.
	DryRun bool

	// Parallel is how many repositories are worked on at once; 4 by default.
	Parallel int
	// State keeps what came of each until all are done; may be nil.
	State *State
	// Began is told how many repositories there are to do, Done what came of each, one at a time,
	// in any order; both may be nil.
	Began func(repositories int)
	Done  func(Outcome)
}

// Status is what came of a repository.
type Status string

// What came of repositories. With DryRun it is what would come.
const (
	// Opened, Updated and Closed are what was done to a pull request; Unchanged is one that is as
	// it should be.
	Opened    Status = "opened"
	Updated   Status = "updated"
	Closed    Status = "closed"
	Unchanged Status = "unchanged"
	// Clean is a repository with nothing to change.
	Clean Status = "clean"
	// Touched is one whose branch has somebody's commits, Declined one whose pull request a person
	// has closed: neither is worked on.
	Touched  Status = "touched"
	Declined Status = "declined"
	// Waiting is one that a pull request would be opened in but for MaxNew.
	Waiting Status = "waiting"
	// Skipped was not to be looked at, Failed could not be.
	Skipped Status = "skipped"
	Failed  Status = "failed"
)

// Finding is one of a file.
type Finding struct {
	File string `json:"file"`
	harden.Finding
}

// Outcome is what came of one repository.
type Outcome struct {
	Repository string `json:"repository"`
	Status     Status `json:"status"`
	// Reason explains the status where it does not speak for itself.
	Reason string `json:"reason,omitempty"`
	// PullRequest is its address.
	PullRequest string `json:"pull_request,omitempty"`
	// Files is how many are changed, by how many Fixes.
	Files int `json:"files"`
	Fixes int `json:"fixes"`
	// Findings are what a person should look at, Problems files that could not be read.
	Findings []Finding `json:"findings"`
	Problems []string  `json:"problems"`
	// Results are what came of each file; not kept in a State.
	Results []*harden.Result `json:"-"`
}

// run is Options at work.
type run struct {
	Options
	client *github.Client

	mu     sync.Mutex
	opened int // pull requests, and those that are being opened
}

// Run goes over an organisation and returns what came of each repository, by name. A repository
// that fails does not stop the others; the error is about the organisation, the options or ctx,
// beside what came until then.
func Run(ctx context.Context, client *github.Client, o Options) ([]Outcome, error) {
	if err := o.check(); err != nil {
		return nil, err
	}
	o.Branch = cmp.Or(o.Branch, DefaultBranch)
	o.Parallel = cmp.Or(o.Parallel, 4)
	if o.Harden.Catalogue == nil { // read once for all repositories
		var err error
		if o.Harden.Catalogue, err = catalogue.Embedded(); err != nil {
			return nil, fmt.Errorf("harden org: %w", err)
		}
	}
	r := &run{Options: o, client: client}
	var all []Outcome
	var todo []github.Repository
	for repo, err := range client.Repositories(ctx, o.Organisation) {
		if err != nil {
			return nil, err
		}
		known, ok := o.State.known(repo.Name)
		switch why := o.Skips(repo); {
		case why != "":
			all = append(all, Outcome{Repository: repo.Name, Status: Skipped, Reason: why})
		case ok:
			all = append(all, known)
		default:
			todo = append(todo, repo)
		}
	}
	if o.Began != nil {
		o.Began(len(todo))
	}
	done, err := r.each(ctx, todo)
	all = append(all, done...)
	slices.SortFunc(all, func(a, b Outcome) int { return strings.Compare(a.Repository, b.Repository) })
	return all, err
}

func (o *Options) check() error {
	if err := o.Check(o.Organisation); err != nil {
		return fmt.Errorf("harden org: %w", err)
	}
	return nil
}

// each works on repositories, some at once.
func (r *run) each(ctx context.Context, todo []github.Repository) ([]Outcome, error) {
	var out []Outcome
	var stateErr error
	err := organisation.Each(ctx, r.Parallel, todo, func(repo github.Repository) {
		o := r.repository(ctx, repo)
		if ctx.Err() != nil {
			return // what it says is that it was stopped
		}
		r.mu.Lock()
		defer r.mu.Unlock()
		out = append(out, o)
		if r.Done != nil {
			r.Done(o)
		}
		if err := r.State.add(o); err != nil && stateErr == nil {
			stateErr = err // the run goes on: it could only not be resumed
		}
	})
	return out, cmp.Or(err, stateErr)
}

// repository works on one, and once more if that failed: each step finds what was done before.
func (r *run) repository(ctx context.Context, repo github.Repository) Outcome {
	p := &proposal{run: r, repo: repo}
	out, err := p.bring(ctx)
	if err != nil && ctx.Err() == nil && !errors.Is(err, github.ErrForbidden) && !errors.Is(err, github.ErrProtected) {
		p = &proposal{run: r, repo: repo}
		out, err = p.bring(ctx)
	}
	out.Repository = repo.Name
	if err == nil {
		return out
	}
	out.Status, out.Reason = Failed, err.Error()
	switch {
	case errors.Is(err, github.ErrForbidden):
		out.Reason += "; the App or token needs to write contents, pull requests and workflows"
	case errors.Is(err, github.ErrProtected):
		out.Reason += "; exempt the App from the rule, or give another --branch"
	}
	return out
}

// reserve takes one of the pull requests that may be opened.
func (r *run) reserve() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.MaxNew > 0 && r.opened >= r.MaxNew {
		return false
	}
	r.opened++
	return true
}

func (r *run) release() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.opened--
}
