package github

import (
	"context"
	"fmt"

	gh "github.com/google/go-github/v88/github"
)

// Issue is one that is no pull request.
type Issue struct {
	Number           int
	URL, Title, Body string
	// Login is who opened it.
	Login string
}

// OpenIssues lists the open issues of a repository, the newest first, pull requests apart.
func (c *Client) OpenIssues(ctx context.Context, repository string) ([]Issue, error) {
	owner, name := split(repository)
	opts := &gh.IssueListByRepoOptions{State: "open", ListOptions: gh.ListOptions{PerPage: 100}}
	var out []Issue
	for {
		list, resp, err := c.api.Issues.ListByRepo(ctx, owner, name, opts)
		if err != nil {
			return nil, said("list the issues of "+repository, err)
		}
		for _, i := range list {
			if !i.IsPullRequest() {
				out = append(out, issueOf(i))
			}
		}
		if resp.NextPage == 0 {
			return out, nil
		}
		opts.ListOptions.Page = resp.NextPage
	}
}

func issueOf(i *gh.Issue) Issue {
	return Issue{i.GetNumber(), i.GetHTMLURL(), i.GetTitle(), i.GetBody(), i.GetUser().GetLogin()}
}

// OpenIssue opens one.
func (c *Client) OpenIssue(ctx context.Context, repository, title, body string) (Issue, error) {
	owner, name := split(repository)
	i, _, err := c.api.Issues.Create(ctx, owner, name, &gh.IssueRequest{Title: gh.Ptr(title), Body: gh.Ptr(body)})
	if err != nil {
		return Issue{}, said("open an issue in "+repository, err)
	}
	return issueOf(i), nil
}

// SetIssue changes title and text.
func (c *Client) SetIssue(ctx context.Context, repository string, number int, title, body string) error {
	owner, name := split(repository)
	_, _, err := c.api.Issues.Edit(ctx, owner, name, number, &gh.IssueRequest{Title: gh.Ptr(title), Body: gh.Ptr(body)})
	return said(fmt.Sprintf("change issue %d of %s", number, repository), err)
}
