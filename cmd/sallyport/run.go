package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/sallyport-ci/sallyport/agent"
	"github.com/sallyport-ci/sallyport/bpf"
	"github.com/sallyport-ci/sallyport/detector"
	sallyportv1 "github.com/sallyport-ci/sallyport/proto/sallyport/v1"
	"github.com/sallyport-ci/sallyport/report"
	"github.com/sallyport-ci/sallyport/report/terminal"
)

type runOptions struct {
	json     bool
	output   string
	policies string
}

func newRunCommand() *cobra.Command {
	o := &runOptions{}
	cmd := &cobra.Command{
		Use:   "run [flags] -- COMMAND [ARGUMENT…]",
		Short: "Watch one command and report what it did",
		Long: `Watches a command and everything that it starts, and reports every destination by
process, with bytes and names, the process tree and findings. Nothing is stored and
nothing leaves the machine. Needs root for the kernel's side of it.

The report goes to standard error, so that the command's own output stays what it
is, or to a file (--output).

Exit codes: the command's own; 128 + N if signal N ended it; 127 if it could not be
started; 125 if watching failed.`,
		Example: `  sudo sallyport run -- npm ci
  sudo sallyport run --json --output report.json -- make test`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) == 0 {
				return usageError(errors.New("no command given: sallyport run -- COMMAND"))
			}
			return nil
		},
		PreRunE: func(cmd *cobra.Command, _ []string) error {
			return setFromEnvironment(cmd)
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			code, err := o.run(cmd.Context(), args)
			if err != nil {
				fmt.Fprintln(os.Stderr, "sallyport:", err)
			}
			if code != 0 {
				return &exitError{code}
			}
			return nil
		},
	}
	cmd.Flags().SetInterspersed(false) // what follows COMMAND is COMMAND's
	cmd.Flags().BoolVar(&o.json, "json", false, "report as JSON (docs/run-report.md)")
	cmd.Flags().StringVarP(&o.output, "output", "o", "", "file for the report instead of standard error")
	cmd.Flags().StringVar(&o.policies, "policies", "", "folder of your own Rego policies, beside the built-in ones")
	return cmd
}

// Exit codes of `sallyport run` that are not the command's, as env(1) has them.
const (
	exitWatchFailed = 125
	exitNotStarted  = 127
)

// watched collects what the command does and judges it, in this process.
type watched struct {
	engine    *detector.Engine
	collector *report.Collector
}

// Publish implements agent.Sink.
func (w *watched) Publish(ctx context.Context, b *sallyportv1.EventBatch) error {
	w.collector.Add(b)
	findings, err := w.engine.Apply(ctx, b)
	for _, f := range findings {
		w.collector.AddFinding(f)
	}
	return err
}

func (o *runOptions) run(ctx context.Context, args []string) (code int, err error) {
	if err := validPolicies(o.policies); err != nil {
		return exitWatchFailed, err
	}
	output := io.Writer(os.Stderr)
	if o.output != "" {
		f, err := os.Create(o.output)
		if err != nil {
			return exitWatchFailed, fmt.Errorf("write report: %w", err)
		}
		defer func() { err = errors.Join(err, f.Close()) }()
		output = f
	}
	policies, problems, err := detector.LoadPolicies(ctx, o.policies)
	if err != nil {
		return exitWatchFailed, err
	}
	for _, problem := range problems {
		fmt.Fprintln(os.Stderr, "sallyport: policy left out:", problem)
	}
	logger := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
	engine, err := detector.NewEngine(detector.EngineConfig{Policies: policies, Logger: logger})
	if err != nil {
		return exitWatchFailed, err
	}
	w := &watched{engine: engine, collector: report.NewCollector()}

	command, err := watch(ctx, args, "run", w, logger)
	if err != nil {
		return command.ExitCode, err
	}
	code = exitCodeOf(command)
	r := w.collector.Build(command)
	if o.json {
		return code, r.WriteJSON(output)
	}
	options := report.Options{Width: 100}
	if o.output == "" {
		options.Colour = terminal.Coloured(os.Stderr, os.LookupEnv)
		options.Width = terminal.Columns(os.Stderr)
		fmt.Fprintln(output)
	}
	return code, r.WriteText(output, options)
}

// exitCodeOf returns the exit code with which to end after a command, as shells do.
func exitCodeOf(c report.Command) int {
	if c.Signal != 0 {
		return 128 + c.Signal
	}
	return c.ExitCode
}

// watch runs a command and gives what it does to sink, as agentID's. After an error the
// exit code says what failed, unless the command had one of its own.
func watch(ctx context.Context, args []string, agentID string, sink agent.Sink, logger *slog.Logger) (report.Command, error) {
	command := report.Command{Arguments: args, Started: time.Now(), ExitCode: exitWatchFailed}
	// No names of workers: this process is the worker, the command its only step.
	sensor, err := bpf.Open(bpf.Config{Workers: []string{}})
	if err != nil {
		return command, err
	}
	if err := sensor.Watch(os.Getpid()); err != nil {
		return command, errors.Join(err, sensor.Close())
	}
	hostname, err := os.Hostname()
	if err != nil {
		return command, errors.Join(err, sensor.Close())
	}
	a, err := agent.New(agent.Config{
		AgentID: agentID, Hostname: hostname, Version: version, Source: sensor, Watcher: sensor, Sink: sink,
		Command:        &sallyportv1.Attribution{Job: filepath.Base(args[0]), RunAttempt: 1},
		OnlyAttributed: true, RequestHosts: agent.DefaultRequestHosts(), Logger: logger,
	})
	if err != nil {
		return command, errors.Join(err, sensor.Close())
	}
	watching, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	watchErr := make(chan error, 1)
	go func() { watchErr <- a.Run(watching) }()
	select {
	case <-a.Armed():
	case err := <-watchErr:
		return command, err
	}

	command.Started = time.Now()
	command.ExitCode, command.Signal, err = execute(args)
	command.Ended = time.Now()
	stop()
	if err := errors.Join(err, <-watchErr); err != nil {
		if command.ExitCode == 0 {
			command.ExitCode = exitWatchFailed
		}
		return command, err
	}
	return command, nil
}

// execute runs the command with this process's own input and output and passes
// signals on to it.
func execute(args []string) (code, sig int, err error) {
	cmd := exec.Command(args[0], args[1:]...) //nolint:noctx // ends by itself or by a signal passed on
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT)
	defer signal.Stop(signals)
	if err := cmd.Start(); err != nil {
		return exitNotStarted, 0, fmt.Errorf("start %s: %w", strings.Join(args, " "), err)
	}
	ended := make(chan struct{})
	passed := make(chan struct{})
	go func() {
		defer close(passed)
		for {
			select {
			case s := <-signals:
				// A terminal sends Ctrl-C to the command itself, too.
				if s != os.Interrupt || !term.IsTerminal(int(os.Stdin.Fd())) {
					_ = cmd.Process.Signal(s) // it may have ended just now
				}
			case <-ended:
				return
			}
		}
	}()
	err = cmd.Wait()
	close(ended)
	<-passed
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		return exitWatchFailed, 0, fmt.Errorf("wait for %s: %w", args[0], err)
	}
	if status, ok := cmd.ProcessState.Sys().(syscall.WaitStatus); ok && status.Signaled() { //nolint:misspell // so it is called
		return 0, int(status.Signal()), nil
	}
	return cmd.ProcessState.ExitCode(), 0, nil
}
