package github

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	gh "github.com/google/go-github/v88/github"
)

// Tag is a name of a commit; annotated tags are followed.
type Tag struct{ Name, Commit string }

// Tags lists all tags of a repository.
func (c *Client) Tags(ctx context.Context, repository string) ([]Tag, error) {
	owner, name := split(repository)
	var out []Tag
	opts := gh.ListOptions{PerPage: 100}
	for {
		list, resp, err := c.api.Repositories.ListTags(ctx, owner, name, &opts)
		if err != nil {
			return nil, said("list the tags of "+repository, err)
		}
		for _, t := range list {
			out = append(out, Tag{t.GetName(), t.GetCommit().GetSHA()})
		}
		if resp.NextPage == 0 {
			return out, nil
		}
		opts.Page = resp.NextPage
	}
}

// Release is a published release.
type Release struct {
	Tag string
	// Published is when GitHub published it: unlike the date of a commit, not for its author to say.
	Published time.Time
	// Immutable says that GitHub lets nobody move its tag or change its files.
	Immutable, Prerelease bool
}

// Release returns that of a tag. Errors wrap ErrNotFound if the tag has none.
func (c *Client) Release(ctx context.Context, repository, tag string) (Release, error) {
	owner, name := split(repository)
	r, _, err := c.api.Repositories.GetReleaseByTag(ctx, owner, name, tag)
	if err != nil {
		return Release{}, said(fmt.Sprintf("ask for release %s of %s", tag, repository), err)
	}
	return releaseOf(r), nil
}

func releaseOf(r *gh.RepositoryRelease) Release {
	return Release{r.GetTagName(), r.GetPublishedAt().Time, r.GetImmutable(), r.GetPrerelease()}
}

// Releases returns the newest, at most 100.
func (c *Client) Releases(ctx context.Context, repository string) ([]Release, error) {
	owner, name := split(repository)
	list, _, err := c.api.Repositories.ListReleases(ctx, owner, name, &gh.ListOptions{PerPage: 100})
	if err != nil {
		return nil, said("list the releases of "+repository, err)
	}
	var out []Release
	for _, r := range list {
		if !r.GetDraft() {
			out = append(out, releaseOf(r))
		}
	}
	return out, nil
}

// Find returns the commit that a whole or short hash, a branch or a tag names. It may be of a
// fork. Errors wrap ErrNotFound if there is none.
func (c *Client) Find(ctx context.Context, repository, ref string) (Commit, error) {
	owner, name := split(repository)
	commit, _, err := c.api.Repositories.GetCommit(ctx, owner, name, ref, &gh.ListOptions{PerPage: 1})
	if err != nil {
		return Commit{}, noCommit(fmt.Sprintf("ask for %s of %s", ref, repository), err)
	}
	out := commitOf(commit.GetCommit())
	out.SHA, out.Parents = commit.GetSHA(), nil
	for _, p := range commit.Parents {
		out.Parents = append(out.Parents, p.GetSHA())
	}
	return out, nil
}

// noCommit is said of a commit: GitHub answers 422 where there is none.
func noCommit(doing string, err error) error {
	var answer *gh.ErrorResponse
	if errors.As(err, &answer) && answer.Response != nil && answer.Response.StatusCode == http.StatusUnprocessableEntity {
		return fmt.Errorf("%s: %w", doing, ErrNotFound)
	}
	return said(doing, err)
}

// Before returns the newest commit of a branch whose committer's date is not after a time. Errors
// wrap ErrNotFound if there is none.
func (c *Client) Before(ctx context.Context, repository, branch string, until time.Time) (Commit, error) {
	owner, name := split(repository)
	list, _, err := c.api.Repositories.ListCommits(ctx, owner, name, &gh.CommitsListOptions{SHA: branch, Until: until, ListOptions: gh.ListOptions{PerPage: 1}})
	if err != nil {
		return Commit{}, said(fmt.Sprintf("list the commits of %s of %s", branch, repository), err)
	}
	if len(list) == 0 {
		return Commit{}, fmt.Errorf("list the commits of %s of %s until %s: %w", branch, repository, until.UTC().Format(time.RFC3339), ErrNotFound)
	}
	out := commitOf(list[0].GetCommit())
	out.SHA = list[0].GetSHA()
	return out, nil
}

// Branches lists the branches of a repository with their commits, at most so many.
func (c *Client) Branches(ctx context.Context, repository string, most int) ([]Tag, error) {
	owner, name := split(repository)
	var out []Tag
	opts := gh.BranchListOptions{ListOptions: gh.ListOptions{PerPage: 100}}
	for {
		list, resp, err := c.api.Repositories.ListBranches(ctx, owner, name, &opts)
		if err != nil {
			return nil, said("list the branches of "+repository, err)
		}
		for _, b := range list {
			if len(out) < most {
				out = append(out, Tag{b.GetName(), b.GetCommit().GetSHA()})
			}
		}
		if resp.NextPage == 0 || len(out) >= most {
			return out, nil
		}
		opts.Page = resp.NextPage
	}
}

// Advisory is a published one about versions of a package.
type Advisory struct {
	// ID is that of GitHub, Severity its word: low, medium, high, critical.
	ID, Severity, Summary, URL string
	// Affected are ranges of versions as GitHub writes them ("<= 45.0.7"), with the first version
	// that is mended, if there is one.
	Affected []Affected
}

// Affected is a range of versions and the first mended one; empty if none is.
type Affected struct{ Versions, Patched string }

// ActionAdvisories lists GitHub's reviewed advisories about an action, OWNER/NAME, that were not
// withdrawn.
func (c *Client) ActionAdvisories(ctx context.Context, action string) ([]Advisory, error) {
	list, _, err := c.api.SecurityAdvisories.ListGlobalSecurityAdvisories(ctx, &gh.ListGlobalSecurityAdvisoriesOptions{
		Ecosystem: gh.Ptr("actions"), Affects: gh.Ptr(action), ListCursorOptions: gh.ListCursorOptions{PerPage: 100},
	})
	if err != nil {
		return nil, said("ask for advisories about "+action, err)
	}
	var out []Advisory
	for _, a := range list {
		if a.WithdrawnAt != nil {
			continue
		}
		one := Advisory{ID: a.GetGHSAID(), Severity: a.GetSeverity(), Summary: oneLine(a.GetSummary()), URL: a.GetHTMLURL()}
		for _, v := range a.Vulnerabilities {
			if !strings.EqualFold(v.GetPackage().GetName(), action) {
				continue // one advisory may be about several packages
			}
			one.Affected = append(one.Affected, Affected{v.GetVulnerableVersionRange(), v.GetFirstPatchedVersion()})
		}
		out = append(out, one)
	}
	return out, nil
}
