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

	"github.com/sallyport-ci/sallyport/recording/pipeline"
	"github.com/sallyport-ci/sallyport/report/terminal"
	"github.com/sallyport-ci/sallyport/spooled"
	"github.com/sallyport-ci/sallyport/store"
	"github.com/sallyport-ci/sallyport/stream"
)

type spoolSendOptions struct {
	streamOptions
	rules   spooled.Rules
	partial bool
	again   bool
	wait    bool
	dryRun  bool
	json    bool
}

func newSpoolCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "spool",
		Short: "Send events that agents could not send",
		Long: `Sends what agents left in their spools: what the GitHub Action uploads as artifacts named
sallyport-events-… when it cannot reach the server.`,
		Args: maximumArgs(0),
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newSpoolSendCommand())
	return cmd
}

func newSpoolSendCommand() *cobra.Command {
	o := &spoolSendOptions{}
	cmd := &cobra.Command{
		Use:   "send --repo OWNER/NAME PATH…",
		Short: "Send batches from artifacts to the server, once",
		Long: `Publishes batches of events from agents' spools as the agents would have. A PATH is a folder
with batches or zip files in it, however deep, a zip file as GitHub makes it of an artifact, or a
batch. What is behind stores, judges and tells of them as of any others. The files stay as they
are.

Batches keep their identities: sending them twice, or after the agent has sent some of them
itself, adds no row twice. The stream and ingest recognise events for seven days after they were
stored; of older ones the tables are asked, or, where they cannot be, nothing is sent.

Every file is read and checked before anything is sent: another file than a batch, one that is
damaged, and one that says what it may not is refused, and nothing is sent unless --partial leaves
such files out.

Every job of a repository can upload an artifact with whatever it likes in it. So batches are
believed of --repo alone, of --run alone if it is given (give the run that you fetched the artifact
of: otherwise it may speak of every run of the repository), and of agents whose identity
stands for such a run, as of all that were let in by a job's token (the action's input
server). Any other agent has to be named by --agent: who takes the name of an agent that still
runs can have what that says later taken for known. --agent '*' believes all.` + streamsHelp + `

Exit codes: 0 everything that is not refused is in the stream (--dry-run: could be sent), 1
something failed or, without --partial, is refused, 2 wrong usage.`,
		Example: `  gh run download 4711 --repo acme/shop --pattern 'sallyport-events-*' --dir events
  sallyport spool send --repo acme/shop --run 4711 --dry-run events
  sallyport spool send --repo acme/shop --run 4711 events
  sallyport spool send --repo acme/shop --agent 3fa9c1d2e0b74a55 sallyport-events-build-1-0a1b2c3d4e.zip`,
		Args:    minimumFiles,
		PreRunE: func(cmd *cobra.Command, _ []string) error { return o.valid(cmd) },
		RunE: func(cmd *cobra.Command, args []string) error {
			return o.send(cmd.Context(), args, cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.rules.Repository, "repo", "", "repository that the artifacts are of, OWNER/NAME; only with --dry-run it may be left out")
	f.StringSliceVar(&o.rules.Runs, "run", nil, "ID of the run that they are of (repeatable)")
	f.StringSliceVar(&o.rules.Agents, "agent", nil, "believe this agent, though its identity does not stand for a run of the repository (repeatable; * for every one)")
	f.BoolVar(&o.partial, "partial", false, "leave out files that are refused, and send the others")
	f.BoolVar(&o.again, "again", false, "send also what is too old to be recognised if it is stored already, without asking the tables")
	f.BoolVar(&o.wait, "wait", false, "wait until everything in the stream is stored and judged")
	f.BoolVar(&o.dryRun, "dry-run", false, "send nothing, say what is in the files")
	f.BoolVar(&o.json, "json", false, "print what was sent as JSON; with --dry-run what is in the files, one object for each start of an agent and each refused file")
	o.flags(f)
	return cmd
}

func (o *spoolSendOptions) valid(cmd *cobra.Command) error {
	if err := o.prepare(cmd); err != nil {
		return err
	}
	switch {
	case o.rules.Repository == "" && !o.dryRun:
		return usageError(errors.New("--repo OWNER/NAME is needed: of which repository the files may speak"))
	case o.rules.Repository != "" && !stream.ValidRepository(o.rules.Repository):
		return usageError(fmt.Errorf("--repo %q is not OWNER/NAME", o.rules.Repository))
	case o.rules.Repository == "" && len(o.rules.Runs)+len(o.rules.Agents) > 0:
		return usageError(errors.New("--run and --agent go with --repo"))
	}
	for _, run := range o.rules.Runs {
		if run == "" || strings.Trim(run, "0123456789") != "" {
			return usageError(fmt.Errorf("--run %q is not the ID of a run", run))
		}
	}
	for _, agent := range o.rules.Agents {
		if agent != spooled.AnyAgent && !stream.ValidAgentID(agent) {
			return usageError(fmt.Errorf("--agent %q is not the identity of an agent", agent))
		}
	}
	return nil
}

func (o *spoolSendOptions) send(ctx context.Context, paths []string, out, said io.Writer) error {
	found, err := spooled.Examine(ctx, paths, o.rules)
	if found != nil {
		defer found.Close()
	}
	if err == nil && len(found.Batches)+len(found.Refused) == 0 {
		fmt.Fprintf(said, "sallyport: no batch of events is in %s\n", terminal.Escape(strings.Join(paths, " ")))
	}
	switch {
	case err != nil:
		return errors.Join(err, refusedFiles(found))
	case o.dryRun:
		return o.showFound(out, said, found)
	case len(found.Refused) > 0 && !o.partial:
		return fmt.Errorf("%w\nnothing was sent; --partial leaves out what is refused", refusedFiles(found))
	}
	for _, r := range found.Refused {
		fmt.Fprintf(said, "sallyport: left out: %s: %s\n", terminal.Escape(r.Where), terminal.Escape(r.Err.Error()))
	}
	s, err := o.connect(ctx)
	if err != nil {
		return err
	}
	defer s.close()
	old, err := o.forgotten(ctx, s, found)
	if err != nil {
		return err
	}
	c, stored, took, err := o.publish(ctx, s, found, old, said)
	if err != nil {
		return fmt.Errorf("sent %s of %s batches: %w; done again it adds only what is missing", grouped(c.Batches), grouped(len(found.Batches)), err)
	}
	if o.wait {
		if err := pipeline.WaitRead(ctx, s.js); err != nil {
			return err
		}
	}
	return o.sent(out, found, c, stored, took)
}

// refusedFiles is one error for all files that are refused.
func refusedFiles(f *spooled.Found) error {
	if f == nil {
		return nil
	}
	errs := make([]error, len(f.Refused))
	for i, r := range f.Refused {
		errs[i] = fmt.Errorf("%s: %s", terminal.Escape(r.Where), terminal.Escape(r.Err.Error()))
	}
	return errors.Join(errs...)
}

// forgotten returns which batches are so old that nobody may recognise them any more.
func (o *spoolSendOptions) forgotten(ctx context.Context, s *streams, found *spooled.Found) (map[*spooled.Batch]bool, error) {
	old := make(map[*spooled.Batch]bool)
	if o.again {
		return old, nil
	}
	known := make(map[pipeline.Start]bool)
	for i := range found.Batches {
		b := &found.Batches[i]
		if time.Since(b.Last) < forgottenAfter {
			continue
		}
		start := pipeline.Start{Agent: b.AgentID, Epoch: b.Epoch}
		there, asked := known[start]
		if !asked {
			var err error
			if there, err = pipeline.Ingested(ctx, s.js, start); err != nil {
				return nil, err
			}
			known[start] = there
		}
		if !there {
			old[b] = true
		}
	}
	if len(old) == 0 {
		return old, nil
	}
	tables, err := o.tables()
	if err != nil {
		return nil, err
	}
	if !tables {
		return nil, fmt.Errorf("%s batches are older than ingest remembers, and without --clickhouse-dsn-file nobody can say whether they are stored already; nothing was sent; --again sends them all the same", grouped(len(old)))
	}
	return old, nil
}

// publish sends batches, the old ones without the events that are stored.
func (o *spoolSendOptions) publish(ctx context.Context, s *streams, found *spooled.Found, old map[*spooled.Batch]bool, said io.Writer) (c pipeline.PlayCounts, stored uint64, took time.Duration, err error) {
	began := time.Now()
	line := newProgress(os.Stderr)
	defer line.done()
	p, err := pipeline.NewPlayer(pipeline.PlayConfig{
		JetStream: s.js, Speed: pipeline.AsFast,
		Progress: func(c pipeline.PlayCounts) {
			line.say("%s of %s batches, %s", grouped(c.Batches), grouped(len(found.Batches)), size(c.Bytes))
		},
		Waiting: saysWaiting(line, said),
	})
	if err != nil {
		return c, 0, 0, err
	}
	var db *store.Store
	if len(old) > 0 {
		if db, err = o.openStore(ctx); err != nil {
			return c, 0, 0, err
		}
		defer func() { err = errors.Join(err, db.Close()) }()
	}
	for i := range found.Batches {
		b := &found.Batches[i]
		batch, err := found.Read(b)
		if err != nil {
			return p.Counts(), stored, 0, errors.Join(err, p.Flush(ctx))
		}
		if old[b] && b.Events > 0 {
			there, err := db.StoredSequences(ctx, b.AgentID, b.Epoch, b.First, b.First+uint64(b.Events)-1)
			if err != nil {
				return p.Counts(), stored, 0, errors.Join(err, p.Flush(ctx))
			}
			stream.LeaveOut(batch, there)
			stored += uint64(len(there))
		}
		if err := p.Send(ctx, batch); err != nil {
			return p.Counts(), stored, 0, err
		}
	}
	err = p.Flush(ctx)
	return p.Counts(), stored, time.Since(began), err
}

// sent says what was sent.
func (o *spoolSendOptions) sent(out io.Writer, found *spooled.Found, c pipeline.PlayCounts, stored uint64, took time.Duration) error {
	if o.json {
		return printLine(out, struct {
			Batches uint64  `json:"batches"`
			Events  uint64  `json:"events"`
			Known   uint64  `json:"known_batches"`
			Stored  uint64  `json:"stored_events"`
			Same    int     `json:"same_files"`
			Refused int     `json:"refused_files"`
			Bytes   uint64  `json:"bytes"`
			Seconds float64 `json:"seconds"`
		}{c.Batches, c.Events, c.Known, stored, found.Same, len(found.Refused), c.Bytes, took.Seconds()})
	}
	fmt.Fprintf(out, "sent %s events in %s batches, %s, in %s\n", grouped(c.Events), grouped(c.Batches), size(c.Bytes), took.Round(time.Millisecond))
	for _, l := range []struct {
		n    uint64
		what string
	}{
		{c.Known, "batches were in the stream already"},
		{stored, "events were stored already, and left out"},
		{uint64(found.Same), "files were left out, for others have the same content"},
		{uint64(len(found.Refused)), "files were refused, and left out"},
	} {
		if l.n > 0 {
			fmt.Fprintf(out, "%s %s\n", grouped(l.n), l.what)
		}
	}
	return nil
}

// startFound is one start of an agent in the files.
type startFound struct {
	Agent   string    `json:"agent_id"`
	Epoch   uint64    `json:"epoch"`
	First   uint64    `json:"first_sequence"`
	Last    uint64    `json:"last_sequence"`
	Batches int       `json:"batches"`
	Events  int       `json:"events"`
	Bytes   int       `json:"bytes"`
	Until   time.Time `json:"until,omitzero"`
	Jobs    []jobSaid `json:"jobs"`
}

type jobSaid struct {
	Repository string `json:"repository"`
	Run        string `json:"run_id"`
	Attempt    uint32 `json:"run_attempt"`
	Job        string `json:"job"`
}

// showFound says what is in the files. What they say of themselves is not proven by it.
func (o *spoolSendOptions) showFound(out, said io.Writer, found *spooled.Found) error {
	var starts []*startFound
	for _, b := range found.Batches {
		var s *startFound
		if n := len(starts); n > 0 && starts[n-1].Agent == b.AgentID && starts[n-1].Epoch == b.Epoch {
			s = starts[n-1]
		} else {
			s = &startFound{Agent: b.AgentID, Epoch: b.Epoch, First: b.First, Jobs: []jobSaid{}}
			starts = append(starts, s)
		}
		s.Last = b.First + uint64(max(b.Events, 1)) - 1
		s.Batches, s.Events, s.Bytes = s.Batches+1, s.Events+b.Events, s.Bytes+b.Bytes
		if b.Last.After(s.Until) {
			s.Until = b.Last.UTC()
		}
		for _, j := range b.Jobs {
			if job := (jobSaid{j.Repository, j.RunID, j.Attempt, j.Job}); !slices.Contains(s.Jobs, job) {
				s.Jobs = append(s.Jobs, job)
			}
		}
	}
	for _, s := range starts {
		if o.json {
			if err := printLine(out, s); err != nil {
				return err
			}
			continue
		}
		fmt.Fprintf(out, "agent %s, start %s: %s events in %s batches, %s, until %s\n", terminal.Escape(s.Agent), time.Unix(0, int64(s.Epoch)).UTC().Format(time.DateTime),
			grouped(s.Events), grouped(s.Batches), size(s.Bytes), s.Until.Format(time.DateTime))
		for _, j := range s.Jobs {
			fmt.Fprintf(out, "  %s run %s attempt %d job %s\n", terminal.Escape(j.Repository), terminal.Escape(j.Run), j.Attempt, terminal.Escape(j.Job))
		}
	}
	for _, r := range found.Refused {
		if o.json {
			if err := printLine(out, struct {
				Where   string `json:"file"`
				Refused string `json:"refused"`
			}{r.Where, r.Err.Error()}); err != nil {
				return err
			}
			continue
		}
		fmt.Fprintf(said, "sallyport: refused: %s: %s\n", terminal.Escape(r.Where), terminal.Escape(r.Err.Error()))
	}
	if len(starts) == 0 && len(found.Refused) == 0 && !o.json {
		fmt.Fprintln(out, "no batches")
	}
	if len(found.Refused) > 0 && !o.partial {
		return fmt.Errorf("%s files are refused: nothing would be sent without --partial", grouped(len(found.Refused)))
	}
	return nil
}
