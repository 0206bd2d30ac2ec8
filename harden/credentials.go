package harden

import (
	"bytes"
	"fmt"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/sallyport-ci/sallyport/harden/catalogue"
)

// credentials takes the token out of .git/config where no later step of the job needs it: by
// persist-credentials: false at the checkout. Where one may, that is said.
func (h *hardener) credentials(d *Document) (fixes []Fix, findings []Finding) {
	seen := make(map[*yaml.Node]bool)
	for _, j := range d.jobs() {
		steps := value(j.node, "steps")
		if j.alias || steps == nil || steps.Kind != yaml.SequenceNode || seen[steps] {
			continue
		}
		seen[steps] = true
		all := flat(steps)
		for i, s := range all {
			if slices.Contains(all[:i], s) {
				continue // an alias of what was looked at
			}
			later := all[i+1:]
			if !slices.ContainsFunc(steps.Content, func(top *yaml.Node) bool { return follow(top) == s }) {
				later = all // what runs beside it may come after it
			} else if !slices.Contains(steps.Content, s) {
				continue // an alias
			}
			uses := value(s, "uses")
			ref, ok := ParseReference(text(uses))
			if !ok || ref.Repository != "actions/checkout" {
				continue
			}
			if _, said := field(value(s, "with"), "persist-credentials"); said != nil {
				if text(said) != "false" {
					findings = append(findings, Finding{"persisted-credentials", SeverityNote, position(said), "the token stays in .git/config, where every later step can read it"})
				}
				continue
			}
			leave := func(why string) {
				findings = append(findings, Finding{"persisted-credentials", SeverityNote, position(uses), fmt.Sprintf("the token stays in .git/config, where every later step can read it; persist-credentials: false takes it away, but %s", why)})
			}
			if why := h.needsCredentials(later); why != "" {
				leave(why)
				continue
			}
			fix := d.forgetCredentials(s, uses)
			if fix == nil {
				leave("the step is written in a way that is not edited")
				continue
			}
			fixes = append(fixes, *fix)
		}
	}
	return fixes, findings
}

// needsCredentials says which of the steps may need what a checkout leaves behind; empty if none
// does.
func (h *hardener) needsCredentials(steps []*yaml.Node) string {
	for _, s := range steps {
		script := comments.ReplaceAllString(text(value(s, "run")), "")
		if m := remoteGit.FindString(script); m != "" {
			return "a later step runs " + strings.Join(strings.Fields(strings.TrimLeft(m, ";&|( \n")), " ")
		}
		uses := text(value(s, "uses"))
		if uses == "" || strings.HasPrefix(uses, "docker://") {
			continue
		}
		ref, ok := ParseReference(uses)
		if !ok {
			return "nobody knows what " + uses + " needs"
		}
		if agent, _ := ParseReference(h.Agent); h.Agent != "" && ref.Repository+ref.Path == agent.Repository+agent.Path || ref.Repository == "actions/checkout" || ref.Repository == hardenRunner {
			continue
		}
		needs, known, _ := h.Catalogue.ForStep(catalogue.Step{Uses: uses, With: environment(nil, value(s, "with"))})
		switch {
		case !known:
			return "nobody knows what " + ref.Repository + ref.Path + " needs"
		case slices.ContainsFunc(append(slices.Clone(needs.Sure), needs.Maybe...), func(n catalogue.Need) bool { return n.Scope == "contents" && n.Access == catalogue.Write }):
			return ref.Repository + ref.Path + " writes to the repository"
		case needs.Unsure != "":
			return ref.Repository + ref.Path + ": " + needs.Unsure
		}
	}
	return ""
}

// forgetCredentials is the fix at one step; nil if it is written in a way that is not edited.
func (d *Document) forgetCredentials(s, uses *yaml.Node) *Fix {
	const name, said = "persist-credentials", "false"
	fix := &Fix{
		Rule: "credentials", At: position(uses), Reason: "no later step needs the token that the checkout would leave in .git/config",
	}
	no := &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!bool", Value: said}
	key, with := field(s, "with")
	if with == nil {
		if s.Style&yaml.FlowStyle != 0 {
			return nil
		}
		usesKey, _ := field(s, "uses")
		at, ok := d.offset(usesKey.Line, usesKey.Column)
		if _, _, editable := d.scalar(uses); !ok || !editable || uses.Line != usesKey.Line {
			return nil
		}
		begin, _, next := d.lineOf(at)
		indent := blank(d.Text[begin:at])
		fix.edits = []Edit{d.insertLines(next, []string{indent + "with:", indent + "  " + name + ": " + said})}
		fix.mutate = func() {
			s.Content = append(s.Content, scalarNode("with"), &yaml.Node{Kind: yaml.MappingNode, Tag: "!!map", Content: []*yaml.Node{scalarNode(name), no}})
		}
		return fix
	}
	fix.mutate = func() { with.Content = append(with.Content, scalarNode(name), no) }
	if with.Kind != yaml.MappingNode || len(with.Content) == 0 {
		return nil
	}
	first := with.Content[0]
	at, ok := d.offset(first.Line, first.Column)
	if !ok {
		return nil
	}
	if with.Style&yaml.FlowStyle != 0 {
		begin, ok := d.offset(with.Line, with.Column)
		if !ok || begin >= len(d.Text) || d.Text[begin] != '{' || with.Line != first.Line {
			return nil
		}
		fix.edits = []Edit{{at, at, nil, []byte(name + ": " + said + ", ")}}
		return fix
	}
	begin, _, _ := d.lineOf(at)
	if first.Line <= key.Line || len(bytes.TrimSpace(d.Text[begin:at])) > 0 {
		return nil
	}
	indent := string(d.Text[begin:at])
	fix.edits = []Edit{d.insertLines(d.aboveComments(begin, indent), []string{indent + name + ": " + said})}
	return fix
}

// blank is as much white space as a text takes: the dash of an item becomes a space.
func blank(before []byte) string {
	return strings.Map(func(r rune) rune {
		if r == '\t' {
			return r
		}
		return ' '
	}, string(before))
}
