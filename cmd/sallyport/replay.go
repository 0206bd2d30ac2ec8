package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/encoding/protojson"

	"github.com/sallyport-ci/sallyport/detector"
	sallyportv1 "github.com/sallyport-ci/sallyport/proto/sallyport/v1"
	"github.com/sallyport-ci/sallyport/recording"
	"github.com/sallyport-ci/sallyport/recording/pipeline"
	"github.com/sallyport-ci/sallyport/stream"
)

type replayOptions struct {
	streamOptions
	speed        string
	times        int
	asNewRun     bool
	identity     string
	now          bool
	wait         bool
	partial      bool
	again        bool
	dryRun       bool
	judge        bool
	policies     string
	baselineRuns int
	json         bool
}

func newReplayCommand() *cobra.Command {
	o := &replayOptions{}
	cmd := &cobra.Command{
		Use:   "replay FILE…",
		Short: "Play recordings into a running pipeline, or to the detector alone",
		Long: `Publishes the events of recordings, one file after the other, as their agents did. What
is behind treats them as any others: they are stored, judged, and told to whoever is told
of findings.

Every event keeps its identity: playing a file twice adds nothing. With --as-new-run the
events are those of other agents and other runs; with --identity NAME these are the same
ones each time, so that a replay that broke off can be done again. --times plays the files
several times, as new runs each time.

The stream and ingest recognise events for seven days after they were stored. For older
recordings replay asks the tables, or refuses if it cannot.

--judge needs no server: it gives the events to the detector in this process, which learns
from the first files and judges the next by it, and prints findings as JSON, one a line:
for the same files and policies always the same bytes.` + streamsHelp + `

Exit codes: 0 played (--judge: judged, findings or not), 1 something failed or a file is not
whole, 2 wrong usage.`,
		Example: `  sallyport replay npm-ci.rec
  sallyport replay --as-new-run --now --speed max clean.rec
  sallyport replay --times 1000 --now --speed max clean.rec
  sallyport replay --judge clean-*.rec suspicious.rec`,
		Args:    minimumFiles,
		PreRunE: func(cmd *cobra.Command, _ []string) error { return o.prepare(cmd) },
		RunE: func(cmd *cobra.Command, args []string) error {
			if o.dryRun {
				return showRecordings(cmd.OutOrStdout(), args, o.json)
			}
			if o.judge {
				return o.judgeFiles(cmd.Context(), args, cmd.OutOrStdout())
			}
			return o.play(cmd.Context(), args, cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.speed, "speed", "1", "how many seconds of the recording pass in a second, or max")
	f.IntVar(&o.times, "times", 1, "how often the files are played; more than once means --as-new-run")
	f.BoolVar(&o.asNewRun, "as-new-run", false, "give the events new identities: other agents, executions and runs")
	f.StringVar(&o.identity, "identity", "", "what new identities are made of (default random); implies --as-new-run")
	f.BoolVar(&o.now, "now", false, "shift times so that the last event of each file happens when it has been played")
	f.BoolVar(&o.wait, "wait", false, "wait until everything in the stream is stored and judged")
	f.BoolVar(&o.partial, "partial", false, "of files that are cut off or damaged play what is before that")
	f.BoolVar(&o.again, "again", false, "play also what is too old to be recognised if it is stored already")
	f.BoolVar(&o.dryRun, "dry-run", false, "play nothing, say what is in the files")
	f.BoolVar(&o.judge, "judge", false, "judge the events in this process and print findings as JSON")
	f.StringVar(&o.policies, "policies", "", "with --judge: folder of your own Rego policies, beside the built-in ones")
	f.IntVar(&o.baselineRuns, "baseline-runs", detector.DefaultRunsNeeded, "with --judge: clean runs after which a job's baseline can be stable, 1 to 1000")
	f.BoolVar(&o.json, "json", false, "print what was played as JSON; with --dry-run what is in the files")
	o.flags(f)
	return cmd
}

func parseSpeed(text string) (float64, error) {
	if text == "max" {
		return pipeline.AsFast, nil
	}
	speed, err := strconv.ParseFloat(strings.TrimSuffix(text, "x"), 64)
	if err != nil || !(speed > 0) || speed > 1e6 {
		return 0, usageError(fmt.Errorf("--speed %q is neither max nor a number more than 0", text))
	}
	return speed, nil
}

// playable is a file that was read to its end once.
type playable struct {
	path    string
	summary pipeline.Summary
}

// examine reads all files before anything is played.
func (o *replayOptions) examine(paths []string, out io.Writer) (files []playable, err error) {
	for _, path := range paths {
		s, e := withRecording(path, func(r *recording.Reader) (pipeline.Summary, error) { return pipeline.Summarise(r, nil) })
		broken := errors.Is(e, recording.ErrTruncated) || errors.Is(e, recording.ErrDamaged)
		switch {
		case e == nil:
		case broken && o.partial && s.Batches > 0:
			fmt.Fprintf(out, "sallyport: %s; playing the %s batches before that\n", e, grouped(s.Batches))
		case broken && s.Batches > 0:
			err = errors.Join(err, fmt.Errorf("%w; --partial plays what is before that", e))
		default:
			err = errors.Join(err, e)
		}
		files = append(files, playable{path, s})
	}
	return files, err
}

// withRecording opens a recording for read, which ends with io.EOF if all is well.
func withRecording[T any](path string, read func(*recording.Reader) (T, error)) (value T, err error) {
	f, err := os.Open(path)
	if err != nil {
		return value, fmt.Errorf("open recording: %w", err)
	}
	defer func() { _ = f.Close() }() // it was only read
	r, err := recording.NewReader(f)
	if err == nil {
		value, err = read(r)
	}
	if err != nil && !errors.Is(err, io.EOF) {
		return value, fmt.Errorf("%s: %w", path, err)
	}
	return value, nil
}

func (o *replayOptions) play(ctx context.Context, paths []string, out, said io.Writer) error {
	speed, err := parseSpeed(o.speed)
	if err != nil {
		return err
	}
	if o.times < 1 {
		return usageError(fmt.Errorf("--times %d is less than 1", o.times))
	}
	renew := o.asNewRun || o.times > 1 || o.identity != ""
	if renew && o.identity == "" {
		o.identity = strings.ToLower(rand.Text()[:12])
	}
	files, err := o.examine(paths, said)
	if err != nil {
		return err
	}
	s, err := o.connect(ctx)
	if err != nil {
		return err
	}
	defer s.close()
	if !renew && !o.again {
		if err := o.refuseForgotten(ctx, s, files); err != nil {
			return err
		}
	}
	var events uint64
	for _, f := range files {
		events += f.summary.Events * uint64(o.times)
	}
	line := newProgress(os.Stderr)
	began := time.Now()
	c := pipeline.PlayConfig{
		JetStream: s.js, Speed: speed, Now: o.now,
		Progress: func(c pipeline.PlayCounts) {
			line.say("%s of %s events, %s", grouped(c.Events), grouped(events), size(c.Bytes))
		},
		Waiting: saysWaiting(line, said),
	}
	var total pipeline.PlayCounts
	for n := range o.times {
		if renew {
			c.Identity = recording.Identity(fmt.Sprintf("%s/%d", o.identity, n))
		}
		counts, err := playFiles(ctx, c, files)
		total.Batches, total.Events = total.Batches+counts.Batches, total.Events+counts.Events
		total.Known, total.Bytes = total.Known+counts.Known, total.Bytes+counts.Bytes
		if err != nil {
			line.done()
			hint := "; done again it adds only what is missing"
			if renew {
				hint += " with --identity " + o.identity
			}
			return fmt.Errorf("played %s of %s events: %w%s", grouped(total.Events), grouped(events), err, hint)
		}
	}
	line.done()
	if o.wait {
		if err := pipeline.WaitRead(ctx, s.js); err != nil {
			return err
		}
	}
	return o.played(out, total, time.Since(began), renew)
}

func playFiles(ctx context.Context, c pipeline.PlayConfig, files []playable) (pipeline.PlayCounts, error) {
	p, err := pipeline.NewPlayer(c)
	if err != nil {
		return pipeline.PlayCounts{}, err
	}
	for _, f := range files {
		_, err := withRecording(f.path, func(r *recording.Reader) (struct{}, error) { return struct{}{}, p.Play(ctx, r, f.summary) })
		if err != nil {
			return p.Counts(), err
		}
	}
	return p.Counts(), nil
}

// played says what was played.
func (o *replayOptions) played(out io.Writer, c pipeline.PlayCounts, took time.Duration, renewed bool) error {
	if o.json {
		text, err := json.Marshal(struct {
			Batches  uint64  `json:"batches"`
			Events   uint64  `json:"events"`
			Known    uint64  `json:"known_batches"`
			Bytes    uint64  `json:"bytes"`
			Seconds  float64 `json:"seconds"`
			Identity string  `json:"identity,omitempty"`
		}{c.Batches, c.Events, c.Known, c.Bytes, took.Seconds(), o.identity})
		if err != nil {
			return fmt.Errorf("encode what was played: %w", err)
		}
		_, err = fmt.Fprintf(out, "%s\n", text)
		return err
	}
	fmt.Fprintf(out, "played %s events in %s batches, %s, in %s\n", grouped(c.Events), grouped(c.Batches), size(c.Bytes), took.Round(time.Millisecond))
	if c.Known > 0 {
		fmt.Fprintf(out, "%s batches were in the stream already\n", grouped(c.Known))
	}
	if renewed {
		fmt.Fprintf(out, "as new runs; the same ones again: --identity %s\n", o.identity)
	}
	return nil
}

// forgottenAfter is a day less than ingest recognises events.
const forgottenAfter = stream.RepeatWindow - 24*time.Hour

// refuseForgotten refuses files whose events may be in the tables though nobody would
// recognise them: ingest remembers what it has for seven days.
func (o *replayOptions) refuseForgotten(ctx context.Context, s *streams, files []playable) error {
	for _, f := range files {
		for start, last := range f.summary.Starts {
			if time.Since(last) < forgottenAfter {
				continue
			}
			known, err := pipeline.Ingested(ctx, s.js, start)
			if err != nil {
				return err
			}
			if known {
				continue
			}
			const ways = "--as-new-run plays them as new runs, --again plays them as they are"
			tables, err := o.tables()
			if err != nil {
				return err
			}
			if !tables {
				return fmt.Errorf("%s: its events are of %s, and nobody can say whether they are stored already; %s", f.path, last.UTC().Format(time.DateOnly), ways)
			}
			there, err := o.stored(ctx, start)
			if err != nil {
				return fmt.Errorf("%s: ask whether its events are stored already: %w; %s", f.path, err, ways)
			}
			if there {
				return fmt.Errorf("%s: its events are stored already, longer ago than ingest remembers; %s, which doubles them", f.path, ways)
			}
		}
	}
	return nil
}

func (o *replayOptions) stored(ctx context.Context, start pipeline.Start) (there bool, err error) {
	s, err := o.openStore(ctx)
	if err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	return s.HasStart(ctx, start.Agent, start.Epoch)
}

func (o *replayOptions) judgeFiles(ctx context.Context, paths []string, out io.Writer) error {
	if o.baselineRuns < 1 || o.baselineRuns > 1000 {
		return usageError(fmt.Errorf("--baseline-runs %d is not 1 to 1000", o.baselineRuns))
	}
	if err := validPolicies(o.policies); err != nil {
		return err
	}
	policies, problems, err := detector.LoadPolicies(ctx, o.policies)
	if err != nil {
		return err
	}
	for _, problem := range problems {
		fmt.Fprintln(os.Stderr, "sallyport: policy left out:", problem)
	}
	files, err := o.examine(paths, os.Stderr)
	if err != nil {
		return err
	}
	j, err := detector.NewJudge(detector.EngineConfig{
		Policies: policies, RunsNeeded: uint32(o.baselineRuns),
		Logger: slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn})),
	})
	if err != nil {
		return err
	}
	for _, f := range files {
		_, err := withRecording(f.path, func(r *recording.Reader) (struct{}, error) {
			for range f.summary.Batches {
				b, err := r.Next()
				if err != nil {
					return struct{}{}, err
				}
				findings, err := j.Apply(ctx, b.Events)
				for _, f := range findings {
					err = errors.Join(err, printFinding(out, f))
				}
				if err != nil {
					return struct{}{}, err
				}
			}
			return struct{}{}, nil
		})
		if err != nil {
			return err
		}
		j.End()
	}
	return nil
}

// printFinding prints a finding in one line whose bytes depend on the finding alone:
// protojson puts spaces in as it likes.
func printFinding(out io.Writer, f *sallyportv1.Finding) error {
	text, err := protojson.MarshalOptions{UseProtoNames: true}.Marshal(f)
	if err != nil {
		return fmt.Errorf("encode finding %s: %w", f.GetId(), err)
	}
	var line bytes.Buffer
	if err := json.Compact(&line, text); err != nil {
		return fmt.Errorf("encode finding %s: %w", f.GetId(), err)
	}
	line.WriteByte('\n')
	_, err = out.Write(line.Bytes())
	return err
}
