package main

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/sallyport-ci/sallyport/notify"
	sallyportv1 "github.com/sallyport-ci/sallyport/proto/sallyport/v1"
	"github.com/sallyport-ci/sallyport/report/terminal"
)

func newFindingsCommand() *cobra.Command {
	var repository, run, severity string
	var open bool
	var limit uint
	cmd := &cobra.Command{
		Use:   "findings [ID]",
		Short: "List findings, or show one",
		Long: `Lists findings, newest first; with ID, shows that one with the process and its
ancestry, why it was found, and what to do.`,
		Example: `  sallyport findings
  sallyport findings --severity high --repository acme/shop
  sallyport findings --open
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
		return c.listFindings(ctx, q, int(limit), open)
	})
	f := cmd.Flags()
	f.StringVar(&repository, "repository", "", "only this repository, OWNER/NAME")
	f.StringVar(&run, "run", "", "only this run")
	f.StringVar(&severity, "severity", "", "only from this severity: low, medium, high or critical")
	f.BoolVar(&open, "open", false, "only those that nobody has settled yet")
	f.UintVar(&limit, "limit", 20, "most findings to list, 0 for all")
	cmd.AddCommand(newFindingsListCommand(cmd), newFindingsSettleCommand(true), newFindingsSettleCommand(false))
	return cmd
}

// newFindingsListCommand is sallyport findings by its other name.
func newFindingsListCommand(findings *cobra.Command) *cobra.Command {
	list := &cobra.Command{Use: "list", Short: "List findings", Args: maximumArgs(0), PreRunE: findings.PreRunE, RunE: findings.RunE}
	list.Flags().AddFlagSet(findings.Flags())
	return list
}

func newExplainCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "explain FINDING",
		Short: "Say why something was found, and how to settle it",
		Long: `Shows a finding with everything that led to it: the policy, what it saw, what the
baseline of the job knew, the process and its ancestry, what people decided about it, and
the lines that settle it.`,
		Example: `  sallyport explain 0f3a9c…`,
		Args:    oneArgument,
	}
	question(cmd, func(ctx context.Context, c *client, args []string) error {
		a, err := c.GetFinding(ctx, &sallyportv1.GetFindingRequest{Id: args[0]})
		if err != nil {
			return err
		}
		if c.json {
			return c.printJSON(a)
		}
		return c.explainFinding(ctx, a)
	})
	return cmd
}

func (c *client) explainFinding(ctx context.Context, a *sallyportv1.GetFindingResponse) error {
	t, err := notify.NewTerminal(c.out, notify.TerminalOptions{Colour: c.colour.On, Width: terminal.Columns(os.Stdout)})
	if err != nil {
		return err
	}
	f := a.GetFinding()
	if err := t.Deliver(ctx, notify.Alert{Items: []notify.Item{{Finding: f}}}); err != nil {
		return err
	}
	var b strings.Builder
	section := func(title string) { fmt.Fprintf(&b, "%s\n", c.colour.Bold(title)) }
	section("What the policy saw")
	f.GetBehaviour().ProtoReflect().Range(func(d protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		value := v.String()
		if d.Kind() == protoreflect.EnumKind {
			value = strings.ToLower(strings.TrimPrefix(string(d.Enum().Values().ByNumber(v.Enum()).Name()), "BEHAVIOUR_KIND_"))
		}
		fmt.Fprintf(&b, "  %-22s %s\n", d.Name(), terminal.Escape(value))
		return true
	})
	if k := f.GetBaseline(); k != nil {
		section("What the baseline knew")
		fmt.Fprintf(&b, "  %-22s %t, after %d clean runs (%d needed)\n", "stable", k.GetStable(), k.GetRuns(), k.GetRunsNeeded())
		fmt.Fprintf(&b, "  %-22s %t\n", "known", k.GetKnown())
		fmt.Fprintf(&b, "  %-22s %d of this kind, %d seen once; nothing new in the last %d runs; chance of something new %d%%\n",
			"evidence", k.GetBehaviours(), k.GetSeenOnce(), k.GetRunsWithoutChange(), k.GetNoveltyPercent())
		if k.GetReopened() != "" {
			fmt.Fprintf(&b, "  %-22s %s\n", "open again", terminal.Escape(k.GetReopened()))
		}
	}
	section("Process, then its ancestors")
	for _, p := range f.GetAncestry() {
		fmt.Fprintf(&b, "  %-8d %s\n", p.GetPid(), terminal.Escape(strings.Join(p.GetArguments(), " ")))
		fmt.Fprintf(&b, "  %-8s %s\n", "", c.colour.Dim(terminal.Escape(p.GetExecutable())))
	}
	section("The same in other runs")
	fmt.Fprintf(&b, "  %-22s %s\n", "fingerprint", f.GetFingerprint())
	if len(a.GetDecisions()) > 0 {
		section("Decisions")
		for _, d := range a.GetDecisions() {
			fmt.Fprintf(&b, "  %s  %s %s: %s\n", d.GetTime().AsTime().UTC().Format("2006-01-02 15:04:05 UTC"), terminal.Escape(d.GetPerson()),
				strings.TrimSpace(strings.ToLower(strings.TrimPrefix(d.GetKind().String(), "DECISION_KIND_"))+" "+d.GetOutcome()), terminal.Escape(d.GetReason()))
		}
	}
	if len(f.GetRemedies()) > 0 {
		section("To settle it")
		for _, r := range f.GetRemedies() {
			fmt.Fprintf(&b, "  %-22s %s\n", r.GetTitle(), terminal.Escape(r.GetText()))
		}
	}
	_, err = fmt.Fprint(c.out, b.String())
	return err
}

// listFindings lists findings; with open only those that nobody has settled.
func (c *client) listFindings(ctx context.Context, q *sallyportv1.ListFindingsRequest, limit int, open bool) error {
	decided := make(map[string]string)
	findings, err := all(limit, func(size int32, token string) ([]*sallyportv1.Finding, string, error) {
		q.PageSize, q.PageToken = size, token
		a, err := c.ListFindings(ctx, q)
		for _, d := range a.GetDecisions() {
			decided[d.GetFindingId()] = findingState(d)
		}
		found := a.GetFindings()
		if open {
			found = slices.DeleteFunc(found, func(f *sallyportv1.Finding) bool {
				state := decided[f.GetId()]
				return state != "" && state != acknowledged
			})
		}
		return found, a.GetNextPageToken(), err
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
		state := decided[f.Id]
		if state == "" {
			state = "open"
		}
		rows = append(rows, []string{f.Id, severity, state, c.ago(f.Time), a.GetRepository(), a.GetRunId(), a.GetJob(), a.GetStep(), f.Message})
	}
	switch {
	case c.json:
		return nil
	case len(rows) == 0 && open:
		_, err := fmt.Fprintln(c.out, "No open findings.")
		return err
	case len(rows) == 0:
		_, err := fmt.Fprintln(c.out, "No findings.")
		return err
	}
	return c.newest(limit, []string{"ID", "SEVERITY", "STATE", "WHEN", "REPOSITORY", "RUN", "JOB", "STEP", "WHAT"}, rows)
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

// acknowledged is the state of a finding that somebody looks at: it is open still.
const acknowledged = "acknowledged"

// findingState is what a finding is after a decision about it.
func findingState(d *sallyportv1.Decision) string {
	switch d.GetKind() {
	case sallyportv1.DecisionKind_DECISION_KIND_ACKNOWLEDGE:
		return acknowledged
	case sallyportv1.DecisionKind_DECISION_KIND_RESOLVE:
		return d.GetOutcome()
	case sallyportv1.DecisionKind_DECISION_KIND_APPROVE:
		return "approved"
	default:
		return ""
	}
}
