package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	sallyportv1 "github.com/sallyport-ci/sallyport/proto/sallyport/v1"
	"github.com/sallyport-ci/sallyport/report/terminal"
)

func newBaselineCommand() *cobra.Command {
	var repository, workflow string
	cmd := &cobra.Command{
		Use:   "baseline [JOB]",
		Short: "List baselines, or show what is normal for one job",
		Long: `Lists the baselines of all jobs; with JOB, shows that job's: whether it is stable,
from how many clean runs, and every endpoint that they contacted. --repository and
--workflow say of which where several have such a job.`,
		Example: `  sallyport baseline
  sallyport baseline build --repository acme/shop --workflow CI
  sallyport baseline build --json | jq .stable`,
		Args: maximumArgs(1),
	}
	question(cmd, func(ctx context.Context, c *client, args []string) error {
		baselines, err := all(0, func(size int32, token string) ([]*sallyportv1.Baseline, string, error) {
			a, err := c.ListBaselines(ctx, &sallyportv1.ListBaselinesRequest{Repository: repository, PageSize: size, PageToken: token})
			return a.GetBaselines(), a.GetNextPageToken(), err
		})
		if err != nil {
			return err
		}
		var chosen []*sallyportv1.Baseline
		for _, b := range baselines {
			if (workflow == "" || b.Workflow == workflow) && (len(args) == 0 || b.Job == args[0]) {
				chosen = append(chosen, b)
			}
		}
		if len(args) == 0 {
			return c.listBaselines(chosen)
		}
		switch len(chosen) {
		case 0:
			return &notFoundError{fmt.Errorf("no clean run of a job %s was seen; `sallyport baseline` lists those that were", args[0])}
		case 1:
			return c.showBaseline(chosen[0])
		}
		var names []string
		for _, b := range chosen {
			names = append(names, fmt.Sprintf("%s %q", b.Repository, b.Workflow))
		}
		return usageError(fmt.Errorf("several have a job %s: say which with --repository and --workflow: %s", args[0], strings.Join(names, ", ")))
	})
	cmd.Flags().StringVar(&repository, "repository", "", "only this repository, OWNER/NAME")
	cmd.Flags().StringVar(&workflow, "workflow", "", "only the workflow of this name")
	return cmd
}

func stability(b *sallyportv1.Baseline) string {
	if b.Stable {
		return "stable"
	}
	return fmt.Sprintf("learning (%d of %d)", b.Runs, b.RunsNeeded)
}

func (c *client) listBaselines(baselines []*sallyportv1.Baseline) error {
	var rows [][]string
	for _, b := range baselines {
		if c.json {
			if err := c.printJSON(b); err != nil {
				return err
			}
			continue
		}
		rows = append(rows, []string{
			b.Repository, b.Workflow, b.Job, stability(b), fmt.Sprint(b.Runs), fmt.Sprint(b.RunsWithoutChange), fmt.Sprint(len(b.Endpoints)), c.ago(b.LearnedAt),
		})
	}
	switch {
	case c.json:
		return nil
	case len(rows) == 0:
		_, err := fmt.Fprintln(c.out, "No baselines yet. Each clean run of a job adds to its own.")
		return err
	}
	return c.table([]string{"REPOSITORY", "WORKFLOW", "JOB", "STATE", "RUNS", "UNCHANGED", "ENDPOINTS", "LEARNED"}, rows)
}

func (c *client) showBaseline(b *sallyportv1.Baseline) error {
	if c.json {
		return c.printJSON(b)
	}
	e := terminal.Escape
	state := c.colour.Yellow(stability(b))
	if b.Stable {
		state = c.colour.Green(stability(b))
	}
	_, err := fmt.Fprintf(c.out, "%s\n  %s: %d clean runs, nothing new in the last %d; learned %s\n\n",
		c.colour.Bold(fmt.Sprintf("%s, %s, job %s", e(b.Repository), e(b.Workflow), e(b.Job))), state, b.Runs, b.RunsWithoutChange, c.ago(b.LearnedAt))
	if err != nil {
		return err
	}
	if len(b.Endpoints) == 0 {
		_, err := fmt.Fprintln(c.out, "No egress: any will be new.")
		return err
	}
	var rows [][]string
	for _, p := range b.Endpoints {
		rows = append(rows, []string{
			fmt.Sprintf("%s:%d", p.Target, p.Port), p.Protocol, strings.Join(p.Programs, " "),
			fmt.Sprintf("%d of %d", p.Runs, b.Runs), c.ago(p.FirstSeen), c.ago(p.LastSeen),
		})
	}
	return c.table([]string{"ENDPOINT", "PROTOCOL", "PROGRAMS", "RUNS", "FIRST SEEN", "LAST SEEN"}, rows)
}

// maximumArgs is cobra.MaximumNArgs as wrong usage.
func maximumArgs(n int) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		switch {
		case len(args) > 0 && n == 0:
			return usageError(fmt.Errorf("%s takes no argument like %q", cmd.CommandPath(), args[0]))
		case len(args) > n:
			return usageError(errors.New(cmd.CommandPath() + " takes " + cmd.Use[strings.Index(cmd.Use, " ")+1:]))
		}
		return nil
	}
}
