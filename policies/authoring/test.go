package authoring

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/cover"
	"github.com/open-policy-agent/opa/v1/storage"
	"github.com/open-policy-agent/opa/v1/storage/inmem"
	"github.com/open-policy-agent/opa/v1/tester"
	"github.com/open-policy-agent/opa/v1/topdown"

	"github.com/sallyport-ci/sallyport/detector"
	"github.com/sallyport-ci/sallyport/detector/scenario"
)

// testTimeout bounds one Rego test.
const testTimeout = 10 * time.Second

// TestResult is what became of one test.
type TestResult struct {
	// Name: PACKAGE.RULE of a Rego test, the file of a scenario.
	Name string `json:"name"`
	// File and Line where the test is.
	File string `json:"file"`
	Line int    `json:"line"`
	// Passed says whether it holds.
	Passed bool `json:"passed"`
	// Why it does not; one line for each thing.
	Why []string `json:"why,omitempty"`
	// Output of print calls.
	Output string `json:"output,omitempty"`
	// Seconds it took.
	Seconds float64 `json:"seconds"`
}

// FileCoverage says which lines of a file the Rego tests evaluated.
type FileCoverage struct {
	// File that was tested.
	File string `json:"file"`
	// Percent of its lines, 0 to 100.
	Percent float64 `json:"percent"`
	// NotCovered are the lines that no test evaluated, as "3" or "3-5".
	NotCovered []string `json:"not_covered"`
}

// TestReport is what came of the tests.
type TestReport struct {
	Results []TestResult `json:"results"`
	// Coverage of the author's policies by file; nil unless it was asked for.
	Coverage []FileCoverage `json:"coverage,omitempty"`
}

// Failed counts the tests that do not hold.
func (r *TestReport) Failed() int {
	n := 0
	for _, x := range r.Results {
		if !x.Passed {
			n++
		}
	}
	return n
}

// ErrProblems says that files have to be put right before they can be tested.
var ErrProblems = errors.New("there are files that do not compile")

// Test runs the author's Rego tests and scenarios whose names match run (all if it is nil).
// Scenarios are judged by the policies in force, which must be those of the author's folder.
// An error wraps ErrProblems if a file does not compile: Check says where.
func (s *Sources) Test(ctx context.Context, inForce *detector.Policies, run *regexp.Regexp, coverage bool) (*TestReport, error) {
	if len(s.Problems) > 0 {
		return nil, fmt.Errorf("%w: %s", ErrProblems, s.Problems[0])
	}
	report := &TestReport{}
	c := cover.New()
	if err := s.testRego(ctx, run, c, coverage, report); err != nil {
		return nil, err
	}
	for _, name := range slices.Sorted(maps.Keys(s.Scenarios)) {
		if run != nil && !run.MatchString(name) {
			continue
		}
		report.Results = append(report.Results, testScenario(ctx, inForce, name, s.Scenarios[name]))
	}
	if coverage {
		own := make(map[string]*ast.Module)
		for name, m := range s.Files {
			if !isTest(m) {
				own[name] = m
			}
		}
		files := c.Report(own).Files
		for _, name := range slices.Sorted(maps.Keys(own)) {
			f := FileCoverage{File: name, Percent: 100, NotCovered: []string{}}
			if got := files[name]; got != nil {
				if all := got.CoveredLines + got.NotCoveredLines; all > 0 {
					f.Percent = math.Floor(1000*float64(got.CoveredLines)/float64(all)) / 10
				}
				for _, r := range got.NotCovered {
					lines := fmt.Sprint(r.Start.Row)
					if r.End.Row > r.Start.Row {
						lines += fmt.Sprintf("-%d", r.End.Row)
					}
					f.NotCovered = append(f.NotCovered, lines)
				}
			}
			report.Coverage = append(report.Coverage, f)
		}
	}
	return report, nil
}

func (s *Sources) testRego(ctx context.Context, run *regexp.Regexp, c *cover.Cover, coverage bool, report *TestReport) error {
	compiler, err := detector.NewCompiler()
	if err != nil {
		return err
	}
	store := inmem.NewFromObject(map[string]any{"sallyport": map[string]any{"lists": s.lists}})
	err = storage.Txn(ctx, store, storage.TransactionParams{}, func(txn storage.Transaction) error {
		modules := s.modules()
		for name, m := range s.beside {
			if isTest(m) {
				delete(modules, name) // not the author's
			}
		}
		r := tester.NewRunner().SetCompiler(compiler.WithEnablePrintStatements(true)).SetStore(store).SetModules(modules).
			RaiseBuiltinErrors(true).CapturePrintOutput(true).EnableTracing(true).SetTimeout(testTimeout)
		if coverage {
			r = r.SetCoverageQueryTracer(c)
		}
		if run != nil {
			r = r.Filter(run.String())
		}
		results, err := r.RunTests(ctx, txn)
		if err != nil {
			return err
		}
		for x := range results {
			if x.Skip {
				continue
			}
			t := TestResult{
				Name: strings.TrimPrefix(x.Package, "data.") + "." + x.Name, Passed: x.Pass(), Output: string(x.Output), Seconds: x.Duration.Seconds(),
			}
			if x.Location != nil {
				t.File, t.Line = x.Location.File, x.Location.Row
			}
			switch {
			case t.Passed:
			case x.Error != nil:
				t.Why = []string{x.Error.Error()}
			default:
				t.Why = []string{failure(x.Trace, t.File)}
			}
			report.Results = append(report.Results, t)
		}
		return nil
	})
	var wrong ast.Errors
	if errors.As(err, &wrong) {
		return fmt.Errorf("%w: %s", ErrProblems, problems("", "compile", wrong)[0])
	}
	if err != nil {
		return fmt.Errorf("run Rego tests: %w", err)
	}
	slices.SortFunc(report.Results, func(a, b TestResult) int { return strings.Compare(a.Name, b.Name) })
	return nil
}

// failure says which condition of a test's file failed last.
func failure(trace []*topdown.Event, file string) string {
	for _, e := range slices.Backward(trace) {
		if x, ok := e.Node.(*ast.Expr); ok && e.Op == topdown.FailOp && x.Location != nil && x.Location.File == file {
			return fmt.Sprintf("%s:%d: this does not hold: %s", file, x.Location.Row, firstLine(string(x.Location.Text)))
		}
	}
	return "it does not hold"
}

func firstLine(text string) string {
	line, _, more := strings.Cut(text, "\n")
	if more {
		line += " …"
	}
	return line
}

func testScenario(ctx context.Context, inForce *detector.Policies, name, text string) TestResult {
	began := time.Now()
	out := TestResult{Name: name, File: name, Line: 1}
	script, err := scenario.Parse(name, text)
	if err != nil {
		out.Why = []string{err.Error()}
		return out
	}
	// What policies log of themselves is in the run's verdict, too.
	differences, err := detector.Check(ctx, detector.EngineConfig{Policies: inForce, Logger: slog.New(slog.DiscardHandler)}, script)
	for _, d := range differences {
		out.Why = append(out.Why, d.Error())
	}
	if err != nil {
		out.Why = append(out.Why, err.Error())
	}
	expects := slices.ContainsFunc(script.Runs, func(r *scenario.Run) bool { return len(r.Expectations) > 0 })
	if !expects {
		out.Why = append(out.Why, name+": the scenario expects nothing")
	}
	out.Passed, out.Seconds = len(out.Why) == 0, time.Since(began).Seconds()
	return out
}
