package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/sallyport-ci/sallyport/agent"
	sallyportv1 "github.com/sallyport-ci/sallyport/proto/sallyport/v1"
	"github.com/sallyport-ci/sallyport/recording"
	"github.com/sallyport-ci/sallyport/recording/pipeline"
)

type recordOptions struct {
	streamOptions
	output     string
	note       string
	run        string
	repository string
	follow     bool
	settle     time.Duration
}

func newRecordCommand() *cobra.Command {
	o := &recordOptions{}
	cmd := &cobra.Command{
		Use:   "record [flags] [-- COMMAND [ARGUMENT…]]",
		Short: "Keep the events of a run in a file",
		Long: `Writes the events of a run to one file (docs/recordings.md), which replay can play.

With COMMAND it watches that command, as "sallyport run" does, and needs root. With --run
it takes the events of one CI run, with --follow those of all, from the stream of a running
"sallyport up", from now on: the stream keeps no event that everybody has read, and the
tables do not have everything that a recording needs, so that a run that is over cannot be
recorded. --run ends when every job that it saw has ended and nothing more came for
--settle; Ctrl-C ends it too, and the file is whole.

The file holds command lines. Only its owner may read it. Secrets are redacted as
everywhere (docs/redaction.md).` + streamsHelp + `

Exit codes: with COMMAND the command's own, 128 + N if signal N ended it, 127 if it could
not be started, 125 if watching or writing failed; otherwise 0 recorded, 1 something
failed, 2 wrong usage.`,
		Example: `  sudo sallyport record --output npm-ci.rec -- npm ci
  sudo sallyport record --run 4711 --repository acme/shop
  sudo sallyport record --follow --output afternoon.rec
  sallyport record show npm-ci.rec`,
		Args: cobra.ArbitraryArgs,
		PreRunE: func(cmd *cobra.Command, args []string) error {
			if err := o.prepare(cmd); err != nil {
				return err
			}
			return o.check(args)
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return o.recordStream(cmd.Context(), cmd.ErrOrStderr())
			}
			code, err := o.recordCommand(cmd.Context(), args)
			if err != nil {
				fmt.Fprintln(os.Stderr, "sallyport:", err)
			}
			if code != 0 {
				return &exitError{code}
			}
			return nil
		},
	}
	f := cmd.Flags()
	f.SetInterspersed(false) // what follows COMMAND is COMMAND's
	f.StringVarP(&o.output, "output", "o", "", "file to write, which must not exist (default named after what is recorded)")
	f.StringVar(&o.note, "note", "", "a note that is kept in the file")
	f.StringVar(&o.run, "run", "", "record this run alone, by its identifier")
	f.StringVar(&o.repository, "repository", "", "with --run: only of this repository, OWNER/NAME")
	f.BoolVar(&o.follow, "follow", false, "record everything until Ctrl-C")
	f.DurationVar(&o.settle, "settle", time.Minute, "with --run: how long nothing more may come after all its jobs ended")
	o.flags(f)
	cmd.AddCommand(newRecordShowCommand())
	return cmd
}

func (o *recordOptions) check(args []string) error {
	ways := 0
	for _, given := range []bool{len(args) > 0, o.run != "", o.follow} {
		if given {
			ways++
		}
	}
	switch {
	case ways == 0:
		return usageError(errors.New("nothing to record: give -- COMMAND, --run ID or --follow"))
	case ways > 1:
		return usageError(errors.New("COMMAND, --run and --follow exclude each other"))
	case o.repository != "" && o.run == "":
		return usageError(errors.New("--repository goes with --run"))
	case o.settle <= 0:
		return usageError(fmt.Errorf("--settle %s is not more than 0", o.settle))
	}
	if o.output != "" {
		return nil
	}
	name := time.Now().UTC().Format("20060102T150405Z")
	switch {
	case o.run != "":
		name = "run-" + strings.Map(plain, o.run)
	case len(args) > 0:
		name = strings.Map(plain, filepath.Base(args[0])) + "-" + name
	}
	o.output = name + ".rec"
	return nil
}

// plain leaves of a name what can stand in a file's name.
func plain(r rune) rune {
	if r == '-' || r == '_' || r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' {
		return r
	}
	return '_'
}

func (o *recordOptions) create(about recording.About) (*recording.File, error) {
	about.Program, about.Started, about.Note = "sallyport "+version, time.Now().UTC(), o.note
	f, err := recording.Create(o.output, about)
	if errors.Is(err, os.ErrExist) {
		return nil, fmt.Errorf("%s exists: remove it, or name another file with --output", o.output)
	}
	return f, err
}

// taken writes what an agent in this process publishes to a recording. What cannot be
// written must not disturb the command that is watched: the first error is kept.
type taken struct {
	file *recording.File
	err  error
}

// Publish implements agent.Sink.
func (t *taken) Publish(_ context.Context, b *sallyportv1.EventBatch) error {
	if t.err == nil {
		t.err = t.file.Add(time.Now(), b)
	}
	return nil
}

func (o *recordOptions) recordCommand(ctx context.Context, args []string) (code int, err error) {
	file, err := o.create(recording.About{Command: new(agent.Redactor).Arguments(args)})
	if err != nil {
		return exitWatchFailed, err
	}
	sink := &taken{file: file}
	logger := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
	// Recordings of several machines may be played into one server: no two have one agent.
	command, err := watch(ctx, args, "run-"+strings.ToLower(rand.Text()[:16]), sink, logger)
	code = exitCodeOf(command)
	// What was seen is kept also if something failed.
	if err = errors.Join(err, sink.err, file.Close()); err != nil {
		if code == 0 {
			code = exitWatchFailed
		}
		if batches, _, _ := file.Totals(); batches == 0 {
			err = errors.Join(err, os.Remove(o.output))
		}
		return code, err
	}
	o.say(os.Stderr, file.Writer)
	return code, nil
}

func (o *recordOptions) say(out io.Writer, w *recording.Writer) {
	batches, events, bytes := w.Totals()
	fmt.Fprintf(out, "sallyport: recorded %s events in %s batches (%s) to %s\n", grouped(events), grouped(batches), size(bytes), o.output)
}

func (o *recordOptions) recordStream(ctx context.Context, out io.Writer) error {
	s, err := o.connect(ctx)
	if err != nil {
		return err
	}
	defer s.close()
	file, err := o.create(recording.About{Run: o.run})
	if err != nil {
		return err
	}
	line := newProgress(os.Stderr)
	c := pipeline.RecordConfig{
		JetStream: s.js, To: file.Writer,
		Ready: func() {
			fmt.Fprintf(out, "sallyport: recording to %s from now on; what came before is not in it. Ctrl-C ends it.\n", o.output)
		},
		Progress: func() {
			batches, events, bytes := file.Totals()
			line.say("%s events in %s batches, %s", grouped(events), grouped(batches), size(bytes))
		},
		Unreadable: func(err error) { fmt.Fprintln(out, "sallyport: left out:", err) },
	}
	if o.run != "" {
		c.Settle = o.settle
		c.Keep = func(a *sallyportv1.Attribution) bool {
			return a.GetRunId() == o.run && (o.repository == "" || a.GetRepository() == o.repository)
		}
	}
	err = errors.Join(pipeline.Record(ctx, c), file.Close())
	line.done()
	if err != nil {
		return err
	}
	o.say(out, file.Writer)
	return nil
}
