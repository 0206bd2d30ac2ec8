package harden

import (
	"context"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// untrusted are the expressions whose value somebody else can choose by opening an issue, a
// pull request or a discussion, by a branch's name or by a commit.
var untrusted = regexp.MustCompile(`(?i)\bgithub\s*\.\s*(?:head_ref|event\s*\.\s*(?:` +
	`issue\s*\.\s*(?:title|body)|pull_request\s*\.\s*(?:title|body|head\s*\.\s*(?:ref|label|repo\s*\.\s*default_branch))|` +
	`comment\s*\.\s*body|review\s*\.\s*body|review_comment\s*\.\s*body|discussion\s*\.\s*(?:title|body)|` +
	`pages\s*(?:\.\s*\*|\[[^]]*\])\s*\.\s*page_name|head_commit\s*\.\s*(?:message|author\s*\.\s*(?:email|name))|` +
	`commits\s*(?:\.\s*\*|\[[^]]*\])\s*\.\s*(?:message|author\s*\.\s*(?:email|name))|` +
	`workflow_run\s*\.\s*(?:head_branch|head_commit\s*\.\s*message|display_title|pull_requests)|` +
	`release\s*\.\s*(?:name|body|tag_name)|milestone\s*\.\s*(?:title|description)|inputs\b))`)

// inputs are expressions that whoever may start the workflow, or who calls it, chooses.
var inputs = regexp.MustCompile(`(?i)\b(?:github\s*\.\s*event\s*\.\s*)?inputs\s*[.\[]`)

var expression = regexp.MustCompile(`(?s)\$\{\{(.*?)\}\}`)

// scripts are inputs of actions that are run as code.
var scripts = map[string]string{"actions/github-script": "script", "azure/cli": "inlineScript", "azure/powershell": "inlineScript", "jannekem/run-python-script-action": "script"}

// download run at once: a program that fetches, piped into an interpreter.
var download = regexp.MustCompile(`(?m)\b(?:curl|wget)\b[^|;&\n]*\|\s*(?:sudo\s+(?:-\S+\s+)*)?(?:env\s+)?(?:/(?:usr/)?bin/)?(ba|z|da|k)?sh\b|\b(?:ba|z|da|k)?sh\s+(?:-\S+\s+)*<\(\s*(?:curl|wget)\b|\b(?:ba|z|da|k)?sh\s+-c\s+["']?\$\((?:curl|wget)\b|\b(?:curl|wget)\b[^|;&\n]*\|\s*(?:sudo\s+)?(?:python3?|node|perl|ruby)\b(?:\s+-)?\s*$`)

// events that run with the repository's secrets on what a stranger did.
var dangerous = []string{"pull_request_target", "workflow_run", "issue_comment"}

// audit finds what a person should change: there is no fix that is safe without knowing what
// the workflow is for.
func (h *hardener) audit(ctx context.Context, d *Document, kind Kind) (findings []Finding) {
	add := func(rule string, s Severity, n *yaml.Node, format string, args ...any) {
		findings = append(findings, Finding{rule, s, position(n), fmt.Sprintf(format, args...)})
	}
	if kind == KindAction {
		h.auditSteps(value(value(d.Root, "runs"), "steps"), nil, add)
		return findings
	}
	triggers := d.triggers()
	auditPermissions(d, add)
	for _, event := range []string{"pull_request_target", "issue_comment"} {
		if n := triggers[event]; n != nil {
			add("dangerous-trigger", SeverityNote, n, "%s starts it on what a stranger did, with this repository's secrets and token: nothing of what they wrote may be run or trusted", event)
		}
	}
	if n := triggers["workflow_run"]; n != nil && (value(n, "branches") == nil && value(n, "branches-ignore") == nil) {
		add("workflow-run", SeverityNote, n, "it runs after other workflows on any branch, with this repository's secrets: what those hand over (files, caches, outputs) may be a stranger's")
	}
	for _, j := range d.jobs() {
		if j.alias {
			continue
		}
		if key, v := field(j.node, "secrets"); v != nil && text(v) == "inherit" {
			add("secrets-inherit", SeverityWarning, key, "job %s hands all secrets to the workflow that it calls; name those that it needs", j.name)
		}
		h.auditSteps(value(j.node, "steps"), triggers, add)
		h.auditRunner(ctx, j, triggers, add)
	}
	auditSecrets(d.Root, add)
	return findings
}

type adder func(rule string, s Severity, n *yaml.Node, format string, args ...any)

// triggers are the events that start the workflow, with what is said of each.
func (d *Document) triggers() map[string]*yaml.Node {
	out := make(map[string]*yaml.Node)
	on := value(d.Root, "on")
	if on == nil { // YAML 1.1 reads on as a truth value in some parsers; this one keeps the word
		return out
	}
	switch on.Kind {
	case yaml.ScalarNode:
		out[on.Value] = on
	case yaml.SequenceNode:
		for _, n := range on.Content {
			out[text(n)] = n
		}
	case yaml.MappingNode:
		for i := 0; i+1 < len(on.Content); i += 2 {
			n := follow(on.Content[i+1])
			if n == nil || n.Kind != yaml.MappingNode {
				n = on.Content[i]
			}
			out[on.Content[i].Value] = n
		}
	default:
	}
	return out
}

// auditPermissions looks at what GITHUB_TOKEN may do.
func auditPermissions(d *Document, add adder) {
	top := value(d.Root, "permissions")
	if key, v := field(d.Root, "permissions"); text(v) == "write-all" {
		add("excessive-permissions", SeverityWarning, key, "every job's token may write everything")
	}
	if top != nil && top.Kind == yaml.MappingNode {
		for i := 0; i+1 < len(top.Content); i += 2 {
			if text(top.Content[i+1]) == "write" && len(d.jobs()) > 1 {
				add("excessive-permissions", SeverityWarning, top.Content[i], "the token of every job may write %s; grant it to the jobs that need it", top.Content[i].Value)
			}
		}
	}
	var without []string
	var first *yaml.Node
	for _, j := range d.jobs() {
		key, v := field(j.node, "permissions")
		switch {
		case text(v) == "write-all":
			add("excessive-permissions", SeverityWarning, key, "job %s: its token may write everything", j.name)
		case v == nil && top == nil && value(j.node, "uses") == nil:
			if first == nil {
				first = j.key
			}
			without = append(without, j.name)
		}
	}
	if first != nil {
		add("excessive-permissions", SeverityWarning, first, "nobody says what the token of %s may do: it may do what the repository's settings allow, perhaps write everything; say permissions: {} at the top and grant each job what it needs", strings.Join(without, ", "))
	}
}

func (h *hardener) auditSteps(steps *yaml.Node, triggers map[string]*yaml.Node, add adder) {
	untrustedCode := false
	for _, s := range flat(steps) {
		if h.audited[s] {
			continue // an alias of what was looked at
		}
		h.audited[s] = true
		ref, isAction := ParseReference(text(value(s, "uses")))
		if key, run := field(s, "run"); run != nil {
			if !h.handed[s] {
				auditScript(key, text(run), "a shell", add)
			}
			if download.MatchString(text(run)) {
				add("download-and-run", SeverityWarning, key, "what is downloaded is run at once, whatever it is today: fetch it at a digest, and check it")
			}
		}
		if !isAction {
			continue
		}
		with := value(s, "with")
		if input := scripts[strings.ToLower(ref.Repository)]; input != "" {
			if key, code := field(with, input); code != nil {
				auditScript(key, text(code), ref.Repository, add)
			}
		}
		if ref.Repository != "actions/checkout" {
			continue
		}
		uses := value(s, "uses")
		for _, event := range dangerous {
			if triggers[event] == nil {
				continue
			}
			from := text(value(with, "ref")) + " " + text(value(with, "repository"))
			if strangers.MatchString(from) && !untrustedCode {
				untrustedCode = true
				add("untrusted-checkout", SeverityError, uses, "a stranger's code is checked out in a workflow that %s starts, with this repository's secrets: whatever runs of it (a build, a test, an install script) has them", event)
			}
		}
	}
}

// strangers are references to the code of whoever opened a pull request.
var strangers = regexp.MustCompile(`(?i)github\s*\.\s*(?:head_ref|event\s*\.\s*(?:pull_request\s*\.\s*(?:head|number|merge_commit_sha)|number|issue\s*\.\s*number|workflow_run\s*\.\s*(?:head_|pull_requests)|client_payload))|refs/pull/`)

func auditScript(at *yaml.Node, script, where string, add adder) {
	var said []string
	for _, m := range expression.FindAllStringSubmatch(script, -1) {
		inside := strings.TrimSpace(m[1])
		if slices.Contains(said, inside) {
			continue
		}
		switch {
		case untrusted.MatchString(inside) && !inputs.MatchString(inside):
			said = append(said, inside)
			add("template-injection", SeverityError, at, "${{ %s }} is put into the text of %s, which runs it: whoever chooses it runs code here; hand it over in env and use it quoted", inside, where)
		case inputs.MatchString(inside):
			said = append(said, inside)
			add("template-injection", SeverityNote, at, "${{ %s }} is put into the text of %s, which runs it: whoever may start or call the workflow runs code here; hand it over in env and use it quoted", inside, where)
		}
	}
}

func (h *hardener) auditRunner(ctx context.Context, j job, triggers map[string]*yaml.Node, add adder) {
	on := value(j.node, "runs-on")
	own := text(on) == "self-hosted"
	if on != nil && on.Kind == yaml.SequenceNode {
		for _, n := range on.Content {
			own = own || text(n) == "self-hosted"
		}
	}
	if !own || triggers["pull_request"] == nil && triggers["pull_request_target"] == nil {
		return
	}
	severity, where := SeverityWarning, "in a public repository anybody's code runs there"
	if from, ok := h.Resolver.(Reputable); ok && h.Repository != "" {
		if about, err := from.About(ctx, h.Repository); err == nil && about.Private {
			severity, where = SeverityNote, "the repository is not public: the code of all who may read it runs there"
		} else if err == nil {
			severity, where = SeverityError, "the repository is public: anybody's code runs there"
		}
	}
	add("self-hosted", severity, on, "job %s runs pull requests on a machine of your own: %s, and what it leaves behind is there for the next job", j.name, where)
}

// auditSecrets looks for all secrets at once in any text.
func auditSecrets(n *yaml.Node, add adder) {
	if n == nil || n.Kind == yaml.AliasNode {
		return
	}
	if n.Kind == yaml.ScalarNode {
		for _, m := range expression.FindAllStringSubmatch(n.Value, -1) {
			if allSecrets.MatchString(m[1]) {
				add("all-secrets", SeverityWarning, n, "all secrets of the repository are given to the job, also those that it does not need; name them")
				return
			}
		}
	}
	for _, c := range n.Content {
		auditSecrets(c, add)
	}
}

var allSecrets = regexp.MustCompile(`(?i)\btoJSON\s*\(\s*secrets\s*\)|\bsecrets\s*\[\s*[^'"\s\]]`)
