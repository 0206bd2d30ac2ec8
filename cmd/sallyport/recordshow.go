package main

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	sallyportv1 "github.com/sallyport-ci/sallyport/proto/sallyport/v1"
	"github.com/sallyport-ci/sallyport/recording"
	"github.com/sallyport-ci/sallyport/recording/pipeline"
	"github.com/sallyport-ci/sallyport/report/terminal"
)

// contents is what is in a recording, as `record show --json` prints it.
type contents struct {
	File  string          `json:"file"`
	About recording.About `json:"about"`
	// Whole, or what is wrong with it.
	Whole   bool              `json:"whole"`
	Problem string            `json:"problem,omitempty"`
	Bytes   int64             `json:"bytes"`
	Batches uint64            `json:"batches"`
	Events  uint64            `json:"events"`
	First   time.Time         `json:"first,omitzero"`
	Last    time.Time         `json:"last,omitzero"`
	Agents  []agentStartShown `json:"agents"`
	Jobs    []jobShown        `json:"jobs"`
	Kinds   map[string]uint64 `json:"kinds"`
}

type agentStartShown struct {
	Agent    string `json:"agent_id"`
	Epoch    uint64 `json:"epoch"`
	Hostname string `json:"hostname"`
	First    uint64 `json:"first_sequence"`
	Last     uint64 `json:"last_sequence"`
}

type jobShown struct {
	Repository string `json:"repository"`
	Run        string `json:"run_id"`
	Job        string `json:"job"`
	Execution  string `json:"execution_id"`
	Events     uint64 `json:"events"`
	Ended      bool   `json:"ended"`
}

func newRecordShowCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "show FILE…",
		Short: "Say what is in a recording",
		Long: `Says what is in recordings: agents, runs, jobs, kinds of events, and whether the files
are whole.

Exit codes: 0 whole, 1 one of them cannot be read to its end, 2 wrong usage.`,
		Example: `  sallyport record show npm-ci.rec`,
		Args:    minimumFiles,
		RunE: func(cmd *cobra.Command, args []string) error {
			return showRecordings(cmd.OutOrStdout(), args, asJSON)
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON, one object a file")
	return cmd
}

func minimumFiles(_ *cobra.Command, args []string) error {
	if len(args) == 0 {
		return usageError(errors.New("no file given"))
	}
	return nil
}

func showRecordings(out io.Writer, paths []string, asJSON bool) error {
	var failed error
	for i, path := range paths {
		c, err := look(path)
		if c == nil {
			failed = errors.Join(failed, err)
			continue
		}
		if err != nil {
			failed = errors.Join(failed, err)
		}
		if asJSON {
			text, err := json.Marshal(c)
			if err != nil {
				return fmt.Errorf("encode what is in %s: %w", path, err)
			}
			fmt.Fprintf(out, "%s\n", text)
			continue
		}
		if i > 0 {
			fmt.Fprintln(out)
		}
		if err := c.write(out); err != nil {
			return err
		}
	}
	return failed
}

// look reads a recording to its end. With an error the contents, if any, are of what is
// before the damage.
func look(path string) (*contents, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("open recording: %w", err)
	}
	defer func() { _ = f.Close() }() // it was only read
	r, err := recording.NewReader(f)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	c := &contents{File: path, About: r.About(), Kinds: make(map[string]uint64), Agents: []agentStartShown{}, Jobs: []jobShown{}}
	s, err := pipeline.Summarise(r, c.add)
	c.Batches, c.Events, c.Bytes = s.Batches, s.Events, s.Bytes
	if !s.First.IsZero() {
		c.First, c.Last = s.First.UTC(), s.Last.UTC()
	}
	slices.SortFunc(c.Agents, func(a, b agentStartShown) int {
		return cmp.Or(strings.Compare(a.Agent, b.Agent), cmp.Compare(a.Epoch, b.Epoch))
	})
	if errors.Is(err, io.EOF) {
		c.Whole = true
		return c, nil
	}
	c.Problem = err.Error()
	return c, fmt.Errorf("%s: %w", path, err)
}

func (c *contents) add(b *recording.Batch) {
	e := b.Events
	last := e.GetFirstSequence() + uint64(len(e.GetEvents())) - 1
	at := slices.IndexFunc(c.Agents, func(a agentStartShown) bool { return a.Agent == e.GetAgentId() && a.Epoch == e.GetEpoch() })
	if at < 0 {
		c.Agents = append(c.Agents, agentStartShown{e.GetAgentId(), e.GetEpoch(), e.GetHostname(), e.GetFirstSequence(), last})
	} else {
		c.Agents[at].First, c.Agents[at].Last = min(c.Agents[at].First, e.GetFirstSequence()), max(c.Agents[at].Last, last)
	}
	for _, event := range e.GetEvents() {
		kind := "none"
		if body := event.ProtoReflect().WhichOneof(event.ProtoReflect().Descriptor().Oneofs().ByName("body")); body != nil {
			kind = string(body.Name())
		}
		c.Kinds[kind]++
		if n := event.GetAttribution(); n > 0 {
			c.job(e.GetAttributions()[n-1], event.GetJobEnded() != nil)
		}
	}
}

func (c *contents) job(a *sallyportv1.Attribution, ended bool) {
	at := slices.IndexFunc(c.Jobs, func(j jobShown) bool { return j.Execution == a.GetExecutionId() })
	if at < 0 {
		at = len(c.Jobs)
		c.Jobs = append(c.Jobs, jobShown{Repository: a.GetRepository(), Run: a.GetRunId(), Job: a.GetJob(), Execution: a.GetExecutionId()})
	}
	c.Jobs[at].Events++
	c.Jobs[at].Ended = c.Jobs[at].Ended || ended
}

func (c *contents) write(out io.Writer) error {
	row := func(name, format string, args ...any) {
		fmt.Fprintf(out, "%-9s %s\n", name, terminal.Escape(fmt.Sprintf(format, args...)))
	}
	row("file", "%s, %s", c.File, size(c.Bytes))
	if c.Whole {
		row("state", "whole")
	} else {
		row("state", "NOT WHOLE: %s", c.Problem)
	}
	row("written", "by %s at %s", c.About.Program, c.About.Started.UTC().Format(time.RFC3339))
	if len(c.About.Command) > 0 {
		row("command", "%s", strings.Join(c.About.Command, " "))
	}
	if c.About.Run != "" {
		row("run", "%s", c.About.Run)
	}
	if c.About.Note != "" {
		row("note", "%s", c.About.Note)
	}
	row("events", "%s in %s batches", grouped(c.Events), grouped(c.Batches))
	if !c.First.IsZero() {
		row("times", "%s, %s long", c.First.Format(time.RFC3339Nano), c.Last.Sub(c.First).Round(time.Millisecond))
	}
	for _, a := range c.Agents {
		row("agent", "%s on %s, epoch %d, sequences %d to %d", a.Agent, a.Hostname, a.Epoch, a.First, a.Last)
	}
	for _, j := range c.Jobs {
		end := "not ended"
		if j.Ended {
			end = "ended"
		}
		row("job", "%s %s run %s: %s events, %s", cmp.Or(j.Repository, "(no repository)"), cmp.Or(j.Job, "-"), cmp.Or(j.Run, "-"), grouped(j.Events), end)
	}
	kinds := make([]string, 0, len(c.Kinds))
	for k, n := range c.Kinds {
		kinds = append(kinds, fmt.Sprintf("%s %s", k, grouped(n)))
	}
	slices.Sort(kinds)
	row("kinds", "%s", strings.Join(kinds, ", "))
	return nil
}
