package harden

import (
	"bytes"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/sallyport-ci/sallyport/harden/catalogue"
)

// grant is what a job's token has to be able to do, with who needs it.
type grant struct {
	access map[catalogue.Scope]catalogue.Access
	by     map[catalogue.Scope][]string
	// unknown are what nobody knows the needs of.
	unknown []string
	// settled is why what was not known is taken for known.
	settled string
	// pulls and others say whether the workflow is started by pull requests and by other things.
	pulls, others bool
	// dated are actions of which the catalogue has read a version too old to run.
	dated []string
}

func newGrant(triggers map[string]*yaml.Node) *grant {
	g := &grant{access: make(map[catalogue.Scope]catalogue.Access), by: make(map[catalogue.Scope][]string)}
	for event := range triggers {
		switch {
		case strings.HasPrefix(event, "pull_request"):
			g.pulls = true
		case event == "issue_comment": // of both
			g.pulls, g.others = true, true
		default:
			g.others = true
		}
	}
	return g
}

func (g *grant) need(scope catalogue.Scope, access catalogue.Access, by string) {
	switch {
	case access > g.access[scope]:
		g.access[scope], g.by[scope] = access, []string{by}
	case access == g.access[scope] && !slices.Contains(g.by[scope], by):
		g.by[scope] = append(g.by[scope], by)
	}
}

func (g *grant) unsure(format string, args ...any) {
	if what := fmt.Sprintf(format, args...); !slices.Contains(g.unknown, what) {
		g.unknown = append(g.unknown, what)
	}
}

// permissions grants each job's token what its steps need, where nobody says what it may do. A
// permission that is declared is never touched.
func (h *hardener) permissions(d *Document) (fixes []Fix, findings []Finding) {
	if value(d.Root, "permissions") != nil {
		return nil, nil
	}
	workflowEnv := environment(nil, value(d.Root, "env"))
	all := true
	type granted struct {
		job   job
		grant *grant
	}
	var jobs []granted
	for _, j := range d.jobs() {
		_, declared := field(j.node, "permissions")
		switch {
		case declared != nil:
			continue
		case j.alias || j.node == nil || j.node.Kind != yaml.MappingNode:
			all = false
			continue
		case value(j.node, "uses") != nil:
			all = false
			findings = append(findings, Finding{"permissions", SeverityNote, position(j.key), fmt.Sprintf("job %s calls a workflow, whose needs are its own: say what it may do, or let the called workflow say it", j.name)})
			continue
		}
		g := h.needs(j, workflowEnv, d.triggers())
		h.observed(g, d.Name, j.name)
		if h.Agent != "" && h.AgentServer != "" && slices.Contains(h.Rules, "agent") && h.elsewhere(j.node) == "" {
			g.need("id-token", catalogue.Write, "the agent, which shows by it whose job it watches")
		}
		if len(g.unknown) > 0 {
			severity, said := SeverityWarning, "they get nothing for it"
			if h.Permissive {
				said = "its token stays as it is"
			}
			findings = append(findings, Finding{"permissions", severity, position(j.key), fmt.Sprintf("job %s: nobody knows what %s needs; %s", j.name, strings.Join(g.unknown, ", "), said)})
			if h.Permissive {
				all = false
				continue
			}
		}
		if len(g.dated) > 0 {
			findings = append(findings, Finding{"permissions", SeverityNote, position(j.key), fmt.Sprintf("job %s: what %s needs was read of an old version; look at what today's says", j.name, strings.Join(g.dated, ", "))})
		}
		jobs = append(jobs, granted{j, g})
	}
	if len(jobs) == 0 {
		return nil, findings
	}
	for _, x := range jobs {
		if all && len(x.grant.access) == 0 {
			continue // the top level says it
		}
		fix, finding := d.grantJob(x.job, x.grant)
		if finding != nil {
			all = false
			findings = append(findings, *finding)
			continue
		}
		fixes = append(fixes, *fix)
	}
	if all {
		fix, finding := d.grantNothing()
		if finding != nil {
			return nil, append(findings, *finding)
		}
		fixes = append(fixes, *fix)
	}
	return fixes, findings
}

// environment adds what a mapping of variables says to what is outside of it.
func environment(outside map[string]string, env *yaml.Node) map[string]string {
	out := maps.Clone(outside)
	if out == nil {
		out = make(map[string]string)
	}
	if env = follow(env); env != nil && env.Kind == yaml.MappingNode {
		for i := 0; i+1 < len(env.Content); i += 2 {
			out[env.Content[i].Value] = text(env.Content[i+1])
		}
	}
	return out
}

var (
	tokenExpression = regexp.MustCompile(`(?i)\$\{\{[^}]*\b(?:secrets\s*\.\s*GITHUB_TOKEN|github\s*\.\s*token)\b`)
	gitPush         = regexp.MustCompile(`(?m)(?:^|[;&|(]|\bthen\b|\bdo\b)\s*git\s+(?:-\S+\s+(?:[^-\s]\S*\s+)?)*push\b`)
	// remoteGit are the commands of git that speak to where the repository came from.
	remoteGit = regexp.MustCompile(`(?m)(?:^|[;&|(]|\bthen\b|\bdo\b)\s*git\s+(?:-\S+\s+(?:[^-\s]\S*\s+)?)*(?:push|pull|fetch|clone|submodule|lfs|remote|ls-remote)\b`)
	ghCommand = regexp.MustCompile(`(?m)(?:^|[;&|(!]|\$\(|\bthen\b|\bdo\b|\bif\b|=)\s*gh\s+([a-z-]+)(?:\s+([a-z-]+))?([^\n]*)`)
	comments  = regexp.MustCompile(`(?m)(?:^|\s)#.*$`)
)

// needs works out what the token of a job has to be able to do.
func (h *hardener) needs(j job, workflowEnv map[string]string, triggers map[string]*yaml.Node) *grant {
	g := newGrant(triggers)
	jobEnv := environment(workflowEnv, value(j.node, "env"))
	for _, s := range flat(value(j.node, "steps")) {
		env := environment(jobEnv, value(s, "env"))
		if uses := text(value(s, "uses")); uses != "" {
			h.needsOfAction(g, uses, environment(nil, value(s, "with")), env)
		}
		if run := value(s, "run"); run != nil {
			h.needsOfScript(g, text(run), env)
		}
	}
	return g
}

func (h *hardener) needsOfAction(g *grant, uses string, with, env map[string]string) {
	ref, ok := ParseReference(uses)
	name := ref.Repository + ref.Path
	if !ok {
		holds := slices.ContainsFunc(slices.Collect(maps.Values(with)), tokenExpression.MatchString) ||
			slices.ContainsFunc(slices.Collect(maps.Values(env)), tokenExpression.MatchString)
		if strings.HasPrefix(uses, "docker://") && !holds {
			return // an image has no token unless it is given one
		}
		g.unsure("%s", uses)
		return
	}
	if agent, _ := ParseReference(h.Agent); h.Agent != "" && name == agent.Repository+agent.Path || ref.Repository == hardenRunner {
		return
	}
	needs, known, _ := h.Catalogue.ForStep(catalogue.Step{Uses: uses, With: with, Env: env})
	if !known {
		g.unsure("%s", name)
		return
	}
	for _, n := range append(slices.Clone(needs.Sure), needs.Maybe...) {
		g.need(n.Scope, n.Access, name)
	}
	if script, given := with["script"]; given && needs.Token != catalogue.Out && strings.EqualFold(name, "actions/github-script") {
		h.needsOfJavaScript(g, script)
		return
	}
	if needs.Dated && needs.Token != catalogue.Out {
		g.dated = append(g.dated, name)
	}
	if needs.Unsure != "" && needs.Token != catalogue.Out {
		g.unsure("%s (%s)", name, needs.Unsure)
	}
}

// ghNeeds are what the commands of gh need, by command and subcommand; "" is any other
// subcommand. What is not here is not known.
var ghNeeds = map[string]map[string]map[catalogue.Scope]catalogue.Access{
	"auth":    {"": {}},
	"config":  {"": {}},
	"version": {"": {}},
	"alias":   {"": {}},
	"pr": {
		"view": {"pull-requests": catalogue.Read}, "list": {"pull-requests": catalogue.Read}, "diff": {"pull-requests": catalogue.Read},
		"checks": {"pull-requests": catalogue.Read, "checks": catalogue.Read}, "status": {"pull-requests": catalogue.Read},
		"checkout": {"pull-requests": catalogue.Read, "contents": catalogue.Read}, "comment": {"pull-requests": catalogue.Write},
		"edit": {"pull-requests": catalogue.Write}, "review": {"pull-requests": catalogue.Write}, "close": {"pull-requests": catalogue.Write},
		"reopen": {"pull-requests": catalogue.Write}, "ready": {"pull-requests": catalogue.Write},
		"create": {"pull-requests": catalogue.Write, "contents": catalogue.Read}, "merge": {"pull-requests": catalogue.Write, "contents": catalogue.Write},
	},
	"issue": {
		"view": {"issues": catalogue.Read}, "list": {"issues": catalogue.Read}, "status": {"issues": catalogue.Read}, "": {"issues": catalogue.Write},
	},
	"label": {"list": {"issues": catalogue.Read}, "": {"issues": catalogue.Write}},
	"release": {
		"view": {"contents": catalogue.Read}, "list": {"contents": catalogue.Read}, "download": {"contents": catalogue.Read},
		"create": {"contents": catalogue.Write}, "edit": {"contents": catalogue.Write}, "upload": {"contents": catalogue.Write},
		"delete": {"contents": catalogue.Write}, "delete-asset": {"contents": catalogue.Write},
	},
	"run": {
		"view": {"actions": catalogue.Read}, "list": {"actions": catalogue.Read}, "download": {"actions": catalogue.Read}, "watch": {"actions": catalogue.Read, "checks": catalogue.Read},
		"rerun": {"actions": catalogue.Write}, "cancel": {"actions": catalogue.Write}, "delete": {"actions": catalogue.Write},
	},
	"workflow": {"view": {"actions": catalogue.Read}, "list": {"actions": catalogue.Read}, "": {"actions": catalogue.Write}},
	"cache":    {"list": {"actions": catalogue.Read}, "delete": {"actions": catalogue.Write}},
	"repo":     {"view": {"contents": catalogue.Read}, "clone": {"contents": catalogue.Read}},
}

// needsOfLines reads a script that is none of bash line by line, its comments apart.
func needsOfLines(g *grant, script string, env map[string]string) {
	script = comments.ReplaceAllString(script, "")
	if gitPush.MatchString(script) {
		g.need("contents", catalogue.Write, "git push")
	}
	holds := tokenExpression.MatchString(script)
	for _, v := range env {
		holds = holds || tokenExpression.MatchString(v)
	}
	read := false
	for _, m := range ghCommand.FindAllStringSubmatch(script, -1) {
		read = true
		if holds {
			ghCommandNeeds(g, m[1], m[2])
		}
	}
	if holds && !read {
		g.unsure("a script that has the token")
	}
}

// grantJob is the fix that gives a job a block of permissions.
func (d *Document) grantJob(j job, g *grant) (*Fix, *Finding) {
	leave := func() (*Fix, *Finding) {
		return nil, &Finding{"permissions", SeverityWarning, position(j.key), fmt.Sprintf("job %s is written in a way that is not edited: say by hand what its token may do", j.name)}
	}
	if j.node.Style&yaml.FlowStyle != 0 || len(j.node.Content) == 0 {
		return leave()
	}
	first := j.node.Content[0]
	at, ok := d.offset(first.Line, first.Column)
	name, ok2 := d.offset(j.key.Line, j.key.Column)
	if !ok || !ok2 || j.key.Line >= first.Line {
		return leave()
	}
	begin, _, _ := d.lineOf(at)
	nameBegin, _, _ := d.lineOf(name)
	indent, outer := string(d.Text[begin:at]), string(d.Text[nameBegin:name])
	if strings.TrimSpace(indent) != "" || strings.TrimSpace(outer) != "" || !strings.HasPrefix(indent, outer) || indent == outer {
		return leave()
	}
	step := indent[len(outer):]
	// Behind runs-on, where people look for it; else before the steps.
	insert := -1
	if key, on := field(j.node, "runs-on"); on != nil && d.oneLine(key, on) {
		k, ok := d.offset(key.Line, key.Column)
		if !ok {
			return leave()
		}
		_, _, insert = d.lineOf(k)
	} else if key, steps := field(j.node, "steps"); steps != nil {
		k, ok := d.offset(key.Line, key.Column)
		if !ok {
			return leave()
		}
		b, _, _ := d.lineOf(k)
		insert = d.aboveComments(b, indent)
	}
	if insert < 0 {
		return leave()
	}
	scopes := slices.Sorted(maps.Keys(g.access))
	lines := []string{indent + "permissions: {}"}
	granted := &yaml.Node{Kind: yaml.MappingNode, Tag: "!!map"}
	var why []string
	if len(scopes) > 0 {
		lines[0] = indent + "permissions:"
		for _, s := range scopes {
			access := "read"
			if g.access[s] == catalogue.Write {
				access = "write"
			}
			lines = append(lines, indent+step+string(s)+": "+access)
			granted.Content = append(granted.Content, scalarNode(string(s)), scalarNode(access))
			why = append(why, fmt.Sprintf("%s: %s for %s", s, access, strings.Join(g.by[s], ", ")))
		}
	} else {
		why = []string{"nothing that is known needs any"}
	}
	if g.settled != "" {
		why = append(why, g.settled)
	}
	return &Fix{
		Rule: "permissions", At: position(j.key), edits: []Edit{d.insertLines(insert, lines)},
		Reason: fmt.Sprintf("job %s: its token may do what it needs and no more (%s)", j.name, strings.Join(why, "; ")),
		mutate: func() { j.node.Content = append(j.node.Content, scalarNode("permissions"), granted) },
	}, nil
}

func scalarNode(s string) *yaml.Node {
	return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: s}
}

// oneLine says whether a field's value ends on the line of its key.
func (d *Document) oneLine(key, v *yaml.Node) bool {
	if v.Kind == yaml.AliasNode {
		return v.Line == key.Line
	}
	last := v
	for len(last.Content) > 0 {
		last = last.Content[len(last.Content)-1]
	}
	if v.Line != key.Line || last.Line != key.Line || v.Kind != yaml.ScalarNode && v.Style&yaml.FlowStyle == 0 {
		return false
	}
	begin, ok := d.offset(last.Line, last.Column)
	if !ok {
		return false
	}
	_, end, _ := d.lineOf(begin)
	if v.Kind == yaml.ScalarNode {
		_, _, ok := d.scalar(v)
		return ok
	}
	closing := byte(']')
	if v.Kind == yaml.MappingNode {
		closing = '}'
	}
	return bytes.IndexByte(d.Text[begin:end], closing) >= 0
}

// grantNothing is the fix that says at the top that a token may do nothing unless a job says so.
func (d *Document) grantNothing() (*Fix, *Finding) {
	key, _ := field(d.Root, "jobs")
	leave := &Finding{"permissions", SeverityWarning, position(d.Root), "the workflow is written in a way that is not edited: say permissions: {} by hand"}
	if key == nil || d.Root.Style&yaml.FlowStyle != 0 {
		return nil, leave
	}
	at, ok := d.offset(key.Line, key.Column)
	if !ok {
		return nil, leave
	}
	begin, _, _ := d.lineOf(at)
	if begin != at {
		return nil, leave
	}
	insert := d.aboveComments(begin, "")
	lines := []string{"permissions: {}"}
	if insert > 0 { // as other parts of the file stand apart
		b, e, _ := d.lineOf(insert - 1)
		if len(bytes.TrimSpace(d.Text[b:e])) == 0 {
			lines = append(lines, "")
		}
	}
	return &Fix{
		Rule: "permissions", At: position(key), edits: []Edit{d.insertLines(insert, lines)},
		Reason: "a token may do nothing unless its job says so",
		mutate: func() {
			d.Root.Content = append(d.Root.Content, scalarNode("permissions"), &yaml.Node{Kind: yaml.MappingNode, Tag: "!!map"})
		},
	}, nil
}
