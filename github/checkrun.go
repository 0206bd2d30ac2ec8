package github

import (
	"context"
	"fmt"
	"net/http"
	"time"

	gh "github.com/google/go-github/v88/github"
)

// GitHub's limits of a check run.
const (
	// MaxCheckText bounds its summary, and its text, in bytes.
	MaxCheckText = 65535
	// maxAnnotations bounds those of one request; more are added by further ones.
	maxAnnotations = 50
)

// CheckRun is one on a commit, of the App that the client is.
type CheckRun struct {
	ID int64
	// Name and HeadSHA cannot be changed.
	Name, HeadSHA string
	// ExternalID is whatever its maker wants it to be.
	ExternalID string
	// Status is queued, in_progress or completed; then Conclusion is success, neutral or failure.
	Status, Conclusion string
	// DetailsURL is where its title leads; empty for GitHub's own page.
	DetailsURL string
	// Title, Summary and Text are Markdown, but for the title.
	Title, Summary, Text string
	// Annotations are added to those that are there.
	Annotations []Annotation
	// Actions are buttons, at most three.
	Actions            []CheckAction
	Started, Completed time.Time
}

// Annotation is a remark on lines of a file.
type Annotation struct {
	Path     string
	From, To int // lines, from 1
	// Level is notice, warning or failure.
	Level          string
	Title, Message string
}

// CheckAction is a button: 20, 40 and 20 characters at most.
type CheckAction struct{ Label, Description, Identifier string }

func (r CheckRun) output(annotations []Annotation) *gh.CheckRunOutput {
	out := &gh.CheckRunOutput{Title: gh.Ptr(r.Title), Summary: gh.Ptr(r.Summary)}
	if r.Text != "" {
		out.Text = gh.Ptr(r.Text)
	}
	for _, a := range annotations {
		out.Annotations = append(out.Annotations, &gh.CheckRunAnnotation{
			Path: gh.Ptr(a.Path), StartLine: gh.Ptr(a.From), EndLine: gh.Ptr(a.To), AnnotationLevel: gh.Ptr(a.Level), Title: gh.Ptr(a.Title), Message: gh.Ptr(a.Message),
		})
	}
	return out
}

func (r CheckRun) actions() []*gh.CheckRunAction {
	out := []*gh.CheckRunAction{}
	for _, a := range r.Actions {
		out = append(out, &gh.CheckRunAction{Label: a.Label, Description: a.Description, Identifier: a.Identifier})
	}
	return out
}

func optional(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

func timestamp(t time.Time) *gh.Timestamp {
	if t.IsZero() {
		return nil
	}
	return &gh.Timestamp{Time: t}
}

// CreateCheckRun makes one and returns its ID, in several requests if it has many annotations.
func (c *Client) CreateCheckRun(ctx context.Context, repository string, r CheckRun) (int64, error) {
	made, _, err := c.api.Checks.CreateCheckRun(ctx, ownerOf(repository), nameOf(repository), gh.CreateCheckRunOptions{
		Name: r.Name, HeadSHA: r.HeadSHA, DetailsURL: optional(r.DetailsURL), ExternalID: optional(r.ExternalID), Status: optional(r.Status), Conclusion: optional(r.Conclusion),
		StartedAt: timestamp(r.Started), CompletedAt: timestamp(r.Completed), Output: r.output(r.Annotations[:min(len(r.Annotations), maxAnnotations)]), Actions: r.actions(),
	})
	if err != nil {
		return 0, said(fmt.Sprintf("make a check of %s on %s", repository, r.HeadSHA), err)
	}
	if len(r.Annotations) > maxAnnotations {
		r.ID, r.Annotations = made.GetID(), r.Annotations[maxAnnotations:]
		return r.ID, c.UpdateCheckRun(ctx, repository, r)
	}
	return made.GetID(), nil
}

// UpdateCheckRun changes one, in several requests if it has many annotations.
func (c *Client) UpdateCheckRun(ctx context.Context, repository string, r CheckRun) error {
	for rest := r.Annotations; ; {
		now := rest[:min(len(rest), maxAnnotations)]
		rest = rest[len(now):]
		// The library leaves an empty list of buttons out, which lets those that are there stay.
		body := struct {
			gh.UpdateCheckRunOptions
			Actions []*gh.CheckRunAction `json:"actions"`
		}{gh.UpdateCheckRunOptions{
			Name: r.Name, DetailsURL: optional(r.DetailsURL), ExternalID: optional(r.ExternalID), Status: optional(r.Status), Conclusion: optional(r.Conclusion),
			CompletedAt: timestamp(r.Completed), Output: r.output(now),
		}, r.actions()}
		req, err := c.api.NewRequest(ctx, http.MethodPatch, fmt.Sprintf("repos/%s/check-runs/%d", repository, r.ID), body)
		if err == nil {
			_, err = c.api.Do(req, nil)
		}
		if err != nil {
			return said(fmt.Sprintf("change check %d of %s", r.ID, repository), err)
		}
		if len(rest) == 0 {
			return nil
		}
	}
}

// CheckRuns lists those of the App on a commit with a name, the newest first.
func (c *Client) CheckRuns(ctx context.Context, repository, sha, name string) ([]CheckRun, error) {
	list, _, err := c.api.Checks.ListCheckRunsForRef(ctx, ownerOf(repository), nameOf(repository), sha, &gh.ListCheckRunsOptions{
		CheckName: gh.Ptr(name), AppID: gh.Ptr(c.config.AppID), Filter: gh.Ptr("all"), ListOptions: gh.ListOptions{PerPage: 100},
	})
	if err != nil {
		return nil, said(fmt.Sprintf("list the checks of %s on %s", repository, sha), err)
	}
	var out []CheckRun
	for _, r := range list.CheckRuns {
		out = append(out, CheckRun{
			ID: r.GetID(), Name: r.GetName(), HeadSHA: r.GetHeadSHA(), ExternalID: r.GetExternalID(), Status: r.GetStatus(), Conclusion: r.GetConclusion(),
			Started: r.GetStartedAt().Time, Completed: r.GetCompletedAt().Time,
		})
	}
	return out, nil
}
