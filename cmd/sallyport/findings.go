package main

import (
	"context"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/sallyport-ci/sallyport/notify"
	sallyportv1 "github.com/sallyport-ci/sallyport/proto/sallyport/v1"
	"github.com/sallyport-ci/sallyport/report/terminal"
)

func newFindingsCommand() *cobra.Command {
	var repository, run, severity string
	var limit uint
	cmd := &cobra.Command{
		Use:   "findings [ID]",
		Short: "List findings, or show one",
		Long: `Lists findings, newest first; with ID, shows that one with the process and its
ancestry, why it was found, and what to do.`,
		Example: `  sallyport findings
  sallyport findings --severity high --repository acme/shop
  sallyport findings --json | jq -r .message`,
		Args: maximumArgs(1),
	}
	question(cmd, func(ctx context.Context, c *client, args []string) error {
		if len(args) == 1 {
			return c.showFinding(ctx, args[0])
		}
		q := &sallyportv1.ListFindingsRequest{Repository: repository, RunId: run}
		if severity != "" {
			var err error
			if q.MinimumSeverity, err = parseSeverity("severity", severity); err != nil {
				return err
			}
		}
		return c.listFindings(ctx, q, int(limit))
	})
	f := cmd.Flags()
	f.StringVar(&repository, "repository", "", "only this repository, OWNER/NAME")
	f.StringVar(&run, "run", "", "only this run")
	f.StringVar(&severity, "severity", "", "only from this severity: low, medium, high or critical")
	f.UintVar(&limit, "limit", 20, "most findings to list, 0 for all")
	return cmd
}

func (c *client) listFindings(ctx context.Context, q *sallyportv1.ListFindingsRequest, limit int) error {
	findings, err := all(limit, func(size int32, token string) ([]*sallyportv1.Finding, string, error) {
		q.PageSize, q.PageToken = size, token
		a, err := c.ListFindings(ctx, q)
		return a.GetFindings(), a.GetNextPageToken(), err
	})
	if err != nil {
		return err
	}
	var rows [][]string
	for _, f := range findings {
		if c.json {
			if err := c.printJSON(f); err != nil {
				return err
			}
			continue
		}
		severity := strings.ToLower(strings.TrimPrefix(f.GetPolicy().GetSeverity().String(), "SEVERITY_"))
		a := f.GetAttribution()
		rows = append(rows, []string{f.Id, severity, c.ago(f.Time), a.GetRepository(), a.GetRunId(), a.GetJob(), a.GetStep(), f.Message})
	}
	switch {
	case c.json:
		return nil
	case len(rows) == 0:
		_, err := fmt.Fprintln(c.out, "No findings.")
		return err
	}
	return c.table([]string{"ID", "SEVERITY", "WHEN", "REPOSITORY", "RUN", "JOB", "STEP", "WHAT"}, rows)
}

func (c *client) showFinding(ctx context.Context, id string) error {
	a, err := c.GetFinding(ctx, &sallyportv1.GetFindingRequest{Id: id})
	if err != nil {
		return err
	}
	if c.json {
		return c.printJSON(a.Finding)
	}
	t, err := notify.NewTerminal(c.out, notify.TerminalOptions{Colour: c.colour.On, Width: terminal.Columns(os.Stdout)})
	if err != nil {
		return err
	}
	return t.Deliver(ctx, notify.Alert{Items: []notify.Item{{Finding: a.Finding}}})
}
