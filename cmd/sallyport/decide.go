package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/user"
	"strings"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/encoding/protojson"

	sallyportv1 "github.com/sallyport-ci/sallyport/proto/sallyport/v1"
	"github.com/sallyport-ci/sallyport/report/terminal"
)

// decision is who decides, and why.
type decision struct{ person, reason string }

func (d *decision) flags(cmd *cobra.Command) {
	cmd.Flags().StringVar(&d.reason, "reason", "", "why, for those who read it a year later; needed")
	cmd.Flags().StringVar(&d.person, "person", "", "who decides (default your login name)")
}

// complete fills in the person, and says what is missing.
func (d *decision) complete() error {
	if d.reason == "" {
		return usageError(errors.New("--reason is needed: a decision is kept with who, when and why"))
	}
	if d.person == "" {
		d.person = os.Getenv("SUDO_USER")
	}
	if d.person == "" {
		u, err := user.Current()
		if err != nil {
			return usageError(fmt.Errorf("who decides? give --person: %w", err))
		}
		d.person = u.Username
	}
	return nil
}

// jobFlags name a job where several have the same name.
type jobFlags struct{ repository, workflow string }

func (j *jobFlags) flags(cmd *cobra.Command) {
	cmd.Flags().StringVar(&j.repository, "repository", "", "only this repository, OWNER/NAME")
	cmd.Flags().StringVar(&j.workflow, "workflow", "", "only the workflow of this name")
}

// baseline finds the one baseline of a job.
func (j *jobFlags) baseline(ctx context.Context, c *client, job string) (*sallyportv1.Baseline, error) {
	chosen, err := j.baselines(ctx, c, job)
	if err != nil {
		return nil, err
	}
	switch len(chosen) {
	case 0:
		return nil, &notFoundError{fmt.Errorf("no clean run of a job %s was seen; `sallyport baseline` lists those that were", job)}
	case 1:
		return chosen[0], nil
	}
	var names []string
	for _, b := range chosen {
		names = append(names, fmt.Sprintf("%s %q", b.Repository, b.Workflow))
	}
	return nil, usageError(fmt.Errorf("several have a job %s: say which with --repository and --workflow: %s", job, strings.Join(names, ", ")))
}

// baselines are those of a job, or all.
func (j *jobFlags) baselines(ctx context.Context, c *client, job string) ([]*sallyportv1.Baseline, error) {
	all, err := all(0, func(size int32, token string) ([]*sallyportv1.Baseline, string, error) {
		a, err := c.ListBaselines(ctx, &sallyportv1.ListBaselinesRequest{Repository: j.repository, PageSize: size, PageToken: token})
		return a.GetBaselines(), a.GetNextPageToken(), err
	})
	if err != nil {
		return nil, err
	}
	var chosen []*sallyportv1.Baseline
	for _, b := range all {
		if (j.workflow == "" || b.Workflow == j.workflow) && (job == "" || b.Job == job) {
			chosen = append(chosen, b)
		}
	}
	return chosen, nil
}

// decided prints a decision that was recorded.
func (c *client) decided(d *sallyportv1.Decision, done string) error {
	if c.json {
		return c.printJSON(d)
	}
	_, err := fmt.Fprintf(c.out, "%s Recorded as %s, by %s.\n", done, d.GetId(), terminal.Escape(d.GetPerson()))
	return err
}

func newBaselineApproveCommand() *cobra.Command {
	var d decision
	cmd := &cobra.Command{
		Use:   "approve FINDING",
		Short: "Say that what a finding found is normal for its job",
		Long: `Puts the behaviour of a finding into the baseline of its job, at once: later runs that
do it are clean. The finding itself stays; settle it with sallyport findings resolve.`,
		Example: `  sallyport baseline approve 0f3a9c… --reason "the new mirror, ticket 4711"`,
		Args:    oneArgument,
	}
	question(cmd, func(ctx context.Context, c *client, args []string) error {
		if err := d.complete(); err != nil {
			return err
		}
		a, err := c.ApproveBehaviour(ctx, &sallyportv1.ApproveBehaviourRequest{FindingId: args[0], Person: d.person, Reason: d.reason})
		if err != nil {
			return err
		}
		e := terminal.Escape
		b := a.GetBaseline()
		return c.decided(a.GetDecision(), fmt.Sprintf("Normal from now on for %s, %s, job %s: %s.",
			e(b.GetRepository()), e(b.GetWorkflow()), e(b.GetJob()), e(a.GetDecision().GetBehaviour().GetTarget())))
	})
	d.flags(cmd)
	return cmd
}

func newBaselineForgetCommand() *cobra.Command {
	var d decision
	var j jobFlags
	var target string
	cmd := &cobra.Command{
		Use:   "forget JOB",
		Short: "Forget what is normal for a job, or one thing of it",
		Long:  "Forgets the baseline of a job, which is learned again from its next clean runs; with\n--target only what it holds of that domain, address, path or program.",
		Example: `  sallyport baseline forget build --repository acme/shop --reason "moved to another registry"
  sallyport baseline forget build --target old.example.test --reason "switched off"`,
		Args: oneArgument,
	}
	question(cmd, func(ctx context.Context, c *client, args []string) error {
		if err := d.complete(); err != nil {
			return err
		}
		b, err := j.baseline(ctx, c, args[0])
		if err != nil {
			return err
		}
		a, err := c.ForgetBaseline(ctx, &sallyportv1.ForgetBaselineRequest{
			Repository: b.Repository, Workflow: b.Workflow, Job: b.Job, Target: target, Person: d.person, Reason: d.reason,
		})
		if err != nil {
			return err
		}
		return c.decided(a.GetDecision(), fmt.Sprintf("%d behaviours forgotten.", a.GetForgotten()))
	})
	d.flags(cmd)
	j.flags(cmd)
	cmd.Flags().StringVar(&target, "target", "", "only this domain, address, path or program")
	return cmd
}

func newBaselineFreezeCommand() *cobra.Command {
	var d decision
	var j jobFlags
	var thaw bool
	cmd := &cobra.Command{
		Use:     "freeze JOB",
		Short:   "Make a baseline learn no more, or again",
		Long:    "A frozen baseline learns nothing from later runs: what is new stays new until somebody\napproves it. --thaw makes it learn again.",
		Example: `  sallyport baseline freeze release --repository acme/shop --reason "audited"`,
		Args:    oneArgument,
	}
	question(cmd, func(ctx context.Context, c *client, args []string) error {
		if err := d.complete(); err != nil {
			return err
		}
		b, err := j.baseline(ctx, c, args[0])
		if err != nil {
			return err
		}
		a, err := c.FreezeBaseline(ctx, &sallyportv1.FreezeBaselineRequest{
			Repository: b.Repository, Workflow: b.Workflow, Job: b.Job, Frozen: !thaw, Person: d.person, Reason: d.reason,
		})
		if err != nil {
			return err
		}
		if thaw {
			return c.decided(a.GetDecision(), "It learns again.")
		}
		return c.decided(a.GetDecision(), "It learns no more.")
	})
	d.flags(cmd)
	j.flags(cmd)
	cmd.Flags().BoolVar(&thaw, "thaw", false, "learn again")
	return cmd
}

func newBaselineExportCommand() *cobra.Command {
	var j jobFlags
	var format string
	cmd := &cobra.Command{
		Use:   "export JOB",
		Short: "Print a baseline as a file",
		Long: `Prints the baseline of a job: as JSON that sallyport baseline import takes, or with
--format allowlist as the endpoints that block mode is to allow, HOST:PORT, in the form
of Harden-Runner's allowed-endpoints. What has no name or no port has no line there; it
is said on standard error.`,
		Example: `  sallyport baseline export build > build.json
  sallyport baseline export build --format allowlist`,
		Args: oneArgument,
	}
	question(cmd, func(ctx context.Context, c *client, args []string) error {
		b, err := j.baseline(ctx, c, args[0])
		if err != nil {
			return err
		}
		switch format {
		case "json":
			text, err := protojson.MarshalOptions{Multiline: true, UseProtoNames: true}.Marshal(b)
			if err != nil {
				return fmt.Errorf("encode baseline: %w", err)
			}
			_, err = fmt.Fprintln(c.out, string(text))
			return err
		case "allowlist":
			lines, without := allowlist(b)
			for _, l := range lines {
				if _, err := fmt.Fprintln(c.out, l); err != nil {
					return err
				}
			}
			for _, w := range without {
				fmt.Fprintf(cmd.ErrOrStderr(), "left out: %s\n", terminal.Escape(w))
			}
			return nil
		}
		return usageError(fmt.Errorf("--format %q is not json or allowlist", format))
	})
	j.flags(cmd)
	cmd.Flags().StringVar(&format, "format", "json", "json or allowlist")
	return cmd
}

func newBaselineImportCommand() *cobra.Command {
	var d decision
	cmd := &cobra.Command{
		Use:     "import FILE",
		Short:   "Put a baseline from a file in the place of its job's",
		Long:    "Takes a file that sallyport baseline export wrote (- is standard input). The job is the one\nthat the file names.",
		Example: `  sallyport baseline import build.json --reason "from the staging server"`,
		Args:    oneArgument,
	}
	question(cmd, func(ctx context.Context, c *client, args []string) error {
		if err := d.complete(); err != nil {
			return err
		}
		text, err := readFileOrStandardInput(args[0], cmd.InOrStdin())
		if err != nil {
			return err
		}
		b := new(sallyportv1.Baseline)
		if err := protojson.Unmarshal(text, b); err != nil {
			return usageError(fmt.Errorf("%s is no baseline: %w", args[0], err))
		}
		a, err := c.ImportBaseline(ctx, &sallyportv1.ImportBaselineRequest{Baseline: b, Person: d.person, Reason: d.reason})
		if err != nil {
			return err
		}
		return c.decided(a.GetDecision(), fmt.Sprintf("%d behaviours are normal for %s, %s, job %s.", len(b.GetBehaviours()),
			terminal.Escape(b.GetRepository()), terminal.Escape(b.GetWorkflow()), terminal.Escape(b.GetJob())))
	})
	d.flags(cmd)
	return cmd
}

func readFileOrStandardInput(name string, in io.Reader) ([]byte, error) {
	if name == "-" {
		return io.ReadAll(in)
	}
	text, err := os.ReadFile(name)
	if err != nil {
		return nil, usageError(err)
	}
	return text, nil
}

func newFindingsSettleCommand(acknowledge bool) *cobra.Command {
	var d decision
	var outcome string
	cmd := &cobra.Command{
		Use:     "ack FINDING",
		Short:   "Say that you look at a finding",
		Long:    "Notes that somebody looks at a finding, with who and why. It stays to be settled, by\nsallyport findings resolve or sallyport baseline approve.",
		Example: `  sallyport findings ack 0f3a9c… --reason "asking the team"`,
		Args:    oneArgument,
	}
	if !acknowledge {
		cmd.Use, cmd.Short = "resolve FINDING", "Say what a finding was, and be done with it"
		cmd.Long = "Settles a finding: as expected or false-alarm, which nobody has to do anything about, as\nfixed, or as an incident, which keeps the check of its commit red. The baseline stays as it\nis: what is to be normal from now on, sallyport baseline approve says."
		cmd.Example = `  sallyport findings resolve 0f3a9c… --outcome expected --reason "the new mirror"`
		cmd.Flags().StringVar(&outcome, "outcome", "", "what it was: expected, false-alarm, fixed or incident; needed")
	}
	question(cmd, func(ctx context.Context, c *client, args []string) error {
		if err := d.complete(); err != nil {
			return err
		}
		a, err := c.SettleFinding(ctx, &sallyportv1.SettleFindingRequest{
			FindingId: args[0], Acknowledge: acknowledge, Outcome: outcome, Person: d.person, Reason: d.reason,
		})
		if err != nil {
			return err
		}
		if acknowledge {
			return c.decided(a.GetDecision(), "Acknowledged.")
		}
		return c.decided(a.GetDecision(), "Settled as "+outcome+".")
	})
	d.flags(cmd)
	return cmd
}

func newDecisionsCommand() *cobra.Command {
	var repository, finding string
	var limit uint
	cmd := &cobra.Command{
		Use:   "decisions",
		Short: "List what people decided about baselines and findings",
		Long:  "Lists decisions, newest first: who approved, forgot, froze, imported, acknowledged or\nsettled what, when and why. They are only ever added.",
		Args:  maximumArgs(0),
	}
	question(cmd, func(ctx context.Context, c *client, _ []string) error {
		decisions, err := all(int(limit), func(size int32, token string) ([]*sallyportv1.Decision, string, error) {
			a, err := c.ListDecisions(ctx, &sallyportv1.ListDecisionsRequest{Repository: repository, FindingId: finding, PageSize: size, PageToken: token})
			return a.GetDecisions(), a.GetNextPageToken(), err
		})
		if err != nil {
			return err
		}
		return c.listDecisions(int(limit), decisions)
	})
	f := cmd.Flags()
	f.StringVar(&repository, "repository", "", "only about this repository, OWNER/NAME")
	f.StringVar(&finding, "finding", "", "only about this finding")
	f.UintVar(&limit, "limit", 50, "most decisions to list, 0 for all")
	return cmd
}

func (c *client) listDecisions(limit int, decisions []*sallyportv1.Decision) error {
	var rows [][]string
	for _, d := range decisions {
		if c.json {
			if err := c.printJSON(d); err != nil {
				return err
			}
			continue
		}
		what := strings.ToLower(strings.TrimPrefix(d.GetKind().String(), "DECISION_KIND_"))
		if d.GetOutcome() != "" {
			what += " " + d.GetOutcome()
		}
		about := d.GetFindingId()
		if about == "" {
			about = d.GetBehaviour().GetTarget()
		}
		rows = append(rows, []string{c.ago(d.Time), d.GetPerson(), what, d.GetRepository(), d.GetJob(), about, d.GetReason()})
	}
	switch {
	case c.json:
		return nil
	case len(rows) == 0:
		_, err := fmt.Fprintln(c.out, "No decisions.")
		return err
	}
	return c.newest(limit, []string{"WHEN", "WHO", "WHAT", "REPOSITORY", "JOB", "ABOUT", "WHY"}, rows)
}

// oneArgument is cobra.ExactArgs(1) as wrong usage.
func oneArgument(cmd *cobra.Command, args []string) error {
	if len(args) != 1 {
		return usageError(errors.New(cmd.CommandPath() + " takes " + cmd.Use[strings.Index(cmd.Use, " ")+1:]))
	}
	return nil
}
