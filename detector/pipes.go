package detector

import (
	"slices"
	"time"

	"google.golang.org/protobuf/proto"

	sallyportv1 "github.com/sallyport-ci/sallyport/proto/sallyport/v1"
)

// pair is a writer that feeds a reader.
type pair struct{ writer, reader *pipeEnd }

// addEnd notes one end of a pipe.
func (x *execution) addEnd(s *sight, inode uint64, writer bool) error {
	e := &pipeEnd{
		Agent: s.agent, Inode: inode, Writer: writer, Started: s.time,
		process: s.process, ancestry: s.ancestry(), attribution: s.attribution,
	}
	var err error
	if e.Process, err = proto.Marshal(e.process); err != nil {
		return err
	}
	if e.Step, err = proto.Marshal(e.attribution); err != nil {
		return err
	}
	for _, p := range e.ancestry {
		data, err := proto.Marshal(p)
		if err != nil {
			return err
		}
		e.Ancestry = append(e.Ancestry, data)
	}
	x.hold(e)
	return nil
}

// executed notes the pipe ends of a program that starts.
func (x *execution) executed(s *sight) error {
	const pipe = sallyportv1.DescriptorKind_DESCRIPTOR_KIND_PIPE
	for _, end := range []struct {
		d      *sallyportv1.Descriptor
		writer bool
	}{{s.process.GetStandardOutput(), true}, {s.process.GetStandardInput(), false}, {s.process.GetArgumentPipe(), false}} {
		if end.d.GetKind() != pipe || end.d.GetInode() == 0 || x.hasEnd(s.agent, s.process.GetId(), end.d.GetInode(), end.writer) {
			continue
		}
		if !end.writer && x.inherited(s, end.d.GetInode()) {
			continue
		}
		if err := x.addEnd(s, end.d.GetInode(), end.writer); err != nil {
			return err
		}
	}
	return nil
}

func (x *execution) hasEnd(agent string, process, inode uint64, writer bool) bool {
	return slices.ContainsFunc(x.ends[processKey{agent, process}], func(e *pipeEnd) bool {
		return e.Inode == inode && e.Writer == writer
	})
}

// inherited says whether a reader has the pipe from a wrapper, such as sudo, that
// stands for it already.
func (x *execution) inherited(s *sight, inode uint64) bool {
	for _, id := range s.lineage()[1:] {
		for _, e := range x.ends[processKey{s.agent, id}] {
			if e.Inode != inode || e.Writer {
				continue
			}
			if _, wrapped := unwrap(program(e.process), e.process.GetArguments()); wrapped {
				return true
			}
		}
	}
	return false
}

// exited notes when a program that holds a pipe ended.
func (x *execution) exited(agent string, process uint64, at int64) {
	for _, e := range x.ends[processKey{agent, process}] {
		e.Exited = at
	}
}

// joined says whether two ends are of one pipe: the same inode on the same
// machine, by programs that lived at about the same time.
func joined(w, r *pipeEnd) bool {
	if !w.Writer || r.Writer || w.Agent != r.Agent || w.Inode != r.Inode || w.process.GetId() == r.process.GetId() {
		return false
	}
	early, late := w, r
	if r.Started < w.Started {
		early, late = r, w
	}
	return early.Exited == 0 || late.Started-early.Exited <= int64(pipeReuse/time.Nanosecond)
}

// hold notes an end, dropping the oldest if there are too many, and joins it with
// the other ends of its pipe.
func (x *execution) hold(e *pipeEnd) {
	if len(x.Ends) >= maxPipeEnds {
		x.dropOldest(1)
	}
	for _, other := range x.Ends {
		w, r := e, other
		if !e.Writer {
			w, r = other, e
		}
		if joined(w, r) {
			x.pairs = append(x.pairs, pair{w, r})
		}
	}
	x.Ends = append(x.Ends, e)
	x.ends[e.key()] = append(x.ends[e.key()], e)
}

// dropOldest forgets the n oldest ends.
func (x *execution) dropOldest(n int) {
	for _, oldest := range x.Ends[:n] {
		x.ends[oldest.key()] = slices.DeleteFunc(x.ends[oldest.key()], func(e *pipeEnd) bool { return e == oldest })
		if len(x.ends[oldest.key()]) == 0 {
			delete(x.ends, oldest.key())
		}
		x.pairs = slices.DeleteFunc(x.pairs, func(p pair) bool { return p.writer == oldest || p.reader == oldest })
	}
	x.Ends = slices.Delete(x.Ends, 0, n)
}

func (e *pipeEnd) key() processKey { return processKey{e.Agent, e.process.GetId()} }

// downloads says whether what a writer writes comes from another machine: the
// program is made for that, it or a descendant of it has sent to another machine,
// or it reads from a writer that does.
func (x *execution) downloads(w *pipeEnd, downloaders map[string]bool) bool {
	visited := map[uint64]bool{}
	var from func(w *pipeEnd) bool
	from = func(w *pipeEnd) bool {
		id := w.process.GetId()
		if visited[id] {
			return false
		}
		visited[id] = true
		arguments, wrapped := unwrap(program(w.process), w.process.GetArguments())
		if downloaders[program(w.process)] || (wrapped && downloaders[program(&sallyportv1.Process{Arguments: arguments[:1]})]) {
			return true
		}
		if x.senders[processKey{w.Agent, id}] {
			return true
		}
		for _, p := range x.pairs {
			if p.reader.Agent == w.Agent && p.reader.process.GetId() == id && from(p.writer) {
				return true
			}
		}
		return false
	}
	return from(w)
}

// sent notes that a process sent to another machine, and whether that is new.
func (x *execution) sent(s *sight) bool {
	fresh := false
	for _, id := range s.lineage() {
		k := processKey{s.agent, id}
		if x.senders[k] {
			continue
		}
		if len(x.senders) >= maxSenders {
			delete(x.senders, x.Senders[0])
			x.Senders = append(x.Senders[:0], x.Senders[1:]...)
		}
		x.senders[k], fresh = true, true
		x.Senders = append(x.Senders, k)
	}
	return fresh
}

// pipeBehaviour describes a pipe.
func pipeBehaviour(p pair, downloads bool) *sallyportv1.Behaviour {
	arguments, wrapped := unwrap(program(p.reader.process), p.reader.process.GetArguments())
	b := &sallyportv1.Behaviour{
		Kind:             sallyportv1.BehaviourKind_BEHAVIOUR_KIND_PIPE,
		Program:          program(p.writer.process),
		Target:           program(p.reader.process),
		TargetExecutable: p.reader.process.GetExecutable(),
		TargetArguments:  arguments,
		WriterDownloads:  downloads,
	}
	if wrapped {
		b.Target = program(&sallyportv1.Process{Arguments: arguments[:1]})
	}
	return b
}
