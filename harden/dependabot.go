package harden

import (
	"strings"

	"go.yaml.in/yaml/v3"
)

// newDependabot is the file where there is none.
const newDependabot = `version: 2
updates:
  - package-ecosystem: github-actions
    directory: /
    schedule:
      interval: weekly
`

// dependabot lets Dependabot keep the pins up to date.
func (h *hardener) dependabot(d *Document) (fixes []Fix, findings []Finding) {
	leave := func(n *yaml.Node) ([]Fix, []Finding) {
		at := Position{1, 1}
		if n != nil {
			at = position(n)
		}
		return nil, []Finding{{"dependabot", SeverityWarning, at, "it has no updates for github-actions, and is written in a way that is not edited"}}
	}
	updates := value(d.Root, "updates")
	if updates == nil || updates.Kind != yaml.SequenceNode || len(updates.Content) == 0 || updates.Style&yaml.FlowStyle != 0 {
		return leave(updates)
	}
	for _, u := range updates.Content {
		if text(value(u, "package-ecosystem")) == "github-actions" {
			return nil, nil
		}
	}
	first := updates.Content[0]
	indent, ok := d.dashIndent(first)
	if !ok || updates.Anchor != "" {
		return leave(updates)
	}
	at, ok := d.offset(first.Line, first.Column)
	if !ok {
		return leave(updates)
	}
	begin, _, _ := d.lineOf(at)
	var lines []string
	for _, l := range []string{"- package-ecosystem: github-actions", "  directory: /", "  schedule:", "    interval: weekly"} {
		lines = append(lines, indent+l)
	}
	scalar := func(s string) *yaml.Node { return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: s} }
	made := &yaml.Node{Kind: yaml.MappingNode, Tag: "!!map", Content: []*yaml.Node{
		scalar("package-ecosystem"), scalar("github-actions"), scalar("directory"), scalar("/"), scalar("schedule"),
		{Kind: yaml.MappingNode, Tag: "!!map", Content: []*yaml.Node{scalar("interval"), scalar("weekly")}},
	}}
	return []Fix{{
		Rule: "dependabot", At: position(updates), Reason: "pins are kept up to date by pull requests", edits: []Edit{d.insertLines(d.aboveComments(begin, indent), lines)},
		mutate: func() { updates.Content = append([]*yaml.Node{made}, updates.Content...) },
	}}, nil
}

// aboveComments returns where the comment lines begin that stand directly above a line with
// the same indentation, or the line itself.
func (d *Document) aboveComments(begin int, indent string) int {
	for begin > 0 {
		above, end, _ := d.lineOf(begin - 1)
		if above == begin || !strings.HasPrefix(string(d.Text[above:end]), indent+"#") {
			break
		}
		begin = above
	}
	return begin
}
