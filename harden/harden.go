package harden

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/rhysd/actionlint"
	"go.yaml.in/yaml/v3"

	"github.com/sallyport-ci/sallyport/harden/catalogue"
	"github.com/sallyport-ci/sallyport/harden/routes"
	"github.com/sallyport-ci/sallyport/wholefile"
)

// Config says what is done.
type Config struct {
	// Resolver asks what references stand for; nil asks nobody but the lock.
	Resolver Resolver
	// Lock remembers what they stood for.
	Lock *Lock
	// Update asks also about what is in the lock, and tells what has moved.
	Update bool
	// MinAge is how old what a reference stands for has to be to be taken; 0 for any age. It is
	// known by a Resolver that is an Origin.
	MinAge time.Duration
	// Repository is whose files these are, OWNER/NAME; empty if it is not known. With a Resolver that
	// is Reputable it is asked for.
	Repository string
	// Rules are those in force; all if there are none.
	Rules []string
	// Exempt are patterns (path.Match) of repositories, OWNER/NAME, and images that stay as
	// they are.
	Exempt []string
	// Agent is the action that starts the agent, OWNER/REPO[/PATH]@REF; without it no job gets a
	// step.
	Agent string
	// AgentServer is the address that agents show their job's identity to, https://HOST: the step
	// gets it, and the job's token the right to ask for that identity.
	AgentServer string
	// SelfHosted are labels of machines that have the agent.
	SelfHosted []string
	// ReplaceHardenRunner lets the agent take the place of Harden-Runner.
	ReplaceHardenRunner bool
	// Transitive looks into the actions themselves, if the Resolver is a Reader.
	Transitive bool
	// Permissive leaves the token of a job as it is if it is not known what one of its steps
	// needs.
	Permissive bool
	// Observed are requests that jobs were seen to make: their tokens are granted what these need.
	Observed []Observation
	// Approvals say which actions may be used; all if it is nil.
	Approvals *Approvals
	// Catalogue says what actions need; the embedded one by default.
	Catalogue *catalogue.Catalogue
	// Now is the clock; time.Now by default.
	Now func() time.Time
}

// Rules are the names of what can be done.
var Rules = []string{"pin", "permissions", "credentials", "agent", "dependabot", "audit", "approvals", "injection"}

// Result is what came of one file.
type Result struct {
	// File is its path as it was found.
	File string `json:"file"`
	// Fixes that were proved, by place.
	Fixes []Fix `json:"fixes"`
	// Findings that a person should look at.
	Findings []Finding `json:"findings"`
	// Problem is why it was left alone, if it was.
	Problem *ProblemError `json:"-"`
	// Before and After are its text; After is nil if nothing changes.
	Before, After []byte `json:"-"`
	// Mode of the file.
	Mode fs.FileMode `json:"-"`
}

// hardener is a Config at work.
type hardener struct {
	Config
	resolver *resolver
	routes   *routes.Table
	replaced map[*yaml.Node]bool      // uses that are somebody else's after this round
	handed   map[*yaml.Node]bool      // steps whose script gets by variables what is not trusted
	audited  map[*yaml.Node]bool      // steps that were looked at
	chains   map[string][]saidOfChain // what was said of actions
}

func newHardener(c Config) (*hardener, error) {
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Lock == nil {
		c.Lock = NewLock()
	}
	if c.Catalogue == nil {
		var err error
		if c.Catalogue, err = catalogue.Embedded(); err != nil {
			return nil, fmt.Errorf("harden: %w", err)
		}
	}
	if len(c.Rules) == 0 {
		c.Rules = Rules
	}
	for _, r := range c.Rules {
		if !slices.Contains(Rules, r) {
			return nil, fmt.Errorf("harden: there is no rule %q, but %s", r, strings.Join(Rules, ", "))
		}
	}
	if c.Agent != "" {
		if _, ok := ParseReference(c.Agent); !ok {
			return nil, fmt.Errorf("harden: the agent's action %q is not of the form OWNER/REPO@REF", c.Agent)
		}
	}
	if c.AgentServer != "" {
		if u, err := url.Parse(c.AgentServer); err != nil || u.Scheme != "https" || u.Host == "" || strings.ContainsAny(c.AgentServer, " #'\"{}[],&*!|>%@`") {
			return nil, fmt.Errorf("harden: the agents' server %q is no https address", c.AgentServer)
		}
	}
	table, err := routes.Embedded()
	if err != nil {
		return nil, fmt.Errorf("harden: %w", err)
	}
	h := &hardener{c, &resolver{c.Lock, c.Resolver, c.Update, c.MinAge, c.Now}, table, make(map[*yaml.Node]bool), make(map[*yaml.Node]bool), make(map[*yaml.Node]bool), make(map[string][]saidOfChain)}
	return h, h.checkObserved()
}

// Text hardens one file that is in memory. The error is about the configuration or ctx; what is
// wrong with the file is in the result.
func Text(ctx context.Context, c Config, name string, text []byte) (*Result, error) {
	h, err := newHardener(c)
	if err != nil {
		return nil, err
	}
	return h.file(ctx, name, text), ctx.Err()
}

// maxRounds bounds how often a file is looked at again: what is new in it may ask for more.
const maxRounds = 3

// file hardens a text. What is done to scripts is given up before all else is.
func (h *hardener) file(ctx context.Context, name string, text []byte) *Result {
	r, scripts := h.attempt(ctx, name, text)
	if r.Problem == nil || !scripts {
		return r
	}
	rules := h.Rules
	h.Rules = slices.DeleteFunc(slices.Clone(rules), func(rule string) bool { return rule == "injection" })
	defer func() { h.Rules = rules }()
	r, _ = h.attempt(ctx, name, text)
	return r
}

// attempt hardens a text, and says whether it did something to scripts.
func (h *hardener) attempt(ctx context.Context, name string, text []byte) (r *Result, scripts bool) {
	r = &Result{File: name, Before: text, Fixes: []Fix{}, Findings: []Finding{}}
	kind := KindOf(name)
	clear(h.audited) // nodes of files that are done
	clear(h.handed)
	now := text
	for round := range maxRounds {
		fixes, findings, out, err := h.round(ctx, name, kind, now)
		if err != nil {
			scripts = scripts || len(h.handed) > 0
			var problem *ProblemError
			if !errors.As(err, &problem) {
				problem = &ProblemError{File: name, Message: err.Error()}
			}
			r.Problem, r.Fixes, r.After = problem, []Fix{}, nil
			return r, scripts
		}
		if round == 0 {
			r.Findings = append(r.Findings, findings...)
		}
		r.Fixes = append(r.Fixes, fixes...)
		scripts = scripts || slices.ContainsFunc(fixes, func(f Fix) bool { return f.Rule == "template-injection" })
		if len(fixes) == 0 {
			break
		}
		if round == maxRounds-1 {
			r.Problem = &ProblemError{File: name, Message: "each run would change it again"}
			r.Fixes, r.After = []Fix{}, nil
			return r, scripts
		}
		now = out
	}
	if !bytes.Equal(now, text) {
		if fresh := newLint(kind, name, text, now); fresh != "" {
			r.Problem = &ProblemError{File: name, Message: "after the change actionlint says: " + fresh}
			r.Fixes = []Fix{}
			return r, scripts
		}
		r.After = now
	}
	slices.SortStableFunc(r.Fixes, func(a, b Fix) int { return cmp.Or(a.At.Line-b.At.Line, a.At.Column-b.At.Column) })
	slices.SortStableFunc(r.Findings, func(a, b Finding) int { return cmp.Or(a.At.Line-b.At.Line, a.At.Column-b.At.Column) })
	return r, scripts
}

// round finds what to do about a text and does it.
func (h *hardener) round(ctx context.Context, name string, kind Kind, text []byte) (fixes []Fix, findings []Finding, out []byte, err error) {
	on := func(rule string) bool { return slices.Contains(h.Rules, rule) }
	if kind == KindDockerfile {
		if on("pin") {
			fixes, findings = h.dockerfile(ctx, text)
		}
		var edits []Edit
		for _, f := range fixes {
			edits = append(edits, f.edits...)
		}
		out, err = apply(text, edits)
		return fixes, findings, out, err
	}
	d, err := Parse(name, text)
	if err != nil {
		return nil, nil, nil, err
	}
	add := func(f []Fix, found []Finding) { fixes, findings = append(fixes, f...), append(findings, found...) }
	switch {
	case d.Root == nil:
		return nil, nil, text, nil
	case kind == KindDependabot && on("dependabot"):
		add(h.dependabot(d))
	case kind == KindWorkflow || kind == KindAction:
		if on("agent") && kind == KindWorkflow {
			add(h.agentSteps(ctx, d))
		}
		if on("pin") {
			add(h.pins(ctx, d, kind))
		}
		if on("pin") && h.Transitive {
			findings = append(findings, h.transitive(ctx, d, kind)...)
		}
		if on("permissions") && kind == KindWorkflow {
			add(h.permissions(d))
		}
		if on("credentials") && kind == KindWorkflow {
			add(h.credentials(d))
		}
		if on("injection") {
			add(h.injections(d, kind), nil)
		}
		if on("approvals") {
			findings = append(findings, h.approvals(ctx, d, kind)...)
		}
		if on("audit") {
			findings = append(findings, append(h.audit(ctx, d, kind), h.reputation(ctx, d, kind)...)...)
			findings = append(findings, h.safer(d, kind)...)
		}
	}
	fixes = slices.DeleteFunc(fixes, func(f Fix) bool { return len(f.edits) == 0 })
	if len(fixes) == 0 {
		return nil, findings, text, nil
	}
	out, err = d.prove(fixes)
	return fixes, findings, out, err
}

// newLint returns what actionlint says of a changed workflow that it did not say before.
func newLint(kind Kind, name string, before, after []byte) string {
	if kind != KindWorkflow {
		return ""
	}
	said := make(map[string]int)
	for _, e := range lint(name, before) {
		said[e]++
	}
	for _, e := range lint(name, after) {
		if said[e]--; said[e] < 0 {
			return e
		}
	}
	return ""
}

func lint(name string, text []byte) (out []string) {
	defer func() {
		if r := recover(); r != nil { // it gives up on some texts, the same before and after
			out = nil
		}
	}()
	l, err := actionlint.NewLinter(io.Discard, &actionlint.LinterOptions{Shellcheck: "", Pyflakes: ""})
	if err != nil {
		return nil
	}
	errs, err := l.Lint(filepath.Base(name), text, nil)
	if err != nil {
		return nil
	}
	for _, e := range errs {
		out = append(out, e.Kind+": "+e.Message)
	}
	return out
}

// Find returns the files below paths that can be hardened, ordered: of a folder those that
// GitHub reads, a file by itself whatever it is called, if its kind is known. With dependabot
// the file .github/dependabot.yml of a repository (a folder with .github/workflows) counts
// also where it is not there.
func Find(paths []string, dependabot bool) ([]string, error) {
	seen := make(map[string]bool)
	for _, p := range paths {
		info, err := os.Stat(p)
		if err != nil {
			return nil, fmt.Errorf("harden: %w", err)
		}
		if !info.IsDir() {
			whole, err := filepath.Abs(p)
			if err != nil {
				return nil, fmt.Errorf("harden: %w", err)
			}
			if KindOf(whole) == KindOther {
				return nil, fmt.Errorf("harden: %s is no workflow, action, Dockerfile or dependabot.yml by its path", p)
			}
			seen[p] = true
			continue
		}
		err = filepath.WalkDir(p, func(name string, d fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			if d.IsDir() {
				if base := d.Name(); base == ".git" || base == "node_modules" || base == "vendor" {
					return fs.SkipDir
				}
				if dependabot && filepath.Base(name) == "workflows" && filepath.Base(filepath.Dir(name)) == ".github" {
					top := filepath.Dir(filepath.Dir(name))
					if Wanted(func(file string) bool {
						_, err := os.Lstat(filepath.Join(top, filepath.FromSlash(file)))
						return err == nil
					}) {
						seen[filepath.Join(top, ".github", "dependabot.yml")] = true
					}
				}
				return nil
			}
			if d.Type().IsRegular() && KindOf(absolute(name)) != KindOther {
				seen[name] = true
			}
			return nil
		})
		if err != nil {
			return nil, fmt.Errorf("harden: %w", err)
		}
	}
	out := make([]string, 0, len(seen))
	for name := range seen {
		out = append(out, name)
	}
	slices.Sort(out)
	return out, nil
}

// renovate are files by which another program keeps pins up to date.
var renovate = []string{
	"renovate.json", "renovate.json5", ".renovaterc", ".renovaterc.json", ".renovaterc.json5",
	".github/renovate.json", ".github/renovate.json5", ".gitlab/renovate.json", ".gitlab/renovate.json5",
}

// Wanted says whether a repository with workflows should have a .github/dependabot.yml, or have
// it looked at: not if another program keeps its pins up to date, or if it is there under
// another name. there says whether it has a file, by its path from the top.
func Wanted(there func(file string) bool) bool {
	return there(".github/dependabot.yml") || !there(".github/dependabot.yaml") && !slices.ContainsFunc(renovate, there)
}

func absolute(name string) string {
	if whole, err := filepath.Abs(name); err == nil {
		return whole
	}
	return name
}

// Source is a file that is in memory.
type Source struct {
	// Name is its path, with slashes, from the top of its repository.
	Name string
	// Text of it; nil if it is not there.
	Text []byte
	// Mode of the file.
	Mode fs.FileMode
}

// Texts hardens files of one repository that are in memory, as Files does: one that is not there
// is made if that is an improvement (see Wanted).
func Texts(ctx context.Context, c Config, files []Source) ([]*Result, error) {
	h, err := newHardener(c)
	if err != nil {
		return nil, err
	}
	var out []*Result
	for _, f := range files {
		if ctx.Err() != nil {
			return out, ctx.Err()
		}
		if r := h.source(ctx, f); r != nil {
			out = append(out, r)
		}
	}
	return out, ctx.Err()
}

// source hardens a file, or makes one; nil if there is nothing to say.
func (h *hardener) source(ctx context.Context, f Source) *Result {
	if f.Text != nil {
		r := h.file(ctx, f.Name, f.Text)
		r.Mode = f.Mode
		return r
	}
	if KindOf(f.Name) != KindDependabot || !slices.Contains(h.Rules, "dependabot") {
		return nil
	}
	return &Result{
		File: f.Name, Mode: 0o644, Findings: []Finding{}, After: []byte(newDependabot),
		Fixes: []Fix{{Rule: "dependabot", At: Position{1, 1}, Reason: "pins are kept up to date by pull requests"}},
	}
}

// Files hardens files and returns what came of each, in their order. It writes nothing.
func Files(ctx context.Context, c Config, names []string) ([]*Result, error) {
	h, err := newHardener(c)
	if err != nil {
		return nil, err
	}
	var out []*Result
	for _, name := range names {
		if ctx.Err() != nil {
			return out, ctx.Err()
		}
		f := Source{Name: absolute(name)}
		info, err := os.Stat(name)
		if err == nil {
			f.Mode = info.Mode().Perm()
			f.Text, err = os.ReadFile(name)
			if f.Text == nil {
				f.Text = []byte{}
			}
		}
		if err != nil && (!errors.Is(err, fs.ErrNotExist) || KindOf(f.Name) != KindDependabot) {
			out = append(out, &Result{File: name, Fixes: []Fix{}, Findings: []Finding{}, Problem: &ProblemError{File: name, Message: err.Error()}})
			continue
		}
		if err != nil {
			f.Text = nil
		}
		r := h.source(ctx, f)
		if r == nil {
			continue
		}
		r.File = name
		if r.Problem != nil {
			r.Problem.File = name
		}
		out = append(out, r)
	}
	return out, nil
}

// Write writes a file's new text, if it is still as it was read.
func (r *Result) Write() error {
	if r.After == nil {
		return nil
	}
	now, err := os.ReadFile(r.File)
	if err != nil && (!errors.Is(err, fs.ErrNotExist) || r.Before != nil) {
		return fmt.Errorf("write %s: %w", r.File, err)
	}
	if !bytes.Equal(now, r.Before) {
		return fmt.Errorf("write %s: somebody changed it meanwhile", r.File)
	}
	if link, err := filepath.EvalSymlinks(r.File); err == nil && link != r.File {
		if err := wholefile.Sync(link, r.Mode, r.After); err != nil {
			return fmt.Errorf("write %s: %w", r.File, err)
		}
		return nil
	}
	if err := wholefile.Sync(r.File, r.Mode, r.After); err != nil {
		return fmt.Errorf("write %s: %w", r.File, err)
	}
	return nil
}
