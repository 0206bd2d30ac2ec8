package main

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/go-git/go-git/v5"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/sallyport-ci/sallyport/github"
	"github.com/sallyport-ci/sallyport/harden"
	"github.com/sallyport-ci/sallyport/report/terminal"
)

type hardenOptions struct {
	hardenRules
	github                    githubOptions
	asks                      bool // GitHub's interface, whatever --github-url is
	write, check, json, sarif bool
	lock, repository          string
}

// hardenRules say what is done to workflows, wherever they are.
type hardenRules struct {
	offline, update, replaceHardenRunner, permissive, transitive bool
	only, exempt, selfHosted                                     []string
	agent, agentServer, server, approvalPolicy, observed         string
	approvals                                                    approvalSource
	minAge                                                       int // days
}

func (h *hardenRules) flags(f *pflag.FlagSet) {
	f.BoolVar(&h.offline, "offline", false, "ask nobody what references stand for: what is not in the lock file is reported")
	f.BoolVar(&h.update, "update", false, "ask also about what is in the lock file, and tell what has moved")
	f.StringSliceVar(&h.only, "only", nil, "do only this, several with commas: "+strings.Join(harden.Rules, ", "))
	f.StringSliceVar(&h.exempt, "exempt", nil, "repositories (OWNER/NAME, also with *) and images that stay as they are")
	f.StringVar(&h.agent, "agent", "", "action that starts the agent, OWNER/REPO[/PATH]@REF; without it no job gets a step")
	f.StringVar(&h.agentServer, "agent-server", "", "https address that agents show their job's identity to (docs/identity.md): it goes into the step, and id-token: write into the job's permissions")
	f.StringSliceVar(&h.selfHosted, "self-hosted-label", nil, "label of machines that have the agent: their jobs need no step")
	f.BoolVar(&h.transitive, "transitive", false, "look into the actions themselves: what do they use that is not pinned?")
	f.BoolVar(&h.permissive, "permissive", false, "leave the token of a job as it is if it is not known what one of its steps needs")
	f.BoolVar(&h.replaceHardenRunner, "replace-harden-runner", false, "let the agent take the place of step-security/harden-runner, with its inputs")
	f.StringVar(&h.approvals.file, "catalog", "", "file of approved actions (default "+harden.ApprovalsFile+" beside the lock file, if it is there); with --catalog-repo its path there")
	f.StringVar(&h.approvals.repository, "catalog-repo", "", "repository at GitHub, OWNER/REPO, that holds it, on its default branch")
	f.StringVar(&h.approvalPolicy, "approval-policy", "", "Rego policy that judges by it, in the place of the built-in one")
	f.IntVar(&h.minAge, "min-age", 7, "take nothing that is younger than so many days, but the newest older one that is meant; 0 takes all")
	f.StringVar(&h.observed, "observed", "", "requests that jobs were seen to make, JSON lines (docs/queries.md): their tokens are granted what these need; - reads standard input")
	f.StringVar(&h.server, "github-url", publicGitHub, "where repositories are")
}

// config makes the configuration but for its lock. approvals is the file of approved actions
// where none was given; empty for none. client is asked for theirs if they are in a repository.
func (h *hardenRules) config(ctx context.Context, approvals string, client func(owner string) (*github.Client, error)) (harden.Config, error) {
	if h.minAge < 0 {
		return harden.Config{}, usageError(errors.New("--min-age is not below 0"))
	}
	if h.offline && h.update {
		return harden.Config{}, usageError(errors.New("--update asks, and --offline asks nobody"))
	}
	for _, r := range h.only {
		if !slices.Contains(harden.Rules, r) {
			return harden.Config{}, usageError(fmt.Errorf("--only: there is no %q, but %s", r, strings.Join(harden.Rules, ", ")))
		}
	}
	if h.agent == "" {
		for flag, given := range map[string]bool{"--agent-server": h.agentServer != "", "--replace-harden-runner": h.replaceHardenRunner, "--only agent": slices.Contains(h.only, "agent")} {
			if given {
				return harden.Config{}, usageError(fmt.Errorf("%s does nothing without --agent: say which action starts the agent", flag))
			}
		}
	}
	c := harden.Config{
		Update: h.update, Rules: h.only, Exempt: h.exempt, Agent: h.agent, AgentServer: h.agentServer, SelfHosted: h.selfHosted,
		MinAge: time.Duration(h.minAge) * 24 * time.Hour, ReplaceHardenRunner: h.replaceHardenRunner, Permissive: h.permissive, Transitive: h.transitive,
	}
	var err error
	if c.Approvals, err = h.approved(ctx, approvals, client); err != nil {
		return c, err
	}
	if !h.offline {
		c.Resolver = &harden.Remote{Server: h.server}
	}
	c.Observed, err = readObserved(h.observed)
	return c, err
}

// approved reads the approved actions; nil if there are none.
func (h *hardenRules) approved(ctx context.Context, otherwise string, client func(owner string) (*github.Client, error)) (*harden.Approvals, error) {
	switch {
	case h.approvals.repository != "":
		if err := h.approvals.check(); err != nil {
			return nil, err
		}
		owner, _, _ := strings.Cut(h.approvals.repository, "/")
		c, err := client(owner)
		if err != nil {
			return nil, err
		}
		return h.approvals.fetch(ctx, c, h.approvalPolicy)
	case h.approvals.file != "":
		if _, err := os.Stat(h.approvals.file); err != nil {
			return nil, fmt.Errorf("read approvals: %w", err)
		}
		otherwise = h.approvals.file
	case otherwise == "":
		return nil, nil
	}
	return harden.ReadApprovals(ctx, otherwise, h.approvalPolicy, time.Now())
}

func newHardenCommand() *cobra.Command {
	o := &hardenOptions{}
	cmd := &cobra.Command{
		Use:   "harden [PATH…]",
		Short: "Pin what workflows use, and put the agent into them",
		Long: `Looks at the workflows, composite actions, Dockerfiles and dependabot.yml below PATH (the
current folder) and shows as a diff, with reasons, how they would be safer:

  pin         actions and reusable workflows to commits, with their version in a comment,
              images to digests
  permissions what a job's token may do, where nobody says it, by what its steps need
  agent       the agent as first step of every job that runs steps (with --agent)
  dependabot  updates for github-actions, so that pins are kept up to date
  approvals   what ` + harden.ApprovalsFile + ` does not approve, if there is such a file
  injection   what strangers choose is handed to scripts by variables, where it means the same
  audit       static findings, which a person has to settle: template injection, a stranger's
              code with secrets, permissions, secrets and more

Nothing is changed that need not be: comments, quotes, anchors, indentation and line ends
stay. Each change is proved before it is shown: the file parses, means what it meant but for
the change, actionlint has nothing new to say, and a second run is empty. What cannot be
proved is reported and left alone.

What references stand for is asked from GitHub's API with the token in GITHUB_TOKEN or GH_TOKEN
(or of an App), by the git protocol without one, and from image registries, and kept in
the file ` + harden.LockFile + `, which belongs into the repository: what is in it is not asked
again, and --update says what has moved since. The tag of a whole version that has moved is an
error, and stays at what it was.

Exit codes: 0 done, or nothing to do; 1 with --check if something would change or an error was
found, or if a file could not be read; 2 wrong usage.`,
		Example: `  sallyport harden
  sallyport harden --write
  sallyport harden --check --offline --sarif >harden.sarif
  sallyport harden --only pin .github/workflows/release.yml`,
		RunE: func(cmd *cobra.Command, args []string) error {
			return o.run(cmd.Context(), args, cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
	}
	f := cmd.Flags()
	f.BoolVar(&o.write, "write", false, "change the files")
	f.BoolVar(&o.check, "check", false, "exit with 1 if something would change or an error was found")
	f.BoolVar(&o.json, "json", false, "print JSON, one file a line")
	f.BoolVar(&o.sarif, "sarif", false, "print a SARIF 2.1.0 log")
	f.StringVar(&o.lock, "lock", "", "lock file (default "+harden.LockFile+" in the first PATH that is a folder, or the current one)")
	o.flags(f)
	o.github.flags(cmd)
	f.StringVar(&o.repository, "repository", "", "whose checkout it is, OWNER/NAME (default by the address that git came from)")
	cmd.PreRun = func(cmd *cobra.Command, _ []string) {
		o.asks = o.server == publicGitHub || cmd.Flags().Changed("github-api")
	}
	cmd.AddCommand(newHardenOrgCommand())
	return cmd
}

func (o *hardenOptions) run(ctx context.Context, paths []string, out, said io.Writer) error {
	switch {
	case o.write && o.check:
		return usageError(errors.New("give either --write or --check"))
	case o.json && o.sarif:
		return usageError(errors.New("give either --json or --sarif"))
	}
	if len(paths) == 0 {
		paths = []string{"."}
	}
	if o.lock == "" {
		o.lock = harden.LockFile
		for _, p := range paths {
			if info, err := os.Stat(p); err == nil && info.IsDir() {
				o.lock = filepath.Join(p, harden.LockFile)
				break
			}
		}
	}
	lock, err := harden.ReadLock(o.lock)
	if err != nil {
		return err
	}
	names, err := harden.Find(paths, true)
	if err != nil {
		return usageError(err)
	}
	c, err := o.config(ctx, filepath.Join(filepath.Dir(o.lock), harden.ApprovalsFile), func(owner string) (*github.Client, error) {
		return o.github.client(ctx, owner, time.Second, nil)
	})
	if err != nil {
		return err
	}
	c.Lock, c.Repository = lock, cmp.Or(o.repository, checkoutOf(paths[0], o.server))
	if remote, ok := c.Resolver.(*harden.Remote); ok && o.asks {
		if c.Resolver, err = o.github.resolver(ctx, c.Repository, remote, said); err != nil {
			return err
		}
	}
	results, err := harden.Files(ctx, c, names)
	if err != nil {
		return usageError(err)
	}
	if o.write {
		for _, r := range results {
			if err := r.Write(); err != nil {
				return err
			}
		}
		if err := lock.Write(o.lock); err != nil {
			return err
		}
	}
	if err := o.print(out, results); err != nil {
		return err
	}
	bad, changes := false, false
	for _, r := range results {
		if r.Problem != nil {
			fmt.Fprintln(said, "sallyport:", r.Problem)
			bad = true
		}
		changes = changes || r.After != nil
		for _, f := range r.Findings {
			bad = bad || o.check && f.Severity == harden.SeverityError
		}
	}
	if bad || o.check && changes {
		return &exitError{exitFailed}
	}
	return nil
}

// readObserved reads what jobs were seen to do; "" is nothing, - standard input.
func readObserved(name string) ([]harden.Observation, error) {
	if name == "" {
		return nil, nil
	}
	var text []byte
	var err error
	if name == "-" {
		text, err = io.ReadAll(os.Stdin)
	} else {
		text, err = os.ReadFile(name)
	}
	if err != nil {
		return nil, fmt.Errorf("read observations: %w", err)
	}
	out, err := harden.ReadObservations(bytes.NewReader(text))
	if err != nil {
		return nil, fmt.Errorf("read observations %s: %w", name, err)
	}
	return out, nil
}

// publicGitHub is where repositories are if nobody says otherwise.
const publicGitHub = "https://github.com"

// checkoutOf is the repository, OWNER/NAME, that a path is a checkout of: by the job that runs this,
// or by the address that git came from, if that is at a server. Empty if it is not known.
func checkoutOf(path, server string) string {
	if name := os.Getenv("GITHUB_REPOSITORY"); name != "" && path == "." {
		return name
	}
	repo, err := git.PlainOpenWithOptions(path, &git.PlainOpenOptions{DetectDotGit: true})
	if err != nil {
		return ""
	}
	remote, err := repo.Remote(git.DefaultRemoteName)
	if err != nil || len(remote.Config().URLs) == 0 {
		return ""
	}
	from := remote.Config().URLs[0]
	_, host, _ := strings.Cut(server, "://")
	_, name, ok := strings.Cut(from, host)
	if host == "" || !ok || name == "" || !strings.ContainsAny(name[:1], ":/") {
		return ""
	}
	name = strings.TrimSuffix(strings.Trim(name[1:], "/"), ".git")
	if strings.Count(name, "/") != 1 {
		return ""
	}
	return name
}

func (o *hardenOptions) print(out io.Writer, results []*harden.Result) error {
	if o.sarif {
		data, err := harden.SARIF(version, results)
		if err == nil {
			_, err = out.Write(data)
		}
		return err
	}
	files, fixes := 0, 0
	for _, r := range results {
		if r.After != nil {
			files++
			fixes += len(r.Fixes)
		}
		var err error
		if o.json {
			line := map[string]any{"file": r.File, "fixes": r.Fixes, "findings": r.Findings, "changed": r.After != nil}
			if r.Problem != nil {
				line["problem"] = map[string]any{"at": r.Problem.At, "message": r.Problem.Message}
			}
			err = printLine(out, line)
		} else {
			err = o.printFile(out, r)
		}
		if err != nil {
			return err
		}
	}
	if o.json {
		return nil
	}
	done := "would change"
	if o.write {
		done = "changed"
	}
	_, err := fmt.Fprintf(out, "%d files looked at, %d %s, %d fixes\n", len(results), files, done, fixes)
	return err
}

// printFile prints what is said of a file and, if it is not written, its diff.
func (o *hardenOptions) printFile(out io.Writer, r *harden.Result) error {
	var b strings.Builder
	for _, f := range r.Findings {
		fmt.Fprintf(&b, "%s:%d:%d: %s: %s [%s]\n", r.File, f.At.Line, f.At.Column, f.Severity, terminal.Escape(f.Message), f.Rule)
	}
	for _, f := range r.Fixes {
		fmt.Fprintf(&b, "%s:%d:%d: %s [%s]\n", r.File, f.At.Line, f.At.Column, terminal.Escape(f.Reason), f.Rule)
	}
	if _, err := io.WriteString(out, b.String()); err != nil || r.After == nil || o.write {
		return err
	}
	return printDiff(out, r.File, r)
}
