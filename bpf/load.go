package bpf

import (
	"cmp"
	"fmt"
	"maps"
	"runtime"
	"slices"
	"sync"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"
)

// maxLoaders bounds how many programs are loaded at a time.
const maxLoaders = 4

// load makes the maps, and then the programs, several at a time: the kernel spends most
// of the agent's start on proving them safe, and can prove two at once.
func load(spec *ebpf.CollectionSpec, kernel *btf.Spec, objects *sensorObjects) (err error) {
	tables := spec.Copy()
	tables.Programs = nil
	whole, err := ebpf.NewCollection(tables)
	if err != nil {
		return err
	}
	defer whole.Close()

	names := slices.SortedFunc(maps.Keys(spec.Programs), func(a, b string) int {
		return cmp.Or(cmp.Compare(len(spec.Programs[b].Instructions), len(spec.Programs[a].Instructions)), cmp.Compare(a, b))
	})
	parts := make([]*ebpf.CollectionSpec, min(maxLoaders, runtime.GOMAXPROCS(0)))
	for i := range parts {
		parts[i] = spec.Copy()
		clear(parts[i].Programs)
	}
	for i, name := range names {
		parts[i%len(parts)].Programs[name] = spec.Programs[name]
	}
	var loading sync.WaitGroup
	loaded, failed := make([]*ebpf.Collection, len(parts)), make([]error, len(parts))
	for i, part := range parts {
		types := kernel.Copy()
		loading.Go(func() {
			loaded[i], failed[i] = ebpf.NewCollectionWithOptions(part, ebpf.CollectionOptions{
				MapReplacements: whole.Maps, Programs: ebpf.ProgramOptions{KernelTypes: types},
			})
		})
	}
	loading.Wait()
	for i, c := range loaded {
		if c == nil {
			continue
		}
		for name := range parts[i].Programs {
			whole.Programs[name] = c.DetachProgram(name)
		}
		c.Close()
	}
	for _, err := range failed {
		if err != nil {
			return fmt.Errorf("load programs: %w", err)
		}
	}
	return whole.Assign(objects)
}
