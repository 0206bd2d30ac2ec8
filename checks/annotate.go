package checks

import (
	"fmt"
	"path"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/sallyport-ci/sallyport/github"
	sallyportv1 "github.com/sallyport-ci/sallyport/proto/sallyport/v1"
	"github.com/sallyport-ci/sallyport/report/terminal"
)

// lineOf finds the step of a job in the text of a workflow, or else the job; 0 if it has neither.
// step is the runner's name for it: its id, or the one that the runner makes of what it does.
func lineOf(text []byte, job, step string) int {
	var doc yaml.Node
	if yaml.Unmarshal(text, &doc) != nil || len(doc.Content) == 0 {
		return 0
	}
	key, of := child(valueOf(doc.Content[0], "jobs"), job)
	if of == nil {
		return 0
	}
	line := key.Line
	steps := valueOf(of, "steps")
	if step == "" || steps == nil || steps.Kind != yaml.SequenceNode {
		return line
	}
	// act counts them.
	if n, err := strconv.Atoi(step); err == nil && n >= 0 && n < len(steps.Content) {
		return follow(steps.Content[n]).Line
	}
	taken := make(map[string]bool)
	for _, s := range steps.Content {
		s = follow(s)
		name := scalar(valueOf(s, "id"))
		if name == "" {
			name = runnersName(s, taken)
		}
		taken[name] = true
		if name == step {
			return s.Line
		}
	}
	return line
}

// runnersName is what GitHub's runner calls a step without an id: __run, __actions_checkout and
// so on, with a number from the second on (GitHub's documentation of GITHUB_ACTION).
func runnersName(step *yaml.Node, taken map[string]bool) string {
	name := "run"
	if uses := scalar(valueOf(step, "uses")); uses != "" {
		uses, _, _ = strings.Cut(uses, "@")
		if strings.HasPrefix(uses, "./") || strings.HasPrefix(uses, "docker://") {
			uses = "self"
			if strings.HasPrefix(scalar(valueOf(step, "uses")), "docker://") {
				uses = strings.TrimPrefix(scalar(valueOf(step, "uses")), "docker://")
			}
		}
		name = strings.Map(func(r rune) rune {
			if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '_' || r == '-' {
				return r
			}
			return '_'
		}, uses)
	}
	base := "__" + name
	for n, try := 2, base; ; n++ {
		if !taken[try] {
			return try
		}
		try = fmt.Sprintf("%s_%d", base, n)
	}
}

// valueOf is the value of a key.
func valueOf(n *yaml.Node, name string) *yaml.Node {
	_, v := child(n, name)
	return v
}

func child(n *yaml.Node, name string) (key, value *yaml.Node) {
	if n = follow(n); n == nil || n.Kind != yaml.MappingNode {
		return nil, nil
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == name {
			return n.Content[i], follow(n.Content[i+1])
		}
	}
	return nil, nil
}

func follow(n *yaml.Node) *yaml.Node {
	if n != nil && n.Kind == yaml.AliasNode {
		return n.Alias
	}
	return n
}

func scalar(n *yaml.Node) string {
	if n == nil || n.Kind != yaml.ScalarNode {
		return ""
	}
	return n.Value
}

// annotation is the remark about a finding; false if its place is not in the workflow's file.
func annotation(f *sallyportv1.Finding, file string, text []byte) (github.Annotation, bool) {
	a := f.GetAttribution()
	line := lineOf(text, a.GetJob(), a.GetStep())
	if line == 0 {
		return github.Annotation{}, false
	}
	level := "warning"
	if threat(f) {
		level = "failure"
	}
	program := ""
	if len(f.GetAncestry()) > 0 {
		program = " Process: " + path.Base(f.GetAncestry()[0].GetExecutable()) + "."
	}
	clean := func(s string, n int) string {
		s = terminal.Escape(s)
		if r := []rune(s); len(r) > n {
			s = string(r[:n-1]) + "…"
		}
		return s
	}
	return github.Annotation{
		Path: file, From: line, To: line, Level: level, Title: clean(f.GetPolicy().GetTitle(), 200),
		Message: clean(f.GetMessage()+"."+program+" "+f.GetPolicy().GetRemediation(), 2000),
	}, true
}
