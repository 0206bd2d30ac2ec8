package bpf

import (
	"cmp"
	"errors"
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

// droppable are the programs without which the rest sees what it sees: what is missing then.
var droppable = map[string]string{
	sensorProgFoundSockets: lacksOpened,
	sensorProgModuleLoaded: lacksModules,
	sensorProgSocketSent:   lacksSends,
}

// load makes the maps, and then the programs, several at a time: the kernel spends most
// of the agent's start on proving them safe, and can prove two at once. A kernel that takes one
// of the droppable programs for unsafe, as newer ones did with what older ones took, gets a blank one
// in its place: their names are returned with all programs.
func load(spec *ebpf.CollectionSpec, types *btf.Cache, objects *sensorObjects) (programs []*ebpf.Program, dropped []string, err error) {
	tables := spec.Copy()
	tables.Programs = nil
	whole, err := ebpf.NewCollectionWithOptions(tables, ebpf.CollectionOptions{Cache: types})
	if err != nil {
		return nil, nil, err
	}
	defer whole.Close()
	kernel, err := types.Kernel()
	if err != nil {
		return nil, nil, err
	}

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
	without := make([][]string, len(parts))
	for i, part := range parts {
		// The types of kernel modules, which come with the cache, are not needed for offsets.
		options := ebpf.CollectionOptions{MapReplacements: whole.Maps, Cache: types, Programs: ebpf.ProgramOptions{KernelTypes: kernel}}
		loading.Go(func() {
			loaded[i], failed[i] = ebpf.NewCollectionWithOptions(part, options)
			if without[i] = drop(part, options, failed[i]); len(without[i]) > 0 {
				loaded[i], failed[i] = ebpf.NewCollectionWithOptions(part, options)
			}
		})
	}
	loading.Wait()
	dropped = slices.Concat(without...)
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
			return nil, nil, fmt.Errorf("load programs: %w", err)
		}
	}
	programs = slices.Collect(maps.Values(whole.Programs))
	return programs, dropped, whole.Assign(objects)
}

// drop blanks the droppable programs that the kernel takes for unsafe, if that is why loading
// failed, and returns their names.
func drop(part *ebpf.CollectionSpec, options ebpf.CollectionOptions, failed error) (dropped []string) {
	var unsafe *ebpf.VerifierError
	if !errors.As(failed, &unsafe) {
		return nil
	}
	for name := range droppable {
		if part.Programs[name] == nil {
			continue
		}
		alone := part.Copy()
		for other := range part.Programs {
			if other != name {
				delete(alone.Programs, other)
			}
		}
		c, err := ebpf.NewCollectionWithOptions(alone, options)
		if err == nil {
			c.Close()
		} else if errors.As(err, &unsafe) {
			blank(part.Programs[name])
			dropped = append(dropped, name)
		}
	}
	return dropped
}
