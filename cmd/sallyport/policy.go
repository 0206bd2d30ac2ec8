package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/sallyport-ci/sallyport/detector"
	"github.com/sallyport-ci/sallyport/policies/authoring"
	"github.com/sallyport-ci/sallyport/wholefile"
)

func newPolicyCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "policy",
		Short: "Write, check and test policies, and try them on recorded runs",
		Long: `Everything for those who write policies of their own: no server is needed. A folder of
policies is what --policies of up and detector takes: *.rego with tests in *_test.rego,
lists in data/*.json, exceptions in exceptions/*.yaml, scenarios in scenarios/*.txt. See docs/authoring.md.`,
		Example: `  sallyport policy new unwanted_program --kind exec --dir mine
  sallyport policy check mine && sallyport policy test mine
  sallyport policy diff built-in mine --recording 'runs/*.rec'`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 0 {
				return usageError(fmt.Errorf("unknown command %q of policy", args[0]))
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(
		newPolicyCheckCommand(), newPolicyFmtCommand(), newPolicyTestCommand(), newPolicyNewCommand(),
		newPolicyEvalCommand(), newPolicyBenchCommand(), newPolicyDiffCommand(), newPolicyExportCommand(), newPolicyExceptionsCommand(),
		newPolicyBundleCommand(),
	)
	return cmd
}

// readSources reads the policies below paths, or the built-in ones.
func readSources(paths []string) (*authoring.Sources, error) {
	if len(paths) == 0 {
		return authoring.BuiltIn()
	}
	return authoring.Read(paths...)
}

// printLine prints a value as JSON in one line.
func printLine(out io.Writer, v any) error {
	text, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("encode as JSON: %w", err)
	}
	_, err = fmt.Fprintf(out, "%s\n", text)
	return err
}

func newPolicyCheckCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "check [PATH…]",
		Short: "Say what is wrong with policies, with file, line and column",
		Long: `Checks files and folders of policies, or the built-in ones: what would keep the detector
from loading them, what OPA's strict mode refuses (unused imports and variables, shadowed
names), fields that the input does not have, metadata that is missing, policies without
tests, what is not formatted, and what OPA's style guide advises against.

Exit codes: 0 nothing, 1 something is wrong, 2 wrong usage.`,
		Example: `  sallyport policy check mine
  sallyport policy check --json mine | jq -r .file`,
		RunE: func(cmd *cobra.Command, args []string) error {
			s, err := readSources(args)
			if err != nil {
				return err
			}
			found, err := s.Check(time.Now())
			if err != nil {
				return err
			}
			for _, p := range found {
				if asJSON {
					err = printLine(cmd.OutOrStdout(), p)
				} else {
					_, err = fmt.Fprintln(cmd.OutOrStdout(), p)
				}
				if err != nil {
					return err
				}
			}
			if len(found) > 0 {
				return &exitError{exitFailed}
			}
			if !asJSON {
				fmt.Fprintf(cmd.OutOrStdout(), "%d files, nothing is wrong\n", len(s.Text))
			}
			return nil
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print each problem as JSON, one a line")
	return cmd
}

func newPolicyFmtCommand() *cobra.Command {
	var write bool
	cmd := &cobra.Command{
		Use:   "fmt PATH…",
		Short: "Format policies as `opa fmt` does",
		Long: `Names the .rego files that are not formatted as OPA's formatter does it; --write formats
them. A file that cannot be parsed is reported and left alone.

Exit codes: 0 all is formatted, 1 a file is not (without --write) or could not be, 2 wrong
usage.`,
		Example: `  sallyport policy fmt --write mine`,
		Args:    minimumFiles,
		RunE: func(cmd *cobra.Command, args []string) error {
			s, err := authoring.Read(args...)
			if err != nil {
				return err
			}
			failed := false
			for _, name := range sortedKeys(s.Text) {
				formatted, same, err := authoring.Format(name, s.Text[name])
				switch {
				case err != nil:
					fmt.Fprintln(cmd.ErrOrStderr(), "sallyport:", err)
					failed = true
					continue
				case same:
					continue
				case write:
					if err := rewrite(name, formatted); err != nil {
						return err
					}
				default:
					failed = true
				}
				if _, err := fmt.Fprintln(cmd.OutOrStdout(), name); err != nil {
					return err
				}
			}
			if failed {
				return &exitError{exitFailed}
			}
			return nil
		},
	}
	cmd.Flags().BoolVar(&write, "write", false, "format the files")
	return cmd
}

// rewrite replaces a file by one that is whole, with the same permissions.
func rewrite(name string, text []byte) error {
	info, err := os.Stat(name)
	if err == nil {
		err = wholefile.Write(name, info.Mode().Perm(), text)
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	return nil
}

func newPolicyTestCommand() *cobra.Command {
	var run string
	var coverage, verbose, asJSON bool
	var least float64
	cmd := &cobra.Command{
		Use:   "test [FOLDER]",
		Short: "Run the Rego tests and the scenarios of a folder, or of the built-in policies",
		Long: `Runs the rules test_... of *_test.rego, with OPA's test runner, and the scenarios in
scenarios/*.txt, which are judged as the detector judges, by the folder's policies and the
built-in ones together. Lists and shared rules are the built-in ones and the folder's own.

Exit codes: 0 all hold, 1 a test fails or less is covered than --min-coverage, 2 wrong
usage.`,
		Example: `  sallyport policy test mine
  sallyport policy test mine --run unwanted --verbose
  sallyport policy test mine --coverage --min-coverage 90`,
		Args: maximumArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			var matching *regexp.Regexp
			if run != "" {
				var err error
				if matching, err = regexp.Compile(run); err != nil {
					return usageError(fmt.Errorf("--run: %w", err))
				}
			}
			if least < 0 || least > 100 {
				return usageError(fmt.Errorf("--min-coverage %g is not 0 to 100", least))
			}
			s, err := readSources(args)
			if err != nil {
				return err
			}
			inForce, err := loadForAuthor(cmd.Context(), strings.Join(args, ""), cmd.ErrOrStderr())
			if err != nil {
				return err
			}
			report, err := s.Test(cmd.Context(), inForce, matching, coverage || least > 0)
			if err != nil {
				return fmt.Errorf("test policies: %w", err)
			}
			if asJSON {
				err = printLine(cmd.OutOrStdout(), report)
			} else {
				err = printTests(cmd.OutOrStdout(), report, verbose)
			}
			if err != nil {
				return err
			}
			for _, f := range report.Coverage {
				if f.Percent < least {
					fmt.Fprintf(cmd.ErrOrStderr(), "sallyport: %s: %g %% of the lines are tested, less than %g %%\n", f.File, f.Percent, least)
					err = &exitError{exitFailed}
				}
			}
			if report.Failed() > 0 {
				return &exitError{exitFailed}
			}
			if len(report.Results) == 0 {
				return errors.New("test policies: there are no tests")
			}
			return err
		},
	}
	f := cmd.Flags()
	f.StringVar(&run, "run", "", "only the tests whose name matches this regular expression")
	f.BoolVar(&coverage, "coverage", false, "say which lines of the policies no test evaluated")
	f.Float64Var(&least, "min-coverage", 0, "fail if less than so many percent of a file's lines are tested; implies --coverage")
	f.BoolVar(&verbose, "verbose", false, "name the tests that hold, too, and print what they print")
	f.BoolVar(&asJSON, "json", false, "print the results as one JSON object")
	return cmd
}

func printTests(out io.Writer, report *authoring.TestReport, verbose bool) error {
	var b strings.Builder
	for _, r := range report.Results {
		switch {
		case !r.Passed:
			fmt.Fprintf(&b, "FAIL %s (%s:%d)\n", r.Name, r.File, r.Line)
			for _, w := range r.Why {
				fmt.Fprintf(&b, "     %s\n", strings.ReplaceAll(w, "\n", "\n     "))
			}
		case verbose:
			fmt.Fprintf(&b, "ok   %s (%.1f ms)\n", r.Name, 1000*r.Seconds)
		}
		if r.Output != "" && (verbose || !r.Passed) {
			fmt.Fprintf(&b, "     %s\n", strings.ReplaceAll(strings.TrimSpace(r.Output), "\n", "\n     "))
		}
	}
	for _, f := range report.Coverage {
		fmt.Fprintf(&b, "%5.1f %% of %s", f.Percent, f.File)
		if len(f.NotCovered) > 0 {
			fmt.Fprintf(&b, ", not line %s", strings.Join(f.NotCovered, ", "))
		}
		b.WriteByte('\n')
	}
	fmt.Fprintf(&b, "%d passed, %d failed\n", len(report.Results)-report.Failed(), report.Failed())
	_, err := io.WriteString(out, b.String())
	return err
}

// builtIn is the name of the policies that are compiled in, where a folder is asked for.
const builtIn = "built-in"

// loadForAuthor loads a folder's policies beside the built-in ones. One that cannot be used
// is an error: it would be left out in silence of what is tried.
func loadForAuthor(ctx context.Context, folder string, said io.Writer) (*detector.Policies, error) {
	if folder == builtIn {
		folder = ""
	}
	if folder != "" {
		if info, err := os.Stat(folder); err != nil {
			return nil, fmt.Errorf("read policies: %w", err)
		} else if !info.IsDir() {
			return nil, usageError(fmt.Errorf("%s is a file; policies are tried as a folder", folder))
		}
	}
	inForce, problems, err := detector.LoadPolicies(ctx, folder)
	if err != nil {
		return nil, err
	}
	for _, p := range problems {
		fmt.Fprintln(said, "sallyport:", p)
	}
	if len(problems) > 0 {
		return nil, fmt.Errorf("%d policies of %s cannot be used; sallyport policy check says more", len(problems), folder)
	}
	return inForce, nil
}

func newPolicyNewCommand() *cobra.Command {
	var kind, dir string
	cmd := &cobra.Command{
		Use:   "new NAME",
		Short: "Begin a policy: a rule, its tests and a scenario that pass",
		Long: `Writes NAME/NAME.rego, NAME/NAME_test.rego and scenarios/NAME.txt below --dir. They are
well formed, and their tests hold as they are: change the rule, see which test fails, and
go on from there. Nothing is written over.`,
		Example: `  sallyport policy new unwanted_program --kind exec --dir mine`,
		Args:    oneArgument,
		RunE: func(cmd *cobra.Command, args []string) error {
			files, err := authoring.New(dir, args[0], kind)
			if err != nil {
				return err
			}
			for _, f := range files {
				fmt.Fprintln(cmd.OutOrStdout(), f)
			}
			return nil
		},
	}
	f := cmd.Flags()
	f.StringVar(&kind, "kind", "egress", "kind of behaviour: "+strings.Join(authoring.Kinds(), ", "))
	f.StringVar(&dir, "dir", ".", "folder of your policies")
	return cmd
}

func newPolicyExportCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "export FOLDER",
		Short: "Write the built-in policies, lists and schema out for OPA's own tools",
		Long: `Writes what OPA's tools and editors need beside your own policies: the built-in policies
and the rules that policies share, the lists as one document, and the schema of the input.

  opa check --strict --schema FOLDER/schemas FOLDER/policies mine
  opa test FOLDER/policies mine

FOLDER must be empty or not be there.`,
		Args: oneArgument,
		RunE: func(cmd *cobra.Command, args []string) error {
			n, err := authoring.Export(args[0])
			if err != nil {
				return err
			}
			fmt.Fprintf(cmd.OutOrStdout(), "%d files in %s\n", n, args[0])
			return nil
		},
	}
	return cmd
}

func newPolicyExceptionsCommand() *cobra.Command {
	var asJSON, check bool
	cmd := &cobra.Command{
		Use:   "exceptions FOLDER",
		Short: "List a folder's exceptions, the next to expire first",
		Long: `Lists the exceptions of a folder of policies with who answers for them and until when
they hold. What is wrong with them is said by sallyport policy check.

Exit codes: 0 listed, 1 with --check if one has expired or one cannot be used, 2 wrong usage.`,
		Example: `  sallyport policy exceptions /etc/sallyport/policies --check`,
		Args:    oneArgument,
		RunE: func(cmd *cobra.Command, args []string) error {
			s, err := authoring.Read(args[0])
			if err != nil {
				return err
			}
			bad := false
			for _, p := range s.Problems {
				if p.Rule == "exception" {
					fmt.Fprintln(cmd.ErrOrStderr(), "sallyport:", p)
					bad = true
				}
			}
			slices.SortStableFunc(s.Exceptions, func(a, b *detector.Exception) int { return a.Until.Compare(b.Until) })
			now := time.Now()
			var rows [][]string
			for _, e := range s.Exceptions {
				state := "live"
				switch {
				case !now.Before(e.Until):
					state, bad = "expired", true
				case e.Until.Sub(now) < 14*24*time.Hour:
					state = "ends soon"
				}
				if asJSON {
					line := e.Fields()
					line["state"], line["file"], line["line"] = state, e.File, fmt.Sprint(e.Line)
					if err := printLine(cmd.OutOrStdout(), line); err != nil {
						return err
					}
					continue
				}
				var where []string
				for _, x := range []string{e.Repository, e.Workflow, e.Job, e.Step, e.Program, e.Target} {
					if x != "" {
						where = append(where, x)
					}
				}
				rows = append(rows, []string{state, e.Fields()["until"], e.Policy, strings.Join(where, ", "), e.Owner, e.Reason, fmt.Sprintf("%s:%d", e.File, e.Line)})
			}
			if !asJSON {
				if err := printTable(cmd.OutOrStdout(), []string{"STATE", "UNTIL", "POLICY", "WHERE", "OWNER", "REASON", "AT"}, rows); err != nil {
					return err
				}
			}
			if check && bad {
				return &exitError{exitFailed}
			}
			return nil
		},
	}
	f := cmd.Flags()
	f.BoolVar(&asJSON, "json", false, "print JSON, one exception a line")
	f.BoolVar(&check, "check", false, "fail if one has expired or cannot be used")
	return cmd
}

func newPolicyBundleCommand() *cobra.Command {
	var output, keyFile, revision string
	cmd := &cobra.Command{
		Use:   "bundle FOLDER",
		Short: "Make an OPA bundle of a folder of policies, and sign it",
		Long: `Makes a bundle of the policies, lists and exceptions in FOLDER, without tests, that
detectors take with --policy-bundle. A folder in which something is wrong makes no bundle.
--key is a private key in PEM, RSA or ECDSA; detectors verify with its public key:

  openssl ecparam -name prime256v1 -genkey -noout | openssl pkcs8 -topk8 -nocrypt -out key.pem
  openssl pkey -in key.pem -pubout -out key.pub.pem`,
		Example: `  sallyport policy bundle mine --key key.pem --revision "$(git rev-parse HEAD)" --output bundle.tar.gz`,
		Args:    oneArgument,
		RunE: func(cmd *cobra.Command, args []string) error {
			if output == "" {
				return usageError(errors.New("--output is needed"))
			}
			if info, err := os.Stat(args[0]); err != nil {
				return fmt.Errorf("make policy bundle: %w", err)
			} else if !info.IsDir() {
				return usageError(fmt.Errorf("%s is no folder", args[0]))
			}
			var key []byte
			if keyFile != "" {
				var err error
				if key, err = os.ReadFile(keyFile); err != nil {
					return fmt.Errorf("read private key: %w", err)
				}
			}
			var b bytes.Buffer
			if err := detector.WriteBundle(cmd.Context(), args[0], revision, key, &b); err != nil {
				return err
			}
			if err := os.WriteFile(output, b.Bytes(), 0o644); err != nil {
				return fmt.Errorf("write policy bundle: %w", err)
			}
			signed := "signed"
			if keyFile == "" {
				signed = "NOT signed"
			}
			_, err := fmt.Fprintf(cmd.OutOrStdout(), "%s: %s, %s\n", output, size(uint64(b.Len())), signed)
			return err
		},
	}
	f := cmd.Flags()
	f.StringVar(&output, "output", "", "file to write")
	f.StringVar(&keyFile, "key", "", "file with the private key; the bundle is not signed without one")
	f.StringVar(&revision, "revision", "", "what the bundle calls itself, for logs")
	return cmd
}
