package harden

import (
	"bytes"
	"context"
	_ "embed"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/Masterminds/semver/v3"
	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/rego"
	"go.yaml.in/yaml/v3"
)

// ApprovalsFile is the name of the file that says which actions may be used.
const ApprovalsFile = "catalog.yaml"

// ApprovalPolicy is the policy by which uses are judged, unless an organisation has its own.
//
//go:embed approval.rego
var ApprovalPolicy string

// Approval is what an organisation decided about actions.
type Approval struct {
	// Action is OWNER/REPO[/PATH], a pattern of path.Match.
	Action string `yaml:"action"`
	// Versions that may be used, for instance ">=4.2 <6"; all if it is empty.
	Versions string `yaml:"versions,omitempty"`
	// Deny forbids them.
	Deny bool `yaml:"deny,omitempty"`
	// Owner asked for it, Reviewer looked at it, Reason says why.
	Owner    string `yaml:"owner"`
	Reviewer string `yaml:"reviewer,omitempty"`
	Reason   string `yaml:"reason"`
	// Until is its last day, UTC; it does not end if it is empty.
	Until string `yaml:"until,omitempty"`

	versions *semver.Constraints
	line     int
}

// Approvals are those of a file, and the policy that judges by them.
type Approvals struct {
	list  []Approval
	query rego.PreparedEvalQuery
	today string
}

// ReadApprovals reads a file of approvals and, if policy is not empty, a Rego policy in the
// place of ApprovalPolicy: package sallyport.actions, rule violation, with the input that
// approval.rego describes. It returns nil if there is no such file.
func ReadApprovals(ctx context.Context, name, policy string, now time.Time) (*Approvals, error) {
	data, err := os.ReadFile(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read approvals: %w", err)
	}
	return ParseApprovals(ctx, name, data, policy, now)
}

// ParseApprovals reads approvals that are in memory, as ReadApprovals does; name is for messages.
func ParseApprovals(ctx context.Context, name string, data []byte, policy string, now time.Time) (*Approvals, error) {
	list, err := parseApprovals(name, data)
	if err != nil {
		return nil, err
	}
	file := "approval.rego"
	text := ApprovalPolicy
	if policy != "" {
		own, err := os.ReadFile(policy)
		if err != nil {
			return nil, fmt.Errorf("read approval policy: %w", err)
		}
		file, text = policy, string(own)
	}
	query, err := rego.New(rego.Query("data.sallyport.actions.violation"), rego.Module(file, text), rego.SetRegoVersion(ast.RegoV1), rego.StrictBuiltinErrors(true)).PrepareForEval(ctx)
	if err != nil {
		return nil, fmt.Errorf("read approval policy: %w", err)
	}
	return &Approvals{list, query, day(now)}, nil
}

// Ending is an approval that has ended, or ends soon.
type Ending struct {
	// Until is its last day, Days how many there are until then; below 0 if it has ended.
	Until string
	Days  int
	// Owner answers for it.
	Owner string
}

// String says so for people.
func (e Ending) String() string {
	if e.Days < 0 {
		return fmt.Sprintf("approval by %s ended %s", e.Owner, e.Until)
	}
	return fmt.Sprintf("approval by %s ends %s, %d days left", e.Owner, e.Until, e.Days)
}

// Ending returns the approvals of actions in use that have ended, or end within so many days, by
// the action's name.
func (a *Approvals) Ending(used []*UsedAction, within int) map[string]Ending {
	out := make(map[string]Ending)
	today, err := time.Parse(time.DateOnly, a.today)
	if err != nil {
		return out // it is a day that this package wrote
	}
	for _, u := range used {
		x := a.find(u.Name)
		if x == nil || x.Deny || x.Until == "" {
			continue
		}
		until, err := time.Parse(time.DateOnly, x.Until)
		if err != nil {
			continue // checked when it was read
		}
		if days := int(until.Sub(today).Hours() / 24); days <= within {
			out[u.Name] = Ending{x.Until, days, x.Owner}
		}
	}
	return out
}

func parseApprovals(name string, data []byte) ([]Approval, error) {
	var file struct {
		Version int         `yaml:"version"`
		Actions []yaml.Node `yaml:"actions"`
	}
	d := yaml.NewDecoder(bytes.NewReader(data))
	d.KnownFields(true)
	if err := d.Decode(&file); err != nil {
		return nil, fmt.Errorf("read approvals %s: %w", name, err)
	}
	if file.Version != 1 {
		return nil, fmt.Errorf("read approvals %s: version %d, this program reads 1", name, file.Version)
	}
	var out []Approval
	var faults []error
	for i := range file.Actions {
		n := &file.Actions[i]
		var a Approval
		err := strictApproval(n, &a)
		if err == nil {
			err = a.check()
		}
		if err != nil {
			faults = append(faults, fmt.Errorf("read approvals %s:%d: %w", name, n.Line, err))
			continue
		}
		a.line = n.Line
		out = append(out, a)
	}
	return out, errors.Join(faults...)
}

func strictApproval(n *yaml.Node, into *Approval) error {
	fields := []string{"action", "versions", "deny", "owner", "reviewer", "reason", "until"}
	if n.Kind == yaml.MappingNode {
		for i := 0; i < len(n.Content); i += 2 {
			if !slices.Contains(fields, n.Content[i].Value) {
				return fmt.Errorf("there is no field %q, but %s", n.Content[i].Value, strings.Join(fields, ", "))
			}
		}
	}
	return n.Decode(into)
}

func (a *Approval) check() (err error) {
	for _, needed := range []struct{ name, value string }{{"action", a.Action}, {"owner", a.Owner}, {"reason", a.Reason}} {
		if strings.TrimSpace(needed.value) == "" {
			return fmt.Errorf("%s is missing", needed.name)
		}
	}
	if _, err := path.Match(a.Action, ""); err != nil {
		return fmt.Errorf("action %q: %w", a.Action, err)
	}
	if a.Versions != "" {
		if a.versions, err = semver.NewConstraint(a.Versions); err != nil {
			return fmt.Errorf("versions %q are no range such as \">=4.2 <6\": %w", a.Versions, err)
		}
	}
	if a.Until != "" {
		if _, err := time.Parse(time.DateOnly, a.Until); err != nil {
			return fmt.Errorf("until %q is no day such as 2026-12-31", a.Until)
		}
	}
	return nil
}

// find returns what was decided about an action: a denial before an approval, and of several
// the one of the longest pattern.
func (a *Approvals) find(name string) *Approval {
	var best *Approval
	for i := range a.list {
		x := &a.list[i]
		if ok, err := path.Match(x.Action, name); err != nil || !ok {
			continue
		}
		if best == nil || x.Deny && !best.Deny || x.Deny == best.Deny && len(x.Action) > len(best.Action) {
			best = x
		}
	}
	return best
}

// approvals tells of actions that may not be used.
func (h *hardener) approvals(ctx context.Context, d *Document, kind Kind) (findings []Finding) {
	if h.Approvals == nil {
		return nil
	}
	for _, u := range d.uses(kind) {
		ref, ok := ParseReference(u.node.Value)
		if u.image || !ok {
			continue
		}
		said, err := h.judgeUse(ctx, ref, d.comment(u))
		if err != nil {
			said = []string{err.Error()}
		}
		for _, message := range said {
			findings = append(findings, Finding{"not-approved", SeverityError, position(u.node), message})
		}
	}
	return findings
}

// judgeUse asks the policy about one use.
func (h *hardener) judgeUse(ctx context.Context, ref Reference, comment string) ([]string, error) {
	name := ref.Repository + ref.Path
	version := comment
	if version == "" && !ref.Pinned() {
		version = ref.Ref
	}
	used := newUsedAction(h.Catalogue, name)
	input := map[string]any{
		"today": h.Approvals.today,
		"action": map[string]any{
			"name": name, "repository": ref.Repository, "ref": ref.Ref, "version": version, "pinned": ref.Pinned(),
			"known": used.Known, "archived": used.Archived, "incidents": len(used.Incidents),
		},
	}
	if a := h.Approvals.find(name); a != nil {
		inRange := true
		if a.versions != nil {
			v, err := semver.NewVersion(version)
			inRange = err == nil && a.versions.Check(v)
		}
		input["approval"] = map[string]any{
			"action": a.Action, "deny": a.Deny, "versions": a.Versions, "in_range": inRange, "owner": a.Owner, "reviewer": a.Reviewer, "reason": a.Reason, "until": a.Until,
		}
	}
	results, err := h.Approvals.query.Eval(ctx, rego.EvalInput(input))
	if err != nil {
		return nil, fmt.Errorf("ask the approval policy about %s: %w", name, err)
	}
	var out []string
	for _, r := range results {
		for _, e := range r.Expressions {
			list, ok := e.Value.([]any)
			if !ok {
				return nil, fmt.Errorf("ask the approval policy about %s: violation is no set", name)
			}
			for _, v := range list {
				out = append(out, fmt.Sprint(v))
			}
		}
	}
	slices.Sort(out)
	return out, nil
}
