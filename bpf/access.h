/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Reaching into another process: opens of its files below /proc, ptrace, and
 * process_vm_readv and process_vm_writev. All is looked at when the call returns, and
 * opens (by io_uring, too) through the file that they led to, so that no form of the
 * path (links, relative names, thread folders, other mounts of proc) goes unseen.
 */
#ifndef SALLYPORT_ACCESS_H
#define SALLYPORT_ACCESS_H

#include "process.h"

#define PROC_SUPER_MAGIC 0x9fa0
#define PTRACE_ATTACH 16
#define PTRACE_SEIZE 0x4206

/* include/uapi/linux/io_uring.h */
#define IORING_OP_OPENAT 18
#define IORING_OP_OPENAT2 28

enum access_kind {
	ACCESS_MEM = 1,
	ACCESS_MAPS = 2,
	ACCESS_ENVIRON = 3,
	ACCESS_PTRACE = 4,
	ACCESS_VM_READ = 5,
	ACCESS_VM_WRITE = 6,
};

enum call {
	CALL_OTHER,
	CALL_OPEN,
	CALL_PTRACE,
	CALL_VM_READ,
	CALL_VM_WRITE,
};

#if defined(__TARGET_ARCH_x86)

/* arch/x86/include/asm/ptrace.h */
struct pt_regs {
	unsigned long orig_ax, ax, di, si, dx, bx, cx;
} __attribute__((preserve_access_index));

struct thread_info {
	u32 status;
} __attribute__((preserve_access_index));

struct task_struct___x86 {
	struct thread_info thread_info;
} __attribute__((preserve_access_index));

/* The call was made through the 32-bit entry (TS_COMPAT): other numbers. */
static __always_inline bool is_compat(void)
{
	struct task_struct___x86 *task = (void *)bpf_get_current_task();

	return BPF_CORE_READ(task, thread_info.status) & 2;
}

static __always_inline long call_number(struct pt_regs *regs)
{
	return regs->orig_ax;
}

static __always_inline u64 first_argument(struct pt_regs *regs)
{
	return is_compat() ? (u32)regs->bx : regs->di;
}

static __always_inline u64 second_argument(struct pt_regs *regs)
{
	return is_compat() ? (u32)regs->cx : regs->si;
}

/*
 * Numbers of both tables, told apart only for the few that match. The x32 table
 * differs by a bit.
 */
static __always_inline enum call classify(long number)
{
	switch (number & ~0x40000000L) {
	case 2:		/* open; 32-bit: fork */
	case 85:	/* creat; 32-bit: readlink */
	case 257:	/* openat; 32-bit: remap_file_pages */
	case 304:	/* open_by_handle_at */
		return is_compat() ? CALL_OTHER : CALL_OPEN;
	case 437:	/* openat2, in both */
		return CALL_OPEN;
	case 5:		/* 32-bit: open */
	case 8:		/* 32-bit: creat */
	case 295:	/* 32-bit: openat */
	case 342:	/* 32-bit: open_by_handle_at */
		return is_compat() ? CALL_OPEN : CALL_OTHER;
	case 26:	/* 32-bit: ptrace */
		return is_compat() ? CALL_PTRACE : CALL_OTHER;
	case 101:
		return is_compat() ? CALL_OTHER : CALL_PTRACE;
	case 521:	/* x32: ptrace */
		return CALL_PTRACE;
	case 310:
	case 539:	/* x32 */
		return is_compat() ? CALL_OTHER : CALL_VM_READ;
	case 311:
	case 540:	/* x32 */
		return is_compat() ? CALL_OTHER : CALL_VM_WRITE;
	case 347:	/* 32-bit */
		return is_compat() ? CALL_VM_READ : CALL_OTHER;
	case 348:	/* 32-bit */
		return is_compat() ? CALL_VM_WRITE : CALL_OTHER;
	}
	return CALL_OTHER;
}

#elif defined(__TARGET_ARCH_arm64)

/* arch/arm64/include/asm/ptrace.h */
struct pt_regs {
	u64 regs[31];
	u64 orig_x0;
	int syscallno;
} __attribute__((preserve_access_index));

struct thread_info {
	unsigned long flags;
} __attribute__((preserve_access_index));

struct task_struct___arm64 {
	struct thread_info thread_info;
} __attribute__((preserve_access_index));

/* A 32-bit task (TIF_32BIT): other numbers. */
static __always_inline bool is_compat(void)
{
	struct task_struct___arm64 *task = (void *)bpf_get_current_task();

	return BPF_CORE_READ(task, thread_info.flags) & (1UL << 22);
}

static __always_inline long call_number(struct pt_regs *regs)
{
	return regs->syscallno;
}

static __always_inline u64 first_argument(struct pt_regs *regs)
{
	return regs->orig_x0;
}

static __always_inline u64 second_argument(struct pt_regs *regs)
{
	return regs->regs[1];
}

static __always_inline enum call classify(long number)
{
	switch (number) {
	case 56:	/* openat */
	case 265:	/* open_by_handle_at */
		return is_compat() ? CALL_OTHER : CALL_OPEN;
	case 437:	/* openat2, in both */
		return CALL_OPEN;
	case 5:		/* 32-bit: open */
	case 322:	/* 32-bit: openat */
	case 371:	/* 32-bit: open_by_handle_at */
		return is_compat() ? CALL_OPEN : CALL_OTHER;
	case 26:	/* 32-bit */
		return is_compat() ? CALL_PTRACE : CALL_OTHER;
	case 117:
		return is_compat() ? CALL_OTHER : CALL_PTRACE;
	case 270:
		return is_compat() ? CALL_OTHER : CALL_VM_READ;
	case 271:
		return is_compat() ? CALL_OTHER : CALL_VM_WRITE;
	case 376:	/* 32-bit */
		return is_compat() ? CALL_VM_READ : CALL_OTHER;
	case 377:	/* 32-bit */
		return is_compat() ? CALL_VM_WRITE : CALL_OTHER;
	}
	return CALL_OTHER;
}

#endif

/* The task that a struct pid stands for, NULL if it has ended. */
static __always_inline struct task_struct *task_of(struct pid *pid)
{
	struct hlist_node *node = BPF_CORE_READ(pid, tasks[0].first);

	if (!node)
		return NULL;
	return (void *)node - bpf_core_field_offset(struct task_struct, pid_links);
}

static __always_inline void report_access(u32 kind, struct task_struct *target, u32 target_pid)
{
	u32 tgid = bpf_get_current_pid_tgid() >> 32;
	struct process *p = lookup_process(tgid), *t;
	struct access_record *r;

	if (target)
		target_pid = BPF_CORE_READ(target, tgid);
	if (target_pid == tgid)
		return;
	t = lookup_process(target_pid);
	r = reserve(KIND_ACCESS, struct access_record);
	if (!r)
		return;
	fill(&r->header, KIND_ACCESS, bpf_ktime_get_boot_ns(), p ? p->id : 0, tgid,
	     bpf_get_current_uid_gid());
	r->target = t ? t->id : 0;
	r->target_pid = target_pid;
	r->access = kind;
	r->target_worker = t && t->flags & PROCESS_WORKER;
	r->reserved[0] = 0;
	r->reserved[1] = 0;
	if (r->target_worker)
		submit_urgent(r);
	else
		submit(r);
}

/*
 * The process that a number means to the caller: its own PID namespace may give
 * other numbers than the first one. 0 if it cannot be told.
 */
static __always_inline u32 target_of(u64 number)
{
	struct task_struct *task = (void *)bpf_get_current_task();
	struct numbered key = {};
	struct pid *pid = BPF_CORE_READ(task, thread_pid);
	u32 level = BPF_CORE_READ(pid, level), *tgid;
	struct upid *upid;

	if (level == 0)
		return number;
	upid = (void *)pid + bpf_core_field_offset(struct pid, numbers) +
	       level * bpf_core_type_size(struct upid);
	key.ns = (u64)BPF_CORE_READ(upid, ns);
	key.number = number;
	tgid = bpf_map_lookup_elem(&numbers, &key);
	return tgid ? *tgid : 0;
}

/*
 * After an attach that worked the target is the first of those whom the caller
 * traces (__ptrace_link adds at the front), be it a thread or not.
 */
static __always_inline void report_ptrace(u64 request, u64 number, long result)
{
	struct task_struct *task = (void *)bpf_get_current_task(), *target = NULL;

	if (request != PTRACE_ATTACH && request != PTRACE_SEIZE)
		return;
	if (result == 0) {
		struct list_head *first = BPF_CORE_READ(task, ptraced.next);

		target = (void *)first - bpf_core_field_offset(struct task_struct, ptrace_entry);
		if (first == (void *)task + bpf_core_field_offset(struct task_struct, ptraced))
			target = NULL;
	}
	report_access(ACCESS_PTRACE, target, target_of(number));
}

/* A file's name as two words; the kernel's memcmp is not to be had. */
union name {
	char text[16];
	u64 words[2];
};

#define WORD(a, b, c, d, e, f, g, h)						\
	((u64)(a) | (u64)(b) << 8 | (u64)(c) << 16 | (u64)(d) << 24 | (u64)(e) << 32 | \
	 (u64)(f) << 40 | (u64)(g) << 48 | (u64)(h) << 56)

static __always_inline u32 access_of(const union name *n)
{
	switch (n->words[0]) {
	case WORD('m', 'e', 'm', 0, 0, 0, 0, 0):
		return ACCESS_MEM;
	case WORD('e', 'n', 'v', 'i', 'r', 'o', 'n', 0):
		return ACCESS_ENVIRON;
	case WORD('m', 'a', 'p', 's', 0, 0, 0, 0):
	case WORD('s', 'm', 'a', 'p', 's', 0, 0, 0):
	case WORD('p', 'a', 'g', 'e', 'm', 'a', 'p', 0):
		return ACCESS_MAPS;
	case WORD('s', 'm', 'a', 'p', 's', '_', 'r', 'o'):
		return n->words[1] == WORD('l', 'l', 'u', 'p', 0, 0, 0, 0) ? ACCESS_MAPS : 0;
	case WORD('n', 'u', 'm', 'a', '_', 'm', 'a', 'p'):
		return n->words[1] == 's' ? ACCESS_MAPS : 0;
	}
	return 0;
}

/*
 * Linux 6.2 and later let a program read what a pointer leads to by plain loads,
 * many times cheaper than the helper, and just as safe.
 */
extern void *bpf_rdonly_cast(const void *object, u32 btf_id) __ksym __weak;

#define as(type, pointer) \
	((type *)bpf_rdonly_cast(pointer, bpf_core_type_id_kernel(type)))

/* Whether a file lies in a proc file system. */
static __always_inline struct file *proc_file(struct file **slot)
{
	struct super_block *sb;
	struct inode *inode;
	struct file *file;

	if (&bpf_rdonly_cast) {
		/* Any structure that begins with a pointer does to load one. */
		file = as(struct file, as(struct hlist_head, slot)->first);
		return file->f_inode->i_sb->s_magic == PROC_SUPER_MAGIC ? file : NULL;
	}
	if (bpf_probe_read_kernel(&file, sizeof(file), slot) || !file)
		return NULL;
	if (bpf_core_read(&inode, sizeof(inode), &file->f_inode) ||
	    bpf_core_read(&sb, sizeof(sb), &inode->i_sb) ||
	    BPF_CORE_READ(sb, s_magic) != PROC_SUPER_MAGIC)
		return NULL;
	return file;
}

static __always_inline int report_open(u32 fd)
{
	struct task_struct *task = bpf_get_current_task_btf();
	struct fdtable *table = task->files->fdt;
	struct proc_inode *proc;
	union name name = {};
	struct file *file;
	struct pid *pid;
	u32 kind;

	if (fd >= table->max_fds)
		return 0;
	file = proc_file(table->fd + fd);
	if (!file)
		return 0;
	bpf_probe_read_kernel_str(name.text, sizeof(name.text),
				  BPF_CORE_READ(file, f_path.dentry, d_name.name));
	kind = access_of(&name);
	if (!kind)
		return 0;
	proc = (void *)BPF_CORE_READ(file, f_inode) -
	       bpf_core_field_offset(struct proc_inode, vfs_inode);
	pid = BPF_CORE_READ(proc, pid);
	if (pid)
		report_access(kind, task_of(pid), 0);
	return 0;
}

/* Runs at the end of every system call: all others leave after one switch. */
SEC("tp_btf/sys_exit")
int BPF_PROG(call_exit, struct pt_regs *regs, long result)
{
	switch (classify(call_number(regs))) {
	case CALL_OPEN:
		if (result >= 0)
			report_open(result);
		break;
	case CALL_PTRACE:
		report_ptrace(first_argument(regs), second_argument(regs), result);
		break;
	case CALL_VM_READ:
		report_access(ACCESS_VM_READ, NULL, target_of(first_argument(regs)));
		break;
	case CALL_VM_WRITE:
		report_access(ACCESS_VM_WRITE, NULL, target_of(first_argument(regs)));
		break;
	default:
		break;
	}
	return 0;
}

/*
 * An open by io_uring is no system call: its result is in the completion, which is
 * written in the process itself or in a thread of it. Opens into the ring's own
 * table of files, and those that asked for no completion, are not seen.
 */
SEC("tp_btf/io_uring_complete")
int BPF_PROG(ring_complete, void *ctx_, struct io_kiocb *request)
{
	u8 opcode;
	int result;

	if (bpf_core_read(&opcode, sizeof(opcode), &request->opcode) ||
	    (opcode != IORING_OP_OPENAT && opcode != IORING_OP_OPENAT2))
		return 0;
	if (!bpf_core_read(&result, sizeof(result), &request->cqe.res) && result >= 0)
		report_open(result);
	return 0;
}

#endif
