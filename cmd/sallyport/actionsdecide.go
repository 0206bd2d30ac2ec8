package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/sallyport-ci/sallyport/github"
	"github.com/sallyport-ci/sallyport/harden"
	"github.com/sallyport-ci/sallyport/harden/request"
	"github.com/sallyport-ci/sallyport/harden/score"
)

// decisionFlags are those of a decision about an action.
func decisionFlags(f *pflag.FlagSet, a *harden.Approval) {
	f.StringVar(&a.Owner, "owner", "", "who answers for it")
	f.StringVar(&a.Reason, "reason", "", "why")
	if a.Deny {
		return
	}
	f.StringVar(&a.Versions, "versions", "", "which versions, for instance \">=4.2 <6\" (default all)")
	f.StringVar(&a.Reviewer, "reviewer", "", "who looked at it")
	f.StringVar(&a.Until, "until", "", "its last day, YYYY-MM-DD (default none)")
}

// notOver refuses an approval whose last day is behind. What is no day at all is refused where
// it is written.
func notOver(a harden.Approval, now time.Time) error {
	if day, err := time.Parse(time.DateOnly, a.Until); err == nil && now.After(day.AddDate(0, 0, 1)) {
		return usageError(fmt.Errorf("--until %s is over", a.Until))
	}
	return nil
}

// newActionsDecideCommand makes approve and deny, which write into a file of approvals, or ask
// for that at GitHub.
func newActionsDecideCommand(name string, deny bool) *cobra.Command {
	a := harden.Approval{Deny: deny}
	r := &requester{}
	cmd := &cobra.Command{
		Use:   name + " ACTION",
		Short: "Note in " + harden.ApprovalsFile + " that actions may be used",
		Long: `Writes a decision about ACTION, OWNER/REPO or a pattern such as actions/*, into the file of
approved actions, which is made if it is not there; where it says something of ACTION, that is
changed. sallyport harden --check fails where a workflow uses what the file does not approve.
Commit it: its history says who decided what.

With --catalog-repo the file is in a repository at GitHub: the decision is a pull request
there, the one of sallyport actions request if that is open.`,
		Example: `  sallyport actions approve actions/checkout --versions ">=4.2 <6" --owner platform --reviewer alice --reason reviewed --until 2027-06-30`,
		Args:    oneArgument,
		RunE: func(cmd *cobra.Command, args []string) error {
			a.Action = args[0]
			if a.Owner == "" || a.Reason == "" {
				return usageError(fmt.Errorf("--owner and --reason are needed"))
			}
			if err := notOver(a, time.Now()); err != nil {
				return err
			}
			if r.approvals.repository != "" {
				return r.ask(cmd.Context(), a, false, cmd.OutOrStdout(), cmd.ErrOrStderr())
			}
			if err := harden.Decide(r.approvals.path(), a); err != nil {
				return err
			}
			_, err := fmt.Fprintf(cmd.OutOrStdout(), "%s says so now\n", r.approvals.path())
			return err
		},
	}
	if deny {
		cmd.Short = "Note in " + harden.ApprovalsFile + " that actions may not be used"
		cmd.Example = `  sallyport actions deny 'tj-actions/*' --owner security --reason "taken over in 2025"`
	}
	decisionFlags(cmd.Flags(), &a)
	r.approvals.flags(cmd.Flags())
	r.scope.github.flags(cmd)
	cmd.Flags().StringVar(&r.scope.Organisation, "org", "", "say who uses it in this organisation (with --catalog-repo)")
	return cmd
}

func newActionsRequestCommand() *cobra.Command {
	a := harden.Approval{}
	r := &requester{}
	issue := false
	cmd := &cobra.Command{
		Use:   "request ACTION[@REF]",
		Short: "Ask for an action to be approved, by a pull request or an issue",
		Long: `Opens a pull request in the repository that holds ` + harden.ApprovalsFile + ` which approves ACTION
there, or an issue that asks for it (--issue). It says why, how far the action can be trusted
and by what reasons (sallyport actions score: of @REF, or of the versions in use), what it may do
with a job's token, and who uses it: below the current folder, or in the organisation with --org.

Asked for again, the open one is brought up to date. A branch that somebody else has pushed to
is left alone. The commit is signed by GitHub. Who merges it, approves it.

The token in GITHUB_TOKEN or GH_TOKEN, or the App (--app-id, --app-key), needs to write contents
and pull requests of that repository, or issues.`,
		Example: `  sallyport actions request acme/deploy@v2 --versions ">=2.1 <3" --reason "deploys the shop" --catalog-repo acme/ci
  sallyport actions request acme/deploy@v2 --reason "deploys the shop" --catalog-repo acme/ci --issue`,
		Args: oneArgument,
		RunE: func(cmd *cobra.Command, args []string) error {
			a.Action, r.ref = args[0], ""
			if name, ref, ok := strings.Cut(args[0], "@"); ok {
				a.Action, r.ref = name, ref
			}
			if a.Reason == "" || r.approvals.repository == "" {
				return usageError(errors.New("--reason and --catalog-repo are needed"))
			}
			if err := notOver(a, time.Now()); err != nil {
				return err
			}
			return r.ask(cmd.Context(), a, issue, cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
	}
	f := cmd.Flags()
	decisionFlags(f, &a)
	f.BoolVar(&issue, "issue", false, "open an issue, in the place of a pull request")
	f.StringVar(&r.seen, "seen", "", "file with destinations that agents saw, for the score")
	r.approvals.flags(f)
	r.scope.flags(cmd)
	return cmd
}

// requester asks for decisions at GitHub.
type requester struct {
	scope     actionsScope
	approvals approvalSource
	ref, seen string
}

// ask opens or updates a request, with what speaks for and against it.
func (r *requester) ask(ctx context.Context, a harden.Approval, issue bool, out, said io.Writer) error {
	if err := r.approvals.check(); err != nil {
		return err
	}
	owner, _, _ := strings.Cut(r.approvals.repository, "/")
	bar := barOf(said)
	defer bar.done()
	client, err := r.scope.client(ctx, owner, bar)
	if err != nil {
		return err
	}
	if a.Owner == "" {
		if a.Owner, err = client.Login(ctx); err != nil {
			return err
		}
		if a.Owner == "" {
			return usageError(errors.New("GitHub does not tell whose the token is: give --owner"))
		}
	}
	q := &request.Request{Repository: r.approvals.repository, File: r.approvals.path(), Decision: a, Title: request.Title(a)}
	if q.Body, err = r.body(ctx, client, a, said); err != nil {
		return err
	}
	do := q.PullRequest
	if issue {
		do = q.Issue
	}
	o, err := do(ctx, client)
	bar.done()
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(out, "%s %s\n", o.Status, o.URL)
	return err
}

// body is what the request says. A pattern has no score.
func (r *requester) body(ctx context.Context, client *github.Client, a harden.Approval, said io.Writer) (string, error) {
	if _, ok := harden.ParseReference(a.Action + "@x"); !ok {
		return request.Body(a, nil, nil, nil), nil
	}
	s := &actionsScore{actionsScope: r.scope}
	all, failed := s.inventory(ctx, nil, said)
	if all == nil && failed != nil {
		return "", failed
	}
	var used *harden.UsedAction
	for _, u := range all {
		if strings.EqualFold(u.Name, a.Action) {
			used = u
		}
	}
	var wanted []wantedAction
	if ref, ok := harden.ParseReference(a.Action + "@" + r.ref); r.ref != "" && ok {
		wanted = append(wanted, wantedAction{ref: ref})
	} else if used != nil {
		wanted = versionsOf(used)
	}
	l, err := newLearner(client, r.scope.server, r.seen, time.Now)
	if err != nil {
		return "", err
	}
	var scores []*score.Score
	var facts []*score.Facts
	for _, w := range wanted {
		f, err := l.Learn(ctx, w.ref, w.version)
		if err != nil {
			return "", err
		}
		scores, facts = append(scores, score.Of(f)), append(facts, f)
	}
	return request.Body(a, scores, facts, used), nil
}
