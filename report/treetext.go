package report

import (
	"fmt"
	"strings"

	"github.com/sallyport-ci/sallyport/report/terminal"
)

// tree draws the processes. Children that look the same are drawn once with their
// number; what is too deep or too long is counted instead.
func (p *page) tree(roots []*Node) {
	p.title("Processes")
	if len(roots) == 0 {
		p.line("  none were seen")
		return
	}
	left := p.treeLines
	skipped := p.nodes(roots, "  ", 0, &left)
	if skipped > 0 {
		p.line(p.palette.Dim(fmt.Sprintf("  … %s not shown (--json has them)", terminal.Counted(skipped, "process", "processes"))))
	}
}

// nodes draws brothers and what is below them, and returns how many it left out.
func (p *page) nodes(brothers []*Node, indent string, depth int, left *int) (skipped int) {
	type group struct {
		first *Node
		count int
	}
	var groups []group
	at := make(map[string]int)
	for _, n := range brothers {
		look := appearance(n, depth)
		if i, ok := at[look]; ok {
			groups[i].count++
			continue
		}
		at[look] = len(groups)
		groups = append(groups, group{n, 1})
	}
	for i, g := range groups {
		if *left <= 0 || depth > maxDepth {
			for _, h := range groups[i:] {
				skipped += h.count * size(h.first)
			}
			return skipped
		}
		*left--
		branch, below := "├─ ", "│  "
		if i == len(groups)-1 {
			branch, below = "└─ ", "   "
		}
		if depth == 0 {
			branch, below = "", "  "
		}
		p.node(g.first, g.count, indent+branch)
		skipped += g.count * p.nodes(g.first.Children, indent+below, depth+1, left)
	}
	return skipped
}

func (p *page) node(n *Node, count int, indent string) {
	var notes []string
	if count > 1 {
		notes = append(notes, fmt.Sprintf("×%d", count))
	}
	switch {
	case n.Signal != 0:
		notes = append(notes, fmt.Sprintf("signal %d", n.Signal))
	case n.ExitCode != nil && *n.ExitCode != 0:
		notes = append(notes, fmt.Sprintf("exit %d", *n.ExitCode))
	case n.ExitCode == nil && len(n.Children) == 0:
		notes = append(notes, "still running")
	}
	if n.Connections > 0 {
		notes = append(notes, terminal.Counted(n.Connections, "connection", "connections"))
	}
	note := ""
	if len(notes) > 0 {
		note = "  " + strings.Join(notes, ", ")
	}
	room := max(8, p.width-terminal.Cells(indent)-terminal.Cells(note))
	p.line(p.palette.Dim(indent) + terminal.Shorten(terminal.Escape(commandOf(n)), room) + p.palette.Yellow(note))
}

// appearance is the same for processes that the tree would draw alike. Below the
// deepest level that is drawn, nothing matters.
func appearance(n *Node, depth int) string {
	var b strings.Builder
	code := uint32(0)
	if n.ExitCode != nil {
		code = *n.ExitCode + 1
	}
	fmt.Fprintf(&b, "%q %d %d %d(", commandOf(n), code, n.Signal, n.Connections)
	if depth <= maxDepth {
		for _, c := range n.Children {
			b.WriteString(appearance(c, depth+1))
		}
	}
	b.WriteString(")")
	return b.String()
}

// size counts a process and all below it.
func size(n *Node) int {
	total := 0
	for todo := []*Node{n}; len(todo) > 0; {
		n := todo[len(todo)-1]
		todo = append(todo[:len(todo)-1], n.Children...)
		total++
	}
	return total
}
