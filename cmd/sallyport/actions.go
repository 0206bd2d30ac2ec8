package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/sallyport-ci/sallyport/github"
	"github.com/sallyport-ci/sallyport/harden"
	"github.com/sallyport-ci/sallyport/harden/catalogue"
	"github.com/sallyport-ci/sallyport/harden/organisation"
	"github.com/sallyport-ci/sallyport/harden/origin"
	"github.com/sallyport-ci/sallyport/report/terminal"
)

func newActionsCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "actions",
		Short: "Which actions are in use, where, how safe they are, and who may use them",
		Args:  maximumArgs(0),
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(
		newActionsListCommand(), newActionsShowCommand(), newActionsScoreCommand(), newActionsDiffCommand(),
		newActionsDecideCommand("approve", false), newActionsDecideCommand("deny", true), newActionsRequestCommand(),
	)
	return cmd
}

// actionsScope says where actions are looked for: in checkouts, or in an organisation.
type actionsScope struct {
	organisation.Walk
	github     githubOptions
	server     string
	transitive bool
}

func (s *actionsScope) flags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&s.Organisation, "org", "", "all repositories of this organisation at GitHub, in the place of checkouts")
	f.BoolVar(&s.transitive, "transitive", false, "also what the actions use themselves, down to its end, with the way there")
	f.StringVar(&s.server, "github-url", publicGitHub, "where repositories are, for what is asked by the git protocol")
	f.IntVar(&s.Parallel, "parallel", 4, "repositories that are read at once")
	selectionFlags(f, &s.Selection)
	s.github.flags(cmd)
}

// client makes the client of an organisation; waiting for rate limits is said.
func (s *actionsScope) client(ctx context.Context, org string, bar *progress) (*github.Client, error) {
	return s.github.client(ctx, org, time.Second, func(until time.Time) {
		bar.say("GitHub's rate limit: waiting until %s", until.Local().Format(time.TimeOnly))
	})
}

func barOf(said io.Writer) *progress {
	if f, ok := said.(*os.File); ok {
		return newProgress(f)
	}
	return &progress{out: said}
}

// inventory lists what is used below paths, or in the organisation, and says what could not be
// read: then the error is an exitError beside the list.
func (s *actionsScope) inventory(ctx context.Context, paths []string, said io.Writer) ([]*harden.UsedAction, error) {
	if s.Organisation != "" && len(paths) > 0 {
		return nil, usageError(fmt.Errorf("give either --org or paths"))
	}
	c, err := catalogue.Embedded()
	if err != nil {
		return nil, err
	}
	all := harden.NewInventory(c)
	bar := barOf(said)
	defer bar.done()
	var problems []error
	remote := &harden.Remote{Server: s.server}
	from := harden.Follower(remote)
	if s.Organisation != "" {
		client, err := s.client(ctx, s.Organisation, bar)
		if err != nil {
			return nil, err
		}
		w := s.Walk
		w.Done = func(name string, done, of int) { bar.say("%d of %d repositories, %s", done, of, name) }
		if problems, err = organisation.Gather(ctx, client, w, all); err != nil {
			return nil, err
		}
		from = origin.New(client, remote)
	} else {
		if len(paths) == 0 {
			paths = []string{"."}
		}
		files, err := harden.Find(paths, false)
		if err != nil {
			return nil, usageError(err)
		}
		problems = all.AddFiles(files)
	}
	if s.transitive {
		unknown, err := all.Follow(ctx, from)
		if err != nil {
			return nil, err
		}
		problems = append(problems, unknown...)
	}
	bar.done()
	for _, p := range problems {
		fmt.Fprintln(said, "sallyport:", terminal.Escape(p.Error()))
	}
	if len(problems) > 0 {
		return all.Used(), &exitError{exitFailed}
	}
	return all.Used(), nil
}

func newActionsListCommand() *cobra.Command {
	var asJSON, unpinned bool
	var expiring string
	s := &actionsScope{}
	which := &approvalSource{}
	cmd := &cobra.Command{
		Use:   "list [PATH…]",
		Short: "List the actions and reusable workflows in use",
		Long: `Lists the actions and reusable workflows that the workflows and composite actions below
PATH (the current folder) use, or those of all repositories of an organisation (--org): of each
repository its default branch. For each, how often, in which versions, whether all uses are
pinned to commits, and what the catalogue knows: that it is archived, was taken over once, or
what does the same more safely.

With --transitive also what these use themselves, through composite actions and reusable
workflows, with the way there (--json, and actions show).

With --expiring DAYS only those whose approval in ` + harden.ApprovalsFile + ` has ended or ends
within so many days.

Exit codes: 0 listed, 1 something could not be read (the others are in the list), 2 wrong usage.`,
		Example: `  sallyport actions list ~/src
  sallyport actions list --org acme --transitive
  sallyport actions list --unpinned --json | jq -r .name
  sallyport actions list --org acme --expiring 30d --catalog-repo acme/ci`,
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx := cmd.Context()
			within, err := parseDays(expiring)
			if err != nil {
				return usageError(err)
			}
			used, failed := s.inventory(ctx, args, cmd.ErrOrStderr())
			if used == nil && failed != nil {
				return failed
			}
			var ends map[string]harden.Ending
			if expiring != "" {
				approvals, err := which.read(ctx, &s.github)
				if err != nil {
					return err
				}
				ends = approvals.Ending(used, within)
			}
			shown := slices.DeleteFunc(used, func(u *harden.UsedAction) bool {
				_, ending := ends[u.Name]
				return unpinned && u.Pinned() || expiring != "" && !ending
			})
			if err := printUsed(cmd.OutOrStdout(), shown, ends, asJSON, s.Organisation != ""); err != nil {
				return err
			}
			return failed
		},
	}
	f := cmd.Flags()
	f.BoolVar(&asJSON, "json", false, "print JSON, one action a line")
	f.BoolVar(&unpinned, "unpinned", false, "only those of which a use is not pinned")
	f.StringVar(&expiring, "expiring", "", "only those whose approval ends within so many days, for instance 30d")
	s.flags(cmd)
	which.flags(f)
	return cmd
}

// parseDays reads a number of days, with or without the d.
func parseDays(s string) (int, error) {
	if s == "" {
		return 0, nil
	}
	n, err := strconv.Atoi(strings.TrimSuffix(s, "d"))
	if err != nil || n < 0 {
		return 0, fmt.Errorf("--expiring %q is no number of days such as 30d", s)
	}
	return n, nil
}

func printUsed(out io.Writer, used []*harden.UsedAction, ends map[string]harden.Ending, asJSON, org bool) error {
	head := []string{"ACTION", "USES", "PINNED", "VERSIONS", "NOTES"}
	if org {
		head = slices.Insert(head, 2, "REPOSITORIES")
	}
	var rows [][]string
	for _, u := range used {
		end, ending := ends[u.Name]
		if asJSON {
			line := struct {
				*harden.UsedAction
				Until string `json:"until,omitempty"`
			}{u, end.Until}
			if err := printLine(out, line); err != nil {
				return err
			}
			continue
		}
		var versions, notes []string
		for _, v := range u.Versions {
			versions = append(versions, v.Label())
		}
		slices.Sort(versions)
		if ending {
			notes = append(notes, end.String())
		}
		if u.Inside() {
			notes = append(notes, "inside others")
		}
		switch {
		case u.Archived && u.ReplacedBy != "":
			notes = append(notes, "archived, now "+u.ReplacedBy)
		case u.Archived:
			notes = append(notes, "archived")
		case !u.Known:
			notes = append(notes, "not in the catalogue")
		}
		for _, i := range u.Incidents {
			notes = append(notes, "taken over "+i)
		}
		for _, r := range u.Safer {
			notes = append(notes, "safer: "+r.Use)
		}
		row := []string{
			u.Name, strconv.Itoa(u.Uses()), map[bool]string{true: "yes", false: "no"}[u.Pinned()],
			strings.Join(slices.Compact(versions), ", "), strings.Join(notes, "; "),
		}
		if org {
			row = slices.Insert(row, 2, strconv.Itoa(len(u.Repositories())))
		}
		rows = append(rows, row)
	}
	if asJSON {
		return nil
	}
	return printTable(out, head, rows)
}

func newActionsShowCommand() *cobra.Command {
	s := &actionsScope{}
	asJSON := false
	cmd := &cobra.Command{
		Use:   "show ACTION [PATH…]",
		Short: "Show where an action is used, and what the catalogue knows of it",
		Long: `Shows everywhere that ACTION is used below PATH (the current folder) or in an organisation
(--org), with --transitive also through which others, and what the catalogue knows of it, with
its sources.

Exit codes: 0 shown, 1 something could not be read, 2 wrong usage, 3 neither in use nor known.`,
		Example: `  sallyport actions show actions/checkout
  sallyport actions show tj-actions/changed-files --org acme --transitive`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) == 0 {
				return usageError(fmt.Errorf("sallyport actions show takes ACTION, as OWNER/REPO"))
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := catalogue.Embedded()
			if err != nil {
				return err
			}
			used, failed := s.inventory(cmd.Context(), args[1:], cmd.ErrOrStderr())
			if used == nil && failed != nil {
				return failed
			}
			entry, known := c.Lookup(args[0] + "@v0")
			used = slices.DeleteFunc(used, func(u *harden.UsedAction) bool { return !strings.EqualFold(u.Name, args[0]) })
			if len(used) == 0 && !known {
				return cmp.Or(failed, error(&notFoundError{fmt.Errorf("%s is not used here and not in the catalogue", args[0])}))
			}
			if asJSON {
				err = printUsed(cmd.OutOrStdout(), used, nil, true, false)
			} else {
				_, err = io.WriteString(cmd.OutOrStdout(), shownAction(entry, known, used))
			}
			return cmp.Or(err, failed)
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print where it is used as JSON")
	s.flags(cmd)
	return cmd
}

// shownAction is what is known of an action, and where it is used.
func shownAction(entry *catalogue.Entry, known bool, used []*harden.UsedAction) string {
	var b strings.Builder
	if known {
		fmt.Fprintf(&b, "%s\n", entry.Name)
		for _, n := range entry.Needs {
			fmt.Fprintf(&b, "  needs %s: %s (%s)", n.Scope, n.Access, n.Basis)
			if len(n.When) > 0 {
				b.WriteString(", by its inputs")
			}
			if n.Note != "" {
				fmt.Fprintf(&b, "; %s", n.Note)
			}
			b.WriteByte('\n')
		}
		if entry.Unsure != "" {
			fmt.Fprintf(&b, "  may need more: %s\n", entry.Unsure)
		}
		if entry.Archived {
			fmt.Fprintf(&b, "  archived; instead: %s\n", entry.ReplacedBy)
		}
		for _, r := range entry.Safer {
			fmt.Fprintf(&b, "  safer: %s: %s (%s)\n", r.Use, r.Why, r.Page)
		}
		for _, i := range entry.Incidents {
			fmt.Fprintf(&b, "  taken over %s: %s\n", strings.TrimSpace(i.When+" "+i.ID), i.What)
		}
		for _, s := range entry.Sources {
			if s.Page != "" {
				fmt.Fprintf(&b, "  source: %s\n", s.Page)
			} else {
				fmt.Fprintf(&b, "  source: %s at %s\n", s.Path, s.Commit)
			}
		}
	}
	for _, u := range used {
		if !known {
			fmt.Fprintf(&b, "%s (not in the catalogue)\n", terminal.Escape(u.Name))
		}
		for _, v := range u.Versions {
			for _, at := range v.At {
				fmt.Fprintln(&b, "  "+terminal.Escape(strings.TrimSpace(fmt.Sprintf("%s: @%s %s", at, v.Ref, v.Version))))
			}
		}
	}
	return b.String()
}
