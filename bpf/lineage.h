/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Who is who: the identity of each process and its place below a runner's worker.
 *
 * The table is keyed by thread group identifier and kept by the fork, exec and exit
 * hooks themselves, so an entry always belongs to the process that has the
 * identifier now. Task storage would be lost when a thread other than the leader
 * calls exec (it takes the leader's place with a storage of its own), is not to be
 * had in cgroup programs, and cannot be asked about the target of a ptrace call.
 */
#ifndef SALLYPORT_LINEAGE_H
#define SALLYPORT_LINEAGE_H

#include "record.h"

enum process_flags {
	PROCESS_WORKER = 1,	/* a runner's worker: its children are steps */
	PROCESS_CHILD = 2,	/* forked by a worker, has not run a program yet */
	PROCESS_STEP = 4,	/* a step's first program, or anything below it */
	PROCESS_FOUND = 8,	/* ran before the sensor */
	PROCESS_ENTRY = 16,	/* somebody outside of its control group started it there */
};

struct process {
	u64 id;
	u32 flags;
	/* What it was when it was last looked at (privilege.h). */
	u32 euid;
	u64 capabilities;
	u64 user_ns;
	u64 nsproxy;
};

static __always_inline u64 capabilities_of(const struct cred *cred)
{
	u64 capabilities = 0;

	bpf_core_read(&capabilities, sizeof(capabilities), &cred->cap_effective);
	return capabilities;
}

static __always_inline void note_standing(struct process *p, struct task_struct *task)
{
	const struct cred *cred = BPF_CORE_READ(task, cred);

	p->euid = BPF_CORE_READ(cred, euid.val);
	p->capabilities = capabilities_of(cred);
	p->user_ns = (u64)BPF_CORE_READ(cred, user_ns);
	p->nsproxy = (u64)BPF_CORE_READ(task, nsproxy);
}

/* As many entries as the kernel allows threads (the loader sets it): never full. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, u32);
	__type(value, struct process);
	__uint(max_entries, 65536);
} processes SEC(".maps");

/*
 * Those that have ended of late: what is told of a process a little later (folder.go)
 * still finds it.
 */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__type(key, u32);
	__type(value, struct process);
	__uint(max_entries, 8192);
} ended SEC(".maps");

/* Task names of runners' workers. */
struct worker_name {
	char comm[16];
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__type(key, struct worker_name);
	__type(value, u8);
	__uint(max_entries, 64);
} workers SEC(".maps");

/*
 * Numbers of processes in PID namespaces other than the first, as a container's
 * processes use them: to the thread group identifier in the first.
 */
struct numbered {
	u64 ns;
	u32 number;
	u32 reserved;
};

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__type(key, struct numbered);
	__type(value, u32);
	__uint(max_entries, 16384);
} numbers SEC(".maps");

/* Enters a process's numbers: at most four namespaces below the first. */
static __always_inline void enter_numbers(struct task_struct *leader, u32 tgid)
{
	struct pid *pid = BPF_CORE_READ(leader, thread_pid);
	u32 depth = BPF_CORE_READ(pid, level);

	for (u32 level = 1; level <= 4; level++) {
		struct numbered key = {};
		struct upid *upid;

		if (level > depth)
			return;
		upid = (void *)pid + bpf_core_field_offset(struct pid, numbers) +
		       level * bpf_core_type_size(struct upid);
		key.ns = (u64)BPF_CORE_READ(upid, ns);
		key.number = BPF_CORE_READ(upid, nr);
		bpf_map_update_elem(&numbers, &key, &tgid, BPF_ANY);
	}
}

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__type(key, u32);
	__type(value, u64);
	__uint(max_entries, 1);
} last_identity SEC(".maps");

/*
 * A new identity: boot time with the CPU in its low ten bits. The last one of this
 * CPU is kept, so that two within a microsecond still differ.
 */
static __always_inline u64 new_identity(u64 now)
{
	u32 zero = 0;
	u64 id = (now & ~1023ULL) | (bpf_get_smp_processor_id() & 1023);
	u64 *last = bpf_map_lookup_elem(&last_identity, &zero);

	if (last) {
		if (id <= *last)
			id = *last + 1024;
		*last = id;
	}
	return id;
}

/* The identity of a process that ran before the sensor: always the same one. */
static __always_inline u64 found_identity(struct task_struct *leader)
{
	return (BPF_CORE_READ(leader, start_boottime) & ~1023ULL) |
	       (BPF_CORE_READ(leader, tgid) & 1023);
}

static __always_inline bool is_worker_name(struct task_struct *task)
{
	struct worker_name name = {};

	bpf_probe_read_kernel_str(name.comm, sizeof(name.comm), task->comm);
	return bpf_map_lookup_elem(&workers, &name) != NULL;
}

static __always_inline struct process *lookup_process(u32 tgid)
{
	return bpf_map_lookup_elem(&processes, &tgid);
}

/* What a child has from its parent. */
static __always_inline u32 inherited(u32 flags)
{
	if (flags & PROCESS_STEP)
		return PROCESS_STEP;
	if (flags & (PROCESS_WORKER | PROCESS_CHILD))
		return PROCESS_CHILD;
	return 0;
}

struct ascent {
	struct task_struct *task;
	u32 flags;
	bool below;
};

static long ascend(u32 i, struct ascent *a)
{
	struct task_struct *task = a->task;
	struct task_struct *parent = BPF_CORE_READ(task, real_parent, group_leader);
	struct process *p;

	if (!parent || parent == task || BPF_CORE_READ(parent, pid) <= 1)
		return 1;
	a->task = parent;
	p = lookup_process(BPF_CORE_READ(parent, tgid));
	if (p) {
		/* Known: what it hands down holds for all below. */
		if (p->flags & (PROCESS_STEP | PROCESS_CHILD | PROCESS_WORKER))
			a->below = true;
		return 1;
	}
	if (is_worker_name(parent)) {
		a->below = true;
		return 1;
	}
	return 0;
}

/*
 * Enters a process that ran before the sensor. At most 64 ancestors are asked
 * whether they are workers.
 */
static __noinline int enter_found(struct task_struct *leader)
{
	u32 tgid = BPF_CORE_READ(leader, tgid);
	struct ascent a = { .task = leader };
	struct process p = { .id = found_identity(leader), .flags = PROCESS_FOUND };

	bpf_loop(64, ascend, &a, 0);
	if (a.below)
		p.flags |= PROCESS_STEP;
	else if (is_worker_name(leader))
		p.flags |= PROCESS_WORKER;
	note_standing(&p, leader);
	enter_numbers(leader, tgid);
	return bpf_map_update_elem(&processes, &tgid, &p, BPF_NOEXIST);
}

/*
 * The entry of a task's process, made now if it ran before the sensor; NULL for
 * kernel threads and for processes that have ended.
 */
static __always_inline struct process *identify(struct task_struct *task)
{
	struct task_struct *leader = BPF_CORE_READ(task, group_leader);
	u32 tgid = BPF_CORE_READ(leader, tgid);
	struct process *p = lookup_process(tgid);

	if (p)
		return p;
	if (BPF_CORE_READ(leader, flags) & PF_KTHREAD)
		return NULL;
	if (BPF_CORE_READ(leader, signal, live.counter) <= 0)
		return NULL;
	enter_found(leader);
	return lookup_process(tgid);
}

/* Makes a process that is known one of a step's: run by the loader (Sensor.Adopt). */
struct adoption {
	u64 id;
	u32 tgid;
	u32 reserved;
};

SEC("syscall")
int adopt(struct adoption *a)
{
	struct process *p = lookup_process(a->tgid);

	if (!p || p->id != a->id)
		return 1;
	__sync_fetch_and_or(&p->flags, PROCESS_STEP);
	return 0;
}

#endif
