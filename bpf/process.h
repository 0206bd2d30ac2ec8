/* SPDX-License-Identifier: GPL-2.0 */
/* Processes: fork, exec, exit, and those that ran before the sensor. */
#ifndef SALLYPORT_PROCESS_H
#define SALLYPORT_PROCESS_H

#include "lineage.h"
#include "privilege.h"
#include "path.h"

static __always_inline void report_fork(struct task_struct *parent, struct task_struct *child,
					u64 now, struct process *p, u64 parent_id)
{
	struct fork_record *r = reserve(KIND_FORK, struct fork_record);

	if (!r)
		return;
	fill(&r->header, KIND_FORK, now, p->id, BPF_CORE_READ(child, tgid),
	     BPF_CORE_READ(child, cred, uid.val));
	r->parent = parent_id;
	r->parent_pid = BPF_CORE_READ(parent, tgid);
	r->reserved = 0;
	__builtin_memset(r->comm, 0, sizeof(r->comm));
	bpf_probe_read_kernel_str(r->comm, sizeof(r->comm), child->comm);
	submit(r);
}

SEC("tp_btf/sched_process_fork")
int BPF_PROG(process_fork, struct task_struct *parent, struct task_struct *child)
{
	u64 now = bpf_ktime_get_boot_ns();
	u32 tgid = BPF_CORE_READ(child, tgid);
	struct process p = {}, *above;
	u64 parent_id = 0;

	if (BPF_CORE_READ(child, pid) != tgid ||
	    BPF_CORE_READ(child, flags) & PF_KTHREAD)
		return 0;
	p.id = new_identity(now);
	above = identify(parent);
	note_standing(&p, child);
	if (above) {
		parent_id = above->id;
		p.flags = inherited(above->flags);
		look_again(parent, above, parent_id, parent_id, false);
	}
	/* Of a process that there is no room for nothing is seen, unless it runs a program later. */
	if (bpf_map_update_elem(&processes, &tgid, &p, BPF_ANY))
		count_lost(KIND_FORK);
	enter_numbers(child, tgid);
	report_fork(parent, child, now, &p, parent_id);
	/* Made by clone, in namespaces of its own. */
	if (above && p.nsproxy && (p.nsproxy != above->nsproxy || p.user_ns != above->user_ns))
		report_namespaces(child, parent, p.id);
	return 0;
}

/* Tracepoint programs run with preemption off: one buffer a CPU is enough. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__type(key, u32);
	__type(value, struct exec_record);
	__uint(max_entries, 1);
} exec_buffers SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__type(key, u32);
	__type(value, struct environment_record);
	__uint(max_entries, 1);
} environment_buffers SEC(".maps");

struct capture {
	u64 start;
	u64 process;
	u64 time;
	u32 size;	/* of the whole */
	u32 limit;	/* what is taken of it */
	u32 pid;
	u32 uid;
};

static long capture_piece(u32 i, struct capture *c)
{
	u32 zero = 0, offset = i * ENVIRONMENT_PIECE, length;
	struct environment_record *r = bpf_map_lookup_elem(&environment_buffers, &zero);

	if (!r || offset >= c->limit)
		return 1;
	length = c->limit - offset;
	if (length > ENVIRONMENT_PIECE)
		length = ENVIRONMENT_PIECE;
	fill(&r->header, KIND_ENVIRONMENT, c->time, c->process, c->pid, c->uid);
	r->offset = offset;
	r->size = c->size;
	if (bpf_probe_read_user(r->data, length, (void *)(c->start + offset)) ||
	    bpf_ringbuf_output(&records, r, offsetof(struct environment_record, data) + length,
			       wake()))
		count_lost(KIND_ENVIRONMENT);
	return 0;
}

static __always_inline struct file *file_of(struct task_struct *task, u32 fd)
{
	struct fdtable *table = BPF_CORE_READ(task, files, fdt);
	struct file **files = BPF_CORE_READ(table, fd);
	struct file *file = NULL;

	if (!table || fd >= BPF_CORE_READ(table, max_fds))
		return NULL;
	bpf_probe_read_kernel(&file, sizeof(file), files + fd);
	return file;
}

static __always_inline void describe(struct task_struct *task, u32 fd, struct descriptor *d)
{
	struct file *file = file_of(task, fd);

	d->reserved = 0;
	d->mode = 0;
	d->inode = 0;
	if (!file)
		return;
	d->mode = BPF_CORE_READ(file, f_inode, i_mode);
	d->inode = BPF_CORE_READ(file, f_inode, i_ino);
}

/* Appends a path at an offset of the record's data: its length. */
static __always_inline u32 append_path(struct exec_record *r, u32 offset, const struct path *path)
{
	u32 zero = 0, position, length;
	struct path_buffer *b = bpf_map_lookup_elem(&path_buffers, &zero);

	position = walk_path((u64)BPF_CORE_READ(path, dentry), (u64)BPF_CORE_READ(path, mnt));
	if (!b || position >= MAX_PATH || offset > 2 * MAX_PATH)
		return 0;
	length = MAX_PATH - position;
	if (bpf_probe_read_kernel(&r->data[offset], length, &b->data[position]))
		return 0;
	return length;
}

/* Its control group, of version 2. */
static __always_inline u64 cgroup_of(struct task_struct *task)
{
	return BPF_CORE_READ(task, cgroups, dfl_cgrp, kn, id);
}

/* The program's file. */
static __always_inline void describe_program(struct exec_record *r, struct file *exe)
{
	struct inode *inode = BPF_CORE_READ(exe, f_inode);

	r->inode = BPF_CORE_READ(inode, i_ino);
	r->device = BPF_CORE_READ(inode, i_sb, s_dev);
	r->changed = changed_at(inode);
	if (BPF_CORE_READ(inode, i_nlink) == 0) {
		r->flags |= EXEC_DELETED;
		if (BPF_CORE_READ(inode, i_sb, s_magic) == TMPFS_MAGIC)
			r->flags |= EXEC_IN_MEMORY;
	}
}

struct program_file {
	u64 inode;
	u32 device;
	u32 reserved;
};

/* Files of programs that steps have run: user space looks into each, once. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__type(key, struct program_file);
	__type(value, u8);
	__uint(max_entries, 4096);
} programs_seen SEC(".maps");

/* User space wants to know now: of what it has not looked into, and of a new container. */
static __always_inline bool is_new(struct exec_record *r, u32 flags)
{
	struct program_file key = { .inode = r->inode, .device = r->device };
	u8 one = 1;

	if (r->flags & EXEC_CONTAINER)
		return true;
	return flags & PROCESS_STEP &&
	       !bpf_map_update_elem(&programs_seen, &key, &one, BPF_NOEXIST);
}

SEC("tp_btf/sched_process_exec")
int BPF_PROG(process_exec, struct task_struct *task, int old_pid, struct linux_binprm *bprm)
{
	u64 now = bpf_ktime_get_boot_ns();
	u32 tgid = BPF_CORE_READ(task, tgid), zero = 0;
	struct process *p = identify(task), *above;
	struct exec_record *r = bpf_map_lookup_elem(&exec_buffers, &zero);
	struct mm_struct *mm = BPF_CORE_READ(task, mm);
	struct task_struct *parent = BPF_CORE_READ(task, real_parent, group_leader);
	struct file *exe = BPF_CORE_READ(mm, exe_file);
	struct fs_struct *fs = BPF_CORE_READ(task, fs);
	u64 start, size;
	u32 offset = 0, length;
	long n;

	if (!p || !r)
		return 0;
	fill(&r->header, KIND_EXEC, now, new_identity(now), tgid,
	     BPF_CORE_READ(task, cred, uid.val));
	r->previous = p->id;
	r->flags = 0;
	if (p->flags & PROCESS_CHILD) {
		p->flags = (p->flags & ~PROCESS_CHILD) | PROCESS_STEP;
		r->flags |= EXEC_STEP;
	} else if (!(p->flags & PROCESS_STEP) && is_worker_name(task)) {
		p->flags |= PROCESS_WORKER;
	}
	if (p->flags & PROCESS_WORKER)
		r->flags |= EXEC_WORKER;
	r->cgroup = cgroup_of(task);
	above = identify(parent);
	/*
	 * The first program of a container: its parent is whoever made it, of another
	 * group, and neither belongs to a step yet. So are those that come after it in
	 * the same process: a script that an engine starts sets the job's environment
	 * itself, and then runs the step's program in its place.
	 */
	if (!(p->flags & (PROCESS_STEP | PROCESS_WORKER)) && r->cgroup != cgroup_of(parent))
		__sync_fetch_and_or(&p->flags, PROCESS_ENTRY);
	if (p->flags & PROCESS_ENTRY)
		r->flags |= EXEC_CONTAINER;
	p->id = r->header.process;

	if (r->flags & (EXEC_STEP | EXEC_CONTAINER)) {
		struct capture c = {
			.start = BPF_CORE_READ(mm, env_start),
			.process = r->header.process,
			.time = now,
			.pid = tgid,
			.uid = r->header.uid,
		};

		c.size = BPF_CORE_READ(mm, env_end) - c.start;
		c.limit = c.size < MAX_ENVIRONMENT ? c.size : MAX_ENVIRONMENT;
		bpf_loop(MAX_ENVIRONMENT / ENVIRONMENT_PIECE, capture_piece, &c, 0);
	}

	r->parent = above ? above->id : 0;
	r->parent_pid = BPF_CORE_READ(parent, tgid);
	r->gid = BPF_CORE_READ(task, cred, gid.val);
	r->started = BPF_CORE_READ(task, start_boottime);
	describe(task, 0, &r->standard_input);
	describe(task, 1, &r->standard_output);
	describe(task, 63, &r->argument_pipe);
	describe_program(r, exe);
	r->euid = BPF_CORE_READ(task, cred, euid.val);
	r->capabilities = capabilities_of(BPF_CORE_READ(task, cred));
	if (BPF_CORE_READ(bprm, filename) != BPF_CORE_READ(bprm, interp))
		r->flags |= EXEC_SCRIPT;
	__builtin_memset(r->comm, 0, sizeof(r->comm));
	bpf_probe_read_kernel_str(r->comm, sizeof(r->comm), task->comm);

	n = bpf_probe_read_kernel_str(r->data, MAX_PATH, BPF_CORE_READ(bprm, filename));
	r->filename_length = n > 0 && n <= MAX_PATH ? n - 1 : 0;
	offset = r->filename_length;
	length = append_path(r, offset, __builtin_preserve_access_index(&exe->f_path));
	r->executable_length = length;
	offset += length;
	length = append_path(r, offset, __builtin_preserve_access_index(&fs->pwd));
	r->directory_length = length;
	offset += length;

	start = BPF_CORE_READ(mm, arg_start);
	size = BPF_CORE_READ(mm, arg_end) - start;
	r->arguments_size = size;
	r->arguments_length = 0;
	if (size > MAX_ARGUMENTS)
		size = MAX_ARGUMENTS;
	if (offset > 3 * MAX_PATH)
		return 0;
	if (!bpf_probe_read_user(&r->data[offset], size, (void *)start)) {
		r->arguments_length = size;
		offset += size;
	}
	if (offset > sizeof(r->data))
		return 0;
	if (bpf_ringbuf_output(&records, r, offsetof(struct exec_record, data) + offset,
			       is_new(r, p->flags) ? BPF_RB_FORCE_WAKEUP : wake()))
		count_lost(KIND_EXEC);
	/* A change of namespaces was made by what ran before; more rights by what runs now. */
	look_again(task, p, r->previous, r->header.process,
		   BPF_CORE_READ_BITFIELD_PROBED(bprm, secureexec));
	return 0;
}

SEC("tp_btf/sched_process_exit")
int BPF_PROG(process_exit, struct task_struct *task)
{
	struct task_struct *leader = BPF_CORE_READ(task, group_leader);
	struct signal_struct *signal = BPF_CORE_READ(task, signal);
	u32 tgid = BPF_CORE_READ(task, tgid), flags;
	struct process *p, last;
	struct exit_record *r;
	u64 id;
	int code;

	/* The count was taken down before this tracepoint: zero in the last thread. */
	if (BPF_CORE_READ(signal, live.counter) > 0 ||
	    BPF_CORE_READ(task, flags) & PF_KTHREAD)
		return 0;
	p = lookup_process(tgid);
	if (!p)
		return 0;
	look_again(task, p, p->id, p->id, false);
	last = *p;
	id = last.id;
	flags = last.flags;
	/* At no time in neither of the two: folder.go may be looking for it. */
	bpf_map_update_elem(&ended, &tgid, &last, BPF_ANY);
	/* Two last threads may both have seen zero: one of them reports. */
	if (bpf_map_delete_elem(&processes, &tgid))
		return 0;
	r = reserve(KIND_EXIT, struct exit_record);
	if (!r)
		return 0;
	fill(&r->header, KIND_EXIT, bpf_ktime_get_boot_ns(), id, tgid,
	     BPF_CORE_READ(task, cred, uid.val));
	/* As wait reports it (kernel/exit.c, wait_task_zombie). */
	code = BPF_CORE_READ(signal, flags) & SIGNAL_GROUP_EXIT ?
		       BPF_CORE_READ(signal, group_exit_code) :
		       BPF_CORE_READ(leader, exit_code);
	r->code = code >> 8;
	r->signal = code & 0x7f;
	r->flags = flags & PROCESS_WORKER ? EXIT_WORKER : 0;
	__builtin_memset(r->reserved, 0, sizeof(r->reserved));
	submit(r);
	return 0;
}

/* One running process (not only those that were found), as written by the iterator (found.go decodes it). */
struct found {
	u64 id;
	u64 parent;
	u64 started;
	u32 pid;
	u32 parent_pid;
	u32 uid;
	u32 gid;
	u32 flags;
	u32 local_pid;	/* in the reader's PID namespace */
	char comm[16];
};

_Static_assert(sizeof(struct found) == 64, "found");

static __always_inline u32 local_pid(struct task_struct *task)
{
	struct task_struct *reader = (void *)bpf_get_current_task();
	u32 level = BPF_CORE_READ(reader, thread_pid, level);
	struct pid *pid = BPF_CORE_READ(task, thread_pid);
	struct upid *upid;

	if (!pid || level > BPF_CORE_READ(pid, level))
		return 0;
	upid = (void *)pid + bpf_core_field_offset(struct pid, numbers) +
	       level * bpf_core_type_size(struct upid);
	return BPF_CORE_READ(upid, nr);
}

SEC("iter/task")
int found_processes(struct bpf_iter__task *ctx)
{
	struct task_struct *task = ctx->task, *parent;
	struct found f = {};
	struct process *p, *above;

	own_tgid = bpf_get_current_pid_tgid() >> 32;
	if (!task || BPF_CORE_READ(task, pid) != BPF_CORE_READ(task, tgid))
		return 0;
	parent = BPF_CORE_READ(task, real_parent, group_leader);
	above = identify(parent);
	p = identify(task);
	if (!p)
		return 0;
	/* Of one that was found its first identity, whatever it has run since. */
	f.id = p->flags & PROCESS_FOUND ? found_identity(task) : p->id;
	f.started = BPF_CORE_READ(task, start_boottime);
	if (above)
		f.parent = above->flags & PROCESS_FOUND ? found_identity(parent) : above->id;
	f.pid = BPF_CORE_READ(task, tgid);
	f.parent_pid = BPF_CORE_READ(parent, tgid);
	f.uid = BPF_CORE_READ(task, cred, uid.val);
	f.gid = BPF_CORE_READ(task, cred, gid.val);
	f.flags = p->flags;
	f.local_pid = local_pid(task);
	bpf_probe_read_kernel_str(f.comm, sizeof(f.comm), task->comm);
	bpf_seq_write(ctx->meta->seq, &f, sizeof(f));
	return 0;
}

#endif
