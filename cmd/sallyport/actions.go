package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/sallyport-ci/sallyport/harden"
	"github.com/sallyport-ci/sallyport/harden/catalogue"
)

func newActionsCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "actions",
		Short: "Which actions are in use, where, and what is known of them",
		Args:  maximumArgs(0),
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newActionsListCommand(), newActionsShowCommand(), newActionsDecideCommand("approve", false), newActionsDecideCommand("deny", true))
	return cmd
}

// inventory lists what is used below paths, and says what could not be read.
func inventory(cmd *cobra.Command, paths []string) ([]*harden.UsedAction, error) {
	if len(paths) == 0 {
		paths = []string{"."}
	}
	c, err := catalogue.Embedded()
	if err != nil {
		return nil, err
	}
	files, err := harden.Find(paths, false)
	if err != nil {
		return nil, usageError(err)
	}
	used, problems := harden.Inventory(c, files)
	for _, p := range problems {
		fmt.Fprintln(cmd.ErrOrStderr(), "sallyport:", p)
	}
	if len(problems) > 0 {
		err = &exitError{exitFailed}
	}
	return used, err
}

func newActionsListCommand() *cobra.Command {
	var asJSON, unpinned bool
	cmd := &cobra.Command{
		Use:   "list [PATH…]",
		Short: "List the actions and reusable workflows in use below paths",
		Long: `Lists the actions and reusable workflows that the workflows and composite actions below
PATH (the current folder) use: of several repositories if several are checked out there. For
each, how often, in which versions, whether all uses are pinned to commits, and what the
catalogue knows: that it is archived, or was taken over once.

Exit codes: 0 listed, 1 a file could not be read (the others are in the list), 2 wrong usage.`,
		Example: `  sallyport actions list ~/src
  sallyport actions list --unpinned --json | jq -r .name`,
		RunE: func(cmd *cobra.Command, args []string) error {
			used, failed := inventory(cmd, args)
			var rows [][]string
			for _, u := range used {
				if unpinned && u.Pinned() {
					continue
				}
				if asJSON {
					if err := printLine(cmd.OutOrStdout(), u); err != nil {
						return err
					}
					continue
				}
				var versions, notes []string
				for _, v := range u.Versions {
					named := v.Version
					if named == "" {
						named = v.Ref[:min(len(v.Ref), 12)]
					}
					versions = append(versions, named)
				}
				switch {
				case u.Archived && u.ReplacedBy != "":
					notes = append(notes, "archived, now "+u.ReplacedBy)
				case u.Archived:
					notes = append(notes, "archived")
				}
				for _, i := range u.Incidents {
					notes = append(notes, "taken over "+i)
				}
				if !u.Known {
					notes = append(notes, "not in the catalogue")
				}
				pinned := "yes"
				if !u.Pinned() {
					pinned = "no"
				}
				rows = append(rows, []string{u.Name, fmt.Sprint(u.Uses()), pinned, strings.Join(versions, ", "), strings.Join(notes, "; ")})
			}
			if asJSON || used == nil {
				return failed
			}
			if err := printTable(cmd.OutOrStdout(), []string{"ACTION", "USES", "PINNED", "VERSIONS", "NOTES"}, rows); err != nil {
				return err
			}
			return failed
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON, one action a line")
	cmd.Flags().BoolVar(&unpinned, "unpinned", false, "only those of which a use is not pinned")
	return cmd
}

func newActionsShowCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "show ACTION [PATH…]",
		Short: "Show where an action is used, and what the catalogue knows of it",
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
			used, failed := inventory(cmd, args[1:])
			var b strings.Builder
			entry, known := c.Lookup(args[0] + "@v0")
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
			found := false
			for _, u := range used {
				if u.Name != args[0] {
					continue
				}
				found = true
				if !known {
					fmt.Fprintf(&b, "%s (not in the catalogue)\n", u.Name)
				}
				for _, v := range u.Versions {
					for _, at := range v.At {
						fmt.Fprintf(&b, "  %s: @%s %s\n", at, v.Ref, v.Version)
					}
				}
			}
			if !found && !known {
				return &notFoundError{fmt.Errorf("%s is not used here and not in the catalogue", args[0])}
			}
			if _, err := fmt.Fprint(cmd.OutOrStdout(), b.String()); err != nil {
				return err
			}
			return failed
		},
	}
	return cmd
}

// newActionsDecideCommand makes approve and deny, which add to a file of approvals.
func newActionsDecideCommand(name string, deny bool) *cobra.Command {
	a := harden.Approval{Deny: deny}
	var file string
	cmd := &cobra.Command{
		Use:   name + " ACTION",
		Short: "Note in " + harden.ApprovalsFile + " that actions may be used",
		Long: `Adds a decision about ACTION, OWNER/REPO or a pattern such as actions/*, to the file of
approved actions, which is made if it is not there. sallyport harden --check fails where a
workflow uses what the file does not approve. Commit it: its history says who decided what.`,
		Example: `  sallyport actions approve actions/checkout --versions ">=4.2 <6" --owner platform --reviewer alice --reason reviewed --until 2027-06-30`,
		Args:    oneArgument,
		RunE: func(cmd *cobra.Command, args []string) error {
			a.Action = args[0]
			if a.Owner == "" || a.Reason == "" {
				return usageError(fmt.Errorf("--owner and --reason are needed"))
			}
			if err := harden.Decide(file, a); err != nil {
				return err
			}
			_, err := fmt.Fprintf(cmd.OutOrStdout(), "%s says so now\n", file)
			return err
		},
	}
	f := cmd.Flags()
	f.StringVar(&file, "catalog", harden.ApprovalsFile, "file of approved actions")
	f.StringVar(&a.Owner, "owner", "", "who answers for it")
	f.StringVar(&a.Reason, "reason", "", "why")
	if deny {
		cmd.Short = "Note in " + harden.ApprovalsFile + " that actions may not be used"
		cmd.Example = `  sallyport actions deny 'tj-actions/*' --owner security --reason "taken over in 2025"`
		return cmd
	}
	f.StringVar(&a.Versions, "versions", "", "which versions, for instance \">=4.2 <6\" (default all)")
	f.StringVar(&a.Reviewer, "reviewer", "", "who looked at it")
	f.StringVar(&a.Until, "until", "", "its last day, YYYY-MM-DD (default none)")
	return cmd
}
