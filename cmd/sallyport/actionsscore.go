package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/sallyport-ci/sallyport/github"
	"github.com/sallyport-ci/sallyport/harden"
	"github.com/sallyport-ci/sallyport/harden/catalogue"
	"github.com/sallyport-ci/sallyport/harden/origin"
	"github.com/sallyport-ci/sallyport/harden/score"
	"github.com/sallyport-ci/sallyport/report/terminal"
)

// actionsScore is the command score.
type actionsScore struct {
	actionsScope
	paths       []string
	facts, seen string
	offline     bool
	json        bool
	min         float64
	now         func() time.Time
}

func newActionsScoreCommand() *cobra.Command {
	o := &actionsScore{now: time.Now}
	cmd := &cobra.Command{
		Use:   "score [ACTION[@REF]…]",
		Short: "Score the commits of actions in use, from 0 to 10, with reasons",
		Long: `Scores actions as they are used: the commit that is in use, not the action by name. Each of ten
parts has points from 0 to 10, a weight and a reason; the score is the mean of those that are
known, under limits that no good part outweighs. What could not be learned is said, and makes
the score less sure, not lower. docs/actions.md has parts, weights and points.

ACTION without @REF means the versions that are in use below --path (the current folder) or in
the organisation (--org); without any ACTION all that are in use.

GitHub is asked as an App, by the token in GITHUB_TOKEN or GH_TOKEN, or without (60 questions an
hour). --facts keeps what was learned: with --offline it is read from there, and scores to the
same.

Exit codes: 0 scored; 1 if one is below --min, or if something could not be read; 2 wrong usage;
3 an ACTION is not in use.`,
		Example: `  sallyport actions score tj-actions/changed-files@v45
  sallyport actions score --org acme --facts facts.json --min 5
  sallyport actions score --offline --facts facts.json --json`,
		RunE: func(cmd *cobra.Command, args []string) error {
			return o.run(cmd.Context(), args, cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
	}
	f := cmd.Flags()
	f.StringSliceVar(&o.paths, "path", nil, "checkouts whose actions are meant (default the current folder)")
	f.StringVar(&o.facts, "facts", "", "file that keeps what was learned, JSON lines")
	f.BoolVar(&o.offline, "offline", false, "ask nobody: read what was learned from --facts")
	f.StringVar(&o.seen, "seen", "", "file with destinations that agents saw, JSON lines (docs/actions.md has the query)")
	f.BoolVar(&o.json, "json", false, "print JSON, one action a line")
	f.Float64Var(&o.min, "min", 0, "exit with 1 if a score is below, or if nothing is known")
	o.flags(cmd)
	return cmd
}

func (o *actionsScore) run(ctx context.Context, args []string, out, said io.Writer) error {
	switch {
	case o.offline && (o.facts == "" || o.seen != ""):
		return usageError(fmt.Errorf("--offline takes --facts, and no --seen: what was seen is among the facts"))
	case o.Organisation != "" && len(o.paths) > 0:
		return usageError(fmt.Errorf("give either --org or --path"))
	}
	var all []*score.Facts
	var failed error
	if o.offline {
		text, err := os.ReadFile(filepath.Clean(o.facts))
		if err != nil {
			return fmt.Errorf("read facts: %w", err)
		}
		if all, err = score.ReadFacts(text); err != nil {
			return err
		}
		all, err = chosen(all, args)
		if err != nil {
			return err
		}
	} else {
		var wanted []wantedAction
		if wanted, failed = o.wanted(ctx, args, said); wanted == nil && failed != nil {
			return failed
		}
		var err error
		if all, err = o.learn(ctx, wanted, said); err != nil {
			return err
		}
		if o.facts != "" {
			var b bytes.Buffer
			if err := score.WriteFacts(&b, all); err != nil {
				return err
			}
			if err := os.WriteFile(o.facts, b.Bytes(), 0o600); err != nil {
				return fmt.Errorf("write facts: %w", err)
			}
		}
	}
	low := false
	for i, f := range all {
		s := score.Of(f)
		low = low || o.min > 0 && (s.Score == nil || *s.Score < o.min)
		var err error
		if o.json {
			err = printLine(out, s)
		} else {
			if i > 0 {
				fmt.Fprintln(out)
			}
			err = printScore(out, s)
		}
		if err != nil {
			return err
		}
	}
	if low {
		return &exitError{exitFailed}
	}
	return failed
}

// wantedAction is one to be scored.
type wantedAction struct {
	ref     harden.Reference
	version string
}

// wanted are the actions that were asked for, or that are in use.
func (o *actionsScore) wanted(ctx context.Context, args []string, said io.Writer) (out []wantedAction, failed error) {
	var names []string
	for _, a := range args {
		if ref, ok := harden.ParseReference(a); ok {
			out = append(out, wantedAction{ref: ref})
		} else if _, ok := harden.ParseReference(a + "@x"); ok {
			names = append(names, a)
		} else {
			return nil, usageError(fmt.Errorf("%q is no action, OWNER/REPO[/PATH][@REF]", a))
		}
	}
	if len(args) > 0 && len(names) == 0 {
		return out, nil
	}
	used, failed := o.inventory(ctx, o.paths, said)
	if used == nil && failed != nil {
		return nil, failed
	}
	for _, name := range names {
		if !slices.ContainsFunc(used, func(u *harden.UsedAction) bool { return strings.EqualFold(u.Name, name) }) {
			return nil, &notFoundError{fmt.Errorf("%s is not in use here: say which version is meant, %s@REF", name, name)}
		}
	}
	for _, u := range used {
		if len(args) > 0 && !slices.ContainsFunc(names, func(n string) bool { return strings.EqualFold(n, u.Name) }) {
			continue
		}
		out = append(out, versionsOf(u)...)
	}
	return out, failed
}

// versionsOf are the versions of an action that are in use.
func versionsOf(u *harden.UsedAction) (out []wantedAction) {
	for i, v := range u.Versions {
		if slices.ContainsFunc(u.Versions[:i], func(b harden.UsedVersion) bool { return b.Ref == v.Ref }) {
			continue // the same with another comment
		}
		if ref, ok := harden.ParseReference(u.Name + "@" + v.Ref); ok {
			out = append(out, wantedAction{ref, v.Version})
		}
	}
	return out
}

// chosen are the facts that were asked for; all if nothing was.
func chosen(all []*score.Facts, args []string) ([]*score.Facts, error) {
	if len(args) == 0 {
		return all, nil
	}
	var out []*score.Facts
	for _, a := range args {
		before := len(out)
		for _, f := range all {
			if strings.EqualFold(f.Action, a) || strings.EqualFold(f.Action+"@"+f.Ref, a) {
				out = append(out, f)
			}
		}
		if len(out) == before {
			return nil, &notFoundError{fmt.Errorf("there are no facts about %s", a)}
		}
	}
	return out, nil
}

// learn asks about actions.
func (o *actionsScore) learn(ctx context.Context, wanted []wantedAction, said io.Writer) ([]*score.Facts, error) {
	bar := barOf(said)
	defer bar.done()
	l, err := o.learner(ctx, bar)
	if err != nil {
		return nil, err
	}
	var all []*score.Facts
	for i, w := range wanted {
		bar.say("%d of %d actions, %s", i, len(wanted), w.ref.Repository)
		f, err := l.Learn(ctx, w.ref, w.version)
		if err != nil {
			return nil, err
		}
		all = append(all, f)
	}
	return all, nil
}

func (o *actionsScore) learner(ctx context.Context, bar *progress) (*score.Learner, error) {
	if o.Organisation == "" && o.github.appID != 0 {
		return nil, usageError(fmt.Errorf("--app-id asks as the installation of an organisation: give --org, too"))
	}
	client, err := o.client(ctx, o.Organisation, bar)
	if err != nil {
		return nil, err
	}
	return newLearner(client, o.server, o.seen, o.now)
}

// newLearner makes one with the embedded catalogue and, if there is one, a file of what was seen.
func newLearner(client *github.Client, server, seen string, now func() time.Time) (*score.Learner, error) {
	c, err := catalogue.Embedded()
	if err != nil {
		return nil, err
	}
	l := &score.Learner{Client: client, Origin: origin.New(client, &harden.Remote{Server: server}), Catalogue: c, Now: now}
	if seen == "" {
		return l, nil
	}
	f, err := os.Open(filepath.Clean(seen))
	if err != nil {
		return nil, fmt.Errorf("read what was seen: %w", err)
	}
	l.Seen, err = score.ReadSeen(f)
	_ = f.Close()
	return l, err
}

// scoreLine is a score in one line.
func scoreLine(s *score.Score) string {
	if s.Score == nil {
		return fmt.Sprintf("not scored, 0 of %d parts known", s.Of)
	}
	return fmt.Sprintf("%.1f of 10, %d of %d parts known", *s.Score, s.Known, s.Of)
}

func printScore(out io.Writer, s *score.Score) error {
	var b strings.Builder
	name := s.Action + "@" + s.Ref
	switch {
	case s.Version != "" && s.Version != s.Ref:
		name += " (" + s.Version + ")"
	case s.Commit != "" && s.Commit != s.Ref:
		name += " (" + s.Commit[:12] + ")"
	}
	fmt.Fprintf(&b, "%s: %s\n", terminal.Escape(name), scoreLine(s))
	for _, l := range s.Limits {
		fmt.Fprintf(&b, "  at most %g: %s\n", l.Most, terminal.Escape(l.Reason))
	}
	for _, p := range s.Parts {
		points := "?"
		if p.Known {
			points = fmt.Sprint(p.Points)
		}
		fmt.Fprintf(&b, "  %-13s %2s  weight %d  %s\n", p.Name, points, p.Weight, terminal.Escape(p.Reason))
	}
	_, err := io.WriteString(out, b.String())
	return err
}
