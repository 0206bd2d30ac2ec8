package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/encoding/protojson"

	"github.com/sallyport-ci/sallyport/deadletter"
	sallyportv1 "github.com/sallyport-ci/sallyport/proto/sallyport/v1"
	"github.com/sallyport-ci/sallyport/report/terminal"
	"github.com/sallyport-ci/sallyport/stream"
)

type dlqOptions struct {
	streamOptions
	json bool
	raw  bool
	all  bool
	part string
}

func newDLQCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "dlq",
		Short: "List, show, replay and drop dead letters",
		Long: `Dead letters are messages that a part could not use: a batch that cannot be decoded, or
whose rows ClickHouse refuses, or an alert that its receiver refuses. They are kept for 30
days, 1 GiB of them at most; the metric sallyport_dead_letters counts them.`,
		Args: maximumArgs(0),
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newDLQListCommand(), newDLQShowCommand(), newDLQReplayCommand(), newDLQDropCommand())
	return cmd
}

// dlqCommand makes a command that speaks to the streams.
func dlqCommand(cmd *cobra.Command, o *dlqOptions, do func(ctx context.Context, s *streams, args []string, out io.Writer) error) *cobra.Command {
	cmd.Long += streamsHelp + `

Exit codes: 0 done, 1 something failed, 2 wrong usage, 3 no such dead letter.`
	o.flags(cmd.Flags())
	cmd.PreRunE = func(cmd *cobra.Command, _ []string) error { return o.prepare(cmd) }
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		s, err := o.connect(cmd.Context())
		if err != nil {
			return err
		}
		defer s.close()
		err = do(cmd.Context(), s, args, cmd.OutOrStdout())
		if errors.Is(err, deadletter.ErrNone) {
			return &notFoundError{err}
		}
		return err
	}
	return cmd
}

func newDLQListCommand() *cobra.Command {
	o := &dlqOptions{}
	cmd := &cobra.Command{
		Use: "list", Short: "List dead letters, oldest first", Long: "Lists dead letters, oldest first: what, from where, and why.",
		Args: maximumArgs(0),
	}
	cmd.Flags().BoolVar(&o.json, "json", false, "print JSON, one object a line")
	cmd.Flags().StringVar(&o.part, "part", "", "only of this part: ingest, detector or notify")
	return dlqCommand(cmd, o, func(ctx context.Context, s *streams, _ []string, out io.Writer) error {
		return o.list(ctx, s, out)
	})
}

func (o *dlqOptions) list(ctx context.Context, s *streams, out io.Writer) error {
	if o.json {
		return deadletter.List(ctx, s.js, o.part, func(l deadletter.Letter) error { return printLetter(out, l) })
	}
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	n := 0
	err := deadletter.List(ctx, s.js, o.part, func(l deadletter.Letter) error {
		if n++; n == 1 {
			if _, err := fmt.Fprintln(w, "ID\tPART\tFROM\tSIZE\tKEPT\tREASON"); err != nil {
				return err
			}
		}
		_, err := fmt.Fprintf(w, "%d\t%s\t%s %d\t%s\t%s\t%s\n", l.ID, terminal.Escape(l.Part), terminal.Escape(l.Stream), l.Sequence,
			size(l.Size), l.Kept.Format(time.DateTime), terminal.Escape(shortened(l.Reason)))
		return err
	})
	if n == 0 && err == nil {
		fmt.Fprintln(out, "no dead letters")
	}
	return errors.Join(err, w.Flush())
}

// shortened makes a reason fit a table; show has all of it.
func shortened(s string) string {
	const most = 100
	if r := []rune(s); len(r) > most {
		return string(r[:most-1]) + "…"
	}
	return s
}

func printLetter(out io.Writer, l deadletter.Letter) error {
	text, err := json.Marshal(l)
	if err != nil {
		return fmt.Errorf("encode dead letter %d: %w", l.ID, err)
	}
	_, err = fmt.Fprintf(out, "%s\n", text)
	return err
}

func newDLQShowCommand() *cobra.Command {
	o := &dlqOptions{}
	cmd := &cobra.Command{
		Use: "show ID", Short: "Show a dead letter",
		Long: `Shows a dead letter and, if it can be decoded, the message. --raw writes its body as it is.`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 {
				return usageError(errors.New("one ID is needed; `sallyport dlq list` has them"))
			}
			_, err := letterIDs(args)
			return err
		},
	}
	cmd.Flags().BoolVar(&o.json, "json", false, "print JSON, without the message")
	cmd.Flags().BoolVar(&o.raw, "raw", false, "write the message as it is")
	return dlqCommand(cmd, o, func(ctx context.Context, s *streams, args []string, out io.Writer) error {
		ids, err := letterIDs(args)
		if err != nil {
			return err
		}
		l, err := deadletter.Get(ctx, s.js, ids[0])
		switch {
		case err != nil:
			return err
		case o.raw:
			_, err := out.Write(l.Body)
			return err
		case o.json:
			return printLetter(out, l)
		}
		return showLetter(out, l)
	})
}

func showLetter(out io.Writer, l deadletter.Letter) error {
	row := func(name, value string) { fmt.Fprintf(out, "%-8s %s\n", name, terminal.Escape(value)) }
	row("id", strconv.FormatUint(l.ID, 10))
	row("part", l.Part)
	row("kept", l.Kept.Format(time.RFC3339))
	row("reason", l.Reason)
	row("from", fmt.Sprintf("%s %d, subject %s", l.Stream, l.Sequence, l.Subject))
	if l.MessageID != "" {
		row("message", l.MessageID)
	}
	row("size", size(l.Size))
	fmt.Fprintln(out)
	options := protojson.MarshalOptions{UseProtoNames: true}
	if f, err := stream.DecodeFinding(l.Body); err == nil && l.Stream == stream.FindingsStream {
		fmt.Fprintln(out, terminal.Escape(options.Format(f)))
		return nil
	}
	d, err := stream.NewDecoder()
	if err != nil {
		return err
	}
	b := new(sallyportv1.EventBatch)
	if err := d.Decode(l.Body, b); err != nil {
		fmt.Fprintln(out, "The message cannot be decoded:", terminal.Escape(err.Error()))
		return nil
	}
	first := b.GetFirstSequence()
	fmt.Fprintf(out, "A batch of agent %s on %s: %d events, sequences %d to %d.\n", b.GetAgentId(), terminal.Escape(b.GetHostname()),
		len(b.GetEvents()), first, first+uint64(len(b.GetEvents()))-1)
	return nil
}

// letterIDs reads numbers of dead letters.
func letterIDs(args []string) ([]uint64, error) {
	ids := make([]uint64, len(args))
	for i, arg := range args {
		var err error
		if ids[i], err = strconv.ParseUint(arg, 10, 64); err != nil || ids[i] == 0 {
			return nil, usageError(fmt.Errorf("%q is not the number of a dead letter", arg))
		}
	}
	return ids, nil
}

// several makes a command that does something to several dead letters.
func (o *dlqOptions) several(cmd *cobra.Command, done string, do func(ctx context.Context, s *streams, id uint64) error) *cobra.Command {
	cmd.Args = func(cmd *cobra.Command, args []string) error {
		switch {
		case len(args) == 0 && !o.all:
			return usageError(errors.New("give IDs, or --all"))
		case len(args) > 0 && o.all:
			return usageError(errors.New("IDs and --all exclude each other"))
		}
		_, err := letterIDs(args)
		return err
	}
	cmd.Flags().BoolVar(&o.all, "all", false, "all that there are now")
	cmd.Flags().StringVar(&o.part, "part", "", "with --all: only of this part: ingest, detector or notify")
	return dlqCommand(cmd, o, func(ctx context.Context, s *streams, args []string, out io.Writer) error {
		ids, err := letterIDs(args)
		if err != nil {
			return err
		}
		if o.all {
			err := deadletter.List(ctx, s.js, o.part, func(l deadletter.Letter) error { ids = append(ids, l.ID); return nil })
			if err != nil {
				return err
			}
		}
		line := newProgress(os.Stderr)
		n := 0
		var failed error
		for _, id := range ids {
			err := do(ctx, s, id)
			switch {
			case err == nil:
				n++
			case o.all && errors.Is(err, deadletter.ErrNone): // somebody else did it
			case errors.Is(err, deadletter.ErrNone), errors.Is(err, deadletter.ErrStays):
				failed = errors.Join(failed, err) // the others may be better off
			default:
				return errors.Join(failed, fmt.Errorf("%s %d of %d: %w", done, n, len(ids), err))
			}
			line.say("%s %d of %d", done, n, len(ids))
		}
		line.done()
		fmt.Fprintf(out, "%s %d of %d\n", done, n, len(ids))
		return failed
	})
}

func newDLQReplayCommand() *cobra.Command {
	o := &dlqOptions{}
	cmd := &cobra.Command{
		Use: "replay [ID…]", Short: "Put dead letters back to where they came from",
		Long: `Puts dead letters back into the stream that they came from, for the part that could not
use them, and removes them when the stream has them. Killed in the middle, it may be done
again. What still cannot be used becomes a dead letter again. Events that the tables have
are not stored a second time.`,
		Example: `  sallyport dlq replay 3 4
  sallyport dlq replay --all --part ingest`,
	}
	return o.several(cmd, "replayed", func(ctx context.Context, s *streams, id uint64) error {
		var stored deadletter.Stored
		tables, err := o.tables()
		if err != nil {
			return err
		}
		if tables {
			stored = func(ctx context.Context, agent string, epoch, first, last uint64) (there []uint64, err error) {
				db, err := o.openStore(ctx)
				if err != nil {
					return nil, err
				}
				defer func() { err = errors.Join(err, db.Close()) }()
				return db.StoredSequences(ctx, agent, epoch, first, last)
			}
		}
		return deadletter.Replay(ctx, s.js, stored, id)
	})
}

func newDLQDropCommand() *cobra.Command {
	o := &dlqOptions{}
	cmd := &cobra.Command{
		Use: "drop [ID…]", Short: "Remove dead letters for good", Long: "Removes dead letters for good.",
		Example: `  sallyport dlq drop 3
  sallyport dlq drop --all --part notify`,
	}
	return o.several(cmd, "dropped", func(ctx context.Context, s *streams, id uint64) error {
		return deadletter.Drop(ctx, s.js, id)
	})
}
