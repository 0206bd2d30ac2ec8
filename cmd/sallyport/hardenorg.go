package main

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/aymanbagabas/go-udiff"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/sallyport-ci/sallyport/github"
	"github.com/sallyport-ci/sallyport/harden"
	"github.com/sallyport-ci/sallyport/harden/organisation"
	"github.com/sallyport-ci/sallyport/harden/origin"
	"github.com/sallyport-ci/sallyport/harden/rollout"
	"github.com/sallyport-ci/sallyport/report/terminal"
)

// orgOptions are those of harden org.
type orgOptions struct {
	hardenRules
	github githubOptions

	organisation.Selection
	branch                string
	draft, reopen, dryRun bool
	maxNew, parallel      int
	json, diff, restart   bool
	writePause            time.Duration
	now                   func() time.Time
}

// selectionFlags are those that choose repositories of an organisation.
func selectionFlags(f *pflag.FlagSet, s *organisation.Selection) {
	f.StringSliceVar(&s.Match, "match", nil, "only repositories of these names, without the owner; * stands for any text")
	f.StringSliceVar(&s.Exclude, "exclude", nil, "no repositories of these names")
	f.StringSliceVar(&s.Topics, "topic", nil, "only repositories with one of these topics")
	f.StringVar(&s.Visibility, "visibility", "", "only public, or only private repositories (internal ones count as private)")
	f.BoolVar(&s.Forks, "forks", false, "forks, too")
}

// githubOptions say which GitHub, and as whom.
type githubOptions struct {
	api    string
	appID  int64
	appKey string
}

func (g *githubOptions) flags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&g.api, "github-api", cmp.Or(os.Getenv("GITHUB_API_URL"), "https://api.github.com/"), "GitHub's API; https://HOST/api/v3/ for an Enterprise Server")
	f.Int64Var(&g.appID, "app-id", 0, "act as this GitHub App")
	f.StringVar(&g.appKey, "app-key", "", "file of the App's private key (PEM)")
}

// client makes the client of an App's installation in an organisation, or of the token in the
// environment; with neither it is nobody's.
func (g *githubOptions) client(ctx context.Context, org string, pause time.Duration, waiting func(time.Time)) (*github.Client, error) {
	c := github.Config{URL: g.api, AppID: g.appID, WritePause: pause, Waiting: waiting}
	if cache, err := os.UserCacheDir(); err == nil {
		c.Cache = filepath.Join(cache, "sallyport", "github")
	}
	if (g.appID != 0) != (g.appKey != "") {
		return nil, usageError(errors.New("give --app-id and --app-key together"))
	}
	if g.appID == 0 {
		c.Token = cmp.Or(os.Getenv("GITHUB_TOKEN"), os.Getenv("GH_TOKEN"))
		return github.New(c)
	}
	var err error
	if c.AppKey, err = os.ReadFile(g.appKey); err != nil {
		return nil, fmt.Errorf("read the App's key: %w", err)
	}
	app, err := github.New(c)
	if err != nil {
		return nil, err
	}
	return app.Installation(ctx, org)
}

// somebody says whether there is an App or a token.
func (g *githubOptions) somebody() bool {
	return g.appID != 0 || g.appKey != "" || cmp.Or(os.Getenv("GITHUB_TOKEN"), os.Getenv("GH_TOKEN")) != ""
}

// resolver makes what asks GitHub's interface what references stand for, as an App in the owner of
// a repository or by the token in the environment; with neither it is remote alone.
func (g *githubOptions) resolver(ctx context.Context, repository string, remote *harden.Remote, said io.Writer) (harden.Resolver, error) {
	if !g.somebody() {
		return remote, nil
	}
	owner, _, _ := strings.Cut(repository, "/")
	if g.appID != 0 && owner == "" {
		return nil, usageError(errors.New("--app-id: an App acts in an organisation, and it is not known whose checkout this is: give a token"))
	}
	client, err := g.client(ctx, owner, 0, func(until time.Time) {
		fmt.Fprintf(said, "sallyport: GitHub's rate limit: waiting until %s\n", until.Local().Format(time.TimeOnly))
	})
	if err != nil {
		return nil, err
	}
	return origin.New(client, remote), nil
}

// defaultStateDir is where what can be gone on with is kept.
func defaultStateDir() string {
	if dir := os.Getenv("XDG_STATE_HOME"); filepath.IsAbs(dir) {
		return filepath.Join(dir, "sallyport")
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return filepath.Join(os.TempDir(), "sallyport")
	}
	return filepath.Join(home, ".local", "state", "sallyport")
}

func newHardenOrgCommand() *cobra.Command {
	o := &orgOptions{now: time.Now}
	cmd := &cobra.Command{
		Use:   "org ORGANISATION",
		Short: "Propose safer workflows to all repositories of an organisation",
		Long: `Opens one pull request in each repository of an organisation with what sallyport harden would
change there, and says in it what, why, and how to roll it back. Run again, it brings its own
pull requests up to date, and closes those that have become needless.

Archived and disabled repositories and forks are passed over. A branch that somebody else has
pushed to is left alone, and so is a repository whose pull request a person has closed.

It acts as a GitHub App (--app-id, --app-key), or by the token in GITHUB_TOKEN or GH_TOKEN. Both
need to read metadata, and to write contents, pull requests and workflows; --dry-run needs only
to read. Commits are signed by GitHub. Rate limits are waited for.

Stopped, the same command goes on where it was, within a day.

Exit codes: 0 done; 1 if a repository failed, or if it was stopped; 2 wrong usage.`,
		Example: `  sallyport harden org acme --dry-run
  sallyport harden org acme --dry-run --diff --match shop
  sallyport harden org acme --observed observed.jsonl
  sallyport harden org acme --max-new 10 --exclude 'legacy-*'
  sallyport harden org acme --app-id 12345 --app-key app.pem --json >harden.json`,
		Args: oneArgument,
		RunE: func(cmd *cobra.Command, args []string) error {
			return o.run(cmd.Context(), args[0], cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
	}
	f := cmd.Flags()
	f.BoolVar(&o.dryRun, "dry-run", false, "write nothing: say what would be done")
	f.BoolVar(&o.diff, "diff", false, "print the changes of each repository as a diff")
	f.BoolVar(&o.json, "json", false, "print the summary as JSON")
	selectionFlags(f, &o.Selection)
	f.IntVar(&o.maxNew, "max-new", 0, "open at most this many pull requests (0: any number)")
	f.BoolVar(&o.draft, "draft", false, "open pull requests as drafts")
	f.BoolVar(&o.reopen, "reopen", false, "open a new pull request where a person has closed one")
	f.StringVar(&o.branch, "branch", rollout.DefaultBranch, "branch of the proposals")
	f.IntVar(&o.parallel, "parallel", 4, "repositories that are worked on at once")
	f.DurationVar(&o.writePause, "write-pause", time.Second, "time between two writes; GitHub asks for a second")
	f.BoolVar(&o.restart, "restart", false, "begin anew, also if an earlier run was stopped")
	o.github.flags(cmd)
	o.flags(f)
	return cmd
}

func (o *orgOptions) run(ctx context.Context, org string, out, said io.Writer) error {
	if o.maxNew < 0 || o.parallel < 1 {
		return usageError(errors.New("--max-new is not below 0, --parallel not below 1"))
	}
	if !o.dryRun && !o.github.somebody() {
		return usageError(errors.New("nobody may open pull requests without a name: give a token in GITHUB_TOKEN, or an App by --app-id and --app-key, or --dry-run"))
	}
	bar := &progress{out: said}
	if f, ok := said.(*os.File); ok {
		bar = newProgress(f)
	}
	client, err := o.github.client(ctx, org, cmp.Or(o.writePause, -1), func(until time.Time) {
		bar.say("GitHub's rate limit: waiting until %s", until.Local().Format(time.TimeOnly))
	})
	if err != nil {
		return err
	}
	config, err := o.config(ctx, "", func(owner string) (*github.Client, error) {
		if strings.EqualFold(owner, org) {
			return client, nil
		}
		return o.github.client(ctx, owner, time.Second, nil)
	})
	if err != nil {
		return err
	}
	if remote, ok := config.Resolver.(*harden.Remote); ok && o.github.somebody() {
		config.Resolver = origin.New(client, remote)
	}
	sum := sha256.Sum256(fmt.Appendf(nil, "%s %s %q %q %q %s %v %v %v %v %d %s %d %+v %v", version, o.github.api, o.Match, o.Exclude, o.Topics, o.Visibility,
		o.Forks, o.draft, o.reopen, o.dryRun, o.maxNew, o.branch, o.github.appID, o.hardenRules, config.Observed))
	of := org + " " + hex.EncodeToString(sum[:8])
	name := filepath.Join(defaultStateDir(), "harden", strings.ToLower(filepath.Base(org))+".jsonl")
	state, err := rollout.OpenState(name, of, o.restart || o.diff, o.now())
	if err != nil {
		return err
	}
	if n := state.Known(); n > 0 {
		fmt.Fprintf(said, "sallyport: %d repositories were done before this was stopped; --restart does them again\n", n)
	}
	done, total := 0, 0
	outcomes, runErr := rollout.Run(ctx, client, rollout.Options{
		Organisation: org, Selection: o.Selection,
		Harden: config, Branch: o.branch, Draft: o.draft, Reopen: o.reopen, MaxNew: o.maxNew, DryRun: o.dryRun, Parallel: o.parallel, State: state,
		Began: func(n int) { total = n; bar.say("0 of %d repositories", n) },
		Done: func(r rollout.Outcome) {
			done++
			bar.say("%d of %d repositories, %s: %s", done, total, r.Repository, r.Status)
		},
	})
	bar.done()
	err = errors.Join(runErr, state.Close(runErr == nil))
	if outcomes == nil && err != nil {
		return err
	}
	if printErr := o.print(out, org, outcomes); printErr != nil {
		return errors.Join(err, printErr)
	}
	if ctx.Err() != nil {
		return errors.New("stopped: the same command goes on from here")
	}
	if err != nil {
		return err
	}
	for _, r := range outcomes {
		if r.Status == rollout.Failed {
			return &exitError{exitFailed}
		}
	}
	return nil
}

// print prints the summary.
func (o *orgOptions) print(out io.Writer, org string, outcomes []rollout.Outcome) error {
	totals := make(map[rollout.Status]int)
	for _, r := range outcomes {
		totals[r.Status]++
	}
	if o.json {
		return printLine(out, map[string]any{"organisation": org, "dry_run": o.dryRun, "repositories": outcomes, "totals": totals})
	}
	var rows [][]string
	for _, r := range outcomes {
		if r.Status == rollout.Skipped {
			continue
		}
		if o.diff {
			if err := printDiffs(out, r); err != nil {
				return err
			}
		}
		found := make(map[harden.Severity]int)
		for _, f := range r.Findings {
			found[f.Severity]++
		}
		about := r.PullRequest
		if r.Reason != "" {
			about = strings.TrimSpace(about + " " + terminal.Escape(r.Reason))
		}
		if n := len(r.Problems); n > 0 {
			about = strings.TrimSpace(fmt.Sprintf("%s (%d files not read)", about, n))
		}
		rows = append(rows, []string{r.Repository, o.would(r.Status), strconv.Itoa(r.Files), strconv.Itoa(r.Fixes), strconv.Itoa(found[harden.SeverityError]), strconv.Itoa(found[harden.SeverityWarning]), about})
	}
	if len(rows) > 0 {
		if err := printTable(out, []string{"REPOSITORY", "STATUS", "FILES", "FIXES", "ERRORS", "WARNINGS", "PULL REQUEST"}, rows); err != nil {
			return err
		}
	}
	parts := []string{fmt.Sprintf("%d repositories", len(outcomes))}
	for _, s := range []rollout.Status{
		rollout.Opened, rollout.Updated, rollout.Closed, rollout.Unchanged, rollout.Waiting, rollout.Clean, rollout.Touched, rollout.Declined, rollout.Skipped, rollout.Failed,
	} {
		if totals[s] > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", totals[s], o.would(s)))
		}
	}
	_, err := fmt.Fprintln(out, strings.Join(parts, ", "))
	return err
}

// would says of a dry run what would be done.
func (o *orgOptions) would(s rollout.Status) string {
	if o.dryRun && slices.Contains([]rollout.Status{rollout.Opened, rollout.Updated, rollout.Closed}, s) {
		return "would be " + string(s)
	}
	return string(s)
}

// printDiffs prints what changes in a repository.
func printDiffs(out io.Writer, r rollout.Outcome) error {
	for _, f := range r.Results {
		if f.After == nil {
			continue
		}
		name := r.Repository + "/" + f.File
		if err := printDiff(out, name, f); err != nil {
			return err
		}
	}
	return nil
}

// printDiff prints what changes in a file, coloured on a terminal.
func printDiff(out io.Writer, name string, r *harden.Result) error {
	colour := terminal.Palette{}
	if f, ok := out.(*os.File); ok {
		colour.On = terminal.Coloured(f, os.LookupEnv)
	}
	var b strings.Builder
	name = filepath.ToSlash(name)
	for line := range strings.Lines(udiff.Unified("a/"+name, "b/"+name, string(r.Before), string(r.After))) {
		plain := terminal.Escape(strings.TrimRight(line, "\r\n"))
		switch {
		case strings.HasPrefix(line, "+"):
			plain = colour.Green(plain)
		case strings.HasPrefix(line, "-"):
			plain = colour.Red(plain)
		}
		b.WriteString(plain + "\n")
	}
	_, err := io.WriteString(out, b.String())
	return err
}
