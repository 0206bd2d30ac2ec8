/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Reaching into another process, seen at what is reached: its memory is locked by
 * somebody else, or it stops for somebody who traces it. Whatever opened the file,
 * made the call or passed the descriptor, and at no cost to calls that do neither.
 * Where the kernel lacks these hooks, access.h looks at the calls instead.
 */
#ifndef SALLYPORT_REACH_H
#define SALLYPORT_REACH_H

#include "access.h"
#include "privilege.h"

#define PF_IO_WORKER 0x00000010
#define PT_SEIZED 0x00010000
#define SIGCHLD 17
#define SIGSTOP 19
/* include/linux/signal.h: sent by the kernel itself */
#define SEND_SIG_PRIV 1

/* Whether the programs below look at objects; else access.h looks at calls. Set by the loader. */
const volatile bool objects = true;

struct reached {
	u64 process;
	u64 target;
	u32 kind;
	u32 reserved;
};

/* How often each process did it; the first time is reported. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__type(key, struct reached);
	__type(value, u64);
	__uint(max_entries, 8192);
} reaches SEC(".maps");

static __always_inline int report_reach(u32 kind, struct task_struct *by, struct task_struct *target)
{
	u32 tgid = BPF_CORE_READ(by, tgid), target_tgid = BPF_CORE_READ(target, tgid);
	struct process *p = lookup_process(tgid), *t = lookup_process(target_tgid);
	struct reached key = { .kind = kind };
	struct access_record *r;
	u64 one = 1, *times;

	if (tgid == target_tgid)
		return 0;
	key.process = p ? p->id : tgid;
	key.target = t ? t->id : target_tgid;
	times = bpf_map_lookup_elem(&reaches, &key);
	if (times) {
		__sync_fetch_and_add(times, 1);
		return 0;
	}
	if (bpf_map_update_elem(&reaches, &key, &one, BPF_NOEXIST))
		return 0;
	r = reserve(KIND_ACCESS, struct access_record);
	if (!r)
		return 0;
	fill(&r->header, KIND_ACCESS, bpf_ktime_get_boot_ns(), p ? p->id : 0, tgid,
	     BPF_CORE_READ(by, cred, uid.val));
	r->target = t ? t->id : 0;
	r->target_pid = target_tgid;
	r->access = kind;
	r->target_worker = t && t->flags & PROCESS_WORKER;
	r->reserved[0] = 0;
	r->reserved[1] = 0;
	submit_urgent(r);
	return 0;
}

#if defined(__TARGET_ARCH_x86)
static __always_inline bool is_sendfile(long number, bool compat)
{
	return compat ? number == 187 || number == 239 : number == 40;
}
#elif defined(__TARGET_ARCH_arm64)
static __always_inline bool is_sendfile(long number, bool compat)
{
	return compat ? number == 187 || number == 239 : number == 71;
}
#endif

#define CALL_IO_URING_ENTER 426	/* in all tables */

/*
 * By which call the memory of another process is reached: through the file below
 * /proc that is its first argument, unless it is one of those made for it. All other
 * calls that lock somebody's memory do it without reading there.
 */
static __always_inline u32 reach_of(struct task_struct *task)
{
	struct pt_regs *regs;
	union name name = {};
	struct fdtable *table;
	struct file *file;
	long number;
	u32 fd;

	if (BPF_CORE_READ(task, flags) & PF_IO_WORKER)
		return ACCESS_MEM;
	regs = (void *)bpf_task_pt_regs((void *)task);
	if (!regs)
		return 0;
	number = call_number(regs);
	switch (classify(number)) {
	case CALL_PTRACE:
		return ACCESS_PTRACE;
	case CALL_VM_READ:
		return ACCESS_VM_READ;
	case CALL_VM_WRITE:
		return ACCESS_VM_WRITE;
	default:
		break;
	}
	number &= ~0x40000000L;
	if (number == CALL_IO_URING_ENTER)
		return ACCESS_MEM;
	fd = is_sendfile(number, is_compat()) ? second_argument(regs) : first_argument(regs);
	table = BPF_CORE_READ(task, files, fdt);
	if (fd >= BPF_CORE_READ(table, max_fds))
		return 0;
	file = proc_file(BPF_CORE_READ(table, fd) + fd);
	if (!file)
		return 0;
	bpf_probe_read_kernel_str(name.text, sizeof(name.text),
				  BPF_CORE_READ(file, f_path.dentry, d_name.name));
	return access_of(&name);
}

SEC("tp_btf/mmap_lock_acquire_returned")
int BPF_PROG(memory_locked, struct mm_struct *mm)
{
	struct task_struct *task = bpf_get_current_task_btf(), *owner;
	u32 kind;

	if (task->mm == mm || !task->mm)
		return 0;
	/* None while a program is being loaded; itself while it forks. */
	owner = BPF_CORE_READ(mm, owner);
	if (!owner || BPF_CORE_READ(owner, tgid) == task->tgid)
		return 0;
	kind = reach_of(task);
	return kind ? report_reach(kind, task, owner) : 0;
}

/*
 * An attach stops the target (SIGSTOP from the kernel, while the caller runs); one
 * that was seized tells its tracer when it stops. A tracer that ignores SIGCHLD and
 * only changes registers is not seen.
 */
SEC("tp_btf/signal_generate")
int BPF_PROG(signal_sent, int number, void *info, struct task_struct *target)
{
	struct task_struct *task = bpf_get_current_task_btf();

	if (BPF_CORE_READ(target, tgid) == own_tgid && number != SIGCHLD && task->tgid != own_tgid)
		report_own_signal(number, task);
	if (!objects)
		return 0;
	if (number == SIGSTOP && (u64)info == SEND_SIG_PRIV && BPF_CORE_READ(target, ptrace))
		return report_reach(ACCESS_PTRACE, task, target);
	if (number == SIGCHLD && task->ptrace & PT_SEIZED)
		return report_reach(ACCESS_PTRACE, target, task);
	return 0;
}

#endif
