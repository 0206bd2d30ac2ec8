package bpf

import (
	"errors"
	"slices"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/btf"
)

// hooks says where the sensor looks at files and memory.
type hooks uint8

const (
	// At tracepoints of what calls lead to. It costs nothing to calls that do neither.
	objectHooks hooks = 1 << iota
	// At system calls for memory, and for files at functions of the page cache.
	functionHooks
	// At system calls for memory. Files cannot be watched.
	callHooks
)

// choosable are the programs that not all kernels have hooks for, or that say the same
// of other hooks.
var choosable = []struct {
	name     string
	by       hooks
	optional bool // its hook may be missing: then what it looks at is missing, too
	program  func(*sensorPrograms) *ebpf.Program
}{
	{sensorProgMemoryLocked, objectHooks, false, func(p *sensorPrograms) *ebpf.Program { return p.MemoryLocked }},
	{sensorProgFileRead, objectHooks, false, func(p *sensorPrograms) *ebpf.Program { return p.FileRead }},
	{sensorProgFileFault, objectHooks, false, func(p *sensorPrograms) *ebpf.Program { return p.FileFault }},
	{sensorProgFileMap, objectHooks, false, func(p *sensorPrograms) *ebpf.Program { return p.FileMap }},
	{sensorProgEnterRead, functionHooks, false, func(p *sensorPrograms) *ebpf.Program { return p.EnterRead }},
	{sensorProgEnterSplice, functionHooks, true, func(p *sensorPrograms) *ebpf.Program { return p.EnterSplice }},
	{sensorProgEnterFault, functionHooks, false, func(p *sensorPrograms) *ebpf.Program { return p.EnterFault }},
	{sensorProgEnterMap, functionHooks, false, func(p *sensorPrograms) *ebpf.Program { return p.EnterMap }},
	{sensorProgInodeDirty, objectHooks | functionHooks, false, func(p *sensorPrograms) *ebpf.Program { return p.InodeDirty }},
	{sensorProgCallExit, functionHooks | callHooks, false, func(p *sensorPrograms) *ebpf.Program { return p.CallExit }},
	{sensorProgRingComplete, functionHooks | callHooks, true, func(p *sensorPrograms) *ebpf.Program { return p.RingComplete }},
	{sensorProgInetSent, functionHooks, true, func(p *sensorPrograms) *ebpf.Program { return p.InetSent }},
	{sensorProgInet6Sent, functionHooks, true, func(p *sensorPrograms) *ebpf.Program { return p.Inet6Sent }},
	{sensorProgPacketSent, functionHooks, true, func(p *sensorPrograms) *ebpf.Program { return p.PacketSent }},
	// Sends are traced since Linux 6.3, and a kernel may have no modules.
	{sensorProgSocketSent, objectHooks | functionHooks | callHooks, true, func(p *sensorPrograms) *ebpf.Program { return p.SocketSent }},
	{sensorProgModuleLoaded, objectHooks | functionHooks | callHooks, true, func(p *sensorPrograms) *ebpf.Program { return p.ModuleLoaded }},
}

// sendFunctions are the programs that step in where sends are not traced.
var sendFunctions = []string{sensorProgInetSent, sensorProgInet6Sent, sensorProgPacketSent}

// What a kernel may lack, in the words of docs/kernels.md.
const (
	lacksFiles   = "files that matter"
	lacksMemory  = "memory of other processes, by whatever call"
	lacksSends   = "who sends on somebody else's socket, or by a packet socket"
	lacksModules = "kernel modules being loaded"
	lacksBPF     = "eBPF programs being loaded"
	lacksFolders = "what comes into folders and leaves them"
	lacksOpened  = "sockets that were open before"
)

// choose leaves of the choosable programs those of the first hooks that this kernel has, and
// that are not ruled out, in the order of their constants. It also returns what then is not seen.
func choose(spec *ebpf.CollectionSpec, not hooks, has func(*ebpf.ProgramSpec) bool) (chosen hooks, lacks []string) {
	chosen = callHooks
	for _, by := range []hooks{objectHooks, functionHooks} {
		if not&by == 0 && hasAll(spec, by, has) {
			chosen = by
			break
		}
	}
	used := make(map[string]bool)
	tracesSends := has(spec.Programs[sensorProgSocketSent])
	for _, c := range choosable {
		program := spec.Programs[c.name]
		used[c.name] = c.by&chosen != 0 && (!c.optional || has(program)) && (!tracesSends || !slices.Contains(sendFunctions, c.name))
		if !used[c.name] {
			blank(program)
		}
	}
	if chosen == callHooks {
		lacks = append(lacks, lacksFiles)
	}
	if chosen != objectHooks {
		lacks = append(lacks, lacksMemory)
	}
	if !used[sensorProgSocketSent] && !used[sensorProgInetSent] {
		lacks = append(lacks, lacksSends)
	}
	if !used[sensorProgModuleLoaded] {
		lacks = append(lacks, lacksModules)
	}
	return chosen, lacks
}

func hasAll(spec *ebpf.CollectionSpec, by hooks, has func(*ebpf.ProgramSpec) bool) bool {
	for _, c := range choosable {
		if c.by&by != 0 && !c.optional && !has(spec.Programs[c.name]) {
			return false
		}
	}
	return true
}

// blank leaves nothing of a program, at a hook that every kernel has and that is
// rare.
func blank(program *ebpf.ProgramSpec) {
	program.Instructions = asm.Instructions{asm.Mov.Imm(asm.R0, 0), asm.Return()}
	program.AttachTo = "sched_process_exit"
	program.AttachType = ebpf.AttachTraceRawTp
}

// chosen returns the programs of hooks.
func (h hooks) chosen(programs *sensorPrograms) (list []*ebpf.Program) {
	for _, c := range choosable {
		if c.by&h != 0 {
			list = append(list, c.program(programs))
		}
	}
	return list
}

// kernelHooks are what of hooks this kernel has. That programs may be attached to its
// functions is not said: some kernels are built without, some are locked down.
type kernelHooks struct {
	types *btf.Spec
	err   error
}

// has says whether the hook of a program is there. Its error, which is none of a missing
// hook, is kept.
func (k *kernelHooks) has(program *ebpf.ProgramSpec) bool {
	var err error
	if program.AttachType == ebpf.AttachTraceFEntry || program.AttachType == ebpf.AttachTraceFExit {
		var function *btf.Func
		err = k.types.TypeByName(program.AttachTo, &function)
	} else {
		_, err = k.types.AnyTypeByName("btf_trace_" + program.AttachTo)
	}
	if err != nil && !errors.Is(err, btf.ErrNotFound) {
		k.err = err
	}
	return err == nil
}
