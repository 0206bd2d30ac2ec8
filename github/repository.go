package github

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"strings"
	"time"

	gh "github.com/google/go-github/v88/github"
)

// Repository is what is known of one.
type Repository struct {
	// Name is OWNER/NAME; ID is that of GraphQL.
	Name, ID      string
	DefaultBranch string
	// Private is true of internal ones, too.
	Private, Archived, Disabled, Fork, Empty bool
	Topics                                   []string
	Stars                                    int
	License                                  string
	// Pushed is the time of the last push, Created that of its making.
	Pushed, Created time.Time
}

func split(repository string) (owner, name string) {
	owner, name, _ = strings.Cut(repository, "/")
	return owner, name
}

func repositoryOf(r *gh.Repository) Repository {
	return Repository{
		Name: r.GetFullName(), ID: r.GetNodeID(), DefaultBranch: r.GetDefaultBranch(), Private: r.GetPrivate(), Archived: r.GetArchived(), Disabled: r.GetDisabled(),
		Fork: r.GetFork(), Topics: r.Topics, Stars: r.GetStargazersCount(), License: r.GetLicense().GetSPDXID(), Pushed: r.GetPushedAt().Time, Created: r.GetCreatedAt().Time,
	}
}

// Repository returns what is known of one.
func (c *Client) Repository(ctx context.Context, name string) (Repository, error) {
	r, _, err := c.api.Repositories.Get(ctx, ownerOf(name), nameOf(name))
	if err != nil {
		return Repository{}, said("ask for repository "+name, err)
	}
	return repositoryOf(r), nil
}

func ownerOf(repository string) string { owner, _ := split(repository); return owner }
func nameOf(repository string) string  { _, name := split(repository); return name }

// Repositories lists those of an organisation that the client may see: for an App those that it
// is installed in.
func (c *Client) Repositories(ctx context.Context, org string) iter.Seq2[Repository, error] {
	return func(yield func(Repository, error) bool) {
		opts := gh.ListOptions{PerPage: 100}
		for {
			var list []*gh.Repository
			var resp *gh.Response
			var err error
			if c.app {
				var all *gh.ListRepositories
				if all, resp, err = c.api.Apps.ListRepos(ctx, &opts); err == nil {
					list = all.Repositories
				}
			} else {
				list, resp, err = c.api.Repositories.ListByOrg(ctx, org, &gh.RepositoryListByOrgOptions{ListOptions: opts})
			}
			if err != nil {
				yield(Repository{}, said("list the repositories of "+org, err))
				return
			}
			for _, r := range list {
				if strings.EqualFold(r.GetOwner().GetLogin(), org) && !yield(repositoryOf(r), nil) {
					return
				}
			}
			if resp.NextPage == 0 {
				return
			}
			opts.Page = resp.NextPage
		}
	}
}

// Entry is a file of a tree.
type Entry struct {
	Path string
	// Mode is git's, six digits; a file has 100644 or 100755.
	Mode string
	// SHA is that of its blob, Size its size in bytes.
	SHA  string
	Size int
}

// Tree lists all files of a commit or a tree. GitHub lists at most 100,000 at once: what is
// larger is asked for folder by folder.
func (c *Client) Tree(ctx context.Context, repository, sha string) ([]Entry, error) {
	return c.tree(ctx, repository, sha, "")
}

func (c *Client) tree(ctx context.Context, repository, sha, below string) ([]Entry, error) {
	get := func(recursive bool) (*gh.Tree, error) {
		t, _, err := c.api.Git.GetTree(ctx, ownerOf(repository), nameOf(repository), sha, recursive)
		if err != nil {
			return nil, said(fmt.Sprintf("list the files of %s at %s", repository, sha), err)
		}
		return t, nil
	}
	t, err := get(true)
	whole := err == nil && !t.GetTruncated()
	if err == nil && !whole {
		t, err = get(false)
	}
	if err != nil {
		return nil, err
	}
	if !whole && t.GetTruncated() {
		return nil, fmt.Errorf("list the files of %s at %s: folder %q has more than GitHub lists", repository, sha, below)
	}
	var out []Entry
	for _, e := range t.Entries {
		switch {
		case e.GetType() == "blob":
			out = append(out, Entry{below + e.GetPath(), e.GetMode(), e.GetSHA(), e.GetSize()})
		case e.GetType() == "tree" && !whole:
			more, err := c.tree(ctx, repository, e.GetSHA(), below+e.GetPath()+"/")
			if err != nil {
				return nil, err
			}
			out = append(out, more...)
		}
	}
	return out, nil
}

// Blob returns the text of a file by the SHA of its blob.
func (c *Client) Blob(ctx context.Context, repository, sha string) ([]byte, error) {
	owner, name := split(repository)
	b, _, err := c.api.Git.GetBlob(ctx, owner, name, sha)
	if err != nil {
		return nil, said(fmt.Sprintf("read blob %s of %s", sha, repository), err)
	}
	data, err := decode(b.GetContent(), b.GetEncoding())
	if err != nil {
		return nil, fmt.Errorf("read blob %s of %s: %w", sha, repository, err)
	}
	return data, nil
}

// maxFile is the largest file that is read, in bytes.
const maxFile = 4 << 20

// File returns the text of a file at a commit. Errors wrap ErrNotFound if there is none, and
// ErrTooLarge if it has more than 4 MiB.
func (c *Client) File(ctx context.Context, repository, commit, path string) ([]byte, error) {
	owner, name := split(repository)
	f, _, _, err := c.api.Repositories.GetContents(ctx, owner, name, path, &gh.RepositoryContentGetOptions{Ref: commit})
	if err != nil {
		return nil, said(fmt.Sprintf("read %s of %s at %s", path, repository, commit), err)
	}
	if f == nil {
		return nil, fmt.Errorf("read %s of %s at %s: it is a folder: %w", path, repository, commit, ErrNotFound)
	}
	if f.GetSize() > maxFile {
		return nil, fmt.Errorf("read %s of %s at %s: it has %d bytes: %w", path, repository, commit, f.GetSize(), ErrTooLarge)
	}
	if f.GetEncoding() == "none" { // more than a MiB
		return c.Blob(ctx, repository, f.GetSHA())
	}
	text, err := f.GetContent()
	if err != nil {
		return nil, fmt.Errorf("read %s of %s at %s: %w", path, repository, commit, err)
	}
	return []byte(text), nil
}

// Head returns the commit of a branch. Errors wrap ErrNotFound if there is none.
func (c *Client) Head(ctx context.Context, repository, branch string) (string, error) {
	owner, name := split(repository)
	ref, _, err := c.api.Git.GetRef(ctx, owner, name, "heads/"+branch)
	if err != nil {
		return "", said(fmt.Sprintf("ask for branch %s of %s", branch, repository), err)
	}
	return ref.GetObject().GetSHA(), nil
}

// Commit is one, as git knows it.
type Commit struct {
	SHA, Tree, Message string
	Parents            []string
	// Author and Committer are names as they were given: nobody vouches for them.
	Author, Committer string
	// Verified says that GitHub vouches for its signature.
	Verified bool
	Time     time.Time
}

func commitOf(c *gh.Commit) Commit {
	out := Commit{
		SHA: c.GetSHA(), Tree: c.GetTree().GetSHA(), Message: c.GetMessage(), Author: c.GetAuthor().GetName(), Committer: c.GetCommitter().GetName(),
		Verified: c.GetVerification().GetVerified(), Time: c.GetCommitter().GetDate().Time,
	}
	for _, p := range c.Parents {
		out.Parents = append(out.Parents, p.GetSHA())
	}
	return out
}

// Commit returns one by its SHA. It may be of a fork.
func (c *Client) Commit(ctx context.Context, repository, sha string) (Commit, error) {
	owner, name := split(repository)
	commit, _, err := c.api.Git.GetCommit(ctx, owner, name, sha)
	if err != nil {
		return Commit{}, said(fmt.Sprintf("ask for commit %s of %s", sha, repository), err)
	}
	return commitOf(commit), nil
}

// Contains says whether a commit is on the way to a reference of the repository.
func (c *Client) Contains(ctx context.Context, repository, ref, sha string) (bool, error) {
	owner, name := split(repository)
	cmp, _, err := c.api.Repositories.CompareCommits(ctx, owner, name, ref, sha, &gh.ListOptions{PerPage: 1})
	if errors.Is(said("", err), ErrNotFound) {
		return false, nil // they share no history
	}
	if err != nil {
		return false, said(fmt.Sprintf("compare %s of %s with %s", sha, repository, ref), err)
	}
	return cmp.GetStatus() == "behind" || cmp.GetStatus() == "identical", nil
}

// Verified says whether an owner of repositories is an organisation, and whether GitHub has
// verified its domain.
func (c *Client) Verified(ctx context.Context, owner string) (organisation, verified bool, err error) {
	o, _, err := c.api.Organizations.Get(ctx, owner) //nolint:misspell // the library's
	if errors.Is(said("", err), ErrNotFound) {
		return false, false, nil
	}
	if err != nil {
		return false, false, said("ask about "+owner, err)
	}
	return true, o.GetIsVerified(), nil
}
