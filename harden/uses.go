package harden

import (
	"path"
	"path/filepath"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// Kind is what a file is to GitHub.
type Kind int

// Kinds of files.
const (
	// KindOther is a file that nothing is done about.
	KindOther Kind = iota
	// KindWorkflow is .github/workflows/*.yml.
	KindWorkflow
	// KindAction is action.yml: a composite action, or one of an image.
	KindAction
	// KindDockerfile has FROM lines.
	KindDockerfile
	// KindDependabot is .github/dependabot.yml.
	KindDependabot
)

// KindOf says what a file is by its path.
func KindOf(name string) Kind {
	name = filepath.ToSlash(name)
	base := path.Base(name)
	yml := slices.Contains([]string{".yml", ".yaml"}, path.Ext(base))
	switch dir := path.Dir(name); {
	case yml && (dir == ".github/workflows" || strings.HasSuffix(dir, "/.github/workflows")):
		return KindWorkflow
	case base == "action.yml" || base == "action.yaml":
		return KindAction
	case base == "dependabot.yml" && (dir == ".github" || strings.HasSuffix(dir, "/.github")):
		return KindDependabot
	case base == "Dockerfile" || base == "Containerfile" || strings.HasPrefix(base, "Dockerfile.") || strings.HasSuffix(base, ".Dockerfile"):
		return KindDockerfile
	}
	return KindOther
}

// job is a job of a workflow.
type job struct {
	name  string
	key   *yaml.Node
	node  *yaml.Node // its mapping, aliases followed
	alias bool       // it is another's
}

// jobs returns the jobs of a workflow in their order.
func (d *Document) jobs() []job {
	all := value(d.Root, "jobs")
	if all == nil || all.Kind != yaml.MappingNode {
		return nil
	}
	var out []job
	for i := 0; i+1 < len(all.Content); i += 2 {
		n := all.Content[i+1]
		out = append(out, job{all.Content[i].Value, all.Content[i], follow(n), n.Kind == yaml.AliasNode})
	}
	return out
}

// use is a place where something of somebody else's is named.
type use struct {
	node  *yaml.Node
	image bool // a container's image, not an action
	job   string
}

// uses returns the places of a workflow or an action, each once.
func (d *Document) uses(kind Kind) []use {
	var out []use
	seen := make(map[*yaml.Node]bool)
	add := func(n *yaml.Node, image bool, job string) {
		if n = follow(n); n != nil && n.Kind == yaml.ScalarNode && n.Value != "" && !seen[n] {
			seen[n] = true
			out = append(out, use{n, image, job})
		}
	}
	steps := func(n *yaml.Node, job string) {
		for _, s := range flat(n) {
			add(value(s, "uses"), false, job)
		}
	}
	if kind == KindAction {
		runs := value(d.Root, "runs")
		steps(value(runs, "steps"), "")
		if image := value(runs, "image"); strings.HasPrefix(text(image), "docker://") {
			add(image, false, "")
		}
		return out
	}
	for _, j := range d.jobs() {
		add(value(j.node, "uses"), false, j.name)
		steps(value(j.node, "steps"), j.name)
		container := value(j.node, "container")
		if container != nil && container.Kind == yaml.ScalarNode {
			add(container, true, j.name)
		}
		add(value(container, "image"), true, j.name)
		if services := value(j.node, "services"); services != nil && services.Kind == yaml.MappingNode {
			for i := 1; i < len(services.Content); i += 2 {
				add(value(services.Content[i], "image"), true, j.name)
			}
		}
	}
	return out
}

// maxNested bounds how deep steps stand in steps.
const maxNested = 10

// flat are the steps of a sequence in their order, those that run side by side (parallel) too,
// aliases followed.
func flat(steps *yaml.Node) []*yaml.Node {
	var out []*yaml.Node
	var walk func(n *yaml.Node, depth int)
	walk = func(n *yaml.Node, depth int) {
		n = follow(n)
		if n == nil || n.Kind != yaml.SequenceNode || depth > maxNested {
			return
		}
		for _, s := range n.Content {
			if s = follow(s); s == nil {
				continue
			}
			out = append(out, s)
			for _, nested := range []string{"parallel", "steps"} {
				walk(value(s, nested), depth+1)
			}
		}
	}
	walk(steps, 0)
	return out
}

// inFlow says whether a node stands in a flow collection of the tree.
func inFlow(root, n *yaml.Node) bool {
	if root == nil || root == n {
		return false
	}
	for _, c := range root.Content {
		if c == n {
			return root.Style&yaml.FlowStyle != 0
		}
		if c.Kind != yaml.AliasNode && contains(c, n) {
			return root.Style&yaml.FlowStyle != 0 || inFlow(c, n)
		}
	}
	return false
}

func contains(root, n *yaml.Node) bool {
	if root == n {
		return true
	}
	if root.Kind == yaml.AliasNode {
		return false
	}
	return slices.ContainsFunc(root.Content, func(c *yaml.Node) bool { return contains(c, n) })
}
