package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/sallyport-ci/sallyport/checks"
	"github.com/sallyport-ci/sallyport/github"
	"github.com/sallyport-ci/sallyport/report/terminal"
	"github.com/sallyport-ci/sallyport/stream"
)

// checkWritePause is kept between two writes of the checks to GitHub, which asks for no more than
// 180 a minute and App.
const checkWritePause = 350 * time.Millisecond

// checksOptions are those of the pull requests' checks.
type checksOptions struct {
	folder   string // of the App
	webhooks string // where they arrive
	grace    time.Duration
	pause    time.Duration
}

func (c *checksOptions) flags(f *pflag.FlagSet, folder string) {
	f.StringVar(&c.folder, "github-app", "", "folder of the GitHub App that keeps the checks of commits, as sallyport app create makes it"+folder)
	f.StringVar(&c.webhooks, "webhooks", "127.0.0.1:7075", "address at which GitHub's webhooks arrive, path "+webhookPath+"; put a proxy with TLS before it")
	f.DurationVar(&c.grace, "check-grace", 4*time.Second, "how long after the end of a run the verdicts on its jobs are waited for")
	f.DurationVar(&c.pause, "check-write-pause", checkWritePause, "time between two writes of checks to GitHub")
}

// webhookPath is where GitHub's webhooks arrive.
const webhookPath = "/github/webhook"

func newChecksCommand() *cobra.Command {
	o := &options{}
	cmd := o.command(&cobra.Command{
		Use:   "checks",
		Short: "Run the checks of pull requests alone, against an external NATS",
		Long:  "Takes GitHub's webhooks and keeps the check \"Sallyport\" on each commit up to date with\nwhat the detector says of its jobs and what people decide (docs/checks.md). There must be\none for a NATS." + apartHelp,
		Example: `  sallyport checks --nats tls://nats-1:4222,tls://nats-2:4222 --nats-ca ca.pem \
    --nats-creds checks.creds --declare=false --github-app /etc/sallyport/github-app --webhooks 0.0.0.0:7075`,
	}, func(ctx context.Context) error {
		if o.checks.folder == "" {
			return usageError(errors.New("which GitHub App keeps the checks? Make one with sallyport app create, and give its folder as --github-app"))
		}
		if _, err := readApp(o.checks.folder); err != nil { // before anything is waited for
			return usageError(err)
		}
		return o.runApart(ctx, stream.PartChecks, func(s *stack) []step {
			return []step{s.connectNATS, s.openBaselines, s.startChecks}
		})
	})
	f := cmd.Flags()
	o.checks.flags(f, "")
	o.declareFlags(f)
	o.metricsFlag(f, "", metricsNote)
	o.logFlags(f, "info", "log as JSON lines")
	cmd.AddCommand(newChecksLintCommand())
	return cmd
}

func newChecksLintCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "lint [FILE…]",
		Short: "Say whether a repository's file for its check can be read",
		Long: `Reads the file by which a repository says what its check is to do and what settles findings
(docs/checks.md), and says what is in it. It asks nobody: run it before such a file is merged.

Exit codes: 0 each file is right, 1 one is not, 2 wrong usage.`,
		Example: "  sallyport checks lint\n  sallyport checks lint shop/.github/sallyport.yml",
		Args:    maximumArgs(1000),
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				args = []string{checks.RulesFile}
			}
			var wrong []error
			for _, file := range args {
				text, err := os.ReadFile(file)
				var said string
				if err == nil {
					said, err = saidByRules(text, time.Now())
				}
				if err != nil {
					wrong = append(wrong, fmt.Errorf("%s: %w", terminal.Escape(file), err))
					continue
				}
				fmt.Fprintf(cmd.OutOrStdout(), "%s: %s\n", terminal.Escape(file), said)
			}
			return errors.Join(wrong...)
		},
	}
}

// saidByRules says in a line what a repository's file holds.
func saidByRules(text []byte, now time.Time) (string, error) {
	r, err := checks.ParseRules(text)
	if err != nil {
		return "", errors.New(strings.TrimPrefix(err.Error(), "read "+checks.RulesFile+": ")) // it may be called otherwise
	}
	said := fmt.Sprintf("%s approves what is new, %s a threat", r.Check.Approvers.New, r.Check.Approvers.Threat)
	for _, x := range []struct {
		on   bool
		what string
	}{{r.Check.Strict, "strict"}, {r.Check.RequireObserved, "every job must be observed"}} {
		if x.on {
			said += "; " + x.what
		}
	}
	over := 0
	for _, a := range r.Approve {
		if a.Over(now) {
			over++
		}
	}
	for _, u := range r.Unobserved {
		if u.Over(now) {
			over++
		}
	}
	said += fmt.Sprintf("; approvals: %d, unobserved: %d", len(r.Approve), len(r.Unobserved))
	if over > 0 {
		said += fmt.Sprintf(", over: %d", over)
	}
	return said, nil
}

// startChecks starts the checks of pull requests, if there is an App.
func (s *stack) startChecks(ctx context.Context) error {
	folder := s.o.checks.folder
	if folder == "" {
		folder = filepath.Join(s.o.data, appFolder)
		if _, err := os.Stat(filepath.Join(folder, appFile)); errors.Is(err, fs.ErrNotExist) {
			return nil
		}
	}
	app, err := readApp(folder)
	if err != nil {
		return usageError(err)
	}
	client, err := github.New(github.Config{URL: app.API, AppID: app.ID, AppKey: app.key, WritePause: cmp.Or(s.o.checks.pause, -1)})
	if err != nil {
		return usageError(err)
	}
	service, err := checks.New(ctx, checks.Config{
		JetStream: s.js, App: client, Secret: app.secret, Baselines: s.baselines, Decisions: s.decisions, Verdicts: s.verdicts,
		Grace: s.o.checks.grace, Registerer: s.registry, Logger: s.log,
	})
	if err != nil {
		return err
	}
	l, err := listen("webhooks", s.o.checks.webhooks)
	if err != nil {
		return err
	}
	s.addresses.Webhooks = l.Addr().String()
	s.log.Info("webhooks from GitHub", "webhooks", s.addresses.Webhooks, "path", webhookPath, "app", app.Slug)
	s.reportHealth("checks", service.Health)
	s.probeConsumers(stream.PartChecks)
	s.parts.start("checks", service.Run)
	s.parts.start("webhooks", func(ctx context.Context) error { return serveWebhooks(ctx, l, service) })
	return nil
}

func serveWebhooks(ctx context.Context, l net.Listener, service http.Handler) error {
	mux := http.NewServeMux()
	mux.Handle(webhookPath, service)
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 15 * time.Second, IdleTimeout: time.Minute, MaxHeaderBytes: 64 << 10}
	stopped := make(chan error, 1)
	stop := context.AfterFunc(ctx, func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
		defer cancel()
		stopped <- server.Shutdown(ctx)
	})
	defer stop()
	if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve webhooks: %w", err)
	}
	return <-stopped
}
