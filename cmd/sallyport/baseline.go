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
	var j jobFlags
	cmd := &cobra.Command{
		Use:   "baseline [JOB]",
		Short: "List baselines, show what is normal for one job, or decide about it",
		Long: `Lists the baselines of all jobs; with JOB, shows that job's: whether it is stable, from
how many clean runs and by what evidence, and everything that they did. --repository and
--workflow say of which where several have such a job.`,
		Example: `  sallyport baseline
  sallyport baseline build --repository acme/shop --workflow CI
  sallyport baseline build --json | jq .stable`,
		Args: maximumArgs(1),
	}
	ask := func(ctx context.Context, c *client, args []string) error {
		if len(args) == 0 {
			chosen, err := j.baselines(ctx, c, "")
			if err != nil {
				return err
			}
			return c.listBaselines(chosen)
		}
		b, err := j.baseline(ctx, c, args[0])
		if err != nil {
			return err
		}
		return c.showBaseline(b)
	}
	question(cmd, ask)
	j.flags(cmd)
	show := &cobra.Command{Use: "show JOB", Short: "Show what is normal for one job", Args: oneArgument}
	question(show, ask)
	show.Flags().AddFlagSet(cmd.Flags())
	cmd.AddCommand(show, newBaselineApproveCommand(), newBaselineForgetCommand(), newBaselineFreezeCommand(), newBaselineExportCommand(), newBaselineImportCommand())
	return cmd
}

func stability(b *sallyportv1.Baseline) string {
	state := fmt.Sprintf("learning (%d of %d)", b.Runs, b.RunsNeeded)
	if b.Stable {
		state = "stable"
	}
	if b.Frozen {
		state += ", frozen"
	}
	return state
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
			b.Repository, b.Workflow, b.Job, stability(b), fmt.Sprint(b.Runs), fmt.Sprint(b.RunsWithoutChange), fmt.Sprint(len(of(b, egress))), c.ago(b.LearnedAt),
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
	sections := []struct {
		kind    sallyportv1.BehaviourKind
		heading []string
		cells   func(*sallyportv1.BaselineBehaviour) []string
	}{
		{egress, []string{"ENDPOINT", "PROTOCOL"}, func(x *sallyportv1.BaselineBehaviour) []string {
			return []string{fmt.Sprintf("%s:%d", x.Target, x.Port), x.Protocol}
		}},
		{sallyportv1.BehaviourKind_BEHAVIOUR_KIND_REQUEST, []string{"REQUEST", "METHOD"}, func(x *sallyportv1.BaselineBehaviour) []string {
			return []string{x.Target + x.Path, x.Method}
		}},
		{sallyportv1.BehaviourKind_BEHAVIOUR_KIND_FILE, []string{"FILE", "OPERATION"}, func(x *sallyportv1.BaselineBehaviour) []string {
			return []string{x.Target, x.Operation + " " + x.Category}
		}},
		{sallyportv1.BehaviourKind_BEHAVIOUR_KIND_LOOKUP, []string{"LOOK-UP BELOW", "TYPE"}, func(x *sallyportv1.BaselineBehaviour) []string {
			return []string{x.Target, x.Protocol}
		}},
		{sallyportv1.BehaviourKind_BEHAVIOUR_KIND_EXEC, []string{"EXECUTABLE"}, func(x *sallyportv1.BaselineBehaviour) []string {
			return []string{x.Target}
		}},
	}
	if err := c.showEvidence(b); err != nil {
		return err
	}
	if len(of(b, egress)) == 0 {
		if _, err := fmt.Fprint(c.out, "No egress: any will be new.\n\n"); err != nil {
			return err
		}
	}
	for _, section := range sections {
		var rows [][]string
		for _, x := range of(b, section.kind) {
			seen := fmt.Sprintf("%d of %d", x.Runs, b.Runs)
			if x.ApprovedBy != "" {
				seen += ", approved by " + x.ApprovedBy
			}
			rows = append(rows, append(section.cells(x), strings.Join(x.Programs, " "), seen, c.ago(x.FirstSeen), c.ago(x.LastSeen)))
		}
		if len(rows) == 0 {
			continue
		}
		if err := c.table(append(section.heading, "PROGRAMS", "RUNS", "FIRST SEEN", "LAST SEEN"), rows); err != nil {
			return err
		}
		if _, err := fmt.Fprintln(c.out); err != nil {
			return err
		}
	}
	return nil
}

// showEvidence says for each kind of behaviour why it is stable, or not yet.
func (c *client) showEvidence(b *sallyportv1.Baseline) error {
	var rows [][]string
	for _, s := range b.Stability {
		if s.Behaviours == 0 {
			continue
		}
		state := "learning"
		if s.Stable {
			state = "stable"
		}
		rows = append(rows, []string{
			strings.ToLower(strings.TrimPrefix(s.Kind.String(), "BEHAVIOUR_KIND_")), state, fmt.Sprint(s.Behaviours), fmt.Sprint(s.SeenOnce),
			fmt.Sprint(s.RunsWithoutChange), fmt.Sprintf("%d%%", s.NoveltyPercent),
		})
	}
	if len(rows) > 0 {
		if err := c.table([]string{"KIND", "STATE", "KNOWN", "SEEN ONCE", "RUNS UNCHANGED", "CHANCE OF NEW"}, rows); err != nil {
			return err
		}
		if _, err := fmt.Fprintln(c.out); err != nil {
			return err
		}
	}
	if b.Frozen {
		if _, err := fmt.Fprint(c.out, "Frozen: it learns no more.\n\n"); err != nil {
			return err
		}
	}
	if b.Reopened != "" && b.Runs < b.ReopenedUntilRun {
		if _, err := fmt.Fprintf(c.out, "Learning is open again: %s.\n\n", terminal.Escape(b.Reopened)); err != nil {
			return err
		}
	}
	return nil
}

const egress = sallyportv1.BehaviourKind_BEHAVIOUR_KIND_EGRESS

// of returns what a baseline holds of a kind.
func of(b *sallyportv1.Baseline, kind sallyportv1.BehaviourKind) (out []*sallyportv1.BaselineBehaviour) {
	for _, x := range b.Behaviours {
		if x.Kind == kind {
			out = append(out, x)
		}
	}
	return out
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
