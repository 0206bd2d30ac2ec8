package github

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	gh "github.com/google/go-github/v88/github"
)

// Run is a workflow run.
type Run struct {
	ID      int64
	Attempt int
	// Name is the workflow's, Path that of its file.
	Name, Path string
	// Event started it, on HeadSHA of HeadBranch of HeadRepository (a fork, maybe).
	Event, HeadSHA, HeadBranch, HeadRepository string
	// Status is queued, in_progress, completed and the like; Conclusion is set with the last.
	Status, Conclusion string
	URL                string
	// Began is when its attempt did.
	Began, Updated time.Time
}

func runOf(r *gh.WorkflowRun) Run {
	path, _, _ := strings.Cut(r.GetPath(), "@") // of a called workflow with its reference
	return Run{
		ID: r.GetID(), Attempt: max(r.GetRunAttempt(), 1), Name: r.GetName(), Path: path, Event: r.GetEvent(), HeadSHA: r.GetHeadSHA(), HeadBranch: r.GetHeadBranch(),
		HeadRepository: r.GetHeadRepository().GetFullName(), Status: r.GetStatus(), Conclusion: r.GetConclusion(), URL: r.GetHTMLURL(), Began: r.GetRunStartedAt().Time, Updated: r.GetUpdatedAt().Time,
	}
}

// Job is one of a workflow run.
type Job struct {
	ID, RunID int64
	// Attempt in which it ran; of one that was not run again GitHub may give the later one, too.
	Attempt int
	// Name is the one that is shown: the job's key, unless the workflow says otherwise.
	Name string
	// Status and Conclusion are as those of runs.
	Status, Conclusion string
	// Runner is the name of the machine; empty while there is none.
	Runner             string
	Labels             []string
	URL                string
	Started, Completed time.Time
}

func jobOf(j *gh.WorkflowJob) Job {
	return Job{
		ID: j.GetID(), RunID: j.GetRunID(), Attempt: max(int(j.GetRunAttempt()), 1), Name: j.GetName(), Status: j.GetStatus(), Conclusion: j.GetConclusion(),
		Runner: j.GetRunnerName(), Labels: j.Labels, URL: j.GetHTMLURL(), Started: j.GetStartedAt().Time, Completed: j.GetCompletedAt().Time,
	}
}

// Run returns a workflow run. Errors wrap ErrNotFound if there is none.
func (c *Client) Run(ctx context.Context, repository string, id int64) (Run, error) {
	r, _, err := c.api.Actions.GetWorkflowRunByID(ctx, ownerOf(repository), nameOf(repository), id)
	if err != nil {
		return Run{}, said(fmt.Sprintf("ask for run %d of %s", id, repository), err)
	}
	return runOf(r), nil
}

// RunsOf lists the workflow runs on a commit, the newest first, at most a thousand: GitHub finds no
// more.
func (c *Client) RunsOf(ctx context.Context, repository, sha string) ([]Run, error) {
	opts := &gh.ListWorkflowRunsOptions{HeadSHA: sha, ListOptions: gh.ListOptions{PerPage: 100}}
	var out []Run
	for {
		list, resp, err := c.api.Actions.ListRepositoryWorkflowRuns(ctx, ownerOf(repository), nameOf(repository), opts)
		if err != nil {
			return nil, said(fmt.Sprintf("list the runs of %s on %s", repository, sha), err)
		}
		for _, r := range list.WorkflowRuns {
			out = append(out, runOf(r))
		}
		if resp.NextPage == 0 || len(out) >= 1000 {
			return out, nil
		}
		opts.Page = resp.NextPage
	}
}

// Jobs lists the jobs of all attempts of a run. Those that an attempt did not run again may be
// listed anew with it: with an ID of their own, and the times of when they ran.
func (c *Client) Jobs(ctx context.Context, repository string, run int64) ([]Job, error) {
	opts := &gh.ListWorkflowJobsOptions{Filter: "all", ListOptions: gh.ListOptions{PerPage: 100}}
	var out []Job
	for {
		list, resp, err := c.api.Actions.ListWorkflowJobs(ctx, ownerOf(repository), nameOf(repository), run, opts)
		if err != nil {
			return nil, said(fmt.Sprintf("list the jobs of run %d of %s", run, repository), err)
		}
		for _, j := range list.Jobs {
			out = append(out, jobOf(j))
		}
		if resp.NextPage == 0 {
			return out, nil
		}
		opts.Page = resp.NextPage
	}
}

// PullRequestsOf lists the open pull requests whose head is a commit, also those of forks.
func (c *Client) PullRequestsOf(ctx context.Context, repository, sha string) ([]PullRequest, error) {
	list, _, err := c.api.PullRequests.ListPullRequestsWithCommit(ctx, ownerOf(repository), nameOf(repository), sha, &gh.ListOptions{PerPage: 100})
	if err != nil {
		return nil, said(fmt.Sprintf("list the pull requests of %s with %s", repository, sha), err)
	}
	var out []PullRequest
	for _, p := range list {
		if pull := pullOf(p); pull.Open && pull.HeadSHA == sha {
			out = append(out, pull)
		}
	}
	return out, nil
}

// Role is what a user may do in a repository: none, read, triage, write, maintain or admin; one
// that an organisation made itself counts as the one that it is made of.
func (c *Client) Role(ctx context.Context, repository, login string) (string, error) {
	p, _, err := c.api.Repositories.GetPermissionLevel(ctx, ownerOf(repository), nameOf(repository), login)
	if errors.Is(said("", err), ErrNotFound) {
		return "none", nil
	}
	if err != nil {
		return "", said(fmt.Sprintf("ask what %s may do in %s", login, repository), err)
	}
	switch role := p.GetRoleName(); role {
	case "read", "triage", "write", "maintain", "admin":
		return role, nil
	default:
		return p.GetPermission(), nil
	}
}

// Comment is one on an issue or a pull request.
type Comment struct {
	ID          int64
	Login, Body string
}

// Comments lists those of an issue or a pull request, the oldest first, at most a thousand.
func (c *Client) Comments(ctx context.Context, repository string, number int) ([]Comment, error) {
	opts := &gh.IssueListCommentsOptions{ListOptions: gh.ListOptions{PerPage: 100}}
	var out []Comment
	for {
		list, resp, err := c.api.Issues.ListComments(ctx, ownerOf(repository), nameOf(repository), number, opts)
		if err != nil {
			return nil, said(fmt.Sprintf("list the comments on %d of %s", number, repository), err)
		}
		for _, x := range list {
			out = append(out, Comment{x.GetID(), x.GetUser().GetLogin(), x.GetBody()})
		}
		if resp.NextPage == 0 || len(out) >= 1000 {
			return out, nil
		}
		opts.Page = resp.NextPage
	}
}

// AddComment comments on an issue or a pull request, and returns the comment's ID.
func (c *Client) AddComment(ctx context.Context, repository string, number int, body string) (int64, error) {
	x, _, err := c.api.Issues.CreateComment(ctx, ownerOf(repository), nameOf(repository), number, &gh.IssueComment{Body: gh.Ptr(body)})
	if err != nil {
		return 0, said(fmt.Sprintf("comment on %d of %s", number, repository), err)
	}
	return x.GetID(), nil
}

// SetComment changes a comment's text.
func (c *Client) SetComment(ctx context.Context, repository string, id int64, body string) error {
	_, _, err := c.api.Issues.EditComment(ctx, ownerOf(repository), nameOf(repository), id, &gh.IssueComment{Body: gh.Ptr(body)})
	return said(fmt.Sprintf("change comment %d of %s", id, repository), err)
}
