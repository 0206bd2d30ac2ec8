package bpf

import (
	"errors"
	"fmt"
	"slices"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
)

// hold is what the sensor has attached, and how it looked then.
type hold struct {
	name    string
	link    link.Link
	program ebpf.ProgramID
}

// keep remembers a link, so that its loss is noticed, and that Close detaches it.
func (s *Sensor) keep(name string, l link.Link) {
	s.links = append(s.links, l)
	info, err := l.Info()
	if err != nil {
		return
	}
	if info.Type == link.CgroupType {
		// A raw link does not say whether it is still attached; by its identifier it does.
		if l, err = link.NewFromID(info.ID); err != nil {
			return
		}
		s.links = append(s.links, l)
	}
	s.holds = append(s.holds, hold{name, l, info.Program})
}

// Damage says what somebody did to the sensor's hold on the kernel since Open: links that
// are detached or lead to another program, tables that were written to. It is safe for
// concurrent use, and takes some microseconds for each link.
//
// Somebody with all of root's rights can damage the sensor in ways that are not found:
// they can change this process itself.
func (s *Sensor) Damage() []string {
	s.holding.Lock()
	defer s.holding.Unlock()
	if s.closing.Load() {
		return nil
	}
	var damage []string
	for _, h := range s.holds {
		info, err := h.link.Info()
		switch {
		case err != nil:
			damage = append(damage, fmt.Sprintf("link of %s cannot be asked: %v", h.name, err))
		case info.Program != h.program:
			damage = append(damage, fmt.Sprintf("link of %s leads to program %d", h.name, info.Program))
		default:
			if c := info.Cgroup(); c != nil && c.CgroupId == 0 {
				damage = append(damage, fmt.Sprintf("link of %s is detached", h.name))
			}
		}
	}
	return append(damage, s.tableDamage()...)
}

// tableDamage looks for entries that only Open or the programs themselves write.
func (s *Sensor) tableDamage() []string {
	var damage []string
	var name [16]byte
	var one uint8
	names := make([][16]byte, 0, len(s.workerNames))
	for entries := s.objects.Workers.Iterate(); entries.Next(&name, &one); {
		names = append(names, name)
	}
	if len(names) != len(s.workerNames) || slices.ContainsFunc(names, func(n [16]byte) bool { return !slices.Contains(s.workerNames, n) }) {
		damage = append(damage, "table of workers was written to")
	}
	if s.self.pid == 0 {
		return damage // the sensor's own process is in another PID namespace
	}
	var own process
	err := s.objects.Processes.Lookup(s.self.pid, &own)
	if errors.Is(err, ebpf.ErrKeyNotExist) || err == nil && own.ID != s.self.id {
		damage = append(damage, "table of processes was written to")
	}
	return damage
}
