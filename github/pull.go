package github

import (
	"context"
	"fmt"
	"strings"

	gh "github.com/google/go-github/v88/github"
)

// PullRequest is one within a repository.
type PullRequest struct {
	Number              int
	URL, Title, Body    string
	Head, HeadSHA, Base string
	Open, Merged, Draft bool
	// Login is who opened it.
	Login string
}

func pullOf(p *gh.PullRequest) PullRequest {
	return PullRequest{
		Number: p.GetNumber(), URL: p.GetHTMLURL(), Title: p.GetTitle(), Body: p.GetBody(), Head: p.GetHead().GetRef(), HeadSHA: p.GetHead().GetSHA(),
		Base: p.GetBase().GetRef(), Open: p.GetState() == "open", Merged: p.GetMerged() || !p.GetMergedAt().IsZero(), Draft: p.GetDraft(), Login: p.GetUser().GetLogin(),
	}
}

// PullRequests lists those of a branch of the repository itself, open or not, the newest first.
func (c *Client) PullRequests(ctx context.Context, repository, branch string) ([]PullRequest, error) {
	owner, name := split(repository)
	list, _, err := c.api.PullRequests.List(ctx, owner, name, &gh.PullRequestListOptions{State: "all", Head: owner + ":" + branch, ListOptions: gh.ListOptions{PerPage: 100}})
	if err != nil {
		return nil, said("list the pull requests of "+repository, err)
	}
	var out []PullRequest
	for _, p := range list {
		if strings.EqualFold(p.GetHead().GetRepo().GetFullName(), repository) {
			out = append(out, pullOf(p))
		}
	}
	return out, nil
}

// PullRequest returns one. Errors wrap ErrNotFound if there is none.
func (c *Client) PullRequest(ctx context.Context, repository string, number int) (PullRequest, error) {
	p, _, err := c.api.PullRequests.Get(ctx, ownerOf(repository), nameOf(repository), number)
	if err != nil {
		return PullRequest{}, said(fmt.Sprintf("get pull request %d of %s", number, repository), err)
	}
	return pullOf(p), nil
}

// OpenPullRequest opens one.
func (c *Client) OpenPullRequest(ctx context.Context, repository string, p PullRequest) (PullRequest, error) {
	owner, name := split(repository)
	out, _, err := c.api.PullRequests.Create(ctx, owner, name, &gh.NewPullRequest{
		Title: gh.Ptr(p.Title), Head: gh.Ptr(p.Head), Base: gh.Ptr(p.Base), Body: gh.Ptr(p.Body), Draft: gh.Ptr(p.Draft),
	})
	if err != nil {
		return PullRequest{}, said("open a pull request in "+repository, err)
	}
	return pullOf(out), nil
}

// SetPullRequest changes title and text.
func (c *Client) SetPullRequest(ctx context.Context, repository string, number int, title, body string) error {
	owner, name := split(repository)
	_, _, err := c.api.PullRequests.Edit(ctx, owner, name, number, &gh.PullRequest{Title: gh.Ptr(title), Body: gh.Ptr(body)})
	return said(fmt.Sprintf("change pull request %d of %s", number, repository), err)
}

// ClosePullRequest closes one, with a comment.
func (c *Client) ClosePullRequest(ctx context.Context, repository string, number int, why string) error {
	owner, name := split(repository)
	if _, _, err := c.api.Issues.CreateComment(ctx, owner, name, number, &gh.IssueComment{Body: gh.Ptr(why)}); err != nil {
		return said(fmt.Sprintf("comment on pull request %d of %s", number, repository), err)
	}
	_, _, err := c.api.PullRequests.Edit(ctx, owner, name, number, &gh.PullRequest{State: gh.Ptr("closed")})
	return said(fmt.Sprintf("close pull request %d of %s", number, repository), err)
}
