package main

import (
	"context"
	"fmt"
	"net"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	sallyportv1 "github.com/sallyport-ci/sallyport/proto/sallyport/v1"
	"github.com/sallyport-ci/sallyport/report/terminal"
)

func newRunsCommand() *cobra.Command {
	var repository string
	var attempt uint32
	var limit uint
	var processes bool
	cmd := &cobra.Command{
		Use:   "runs [RUN]",
		Short: "List runs, or show one with its jobs, steps and destinations",
		Long: `Lists the runs that agents saw, newest first; with RUN, shows that one: its jobs,
their steps, and where they sent to. A RUN is a run's identifier as GitHub gives it;
--repository says of which repository where several have it.`,
		Example: `  sallyport runs
  sallyport runs 16834110352
  sallyport runs 16834110352 --repository acme/shop --processes
  sallyport runs --json | jq -r .run_id`,
		Args: maximumArgs(1),
	}
	question(cmd, func(ctx context.Context, c *client, args []string) error {
		if len(args) == 0 {
			return c.listRuns(ctx, repository, int(limit))
		}
		return c.showRun(ctx, repository, args[0], attempt, processes)
	})
	f := cmd.Flags()
	f.StringVar(&repository, "repository", "", "only this repository, OWNER/NAME")
	f.UintVar(&limit, "limit", 20, "most runs to list, 0 for all")
	f.Uint32Var(&attempt, "attempt", 0, "attempt of RUN (default the last)")
	f.BoolVar(&processes, "processes", false, "show the processes of RUN too")
	return cmd
}

func (c *client) listRuns(ctx context.Context, repository string, limit int) error {
	runs, err := all(limit, func(size int32, token string) ([]*sallyportv1.Run, string, error) {
		a, err := c.ListRuns(ctx, &sallyportv1.ListRunsRequest{Repository: repository, PageSize: size, PageToken: token})
		return a.GetRuns(), a.GetNextPageToken(), err
	})
	if err != nil {
		return err
	}
	var rows [][]string
	for _, r := range runs {
		if c.json {
			if err := c.printJSON(r); err != nil {
				return err
			}
			continue
		}
		rows = append(rows, []string{
			r.RunId, r.Repository, r.Workflow, r.Event, terminal.Shorten(strings.TrimPrefix(strings.TrimPrefix(r.Ref, "refs/heads/"), "refs/"), 30),
			r.Actor, fmt.Sprint(r.Jobs), fmt.Sprint(r.Findings), c.ago(r.StartedAt), took(r.StartedAt, r.EndedAt),
		})
	}
	switch {
	case c.json:
		return nil
	case len(rows) == 0 && repository != "":
		_, err := fmt.Fprintf(c.out, "No runs of %s. `sallyport runs` lists those of all repositories.\n", terminal.Escape(repository))
		return err
	case len(rows) == 0:
		_, err := fmt.Fprintln(c.out, "No runs yet. A run appears with its first step on a machine with an agent.")
		return err
	}
	return c.newest(limit, []string{"RUN", "REPOSITORY", "WORKFLOW", "EVENT", "REF", "ACTOR", "JOBS", "FINDINGS", "STARTED", "TOOK"}, rows)
}

// repositoryOf finds the repository of a run that was named without one.
func (c *client) repositoryOf(ctx context.Context, run string) (string, error) {
	runs, err := all(0, func(size int32, token string) ([]*sallyportv1.Run, string, error) {
		a, err := c.ListRuns(ctx, &sallyportv1.ListRunsRequest{PageSize: size, PageToken: token})
		return a.GetRuns(), a.GetNextPageToken(), err
	})
	if err != nil {
		return "", err
	}
	found := ""
	for _, r := range runs {
		if r.RunId != run {
			continue
		}
		if found != "" && found != r.Repository {
			return "", usageError(fmt.Errorf("both %s and %s have a run %s: say which with --repository", found, r.Repository, run))
		}
		found = r.Repository
	}
	if found == "" {
		return "", &notFoundError{fmt.Errorf("no agent saw a run %s; `sallyport runs` lists those that were seen", run)}
	}
	return found, nil
}

func (c *client) showRun(ctx context.Context, repository, run string, attempt uint32, processes bool) error {
	if repository == "" {
		var err error
		if repository, err = c.repositoryOf(ctx, run); err != nil {
			return err
		}
	}
	answer, err := c.GetRun(ctx, &sallyportv1.GetRunRequest{Repository: repository, RunId: run, RunAttempt: attempt})
	if err != nil {
		return err
	}
	if c.json && !processes {
		return c.printJSON(answer)
	}
	if !c.json {
		if err := c.printRun(answer); err != nil {
			return err
		}
		if err := c.printDestinations(ctx, answer); err != nil {
			return err
		}
	}
	if !processes {
		return nil
	}
	return c.printProcesses(ctx, answer)
}

func (c *client) printRun(a *sallyportv1.GetRunResponse) error {
	r, e := a.Run, terminal.Escape
	_, err := fmt.Fprintf(c.out, "%s\n  %s by %s on %s, commit %.12s, %s, took %s, findings: %d\n\n",
		c.colour.Bold(fmt.Sprintf("%s, %s, run %s, attempt %d", e(r.Repository), e(r.Workflow), e(r.RunId), r.RunAttempt)),
		e(r.Event), e(r.Actor), e(r.Ref), e(r.Commit), c.ago(r.StartedAt), took(r.StartedAt, r.EndedAt), r.Findings)
	if err != nil {
		return err
	}
	var rows [][]string
	for _, j := range a.Jobs {
		rows = append(rows, []string{j.Job, "", "", "", "", took(j.StartedAt, j.EndedAt)})
		for _, s := range j.Steps {
			rows = append(rows, []string{"", s.Step, s.Action, fmt.Sprint(s.Processes), fmt.Sprint(s.Flows), ""})
		}
	}
	return c.table([]string{"JOB", "STEP", "ACTION", "PROCESSES", "FLOWS", "TOOK"}, rows)
}

func (c *client) printDestinations(ctx context.Context, a *sallyportv1.GetRunResponse) error {
	var rows [][]string
	for _, j := range a.Jobs {
		destinations, err := all(0, func(size int32, token string) ([]*sallyportv1.Destination, string, error) {
			d, err := c.ListDestinations(ctx, &sallyportv1.ListDestinationsRequest{
				Repository: a.Run.Repository, RunId: a.Run.RunId, ExecutionId: j.ExecutionId, PageSize: size, PageToken: token,
			})
			return d.GetDestinations(), d.GetNextPageToken(), err
		})
		if err != nil {
			return err
		}
		for _, d := range destinations {
			targets := d.Addresses
			if d.Domain != "" {
				targets = []string{d.Domain}
			}
			port := strconv.FormatUint(uint64(d.Port), 10)
			for i := range targets {
				targets[i] = net.JoinHostPort(targets[i], port)
			}
			rows = append(rows, []string{
				d.Job, d.Step, d.Program, strings.Join(targets, " "), d.Protocol,
				fmt.Sprint(d.Flows), fmt.Sprint(d.BytesSent), fmt.Sprint(d.BytesReceived),
			})
		}
	}
	if _, err := fmt.Fprintln(c.out); err != nil {
		return err
	}
	if len(rows) == 0 {
		_, err := fmt.Fprintln(c.out, "No egress.")
		return err
	}
	return c.table([]string{"JOB", "STEP", "PROGRAM", "DESTINATION", "PROTOCOL", "FLOWS", "SENT", "RECEIVED"}, rows)
}

func (c *client) printProcesses(ctx context.Context, a *sallyportv1.GetRunResponse) error {
	var rows [][]string
	for _, j := range a.Jobs {
		processes, err := all(0, func(size int32, token string) ([]*sallyportv1.RunProcess, string, error) {
			p, err := c.ListProcesses(ctx, &sallyportv1.ListProcessesRequest{
				Repository: a.Run.Repository, RunId: a.Run.RunId, ExecutionId: j.ExecutionId, PageSize: size, PageToken: token,
			})
			return p.GetProcesses(), p.GetNextPageToken(), err
		})
		if err != nil {
			return err
		}
		for _, p := range processes {
			if c.json {
				if err := c.printJSON(p); err != nil {
					return err
				}
				continue
			}
			end := ""
			switch {
			case p.Signal != 0:
				end = fmt.Sprintf("signal %d", p.Signal)
			case p.EndedAt != nil:
				end = fmt.Sprintf("exit %d", p.ExitCode)
			}
			rows = append(rows, []string{
				p.Job, p.Step, fmt.Sprint(p.Process.Pid), end, p.Process.Executable, terminal.Shorten(strings.Join(p.Process.Arguments, " "), 100),
			})
		}
	}
	if c.json {
		return nil
	}
	if _, err := fmt.Fprintln(c.out); err != nil {
		return err
	}
	return c.table([]string{"JOB", "STEP", "PID", "ENDED", "EXECUTABLE", "ARGUMENTS"}, rows)
}
