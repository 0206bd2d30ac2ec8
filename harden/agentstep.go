package harden

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// hardenRunner is the hosted peer's action, whose inputs ours takes.
const hardenRunner = "step-security/harden-runner"

// agentSteps puts the agent's step first into every job that runs steps.
func (h *hardener) agentSteps(ctx context.Context, d *Document) (fixes []Fix, findings []Finding) {
	if h.Agent == "" {
		return nil, nil
	}
	ours, comment := h.agentReference(ctx)
	seen := make(map[*yaml.Node]bool) // steps that several jobs share by an anchor
	for _, j := range d.jobs() {
		if value(j.node, "uses") != nil {
			continue // its callee gets the step
		}
		key, given := field(j.node, "steps")
		steps := follow(given)
		if j.alias || steps == nil || steps.Kind != yaml.SequenceNode || len(steps.Content) == 0 || seen[steps] {
			continue
		}
		seen[steps] = true
		if why := h.elsewhere(j.node); why != "" {
			continue
		}
		fix, finding := h.agentStep(d, j, key, given, steps, ours, comment)
		if fix != nil {
			fixes = append(fixes, *fix)
		}
		if finding != nil {
			findings = append(findings, *finding)
		}
		if at := d.withoutIdentity(j); h.AgentServer != "" && at != nil {
			findings = append(findings, Finding{
				"agent", SeverityWarning, position(at),
				fmt.Sprintf("job %s: its token may not ask who the job is, so that the agent is not let in and keeps what it sees: grant it id-token: write", j.name),
			})
		}
	}
	return fixes, findings
}

// withoutIdentity returns the declared permissions that keep a job from asking for its identity;
// nil if none do.
func (d *Document) withoutIdentity(j job) *yaml.Node {
	for _, of := range []*yaml.Node{j.node, d.Root} {
		key, v := field(of, "permissions")
		switch {
		case v == nil:
			continue
		case text(v) == "write-all", text(value(v, "id-token")) == "write":
			return nil
		}
		return key
	}
	return nil
}

// elsewhere says why a job needs no step: it runs where the agent is on the machine, or where
// there is no agent.
func (h *hardener) elsewhere(j *yaml.Node) string {
	on := value(j, "runs-on")
	var labels []string
	switch {
	case on == nil:
	case on.Kind == yaml.ScalarNode:
		labels = []string{on.Value}
	case on.Kind == yaml.SequenceNode:
		for _, n := range on.Content {
			labels = append(labels, text(n))
		}
	case on.Kind == yaml.MappingNode:
		for _, n := range []*yaml.Node{value(on, "labels"), value(on, "group")} {
			if n != nil && n.Kind == yaml.SequenceNode {
				for _, c := range n.Content {
					labels = append(labels, text(c))
				}
			} else {
				labels = append(labels, text(n))
			}
		}
	}
	for _, l := range labels {
		switch {
		case slices.Contains(h.SelfHosted, l):
			return "the agent is on the machine"
		case strings.HasPrefix(l, "windows") || strings.HasPrefix(l, "macos"):
			return "there is no agent for " + l
		}
	}
	return ""
}

// agentReference is the agent's action, pinned if pins are in force and it can be, and the
// comment behind it.
func (h *hardener) agentReference(ctx context.Context) (Reference, string) {
	ref, _ := ParseReference(h.Agent)
	if !slices.Contains(h.Rules, "pin") || ref.Pinned() || h.exempt(ref.Repository) {
		return ref, ""
	}
	now, news, err := h.resolver.action(ctx, ref)
	if news.young != nil { // whoever names the agent knows it: its age is not asked
		now, err = news.current(now), nil
	}
	if err != nil {
		return ref, "" // told as not pinned when the file is looked at again
	}
	comment := now.Version
	if comment == "" {
		comment = ref.Ref
	}
	ref.Ref = now.Commit
	return ref, comment
}

func (h *hardener) agentStep(d *Document, j job, key, given, steps *yaml.Node, ours Reference, comment string) (*Fix, *Finding) {
	leave := func(at *yaml.Node, format string, args ...any) (*Fix, *Finding) {
		return nil, &Finding{"agent", SeverityWarning, position(at), "job " + j.name + ": " + fmt.Sprintf(format, args...)}
	}
	for i, s := range steps.Content {
		uses := value(s, "uses")
		ref, ok := ParseReference(text(uses))
		switch {
		case !ok:
			continue
		case ref.Repository+ref.Path == ours.Repository+ours.Path:
			if i > 0 {
				return leave(uses, "the agent starts with step %d: what runs before it is not seen", i+1)
			}
			return nil, nil // its version is a matter of pinning
		case ref.Repository == hardenRunner && h.ReplaceHardenRunner:
			edits, err := d.replaceScalar(uses, ours.String(), comment)
			if err != nil {
				return leave(uses, "%v", err)
			}
			if comment == "" {
				edits = d.withoutVersion(uses, edits)
			}
			h.replaced[uses] = true
			return &Fix{
				Rule: "agent", At: position(uses), edits: edits, mutate: func() { uses.Value = ours.String() },
				Reason: fmt.Sprintf("job %s: the agent takes the place of %s, with its inputs", j.name, hardenRunner),
			}, nil
		case ref.Repository == hardenRunner:
			return nil, nil // two agents see no more than one
		}
	}
	if steps.Style&yaml.FlowStyle != 0 || given.Kind == yaml.AliasNode {
		return leave(steps, "its steps are written in a way that is not edited")
	}
	dash, ok := d.offset(steps.Line, steps.Column)
	if !ok {
		return leave(steps, "its steps are not where the library says")
	}
	first := steps.Content[0]
	if steps.Line == first.Line || steps.Anchor == "" {
		begin, _, _ := d.lineOf(dash)
		if len(bytes.TrimSpace(d.Text[begin:dash])) > 0 || dash >= len(d.Text) || d.Text[dash] != '-' {
			return leave(steps, "its steps are not where the library says")
		}
	}
	indent, ok := d.dashIndent(first)
	if !ok {
		return leave(steps, "its first step is not where the library says")
	}
	keyAt, ok := d.offset(key.Line, key.Column)
	if !ok {
		return leave(key, "its steps are not where the library says")
	}
	_, _, next := d.lineOf(keyAt)
	lines := []string{indent + "- name: " + agentStepName, indent + "  uses: " + ours.String()}
	if comment != "" {
		lines[1] += " # " + comment
	}
	if h.AgentServer != "" {
		lines = append(lines, indent+"  with:", indent+"    server: "+h.AgentServer)
	}
	if d.apart(steps, next) {
		lines = append(lines, "")
	}
	edit := d.insertLines(next, lines)
	made := &yaml.Node{Kind: yaml.MappingNode, Tag: "!!map", Content: []*yaml.Node{
		{Kind: yaml.ScalarNode, Tag: "!!str", Value: "name"}, {Kind: yaml.ScalarNode, Tag: "!!str", Value: agentStepName},
		{Kind: yaml.ScalarNode, Tag: "!!str", Value: "uses"}, {Kind: yaml.ScalarNode, Tag: "!!str", Value: ours.String()},
	}}
	if h.AgentServer != "" {
		made.Content = append(made.Content, scalarNode("with"), &yaml.Node{Kind: yaml.MappingNode, Tag: "!!map", Content: []*yaml.Node{scalarNode("server"), scalarNode(h.AgentServer)}})
	}
	return &Fix{
		Rule: "agent", At: position(key), edits: []Edit{edit},
		mutate: func() { steps.Content = append([]*yaml.Node{made}, steps.Content...) },
		Reason: fmt.Sprintf("job %s: the agent sees what every step does", j.name),
	}, nil
}

const agentStepName = "Sallyport"

// dashIndent is the white space before the dash of a sequence's item.
func (d *Document) dashIndent(item *yaml.Node) (string, bool) {
	at, ok := d.offset(item.Line, item.Column)
	if !ok {
		return "", false
	}
	begin, _, _ := d.lineOf(at)
	before := d.Text[begin:at]
	i := bytes.IndexByte(before, '-')
	if i < 0 || len(bytes.TrimSpace(before[:i])) > 0 {
		return "", false
	}
	return string(before[:i]), true
}

// apart says whether the steps of a sequence stand apart by empty lines, and none follows at
// an offset already.
func (d *Document) apart(steps *yaml.Node, next int) bool {
	begin, end, _ := d.lineOf(next)
	if len(steps.Content) < 2 || next < len(d.Text) && len(bytes.TrimSpace(d.Text[begin:end])) == 0 {
		return false
	}
	at, ok := d.offset(steps.Content[1].Line, 1)
	for ok && at > 0 {
		begin, end, _ := d.lineOf(at - 1)
		line := bytes.TrimSpace(d.Text[begin:end])
		if len(line) == 0 {
			return true
		}
		if line[0] != '#' || begin == at {
			return false
		}
		at = begin
	}
	return false
}

// withoutVersion takes the version of what was replaced out of the comment behind it.
func (d *Document) withoutVersion(n *yaml.Node, edits []Edit) []Edit {
	_, end, ok := d.scalar(n)
	if !ok {
		return edits
	}
	_, lineEnd, _ := d.lineOf(end)
	if rest := d.Text[end:lineEnd]; versionComment(string(bytes.TrimSpace(rest))) != "" {
		edits = append(edits, Edit{end, lineEnd, rest, nil})
	}
	return edits
}
