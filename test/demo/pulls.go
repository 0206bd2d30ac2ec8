package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/sallyport-ci/sallyport/report/terminal"
	"github.com/sallyport-ci/sallyport/test/githubfake"
	"github.com/sallyport-ci/sallyport/test/lab"
	"github.com/sallyport-ci/sallyport/test/pullrequest"
)

// pulls plays pull requests and prints what one sees of them.
type pulls struct {
	stage   *pullrequest.Stage
	world   *lab.Lab
	up      *lab.Up
	colours terminal.Palette
}

// play runs the workflow for a branch and waits for a conclusion of its check.
func (p *pulls) play(ctx context.Context, branch string, run int, conclusion string) (githubfake.Check, error) {
	text, err := p.world.File(".github/workflows/ci.yml")
	if err != nil {
		return githubfake.Check{}, err
	}
	sha, err := p.stage.Push(ctx, branch, map[string]string{".github/workflows/ci.yml": text, "branch": branch})
	if err != nil {
		return githubfake.Check{}, err
	}
	if err := p.stage.Run(ctx, sha, "ci.yml", run, "build", "test"); err != nil {
		return githubfake.Check{}, err
	}
	return p.stage.Concluded(ctx, sha, conclusion)
}

func (p *pulls) clean(ctx context.Context) error {
	c, err := p.play(ctx, "clean", cleanRun, "success")
	if err != nil {
		return err
	}
	return p.show(ctx, c, cleanRun, "build")
}

// mirror has a pull request do something new that is meant, and a maintainer approve it.
func (p *pulls) mirror(ctx context.Context) error {
	if err := p.world.Mirror(ctx); err != nil {
		return err
	}
	c, err := p.play(ctx, "mirror", mirrorRun, "neutral")
	if err != nil {
		return err
	}
	if err := p.show(ctx, c, mirrorRun, "build"); err != nil {
		return err
	}
	p.stage.Repository.SetRole("mia", "maintain")
	if err := p.stage.Press(ctx, c, "mia", "Approve for this job"); err != nil {
		return err
	}
	now, err := p.stage.Concluded(ctx, c.SHA, "success")
	if err != nil {
		return err
	}
	say("  mia presses [Approve for this job]:\n\n")
	p.check(now)
	return nil
}

func (p *pulls) attacked(ctx context.Context) (githubfake.Check, error) {
	return p.play(ctx, "attack", attackRun, "failure")
}

// show prints a check and the summary of one of its jobs, as the agent has it.
func (p *pulls) show(ctx context.Context, c githubfake.Check, run int, job string) error {
	p.check(c)
	out, err := p.up.Ask(ctx, "runs", fmt.Sprint(run), "--repository", repository, "--json")
	if err != nil {
		return err
	}
	var seen struct {
		Jobs []struct {
			Job         string
			ExecutionID string `json:"execution_id"`
		}
	}
	if err := json.Unmarshal([]byte(out), &seen); err != nil {
		return fmt.Errorf("read run: %w", err)
	}
	for _, j := range seen.Jobs {
		if j.Job != job {
			continue
		}
		cmd := exec.CommandContext(ctx, "bin/sallyport-agent", "report", "--markdown", "--execution", j.ExecutionID, "--socket", filepath.Join(data, "agent", "agent.sock"))
		text, err := cmd.CombinedOutput()
		if err != nil {
			return fmt.Errorf("sallyport-agent report: %w: %s", err, text)
		}
		say("  The summary of job %s, in GitHub's Markdown:\n\n", job)
		p.quote(string(text))
		return nil
	}
	return fmt.Errorf("run %d has no job %s", run, job)
}

func (p *pulls) check(c githubfake.Check) {
	mark := map[string]string{"success": p.colours.Green("✔ success"), "neutral": "■ neutral", "failure": p.colours.Red("✘ failure")}[c.Conclusion]
	say("  check %s  %s  %s\n\n", p.colours.Bold(c.Name), mark, c.Title)
	p.quote(c.Summary)
	for _, a := range c.Annotations {
		say("  │ %s:%d %s: %s\n", a.Path, a.StartLine, a.Level, a.Title)
	}
	var buttons []string
	for _, a := range c.Actions {
		buttons = append(buttons, "["+a.Label+"]")
	}
	if len(buttons) > 0 {
		say("  │ %s\n", strings.Join(buttons, " "))
	}
	say("\n")
}

func (p *pulls) quote(text string) {
	for line := range strings.Lines(strings.TrimRight(text, "\n")) {
		say("  │ %s\n", strings.TrimRight(line, "\n"))
	}
	say("\n")
}
