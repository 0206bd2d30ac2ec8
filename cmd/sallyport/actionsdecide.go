package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/sallyport-ci/sallyport/harden"
)

// newActionsDecideCommand makes approve and deny, which write into a file of approvals.
func newActionsDecideCommand(name string, deny bool) *cobra.Command {
	a := harden.Approval{Deny: deny}
	var file string
	cmd := &cobra.Command{
		Use:   name + " ACTION",
		Short: "Note in " + harden.ApprovalsFile + " that actions may be used",
		Long: `Writes a decision about ACTION, OWNER/REPO or a pattern such as actions/*, into the file of
approved actions, which is made if it is not there; where it says something of ACTION, that is
changed. sallyport harden --check fails where a workflow uses what the file does not approve.
Commit it: its history says who decided what.`,
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
