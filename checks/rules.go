package checks

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"path"
	"regexp"
	"slices"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	sallyportv1 "github.com/sallyport-ci/sallyport/proto/sallyport/v1"
)

// RulesFile is where a repository says how it wants its checks, on its default branch: what a
// pull request changes in it counts when it is merged.
const RulesFile = ".github/sallyport.yml"

// Rules are those of a repository.
type Rules struct {
	Version int `yaml:"version"`
	Check   struct {
		// Strict turns the check red for anything new.
		Strict bool `yaml:"strict"`
		// RequireObserved turns it red for a job that nobody observed, or not completely.
		RequireObserved bool `yaml:"require-observed"`
		// Comment puts the same into a comment on the pull request.
		Comment bool `yaml:"comment"`
		// Approvers are the roles from which on somebody may settle by a button.
		Approvers struct {
			New    string `yaml:"new"`
			Threat string `yaml:"threat"`
		} `yaml:"approvers"`
	} `yaml:"check"`
	// Approve settles findings.
	Approve []Approval `yaml:"approve"`
	// Unobserved are jobs that need not be observed.
	Unobserved []Unobserved `yaml:"unobserved"`

	problem error // why the file does not count, if so
}

// Approval settles the findings that it fits. What it leaves out fits everything.
type Approval struct {
	// Workflow and Job are names, or patterns of path.Match; so are Target (a domain, a file, a
	// program) and Program.
	Workflow string `yaml:"workflow"`
	Job      string `yaml:"job"`
	Target   string `yaml:"target"`
	Program  string `yaml:"program"`
	// Policy is the one that the finding breaks. A threat is settled only by its policy's name.
	Policy string `yaml:"policy"`
	// Port, if it is not 0.
	Port uint32 `yaml:"port"`
	// Owner and Reason say who answers for it, and why; needed.
	Owner  string `yaml:"owner"`
	Reason string `yaml:"reason"`
	// Until is its last day, UTC; it does not end if it is empty.
	Until string `yaml:"until"`
}

// Unobserved says that jobs need not be observed, or not completely: where no agent can be, as in those that GitHub
// makes itself. What it leaves out fits everything.
type Unobserved struct {
	// File is the path of the workflow, as dynamic/github-code-scanning/codeql; Workflow and Job
	// are the names that GitHub shows, which whoever changes the workflow can choose. All may be
	// patterns of path.Match.
	File     string `yaml:"file"`
	Workflow string `yaml:"workflow"`
	Job      string `yaml:"job"`
	// Owner, Reason and Until are as those of an approval.
	Owner  string `yaml:"owner"`
	Reason string `yaml:"reason"`
	Until  string `yaml:"until"`
}

// roles from the least on.
var roles = []string{"read", "triage", "write", "maintain", "admin"}

const (
	defaultNewRole    = "write"
	defaultThreatRole = "maintain"
	// maxApprovals bounds a file.
	maxApprovals = 1000
)

// typeNames are what the YAML library says of Go types, which nobody who writes a file knows.
var typeNames = regexp.MustCompile(`(?m) (in|into) (type )?(struct|\[*\]*checks\.).*$`)

// ParseRules reads the file of a repository. The error says where what is wrong.
func ParseRules(text []byte) (*Rules, error) {
	r := new(Rules)
	d := yaml.NewDecoder(bytes.NewReader(text))
	d.KnownFields(true)
	if err := d.Decode(r); err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("read %s: %s", RulesFile, typeNames.ReplaceAllString(strings.TrimPrefix(err.Error(), "yaml: "), ""))
	}
	if err := d.Decode(new(yaml.Node)); !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("read %s: there is more than one document in it", RulesFile)
	}
	if r.Version == 0 {
		return nil, fmt.Errorf("read %s: version is missing: it is 1", RulesFile)
	}
	if r.Version != 1 {
		return nil, fmt.Errorf("read %s: version %d, this program reads 1", RulesFile, r.Version)
	}
	for _, a := range []*string{&r.Check.Approvers.New, &r.Check.Approvers.Threat} {
		if *a != "" && !slices.Contains(roles[2:], *a) {
			return nil, fmt.Errorf("read %s: approver %q is not write, maintain or admin", RulesFile, *a)
		}
	}
	if len(r.Approve) > maxApprovals {
		return nil, fmt.Errorf("read %s: more than %d approvals", RulesFile, maxApprovals)
	}
	for i := range r.Approve {
		if err := r.Approve[i].check(); err != nil {
			return nil, fmt.Errorf("read %s: approval %d: %w", RulesFile, i+1, err)
		}
	}
	if len(r.Unobserved) > maxApprovals {
		return nil, fmt.Errorf("read %s: more than %d that need not be observed", RulesFile, maxApprovals)
	}
	for i := range r.Unobserved {
		if err := r.Unobserved[i].check(); err != nil {
			return nil, fmt.Errorf("read %s: unobserved %d: %w", RulesFile, i+1, err)
		}
	}
	r.fill()
	return r, nil
}

func noRules() *Rules {
	r := &Rules{Version: 1}
	r.fill()
	return r
}

func (r *Rules) fill() {
	if r.Check.Approvers.New == "" {
		r.Check.Approvers.New = defaultNewRole
	}
	if r.Check.Approvers.Threat == "" {
		r.Check.Approvers.Threat = defaultThreatRole
	}
}

func (a *Approval) check() error {
	if a.Target == "" && a.Policy == "" && a.Program == "" {
		return errors.New("it settles everything: name a target, a program or a policy")
	}
	if strings.Contains(a.Target, "://") {
		return fmt.Errorf("target %q is a URL: name its host alone", a.Target)
	}
	return checkEntry(a.Owner, a.Reason, a.Until, a.Workflow, a.Job, a.Target, a.Program)
}

func (u *Unobserved) check() error {
	if u.File == "" && u.Workflow == "" && u.Job == "" {
		return errors.New("it is every job: name a file, a workflow or a job")
	}
	return checkEntry(u.Owner, u.Reason, u.Until, u.File, u.Workflow, u.Job)
}

func checkEntry(owner, reason, until string, patterns ...string) error {
	if strings.TrimSpace(owner) == "" || strings.TrimSpace(reason) == "" {
		return errors.New("owner and reason are needed")
	}
	for _, p := range patterns {
		if _, err := path.Match(p, ""); err != nil {
			return fmt.Errorf("%q is no pattern: %w", p, err)
		}
	}
	if until != "" {
		if _, err := time.Parse(time.DateOnly, until); err != nil {
			return fmt.Errorf("until %q is no day such as 2026-12-31", until)
		}
	}
	return nil
}

// over says whether a last day is behind.
func over(until string, now time.Time) bool {
	return until != "" && now.UTC().Format(time.DateOnly) > until
}

// Over says whether the approval's last day is behind.
func (a *Approval) Over(now time.Time) bool { return over(a.Until, now) }

// Over says whether the entry's last day is behind.
func (u *Unobserved) Over(now time.Time) bool { return over(u.Until, now) }

func fits(pattern, value string) bool {
	ok, err := path.Match(pattern, value)
	return pattern == "" || ok && err == nil
}

// agrees returns the entry by which a job need not be observed, if there is one.
func (r *Rules) agrees(w *run, job string, now time.Time) *Unobserved {
	for i := range r.Unobserved {
		if u := &r.Unobserved[i]; !over(u.Until, now) && fits(u.File, w.Path) && fits(u.Workflow, w.Name) && fits(u.Job, job) {
			return u
		}
	}
	return nil
}

// by says who answers for it and why.
func (u *Unobserved) by() string { return u.Owner + ", by " + RulesFile + ": " + u.Reason }

// settles returns the approval that settles a finding, if there is one.
func (r *Rules) settles(f *sallyportv1.Finding, now time.Time) *Approval {
	for i := range r.Approve {
		a := &r.Approve[i]
		switch b := f.GetBehaviour(); {
		case over(a.Until, now):
		case a.Policy == "" && threat(f), a.Policy != "" && a.Policy != f.GetPolicy().GetId():
		case !fits(a.Workflow, f.GetAttribution().GetWorkflow()), !fits(a.Job, f.GetAttribution().GetJob()):
		case !fits(a.Target, b.GetTarget()) && !fits(a.Target, b.GetDomain()), !fits(a.Program, b.GetProgram()):
		case a.Port != 0 && a.Port != b.GetPort():
		default:
			return a
		}
	}
	return nil
}

// may says whether a role is enough for another.
func may(role, needed string) bool { return slices.Index(roles, role) >= slices.Index(roles, needed) }

func threat(f *sallyportv1.Finding) bool {
	return f.GetPolicy().GetClass() != sallyportv1.PolicyClass_POLICY_CLASS_NEW_BEHAVIOUR
}
