package report

import (
	"cmp"
	"slices"
	"strings"
)

// tree links processes into trees and counts processes and programs. A process that
// exec'd appears as the program it became: what it was for a moment between fork and
// exec is left out, unless it did something itself or was a program of its own.
func tree(processes map[uint64]*Node) (roots []*Node, count, programs int) {
	nodes := make(map[uint64]*Node, len(processes))
	for id, n := range processes {
		c := *n
		c.Children = nil
		nodes[id] = &c
		if n.exec {
			programs++
		}
	}
	// Fold "fork, then exec" into one node.
	roots = []*Node{} // a list in JSON, also when empty
	folded := make(map[uint64]uint64)
	for id, n := range nodes {
		if p := nodes[n.parent]; p != nil && n.exec && p.PID == n.PID && !p.exec && p.Connections == 0 && p != n {
			folded[p.id] = id
		}
	}
	pids := make(map[uint32]bool)
	for id, n := range nodes {
		pids[n.PID] = true
		if _, gone := folded[id]; gone {
			continue
		}
		parent := n.parent
		for steps := 0; steps < len(nodes); steps++ {
			p := nodes[parent]
			if p == nil {
				break
			}
			into, gone := folded[parent]
			if !gone {
				break
			}
			if into == id { // what it was before: take that one's parent
				parent = p.parent
			} else { // a child of what became another program
				parent = into
			}
		}
		if p := nodes[parent]; p != nil && p != n {
			p.Children = append(p.Children, n)
			n.parent = parent
		} else {
			n.parent = 0
			roots = append(roots, n)
		}
	}
	count = 0
	for id, n := range nodes {
		if _, gone := folded[id]; gone {
			continue
		}
		slices.SortFunc(n.Children, byStart)
		// A later program in the same process is not another process.
		if p := nodes[n.parent]; p == nil || p.PID != n.PID {
			count++
		}
	}
	slices.SortFunc(roots, byStart)
	for id := range folded {
		delete(nodes, id)
	}
	return breakCycles(nodes, roots), count, programs
}

// breakCycles makes roots of processes that no root leads to: parents that foreign
// data ties into a ring.
func breakCycles(nodes map[uint64]*Node, roots []*Node) []*Node {
	seen := make(map[*Node]bool, len(nodes))
	visit := func(n *Node) {
		todo := []*Node{n}
		for len(todo) > 0 {
			n := todo[len(todo)-1]
			todo = todo[:len(todo)-1]
			seen[n] = true
			n.Children = slices.DeleteFunc(n.Children, func(c *Node) bool { return seen[c] })
			todo = append(todo, n.Children...)
		}
	}
	for _, n := range roots {
		visit(n)
	}
	var rest []*Node
	for _, n := range nodes {
		if n.parent != 0 && !seen[n] {
			rest = append(rest, n)
		}
	}
	slices.SortFunc(rest, byStart)
	for _, n := range rest {
		if !seen[n] {
			roots = append(roots, n)
			visit(n)
		}
	}
	return roots
}

func byStart(a, b *Node) int {
	return cmp.Or(a.Started.Compare(b.Started), cmp.Compare(a.id, b.id))
}

func compareDestinations(a, b Destination) int {
	return cmp.Or(
		cmp.Compare(b.BytesSent+b.BytesReceived, a.BytesSent+a.BytesReceived),
		cmp.Compare(a.Program, b.Program), cmp.Compare(a.Executable, b.Executable),
		cmp.Compare(a.Domain, b.Domain), slices.Compare(a.Addresses, b.Addresses),
		cmp.Compare(a.Port, b.Port), cmp.Compare(a.Protocol, b.Protocol))
}

func compareAccesses(a, b Access) int {
	return cmp.Or(cmp.Compare(a.PID, b.PID), cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.TargetPID, b.TargetPID),
		strings.Compare(a.Target, b.Target), strings.Compare(a.Program, b.Program))
}

func compareFindings(a, b Finding) int {
	return cmp.Or(cmp.Compare(b.severity, a.severity), a.Time.Compare(b.Time), cmp.Compare(a.ID, b.ID))
}
