package github

import (
	"errors"
	"fmt"
	"io"
	"net/http"

	gh "github.com/google/go-github/v88/github"
)

// maxWebhook bounds a webhook in bytes; GitHub sends none that is larger.
const maxWebhook = 25 << 20

// ErrSignature says that a webhook is not from GitHub, or for another App.
var ErrSignature = errors.New("the webhook's signature is missing or wrong")

// Webhook is what GitHub tells an App. What it does not tell of is empty.
type Webhook struct {
	// Delivery is the same if it is delivered again.
	Delivery      string
	Event, Action string
	Installation  int64
	// Repository is OWNER/NAME, Sender who did it.
	Repository, DefaultBranch, Sender string

	Run *Run
	Job *Job
	// Check is of check_run; Button the identifier of the action that somebody asked for.
	Check  *CheckRun
	Button string
	// HeadSHA is that of a pull request, of a merge queue's group, of a check suite, or what a
	// push left.
	HeadSHA string
	// Ref is of a push, with refs/heads/; Files are those that it names.
	Ref   string
	Files []string
}

// ReadWebhook reads and checks a webhook. Errors wrap ErrSignature if it is not GitHub's.
func ReadWebhook(r *http.Request, secret []byte) (Webhook, error) {
	body, err := io.ReadAll(io.LimitReader(r.Body, maxWebhook+1))
	if err != nil {
		return Webhook{}, fmt.Errorf("read webhook: %w", err)
	}
	if len(body) > maxWebhook {
		return Webhook{}, errors.New("read webhook: it is larger than GitHub's largest")
	}
	return ParseWebhook(r.Header, body, secret)
}

// ParseWebhook is ReadWebhook for a body that was read.
func ParseWebhook(h http.Header, body, secret []byte) (Webhook, error) {
	// The SHA-1 form, which GitHub sends beside it, is not taken.
	if len(secret) == 0 || len(h.Get("X-Hub-Signature-256")) != len("sha256=")+64 || gh.ValidateSignature(h.Get("X-Hub-Signature-256"), body, secret) != nil {
		return Webhook{}, ErrSignature
	}
	out := Webhook{Delivery: h.Get("X-GitHub-Delivery"), Event: h.Get("X-GitHub-Event")}
	parsed, err := gh.ParseWebHook(out.Event, body)
	if err != nil {
		return out, fmt.Errorf("read webhook %q: %w", out.Event, err)
	}
	common := func(action string, repo *gh.Repository, i *gh.Installation, sender *gh.User) {
		out.Action, out.Repository, out.DefaultBranch, out.Installation, out.Sender = action, repo.GetFullName(), repo.GetDefaultBranch(), i.GetID(), sender.GetLogin()
	}
	switch e := parsed.(type) {
	case *gh.WorkflowRunEvent:
		common(e.GetAction(), e.GetRepo(), e.GetInstallation(), e.GetSender())
		if e.WorkflowRun != nil {
			run := runOf(e.WorkflowRun)
			out.Run = &run
		}
	case *gh.WorkflowJobEvent:
		common(e.GetAction(), e.GetRepo(), e.GetInstallation(), e.GetSender())
		if e.WorkflowJob != nil {
			job := jobOf(e.WorkflowJob)
			out.Job, out.HeadSHA = &job, e.WorkflowJob.GetHeadSHA()
		}
	case *gh.CheckRunEvent:
		common(e.GetAction(), e.GetRepo(), e.GetInstallation(), e.GetSender())
		if x := e.CheckRun; x != nil {
			out.Check = &CheckRun{ID: x.GetID(), Name: x.GetName(), HeadSHA: x.GetHeadSHA(), ExternalID: x.GetExternalID()}
			out.HeadSHA, out.Button = x.GetHeadSHA(), e.GetRequestedAction().GetIdentifier()
		}
	case *gh.CheckSuiteEvent:
		common(e.GetAction(), e.GetRepo(), e.GetInstallation(), e.GetSender())
		out.HeadSHA = e.GetCheckSuite().GetHeadSHA()
	case *gh.MergeGroupEvent:
		common(e.GetAction(), e.GetRepo(), e.GetInstallation(), e.GetSender())
		out.HeadSHA = e.GetMergeGroup().GetHeadSHA()
	case *gh.PullRequestEvent:
		common(e.GetAction(), e.GetRepo(), e.GetInstallation(), e.GetSender())
		out.HeadSHA = e.GetPullRequest().GetHead().GetSHA()
	case *gh.PushEvent:
		out.Repository, out.DefaultBranch = e.GetRepo().GetFullName(), e.GetRepo().GetDefaultBranch()
		out.Installation, out.Sender, out.Ref, out.HeadSHA = e.GetInstallation().GetID(), e.GetSender().GetLogin(), e.GetRef(), e.GetAfter()
		for _, c := range e.Commits {
			out.Files = append(append(append(out.Files, c.Added...), c.Modified...), c.Removed...)
		}
	}
	return out, nil
}
