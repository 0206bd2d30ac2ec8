package detector

import sallyportv1 "github.com/sallyport-ci/sallyport/proto/sallyport/v1"

// sight is one event with what its batch says of it.
type sight struct {
	agent, hostname string
	time            int64 // Unix time in nanoseconds
	process         *sallyportv1.Process
	attribution     *sallyportv1.Attribution
	table           map[uint64]*sallyportv1.Process // the batch's processes by id

	ids []uint64
}

// lineage returns the identities of the process and of its known ancestors, the
// process first, bounded and without loops.
func (s *sight) lineage() []uint64 {
	if s.ids != nil {
		return s.ids
	}
	s.ids = lineage(s.table, s.process)
	return s.ids
}

func lineage(table map[uint64]*sallyportv1.Process, p *sallyportv1.Process) []uint64 {
	ids := []uint64{p.GetId()}
	for len(ids) <= maxAncestry*2 {
		parent := table[p.GetParentId()]
		if parent == nil || parent.GetId() == 0 || parent.GetId() == p.GetId() {
			break
		}
		ids, p = append(ids, parent.GetId()), parent
	}
	return ids
}

// ancestry returns the ancestors of the process for people and policies, parent
// first: without the copies that a fork makes of its parent before it execs.
func (s *sight) ancestry() []*sallyportv1.Process {
	var out []*sallyportv1.Process
	child := s.process
	ids := s.lineage()
	for i, id := range ids[1:] {
		p := s.table[id]
		// ids[i+2] is what p was forked from or was before.
		copied := i+2 < len(ids) && p.GetPid() == child.GetPid() && p.GetPid() != s.table[ids[i+2]].GetPid() &&
			p.GetExecutable() == s.table[ids[i+2]].GetExecutable()
		if !copied && len(out) < maxAncestry {
			out = append(out, p)
		}
		child = p
	}
	return out
}
