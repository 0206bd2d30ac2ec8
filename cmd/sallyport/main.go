// Command sallyport runs the parts of Sallyport on one machine and asks them
// questions. The agent for runners is a command of its own, sallyport-agent.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/sallyport-ci/sallyport/cmd/internal/process"
)

// version is set when the program is built.
var version = "unknown"

// exitError ends the program with a code of its own; what had to be said has been
// said.
type exitError struct{ code int }

func (e *exitError) Error() string { return fmt.Sprintf("exit code %d", e.code) }

func main() { os.Exit(run(os.Args[1:])) }

func run(args []string) int {
	// The first signal stops in order. After it the default is back, so that a
	// second one ends a program that hangs.
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop)

	root := newRootCommand()
	root.SetArgs(args)
	err := root.ExecuteContext(ctx)
	var exit *exitError
	switch {
	case err == nil:
		return 0
	case errors.As(err, &exit):
		return exit.code
	default:
		fmt.Fprintln(os.Stderr, "sallyport:", err)
		return exitCode(err)
	}
}

func newRootCommand() *cobra.Command {
	root := &cobra.Command{
		Use:   "sallyport",
		Short: "An open EDR for CI: what did this job do, and was it normal?",
		Long: `Sallyport watches what CI jobs do on their runners, learns what is normal for
each job, and says so when a job does something else.

  sudo sallyport run -- COMMAND    watch one command and read the report
  sudo sallyport up                start everything on this machine
  sallyport runs                   ask what was seen`,
		Version:       version,
		SilenceUsage:  true,
		SilenceErrors: true,
		Args:          cobra.ArbitraryArgs, // so that RunE hears of unknown commands
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return cmd.Help()
			}
			meant := ""
			if near := cmd.SuggestionsFor(args[0]); len(near) > 0 {
				meant = "; did you mean " + strings.Join(near, " or ") + "?"
			}
			return usageError(fmt.Errorf("unknown command %q%s", args[0], meant))
		},
	}
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usageError(err) })
	root.AddCommand(
		newRunCommand(),
		newUpCommand(),
		newRunsCommand(),
		newFindingsCommand(),
		newExplainCommand(),
		newBaselineCommand(),
		newDecisionsCommand(),
		newIngestCommand(),
		newDetectorCommand(),
		newNotifyCommand(),
		newServerCommand(),
		newChecksCommand(),
		newAppCommand(),
		newDeclareCommand(),
		newEnrolCommand(),
		newRecordCommand(),
		newReplayCommand(),
		newSpoolCommand(),
		newPolicyCommand(),
		newAlertsCommand(),
		newHardenCommand(),
		newActionsCommand(),
		newDLQCommand(),
		newDoctorCommand(),
		newDBCommand(),
	)
	return root
}

// variables are settings that are no flags, or the agent's, which sallyport up starts.
var variables = []string{
	"SALLYPORT_AGENT", "SALLYPORT_CLICKHOUSE_DSN", "SALLYPORT_NATS", "SALLYPORT_POLICY_BUNDLE_TOKEN", "SALLYPORT_SERVER",
	"SALLYPORT_SLACK_API", "SALLYPORT_SOCKET", "SALLYPORT_STATE", "SALLYPORT_TOKEN", "SALLYPORT_WEBHOOK_SECRET",
}

// setFromEnvironment sets the flags of a command that were not given.
func setFromEnvironment(cmd *cobra.Command) error {
	others := slices.Clone(variables)
	var add func(c *cobra.Command)
	add = func(c *cobra.Command) { // one environment file serves several commands
		c.Flags().VisitAll(func(f *pflag.Flag) {
			others = append(others, process.Variable(f.Name))
		})
		for _, x := range c.Commands() {
			add(x)
		}
	}
	add(cmd.Root())
	for _, said := range process.Misspelt(os.Environ(), cmd.Flags(), others...) {
		fmt.Fprintln(cmd.ErrOrStderr(), "sallyport:", said)
	}
	if err := process.SetFromEnvironment(cmd.Flags(), os.LookupEnv); err != nil {
		return usageError(err)
	}
	return nil
}
