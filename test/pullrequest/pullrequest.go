// Package pullrequest plays GitHub's side of pull requests for the demo and for whole-system tests:
// a commit on a branch, the webhooks of its workflow run, which a real act runs in the lab, and
// people who press the buttons of the check. GitHub is the fake; all else is real.
package pullrequest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/sallyport-ci/sallyport/test/githubfake"
	"github.com/sallyport-ci/sallyport/test/lab"
)

// Stage is a repository at GitHub, with the App installed.
type Stage struct {
	GitHub     *githubfake.Server
	App        *githubfake.App
	Repository *githubfake.Repository
	world      *lab.Lab
	webhooks   string
}

// New makes the repository and the App, and puts the App into a folder for sallyport up.
func New(server *githubfake.Server, repository, folder string) (*Stage, error) {
	owner, _, _ := strings.Cut(repository, "/")
	s := &Stage{GitHub: server, Repository: server.Repository(repository)}
	s.App = server.NewApp("sallyport", map[string]string{"checks": "write", "actions": "read", "contents": "read", "metadata": "read", "pull_requests": "write"}, owner)
	facts, err := json.Marshal(map[string]any{"id": s.App.ID, "slug": s.App.Slug, "name": s.App.Name, "url": server.URL + "apps/sallyport", "api": server.URL})
	if err != nil {
		return nil, fmt.Errorf("write the App: %w", err)
	}
	if err := os.MkdirAll(folder, 0o700); err != nil {
		return nil, fmt.Errorf("write the App: %w", err)
	}
	for name, text := range map[string]string{"app.json": string(facts), "app.pem": string(s.App.KeyPEM()), "webhook.secret": s.App.WebhookSecret} {
		if err := os.WriteFile(filepath.Join(folder, name), []byte(text), 0o600); err != nil {
			return nil, fmt.Errorf("write the App: %w", err)
		}
	}
	return s, nil
}

// Join says where workflows run, and where webhooks go.
func (s *Stage) Join(world *lab.Lab, up *lab.Up) error {
	if up.Webhooks == "" {
		return errors.New("sallyport up takes no webhooks")
	}
	s.world, s.webhooks = world, "http://"+up.Webhooks+"/github/webhook"
	return nil
}

// Push puts files onto a branch, as a person does, and tells of it if it is the default one.
func (s *Stage) Push(ctx context.Context, branch string, files map[string]string) (sha string, err error) {
	sha = s.Repository.Commit(branch, "alice", "change", files)
	if branch != s.Repository.DefaultBranch {
		return sha, nil
	}
	var names []string
	for name := range files {
		names = append(names, name)
	}
	return sha, s.send(ctx, s.Repository.PushWebhook(s.App, branch, names...))
}

func (s *Stage) send(ctx context.Context, d githubfake.Delivery) error {
	status, err := d.Send(ctx, s.webhooks)
	if err == nil && status != 202 {
		err = fmt.Errorf("webhook %s: answer %d", d.Event, status)
	}
	return err
}

// Run runs a workflow for the commit of a pull request, as run number id, and tells of it as GitHub
// does. Jobs are the keys of its jobs.
func (s *Stage) Run(ctx context.Context, sha, workflow string, id int, jobs ...string) error {
	run := githubfake.Run{ID: int64(id), Name: "CI", Path: ".github/workflows/" + workflow, Event: "pull_request", SHA: sha, Branch: "change", Attempt: 1, Status: "queued"}
	for n, job := range jobs {
		run.Jobs = append(run.Jobs, githubfake.Job{ID: int64(id*100 + n), Name: job, Status: "in_progress", Runner: fmt.Sprint("runner-", n)})
	}
	s.Repository.SetRun(run)
	if err := s.send(ctx, s.Repository.RunWebhook(s.App, "requested", run.ID)); err != nil {
		return err
	}
	var log strings.Builder
	if err := s.world.RunFor(ctx, "pull_request", workflow, id, &log); err != nil {
		return fmt.Errorf("%w\n%s", err, log.String())
	}
	run.Status, run.Conclusion = "completed", "success"
	for i := range run.Jobs {
		run.Jobs[i].Status, run.Jobs[i].Conclusion = "completed", "success"
	}
	s.Repository.SetRun(run)
	for _, j := range run.Jobs {
		if err := s.send(ctx, s.Repository.JobWebhook(s.App, "completed", run.ID, j.ID)); err != nil {
			return err
		}
	}
	return s.send(ctx, s.Repository.RunWebhook(s.App, "completed", run.ID))
}

// Check waits until the newest check on a commit is as wanted, and returns it.
func (s *Stage) Check(ctx context.Context, sha string, wanted func(githubfake.Check) bool) (last githubfake.Check, err error) {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	for {
		for _, c := range s.Repository.Checks() {
			if c.SHA == sha {
				last = c
			}
		}
		if wanted(last) {
			return last, nil
		}
		select {
		case <-ctx.Done():
			return last, fmt.Errorf("the check is %q (%s), after half a minute", last.Conclusion, last.Title)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// Concluded waits for a conclusion.
func (s *Stage) Concluded(ctx context.Context, sha, conclusion string) (githubfake.Check, error) {
	return s.Check(ctx, sha, func(c githubfake.Check) bool { return c.Conclusion == conclusion })
}

// Press has somebody press a button of a check.
func (s *Stage) Press(ctx context.Context, c githubfake.Check, login, label string) error {
	for _, a := range c.Actions {
		if a.Label == label {
			return s.send(ctx, s.Repository.Click(s.App, c.ID, login, a.Identifier))
		}
	}
	return fmt.Errorf("check %q has no button %q", c.Title, label)
}
