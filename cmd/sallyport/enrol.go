package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	sallyportv1 "github.com/sallyport-ci/sallyport/proto/sallyport/v1"
)

func newEnrolCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "enrol",
		Short: "Let machines in: keys for enrolment, who is enrolled, who was refused",
		Long: `A machine of one's own is enrolled once, with a key that is made here; then its agent
has a credential of its own, which can be revoked. docs/identity.md says how.`,
		Args: maximumArgs(0),
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newEnrolCreateCommand(), newEnrolListCommand(), newEnrolRevokeCommand(), newEnrolRefusedCommand())
	return cmd
}

func newEnrolCreateCommand() *cobra.Command {
	q := &sallyportv1.CreateEnrolmentKeyRequest{}
	var expires time.Duration
	cmd := &cobra.Command{
		Use:   "create",
		Short: "Make an enrolment key and print it",
		Long: `Makes an enrolment key and prints it, and nothing else, on standard output. Only its
digest is kept: it cannot be printed again. On the machine to enrol:

  SALLYPORT_ENROL_KEY=spe_… sallyport-agent enrol --server https://HOST`,
		Example: `  sallyport enrol create --name 'vm-*' --uses 20 --expires 1h --repository 'acme/*'`,
		Args:    maximumArgs(0),
	}
	question(cmd, func(ctx context.Context, c *client, _ []string) error {
		if expires < time.Second {
			return usageError(fmt.Errorf("--expires %s: a key has to be good for a second at least", expires))
		}
		q.LifetimeSeconds = uint64(expires / time.Second)
		answer, err := sallyportv1.NewIdentityServiceClient(c.conn).CreateEnrolmentKey(ctx, q)
		if err != nil {
			return err
		}
		if c.json {
			return c.printJSON(answer)
		}
		if _, err := fmt.Fprintln(c.out, answer.GetKey()); err != nil {
			return err
		}
		fmt.Fprintf(cmd.ErrOrStderr(), "Key %s, until %s. It is not shown again.\n", answer.GetEnrolment().GetId(), answer.GetEnrolment().GetExpires().AsTime().Format(time.RFC3339))
		return nil
	})
	f := cmd.Flags()
	f.StringVar(&q.NamePattern, "name", "", "names that machines may have, with * for any characters (default: any)")
	f.Uint32Var(&q.Uses, "uses", 1, "how many machines it enrols, 1 to 10000")
	f.DurationVar(&expires, "expires", 24*time.Hour, "how long it is good for, at most 8760h")
	f.StringVar(&q.Repository, "repository", "", "what the machines may speak for, OWNER/NAME or OWNER/* (default: every repository)")
	return cmd
}

func newEnrolListCommand() *cobra.Command {
	var everything bool
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List enrolment keys and enrolled machines",
		Long:  "Lists the enrolment keys that are good and the machines that are enrolled.",
		Args:  maximumArgs(0),
	}
	question(cmd, func(ctx context.Context, c *client, _ []string) error {
		answer, err := sallyportv1.NewIdentityServiceClient(c.conn).ListEnrolments(ctx, &sallyportv1.ListEnrolmentsRequest{})
		if err != nil {
			return err
		}
		if c.json {
			return c.printJSON(answer)
		}
		var rows [][]string
		for _, k := range answer.GetKeys() {
			state := "until " + k.GetExpires().AsTime().Format(time.RFC3339)
			switch {
			case k.GetRevoked() != nil:
				state = "revoked " + c.ago(k.GetRevoked())
			case k.GetUsesLeft() == 0:
				state = "used up"
			case !c.now.Before(k.GetExpires().AsTime()):
				state = "too old"
			}
			if good := strings.HasPrefix(state, "until"); good || everything {
				rows = append(rows, []string{"key", k.GetId(), k.GetNamePattern(), k.GetRepository(), fmt.Sprintf("%d left, %s", k.GetUsesLeft(), state)})
			}
		}
		for _, a := range answer.GetAgents() {
			state := "enrolled " + c.ago(a.GetEnrolled()) + " by key " + a.GetKeyId()
			if a.GetRevoked() != nil {
				state = "revoked " + c.ago(a.GetRevoked())
			}
			if a.GetRevoked() == nil || everything {
				rows = append(rows, []string{"machine", a.GetAgentId(), "", a.GetRepository(), state})
			}
		}
		return c.table([]string{"WHAT", "ID", "NAMES", "REPOSITORY", "STATE"}, rows)
	})
	cmd.Flags().BoolVar(&everything, "all", false, "also what was revoked, used up or is too old")
	return cmd
}

func newEnrolRevokeCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "revoke ID",
		Short: "Revoke an enrolment key or cut a machine off",
		Long: `Revokes an enrolment key, or cuts off a machine that is enrolled: at once on the embedded
NATS; on another one when its credential ends (--credential-lifetime). Machines that a
revoked key has enrolled stay.`,
		Example: "  sallyport enrol revoke org-lhasirhrr7xp3vd7jsayalyzmy-vm-7    # as sallyport enrol list names it",
		Args:    oneArgument,
	}
	question(cmd, func(ctx context.Context, c *client, args []string) error {
		answer, err := sallyportv1.NewIdentityServiceClient(c.conn).RevokeEnrolment(ctx, &sallyportv1.RevokeEnrolmentRequest{Id: args[0]})
		if status.Code(err) == codes.NotFound {
			return &notFoundError{fmt.Errorf("there is no enrolment key or machine %q; `sallyport enrol list` has their IDs", args[0])}
		}
		if err != nil {
			return err
		}
		if c.json {
			return c.printJSON(answer)
		}
		what := "key " + args[0]
		if len(answer.GetAgentIds()) > 0 {
			what = strings.Join(answer.GetAgentIds(), ", ")
		}
		_, err = fmt.Fprintln(c.out, "revoked", what)
		return err
	})
	return cmd
}

func newEnrolRefusedCommand() *cobra.Command {
	q := &sallyportv1.ListRefusalsRequest{}
	cmd := &cobra.Command{
		Use:   "refused",
		Short: "List who was refused a credential, newest first",
		Long: `Lists who was refused a credential in the last 90 days, and why: tokens for another server,
of repositories that are not let in, used twice; wrong enrolment keys. Repository and run
are what the caller claimed.`,
		Args: maximumArgs(0),
	}
	question(cmd, func(ctx context.Context, c *client, _ []string) error {
		if q.PageSize < 1 || q.PageSize > 1000 {
			return usageError(errors.New("--limit is not 1 to 1000"))
		}
		answer, err := sallyportv1.NewIdentityServiceClient(c.conn).ListRefusals(ctx, q)
		if err != nil {
			return err
		}
		if c.json {
			return c.printJSON(answer)
		}
		var rows [][]string
		for _, r := range answer.GetRefusals() {
			rows = append(rows, []string{c.ago(r.GetLast()), fmt.Sprint(r.GetCount()), r.GetReason(), r.GetRepository(), r.GetRunId(), r.GetAddress(), r.GetDetail()})
		}
		return c.table([]string{"LAST", "TIMES", "REASON", "REPOSITORY", "RUN", "ADDRESS", "DETAIL"}, rows)
	})
	cmd.Flags().Int32Var(&q.PageSize, "limit", 50, "most to list, 1 to 1000")
	return cmd
}
