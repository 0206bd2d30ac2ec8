package evasion

import (
	"fmt"
	"os"
	"strconv"
	"strings"
)

const sent = " sent udp ADDRESS:PORT"

// longEnvironment is what an earlier step may write into GITHUB_ENV, if the runner puts it
// before its own.
func longEnvironment() (variables []string) {
	for i := range 3 {
		variables = append(variables, fmt.Sprintf("LONG%d=%s", i, strings.Repeat("x", 100<<10)))
	}
	return variables
}

var processTricks = []trick{
	{name: "rights taken back", run: []string{"priv_regain.c"}, want: []string{"priv_regain privilege gained 1 to 0"}},
	{name: "namespaces without a program", run: []string{"priv_unshare.c"}, want: []string{"priv_unshare privilege namespaces mnt net"}},
	{name: "eBPF program that is gone at once", run: []string{"priv_bpf.c"}, want: []string{"priv_bpf privilege bpf"}},
	{name: "signal to the agent", run: []string{"priv_signal.c", strconv.Itoa(os.Getpid())}, want: []string{"priv_signal privilege signal"}},
	{name: "process of a millisecond", run: []string{"proc_short.c"}, want: []string{"proc_short ran blink once", "proc_short" + sent, "proc_short exited 0 0"}},
	{name: "name of another", run: []string{"proc_renamed.c"}, want: []string{"proc_renamed" + sent}},
	{name: "exec -a", run: []string{"proc_exec_a.sh"}, want: []string{"udp_sendto ran git status", "udp_sendto" + sent}},
	{name: "name of the worker", run: []string{"proc_worker_name.c"}, want: []string{"proc_worker_name ran child sends", "proc_worker_name" + sent}},
	{name: "program in memory", run: []string{"memfd.c"}, want: []string{"memfd:ghost (deleted) ran innocent again"}},
	{name: "program that removes itself", run: []string{"proc_deleted.c"}, want: []string{"gone ran gone now", "gone" + sent}},
	{name: "program three hundred folders down", run: []string{"proc_buried.c"}, want: []string{"buried ran buried deep", "buried" + sent}},
	{name: "LD_PRELOAD", run: []string{"proc_preload.sh"}, want: []string{"true" + sent}},
	{name: "program run by the loader", run: []string{"proc_loader.sh"}, want: []string{"ld-linux ran *"}},
	{name: "script with an interpreter", run: []string{"proc_script.c"}, want: []string{"proc_script ran BIN/proc_script one DIR/script two", "proc_script" + sent}},
	{name: "daemon", run: []string{"proc_daemon.c"}, want: []string{"proc_daemon" + sent}},
	{name: "process that outlives its job", run: []string{"proc_outlives.c"}, want: []string{"proc_outlives" + sent}},
	{name: "child of the worker by CLONE_PARENT", run: []string{"proc_sibling.c"}, want: []string{"proc_sibling" + sent}},
	{name: "number of a process that has ended", run: []string{"proc_reused.c"}, want: []string{"proc_reused ran first first", "proc_reused ran second second", "proc_reused" + sent}},
	{name: "exec from one of many threads", run: []string{"proc_threads.c"}, want: []string{"proc_threads ran from-a-thread sends", "proc_threads" + sent}},
	{name: "deep tree", run: []string{"proc_deep.c"}, far: true, want: []string{"proc_deep" + sent}},
	{name: "PID, mount and user namespaces of its own", run: []string{"proc_namespaces.c"}, want: []string{"proc_namespaces" + sent}},
	{name: "mount over /proc", run: []string{"proc_hidden.c"}, want: []string{"proc_hidden" + sent}},
	{name: "other time", run: []string{"proc_clock.c"}, want: []string{"proc_clock" + sent}},
	{name: "argument behind a long one", run: []string{"proc_long.c", "arguments"}, want: []string{"proc_long ran long x* …", "proc_long" + sent}},
	{name: "end of a long list of arguments", run: []string{"proc_long.c", "arguments"}, want: []string{"proc_long ran *--hidden*"}, unseen: "the first 8 KiB of a program's arguments"},
	{name: "long environment", run: []string{"proc_long.c", "environment"}, want: []string{"proc_long ran long environment --seen", "proc_long" + sent}},
	{
		name: "step behind a longer environment", run: []string{"tcp4.c"}, environment: longEnvironment(), want: []string{"tcp4 sent *"},
		unseen: "the first 256 KiB are searched for `GITHUB_` and `RUNNER_` names",
	},
	{name: "posix_spawn", run: []string{"proc_spawn.c"}, want: []string{"proc_spawn ran spawned child", "proc_spawn" + sent}},
	{name: "code that is run without exec", run: []string{"proc_no_exec.c"}, needs: needsX86, want: []string{"proc_no_exec forked", "proc_no_exec" + sent}},

	{name: "worker's memory by its file", run: []string{"reach.c", "file"}, want: []string{"reach reached proc_mem of the worker"}},
	{name: "worker's memory by a thread's file", run: []string{"reach.c", "thread"}, want: []string{"reach reached proc_mem of the worker"}},
	{name: "worker's memory by a roundabout path", run: []string{"reach.c", "roundabout"}, want: []string{"reach reached proc_mem of the worker"}},
	{name: "worker's memory by io_uring's own thread", run: []string{"reach.c", "uring"}, want: []string{"reach reached proc_mem of the worker"}},
	{name: "worker's memory from a mount namespace", run: []string{"reach.c", "namespace"}, want: []string{"reach reached proc_mem of the worker"}},
	{name: "worker's memory by a file passed on", run: []string{"reach.c", "passed"}, want: []string{"reach reached proc_mem of the worker"}},
	{name: "worker's memory by process_vm_readv", run: []string{"reach.c", "vm"}, want: []string{"reach reached vm_read of the worker"}},
	{name: "worker's memory by ptrace", run: []string{"reach.c", "ptrace"}, want: []string{"reach reached ptrace of the worker"}},
	{name: "worker's environment", run: []string{"reach.c", "environ"}, want: []string{"reach reached proc_environ of the worker"}},
	{name: "worker's map of memory", run: []string{"reach.c", "maps"}, wait: []string{"path"}, lingers: true, want: []string{"reach reached proc_maps of the worker"}},
	{name: "worker's map of memory by another mount", run: []string{"reach.c", "maps elsewhere"}, want: []string{"reach reached *"}, unseen: "not through a second mount of proc"},
	{name: "worker seized without signals", run: []string{"reach.c", "seize"}, want: []string{"reach reached *"}, unseen: "unless the tracer ignores SIGCHLD"},
	{name: "worker's open file by pidfd_getfd", run: []string{"reach.c", "descriptor"}, want: []string{"reach reached *"}, unseen: "Taking a process's descriptor (`pidfd_getfd`, `/proc/PID/fd`)"},
}
