package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"github.com/sallyport-ci/sallyport/detector"
	"github.com/sallyport-ci/sallyport/policies/authoring"
	sallyportv1 "github.com/sallyport-ci/sallyport/proto/sallyport/v1"
	"github.com/sallyport-ci/sallyport/report/terminal"
)

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

// history are flags that say on what policies are tried.
type history struct {
	streamOptions
	recordings   []string
	since, until string
	repository   string
	baselineRuns int
}

const historyHelp = `

History is in recordings, or in the tables of the ClickHouse of the running sallyport up or
of another one (--clickhouse-dsn-file): --since and --until say from when, as a time
(2026-11-01 or RFC 3339) or as how long ago (7d, 12h). A job counts by its end.`

func (h *history) flags(f *pflag.FlagSet) {
	f.StringArrayVar(&h.recordings, "recording", nil, "recorded runs, a file or a pattern such as 'runs/*.rec'; several times for several, judged in this order")
	f.StringVar(&h.since, "since", "", "jobs in the tables that ended since, for instance 7d")
	f.StringVar(&h.until, "until", "", "with --since: jobs that ended before (default now)")
	f.StringVar(&h.repository, "repository", "", "with --since: jobs of this repository, OWNER/NAME, only")
	f.StringVar(&h.data, "data", defaultDataDir(), "with --since: data folder of the running sallyport up")
	f.StringVar(&h.dsnFile, "clickhouse-dsn-file", "", "with --since: file with the DSN of another ClickHouse; or the DSN itself in SALLYPORT_CLICKHOUSE_DSN")
	f.IntVar(&h.baselineRuns, "baseline-runs", detector.DefaultRunsNeeded, "clean runs after which a job's baseline can be stable, 1 to 1000")
}

// given says whether any history is named.
func (h *history) given() bool { return len(h.recordings) > 0 || h.since != "" }

// open returns the history that the flags name. Call close when it has been judged.
func (h *history) open(ctx context.Context) (past authoring.History, end func(), err error) {
	none := func() {}
	switch {
	case h.baselineRuns < 1 || h.baselineRuns > 1000:
		return nil, none, usageError(fmt.Errorf("--baseline-runs %d is not 1 to 1000", h.baselineRuns))
	case !h.given():
		return nil, none, usageError(errors.New("no history: --recording FILE, made by sallyport record, or --since 7d"))
	case len(h.recordings) > 0 && h.since != "":
		return nil, none, usageError(errors.New("give either --recording or --since"))
	case h.since != "":
		return h.stored(ctx)
	}
	var files []string
	for _, pattern := range h.recordings {
		if _, err := os.Stat(pattern); err == nil {
			files = append(files, pattern)
			continue
		}
		matching, err := filepath.Glob(pattern)
		if err != nil {
			return nil, none, usageError(fmt.Errorf("--recording %q: %w", pattern, err))
		}
		if len(matching) == 0 {
			return nil, none, &notFoundError{fmt.Errorf("there is no recording %s", pattern)}
		}
		files = append(files, matching...)
	}
	return authoring.Recordings(files...), none, nil
}

// stored is the history in the tables.
func (h *history) stored(ctx context.Context) (past authoring.History, end func(), err error) {
	now := time.Now()
	from, err := pastTime(h.since, now)
	if err != nil {
		return nil, nil, usageError(fmt.Errorf("--since: %w", err))
	}
	to := now
	if h.until != "" {
		if to, err = pastTime(h.until, now); err != nil {
			return nil, nil, usageError(fmt.Errorf("--until: %w", err))
		}
	}
	if !from.Before(to) {
		return nil, nil, usageError(fmt.Errorf("--since %s is not before --until %s", from.Format(time.RFC3339), to.Format(time.RFC3339)))
	}
	s, err := h.openStore(ctx)
	if err != nil {
		return nil, nil, err
	}
	return func(each func(*sallyportv1.EventBatch) error, ended func()) error {
		return s.History(ctx, h.repository, from, to, each, ended)
	}, func() { _ = s.Close() }, nil
}

// pastTime reads a date, a time, or how long ago something was.
func pastTime(text string, now time.Time) (time.Time, error) {
	for _, layout := range []string{time.RFC3339, time.DateOnly} {
		if t, err := time.Parse(layout, text); err == nil {
			return t, nil
		}
	}
	if days, ok := strings.CutSuffix(text, "d"); ok {
		if n, err := strconv.ParseUint(days, 10, 16); err == nil {
			return now.Add(-time.Duration(n) * 24 * time.Hour), nil
		}
	}
	if d, err := time.ParseDuration(text); err == nil && d >= 0 {
		return now.Add(-d), nil
	}
	return time.Time{}, fmt.Errorf("%q is neither a time such as 2026-11-01 nor an age such as 7d", text)
}

func (h *history) config(p *detector.Policies) detector.EngineConfig {
	return detector.EngineConfig{Policies: p, RunsNeeded: uint32(h.baselineRuns)}
}

func severityName(s sallyportv1.Severity) string {
	return strings.ToLower(strings.TrimPrefix(s.String(), "SEVERITY_"))
}

type evalOptions struct {
	history
	policies, input, policy, explain string
	inputs, json                     bool
}

func newPolicyEvalCommand() *cobra.Command {
	o := &evalOptions{}
	cmd := &cobra.Command{
		Use:   "eval",
		Short: "Ask policies about one input document, or about recorded runs, and see why",
		Long: `Evaluates the policies that look at a behaviour, or --policy alone, and prints what they
say. --input takes documents as docs/policy-input.md describes them (- is standard input),
one JSON object after the other; a field that does not exist is an error. --recording takes
all that policies would see of recorded runs, --since of stored ones; --inputs prints these documents instead, one a
line, to be used in tests.

--explain prints how the answer came about: full every step, fails the conditions that did
not hold, notes what trace() says. Of history it explains violations only.` + historyHelp + `

Exit codes: 0 evaluated, violations or not, 1 something failed, 2 wrong usage, 3 there is no
such policy or recording.`,
		Example: `  sallyport policy eval --recording suspicious.rec --policy new_endpoint
  sallyport policy eval --recording suspicious.rec --inputs | head -1 >input.json
  sallyport policy eval --input input.json --policies mine --policy unwanted_program --explain=fails`,
		Args:    maximumArgs(0),
		PreRunE: func(cmd *cobra.Command, _ []string) error { return setFromEnvironment(cmd) },
		RunE: func(cmd *cobra.Command, _ []string) error {
			return o.run(cmd.Context(), cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
	}
	f := cmd.Flags()
	o.flags(f)
	f.StringVar(&o.policies, "policies", "", "folder of your own policies, beside the built-in ones")
	f.StringVar(&o.input, "input", "", "file with input documents, - for standard input")
	f.StringVar(&o.policy, "policy", "", "ask this policy alone")
	f.StringVar(&o.explain, "explain", "", "say how the answer came about: "+strings.Join(authoring.Explanations, ", "))
	f.Lookup("explain").NoOptDefVal = "full"
	f.BoolVar(&o.inputs, "inputs", false, "with a history: print what policies see, one JSON object a line, and ask none")
	f.BoolVar(&o.json, "json", false, "print violations as JSON, one a line")
	return cmd
}

func (o *evalOptions) run(ctx context.Context, out, said io.Writer) error {
	if o.explain != "" && !slices.Contains(authoring.Explanations, o.explain) {
		return usageError(fmt.Errorf("--explain %q is none of %s", o.explain, strings.Join(authoring.Explanations, ", ")))
	}
	if (o.input != "") == o.given() {
		return usageError(errors.New("give either --input, --recording or --since"))
	}
	inForce, err := loadForAuthor(ctx, o.policies, said)
	if err != nil {
		return err
	}
	if o.policy != "" && !slices.Contains(inForce.IDs(), o.policy) {
		return &notFoundError{fmt.Errorf("there is no policy %q", o.policy)}
	}
	documents, err := o.documents(ctx, inForce)
	if err != nil {
		return err
	}
	if o.inputs {
		for _, d := range documents {
			line, err := detector.MarshalInput(d)
			if err != nil {
				return err
			}
			if _, err := fmt.Fprintf(out, "%s\n", line); err != nil {
				return err
			}
		}
		return nil
	}
	violations, asked := 0, 0
	for i, d := range documents {
		ids := []string{o.policy}
		if o.policy == "" {
			kind, err := detector.KindOf(d)
			if err != nil {
				return fmt.Errorf("input %d: %w", i+1, err)
			}
			ids = inForce.Looking(kind)
		}
		for _, id := range ids {
			asked++
			v, err := inForce.Evaluate(ctx, id, d, o.explain != "")
			if err != nil {
				return fmt.Errorf("input %d: %w", i+1, err)
			}
			if v.Message != "" {
				violations++
			}
			if err := o.print(out, i+1, id, v); err != nil {
				return err
			}
		}
	}
	if o.json {
		return nil
	}
	_, err = fmt.Fprintf(out, "%s inputs, %s evaluations, %s violations\n", grouped(uint64(len(documents))), grouped(uint64(asked)), grouped(uint64(violations)))
	return err
}

func (o *evalOptions) documents(ctx context.Context, inForce *detector.Policies) (documents []ast.Value, err error) {
	if o.input == "" {
		h, end, err := o.open(ctx)
		if err != nil {
			return nil, err
		}
		defer end()
		seen, err := authoring.Inputs(ctx, o.config(inForce), h)
		for _, in := range seen {
			documents = append(documents, detector.Document(in))
		}
		return documents, err
	}
	in := os.Stdin
	if o.input != "-" {
		if in, err = os.Open(o.input); err != nil {
			return nil, fmt.Errorf("read input: %w", err)
		}
		defer func() { _ = in.Close() }() // it was only read
	}
	documents, err = authoring.ReadInput(ctx, in)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", o.input, err)
	}
	return documents, nil
}

func (o *evalOptions) print(out io.Writer, n int, id string, v detector.Violation) (err error) {
	switch {
	case v.Message != "" && o.json:
		err = printLine(out, map[string]any{"input": n, "policy": id, "severity": severityName(v.Severity), "message": v.Message})
	case v.Message != "":
		_, err = fmt.Fprintf(out, "input %d: %s (%s): %s\n", n, id, severityName(v.Severity), terminal.Escape(v.Message))
	case o.input != "" && o.policy != "" && !o.json:
		_, err = fmt.Fprintf(out, "input %d: %s: nothing\n", n, id)
	}
	if err == nil && o.explain != "" && !o.json && (v.Message != "" || o.input != "") {
		err = authoring.Explain(out, o.explain, v.Trace)
	}
	return err
}

func newPolicyBenchCommand() *cobra.Command {
	h := &history{}
	var folder string
	var ids []string
	var passes int
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "bench",
		Short: "Measure what each policy costs on recorded runs, the dearest first",
		Long: `Evaluates each policy apart on every behaviour of the recorded runs that it looks at, and
prints the time that one evaluation takes (the median of several passes) and its share of
all. The detector asks the policies of a kind together, which is faster: what several of
them ask is worked out once.` + historyHelp,
		Example: `  sallyport policy bench --recording 'runs/*.rec' --policies mine`,
		Args:    maximumArgs(0),
		PreRunE: func(cmd *cobra.Command, _ []string) error { return setFromEnvironment(cmd) },
		RunE: func(cmd *cobra.Command, _ []string) error {
			if passes < 1 || passes > 10_000 {
				return usageError(fmt.Errorf("--passes %d is not 1 to 10000", passes))
			}
			past, end, err := h.open(cmd.Context())
			if err != nil {
				return err
			}
			defer end()
			inForce, err := loadForAuthor(cmd.Context(), folder, cmd.ErrOrStderr())
			if err != nil {
				return err
			}
			for _, id := range ids {
				if !slices.Contains(inForce.IDs(), id) {
					return &notFoundError{fmt.Errorf("there is no policy %q", id)}
				}
			}
			inputs, err := authoring.Inputs(cmd.Context(), h.config(inForce), past)
			if err != nil {
				return err
			}
			timings, err := authoring.Bench(cmd.Context(), inForce, inputs, passes, ids...)
			if err != nil {
				return err
			}
			var rows [][]string
			for _, t := range timings {
				if asJSON {
					if err := printLine(cmd.OutOrStdout(), t); err != nil {
						return err
					}
					continue
				}
				rows = append(rows, []string{
					t.Policy, fmt.Sprint(t.Evaluations), fmt.Sprintf("%.1f µs", float64(t.Each.Nanoseconds())/1000),
					fmt.Sprintf("%.1f %%", 100*t.Share), fmt.Sprint(t.Violations),
				})
			}
			if asJSON {
				return nil
			}
			return printTable(cmd.OutOrStdout(), []string{"POLICY", "EVALUATIONS", "EACH", "SHARE", "VIOLATIONS"}, rows)
		},
	}
	f := cmd.Flags()
	h.flags(f)
	f.StringVar(&folder, "policies", "", "folder of your own policies, beside the built-in ones")
	f.StringArrayVar(&ids, "policy", nil, "measure this policy; several times for several (default all)")
	f.IntVar(&passes, "passes", 9, "how often each policy is measured, 1 to 10000")
	f.BoolVar(&asJSON, "json", false, "print JSON, one policy a line")
	return cmd
}

func newPolicyDiffCommand() *cobra.Command {
	h := &history{}
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "diff OLD NEW",
		Short: "Judge history by two sets of policies: which findings appear and disappear",
		Long: `Judges past runs twice, from the first on, by the policies in the folder OLD and by
those in the folder NEW, each beside the built-in ones, and prints the findings that only
one of them makes, those that change, and the runs whose verdict changes. ` + builtIn + ` in
the place of a folder means the built-in policies alone.` + historyHelp + `

Exit codes: 0 no difference, 1 there are differences or something failed, 2 wrong usage, 3
there is no such recording.`,
		Example: `  sallyport policy diff built-in mine --recording 'runs/*.rec'
  sallyport policy diff /etc/sallyport/policies mine --since 14d --repository acme/shop`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 2 {
				return usageError(errors.New("sallyport policy diff takes OLD NEW"))
			}
			return nil
		},
		PreRunE: func(cmd *cobra.Command, _ []string) error { return setFromEnvironment(cmd) },
		RunE: func(cmd *cobra.Command, args []string) error {
			past, end, err := h.open(cmd.Context())
			if err != nil {
				return err
			}
			defer end()
			var in [2]*detector.Policies
			for i, folder := range args {
				if in[i], err = loadForAuthor(cmd.Context(), folder, cmd.ErrOrStderr()); err != nil {
					return err
				}
			}
			d, err := authoring.Diff(cmd.Context(), h.config(in[0]), h.config(in[1]), past)
			if err != nil {
				return err
			}
			if asJSON {
				err = printDifferenceJSON(cmd.OutOrStdout(), d)
			} else {
				err = printDifference(cmd.OutOrStdout(), d)
			}
			if err == nil && d.Any() {
				return &exitError{exitFailed}
			}
			return err
		},
	}
	f := cmd.Flags()
	h.flags(f)
	f.BoolVar(&asJSON, "json", false, "print JSON, one difference a line")
	return cmd
}

func printDifference(out io.Writer, d *authoring.Difference) error {
	var b strings.Builder
	e := terminal.Escape
	for _, list := range []struct {
		mark     string
		findings []*sallyportv1.Finding
	}{{"+", d.Appear}, {"-", d.Disappear}, {"~", d.Changed}} {
		for _, f := range list.findings {
			a := f.GetAttribution()
			fmt.Fprintf(&b, "%s %s (%s) %s, %s, run %s, job %s", list.mark, e(f.GetPolicy().GetId()), severityName(f.GetPolicy().GetSeverity()),
				e(a.GetRepository()), e(a.GetWorkflow()), e(a.GetRunId()), e(a.GetJob()))
			if a.GetStep() != "" {
				fmt.Fprintf(&b, ", step %s", e(a.GetStep()))
			}
			fmt.Fprintf(&b, ": %s\n", e(f.GetMessage()))
		}
	}
	for _, v := range d.Verdicts {
		a := v.Verdict.GetAttribution()
		before := "none"
		if v.Before != sallyportv1.Conclusion_CONCLUSION_UNSPECIFIED {
			before = detector.ConclusionName(v.Before)
		}
		fmt.Fprintf(&b, "! verdict %s becomes %s: %s, %s, run %s, job %s\n", before, detector.ConclusionName(v.Verdict.GetConclusion()),
			e(a.GetRepository()), e(a.GetWorkflow()), e(a.GetRunId()), e(a.GetJob()))
	}
	fmt.Fprintf(&b, "%d runs: %d findings become %d; %d appear, %d disappear, %d change; %d verdicts change\n",
		d.Runs, d.Old, d.New, len(d.Appear), len(d.Disappear), len(d.Changed), len(d.Verdicts))
	_, err := io.WriteString(out, b.String())
	return err
}

// printDifferenceJSON prints each difference as an object: change (appears, disappears,
// changes, verdict) and the finding or verdict.
func printDifferenceJSON(out io.Writer, d *authoring.Difference) error {
	line := func(change, of string, m proto.Message) error {
		text, err := protojson.MarshalOptions{UseProtoNames: true}.Marshal(m)
		if err != nil {
			return fmt.Errorf("encode %s: %w", of, err)
		}
		return printLine(out, map[string]any{"change": change, of: json.RawMessage(text)})
	}
	var err error
	for _, list := range []struct {
		change   string
		findings []*sallyportv1.Finding
	}{{"appears", d.Appear}, {"disappears", d.Disappear}, {"changes", d.Changed}} {
		for _, f := range list.findings {
			err = errors.Join(err, line(list.change, "finding", f))
		}
	}
	for _, v := range d.Verdicts {
		err = errors.Join(err, line("verdict", "verdict", v.Verdict))
	}
	return err
}
