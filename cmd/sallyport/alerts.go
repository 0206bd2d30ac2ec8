package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/sallyport-ci/sallyport/notify"
	sallyportv1 "github.com/sallyport-ci/sallyport/proto/sallyport/v1"
	"github.com/sallyport-ci/sallyport/report/terminal"
)

// alertsInterval is how often the file of alert rules is looked at.
const alertsInterval = 2 * time.Second

// readRules reads a file of alert rules.
func readRules(name string) (*notify.Rules, error) {
	data, err := os.ReadFile(name)
	if err != nil {
		return nil, fmt.Errorf("read alert rules: %w", err)
	}
	return notify.ParseRules(name, data)
}

// secretOf reads a secret that is named by an environment variable or a file.
func secretOf(what, variable, file string) (string, error) {
	if file != "" {
		data, err := os.ReadFile(file)
		if err != nil {
			return "", fmt.Errorf("read %s: %w", what, err)
		}
		return strings.TrimSpace(string(data)), nil
	}
	secret := strings.TrimSpace(os.Getenv(variable))
	if secret == "" {
		return "", fmt.Errorf("read %s: the environment variable %s is empty", what, variable)
	}
	return secret, nil
}

// sinkMaker makes sinks of what a file says of them.
type sinkMaker struct {
	out       io.Writer
	json      bool
	githubURL string
	slackAPI  string // for tests
}

func (m sinkMaker) terminal() (notify.Target, error) {
	return notify.NewTerminal(m.out, notify.TerminalOptions{
		JSON: m.json, Colour: terminal.Coloured(os.Stdout, os.LookupEnv), Width: terminal.Columns(os.Stdout), GitHubURL: m.githubURL,
	})
}

// sinks makes those of the rules, ordered by name.
func (m sinkMaker) sinks(r *notify.Rules) ([]notify.Sink, error) {
	var out []notify.Sink
	for _, name := range sortedKeys(r.Sinks) {
		s, err := m.sink(name, r.Sinks[name])
		if err != nil {
			return nil, fmt.Errorf("sink %s: %w", name, err)
		}
		out = append(out, s)
	}
	return out, nil
}

func (m sinkMaker) sink(name string, spec notify.SinkSpec) (s notify.Sink, err error) {
	s.Name = name
	var secret string
	switch {
	case spec.Slack != nil:
		if secret, err = secretOf("Slack webhook", spec.Slack.WebhookEnv, spec.Slack.WebhookFile); err != nil {
			return s, err
		}
		s.Target, err = notify.NewSlack(notify.SlackOptions{WebhookURL: secret, GitHubURL: m.githubURL})
		s.Window, s.Interval, s.MaxItems = notify.SlackWindow, notify.SlackInterval, notify.SlackMaxItems
	case spec.SlackApp != nil:
		if secret, err = secretOf("Slack token", spec.SlackApp.TokenEnv, spec.SlackApp.TokenFile); err != nil {
			return s, err
		}
		s.Target, err = notify.NewSlackApp(notify.SlackAppOptions{Token: secret, Channel: spec.SlackApp.Channel, GitHubURL: m.githubURL, APIURL: m.slackAPI})
		s.Window, s.Interval = notify.SlackWindow, notify.SlackAppInterval
	case spec.Webhook != nil:
		address, e := secretOf("webhook's address", spec.Webhook.URLEnv, spec.Webhook.URLFile)
		if e != nil {
			return s, e
		}
		if secret, err = secretOf("webhook's secret", spec.Webhook.SecretEnv, spec.Webhook.SecretFile); err != nil {
			return s, err
		}
		s.Target, err = notify.NewWebhook(notify.WebhookOptions{URL: address, Secrets: strings.Fields(secret), GitHubURL: m.githubURL})
		s.Window = notify.WebhookWindow
	default:
		s.Target, err = m.terminal()
	}
	if spec.RepeatWindow != nil {
		s.Window = time.Duration(*spec.RepeatWindow)
	}
	return s, err
}

// watchRules puts a file's routes, quiet hours and limits in force when it changes, until ctx
// ends. Sinks that change take a restart.
func (s *stack) watchRules(ctx context.Context, name string, router *notify.Router) {
	read := func() string {
		info, err := os.Stat(name)
		if err != nil {
			return err.Error()
		}
		return fmt.Sprint(info.Size(), info.ModTime().UnixNano())
	}
	seen := read()
	tick := time.NewTicker(alertsInterval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		now := read()
		if now == seen {
			continue
		}
		seen = now
		rules, err := readRules(name)
		if err != nil {
			s.log.Error("the alert rules cannot be used; the last good ones stay in force", "error", err)
			continue
		}
		if !slices.Equal(sortedKeys(rules.Sinks), sortedKeys(router.Rules().Sinks)) {
			s.log.Warn("the alert rules have other sinks now, which takes a restart; nothing of the file is in force yet", "file", name)
			continue
		}
		router.Use(rules)
		s.log.Info("alert rules in force", "file", name)
	}
}

func newAlertsCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "alerts",
		Short: "Check who is told of findings, and try it",
		Long:  "Works on a file of alert rules as --alerts of up and notify takes it: docs/alerts.md.",
		Args:  maximumArgs(0),
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newAlertsCheckCommand(), newAlertsTestCommand())
	return cmd
}

func newAlertsCheckCommand() *cobra.Command {
	var severity, repository, policy, at string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "check FILE",
		Short: "Say what is wrong with alert rules, or who would be told of a finding",
		Long: `Reads a file of alert rules and says what is wrong with it, with its lines. With --severity
it says which sinks would be told of such a finding, and until when each would be held back.
Secrets are not looked at.

Exit codes: 0 the file can be used, 1 it cannot, 2 wrong usage.`,
		Example: `  sallyport alerts check alerts.yaml
  sallyport alerts check alerts.yaml --severity high --repository acme/shop --policy new_endpoint --at 2026-12-24T23:00:00+01:00`,
		Args: oneArgument,
		RunE: func(cmd *cobra.Command, args []string) error {
			rules, err := readRules(args[0])
			if err != nil {
				return err
			}
			out := cmd.OutOrStdout()
			if severity == "" {
				_, err := fmt.Fprintf(out, "%d sinks, %d routes, %d quiet hours, %d limits; nothing is wrong\n", len(rules.Sinks), len(rules.Routes), len(rules.Quiet), len(rules.Limits))
				return err
			}
			level, err := parseSeverity("severity", severity)
			if err != nil {
				return err
			}
			now := time.Now()
			if at != "" {
				if now, err = time.Parse(time.RFC3339, at); err != nil {
					return usageError(fmt.Errorf("--at %q is no time such as 2026-12-24T23:00:00+01:00", at))
				}
			}
			f := &sallyportv1.Finding{Policy: &sallyportv1.Policy{Id: policy, Severity: level}, Attribution: &sallyportv1.Attribution{Repository: repository}}
			told := rules.For(f)
			if len(told) == 0 && !asJSON {
				_, err := fmt.Fprintln(out, "nobody")
				return err
			}
			for _, s := range told {
				until, why := rules.Hold(s, level, now, nil)
				line := map[string]any{"sink": s}
				if !until.IsZero() {
					line["held_until"], line["because"] = until, why
				}
				switch {
				case asJSON:
					err = printLine(out, line)
				case until.IsZero():
					_, err = fmt.Fprintf(out, "%s: at once\n", s)
				default:
					_, err = fmt.Fprintf(out, "%s: at %s (%s)\n", s, until.Format(time.RFC3339), why)
				}
				if err != nil {
					return err
				}
			}
			return nil
		},
	}
	f := cmd.Flags()
	f.StringVar(&severity, "severity", "", "of the finding: low, medium, high or critical")
	f.StringVar(&repository, "repository", "", "of the finding, OWNER/NAME")
	f.StringVar(&policy, "policy", "", "that the finding breaks")
	f.StringVar(&at, "at", "", "when, as RFC 3339 (default now)")
	f.BoolVar(&asJSON, "json", false, "print JSON, one sink a line")
	return cmd
}

func newAlertsTestCommand() *cobra.Command {
	var file, githubURL string
	cmd := &cobra.Command{
		Use:   "test SINK",
		Short: "Send a marked test message to one sink",
		Long: `Sends one message, which says that it is a test, to a sink of a file of alert rules, with
the secrets that the file names. Routes, quiet hours and limits are not looked at. An app's
message is no thread.`,
		Example: `  sallyport alerts test oncall --alerts alerts.yaml`,
		Args:    oneArgument,
		RunE: func(cmd *cobra.Command, args []string) error {
			if file == "" {
				return usageError(errors.New("--alerts is needed"))
			}
			rules, err := readRules(file)
			if err != nil {
				return err
			}
			spec, ok := rules.Sinks[args[0]]
			if !ok {
				return &notFoundError{fmt.Errorf("there is no sink %q, but %s", args[0], strings.Join(sortedKeys(rules.Sinks), ", "))}
			}
			s, err := sinkMaker{out: cmd.OutOrStdout(), githubURL: githubURL, slackAPI: os.Getenv("SALLYPORT_SLACK_API")}.sink(args[0], spec)
			if err != nil {
				return fmt.Errorf("sink %s: %w", args[0], err)
			}
			ctx, cancel := context.WithTimeout(cmd.Context(), 30*time.Second)
			defer cancel()
			now := time.Now()
			err = notify.Try(ctx, s.Target, notify.Alert{Attempt: 1, Items: []notify.Item{{Finding: &sallyportv1.Finding{
				Id: fmt.Sprintf("%032x", now.UnixNano()), Fingerprint: strings.Repeat("0", 32), Time: timestamppb.New(now),
				Policy: &sallyportv1.Policy{
					Id: "test", Title: "Test message", Severity: sallyportv1.Severity_SEVERITY_LOW,
					Description: "Somebody asked for this with sallyport alerts test. Nothing was found.", Remediation: "Nothing.",
				},
				Message: "This is a test of the sink " + args[0] + ". Nothing was found.", Attribution: &sallyportv1.Attribution{},
			}}}})
			if err != nil {
				return fmt.Errorf("sink %s: %w", args[0], err)
			}
			_, err = fmt.Fprintf(cmd.ErrOrStderr(), "sallyport: %s took the message\n", args[0])
			return err
		},
	}
	cmd.Flags().StringVar(&file, "alerts", "", "file of alert rules")
	cmd.Flags().StringVar(&githubURL, "github-url", "", "server that links to runs point to (default https://github.com)")
	return cmd
}
