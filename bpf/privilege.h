/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Privileges: gained, used on the kernel, or used against the sensor. Nothing runs at
 * the calls that change them. What a process is, is compared with what it was when it
 * was last looked at: when it forks, when it runs a program, and when it ends.
 */
#ifndef SALLYPORT_PRIVILEGE_H
#define SALLYPORT_PRIVILEGE_H

#include "lineage.h"

/* Who loaded these programs, set by found_processes. */
u32 own_tgid;

static __always_inline struct privilege_record *reserve_privilege(u8 privilege, u64 process,
								  struct task_struct *task)
{
	struct privilege_record *r = reserve(KIND_PRIVILEGE, struct privilege_record);

	if (!r)
		return NULL;
	__builtin_memset(r, 0, sizeof(*r));
	fill(&r->header, KIND_PRIVILEGE, bpf_ktime_get_boot_ns(), process,
	     BPF_CORE_READ(task, tgid), BPF_CORE_READ(task, cred, uid.val));
	r->privilege = privilege;
	return r;
}

/*
 * 1 for what is not zero, without a branch: the kernel's proof follows each way through
 * the eight comparisons below.
 */
static __always_inline u32 nonzero(u64 n)
{
	u64 minus = -n;

	asm volatile("" : "+r"(minus)); /* or the compiler makes it a branch */
	return (n | minus) >> 63;
}

#define differs(a, b, field, bit) \
	(nonzero((u64)BPF_CORE_READ(a, field) ^ (u64)BPF_CORE_READ(b, field)) * (bit))

/* In which namespaces a task is that another one is not in. */
static __always_inline u32 namespaces_unlike(struct task_struct *task, struct task_struct *other)
{
	struct nsproxy *a = BPF_CORE_READ(task, nsproxy), *b = BPF_CORE_READ(other, nsproxy);
	const struct cred *own = BPF_CORE_READ(task, cred), *others = BPF_CORE_READ(other, cred);
	u32 unlike = differs(own, others, user_ns, NAMESPACE_USER);

	if (!a || !b || a == b)
		return unlike;
	unlike |= differs(a, b, uts_ns, NAMESPACE_UTS) | differs(a, b, ipc_ns, NAMESPACE_IPC) |
		  differs(a, b, mnt_ns, NAMESPACE_MOUNT) |
		  differs(a, b, pid_ns_for_children, NAMESPACE_PID) |
		  differs(a, b, net_ns, NAMESPACE_NET) | differs(a, b, cgroup_ns, NAMESPACE_CGROUP);
	if (bpf_core_field_exists(a->time_ns))
		unlike |= differs(a, b, time_ns, NAMESPACE_TIME);
	return unlike;
}

static __always_inline void report_namespaces(struct task_struct *task, struct task_struct *other,
					      u64 process)
{
	u32 unlike = namespaces_unlike(task, other);
	struct privilege_record *r;

	if (!unlike)
		return; /* back to where it came from */
	r = reserve_privilege(PRIVILEGE_NAMESPACES, process, task);
	if (!r)
		return;
	r->number = unlike;
	submit_urgent(r);
}

static __always_inline void report_gain(struct task_struct *task, u64 process, u64 gained,
					u32 euid_before, u32 euid)
{
	struct privilege_record *r = reserve_privilege(PRIVILEGE_GAINED, process, task);

	if (!r)
		return;
	r->gained = gained;
	r->euid_before = euid_before;
	r->euid = euid;
	submit_urgent(r);
}

/*
 * Compares a task with its process's entry, reports what was gained, and brings the
 * entry up to date. Namespaces were changed by identity, privileges gained by program:
 * the two differ when that program has just begun, and may have given them (elevated:
 * its file is setuid or has capabilities). Capabilities in a user namespace of its own
 * are no privilege.
 */
static __always_inline void look_again(struct task_struct *task, struct process *p, u64 identity,
				       u64 program, bool elevated)
{
	struct process now = {};
	u64 gained;

	note_standing(&now, task);
	if (now.nsproxy && (now.nsproxy != p->nsproxy || now.user_ns != p->user_ns))
		report_namespaces(task, BPF_CORE_READ(task, real_parent), identity);
	gained = now.capabilities & ~p->capabilities;
	if (now.user_ns == p->user_ns && (gained || (now.euid == 0 && p->euid != 0)))
		report_gain(task, program, gained, p->euid, now.euid);
	else if (elevated && (now.capabilities || now.euid == 0))
		/* The process had given up, since it was looked at, what it has again. */
		report_gain(task, program, now.capabilities, BPF_CORE_READ(task, cred, uid.val),
			    now.euid);
	p->euid = now.euid;
	p->capabilities = now.capabilities;
	p->user_ns = now.user_ns;
	if (now.nsproxy)
		p->nsproxy = now.nsproxy;
}

SEC("tp_btf/module_load")
int BPF_PROG(module_loaded, struct module *module)
{
	struct task_struct *task = bpf_get_current_task_btf();
	struct process *p = identify(task);
	struct privilege_record *r = reserve_privilege(PRIVILEGE_MODULE, p ? p->id : 0, task);

	if (!r)
		return 0;
	bpf_probe_read_kernel_str(r->name, sizeof(r->name), module->name);
	submit_urgent(r);
	return 0;
}

/* Called by signal_sent (reach.h): a signal to the agent that it did not send itself. */
static __always_inline void report_own_signal(int number, struct task_struct *task)
{
	struct process *p = identify(task);
	struct privilege_record *r = reserve_privilege(PRIVILEGE_SIGNAL, p ? p->id : 0, task);

	if (!r)
		return;
	r->number = number;
	submit_urgent(r);
}

static __always_inline int report_cgroup(struct cgroup *cgroup, const char *path, bool removed)
{
	struct task_struct *task = bpf_get_current_task_btf();
	struct cgroup_record *r;
	struct process *p;
	long n;

	if (BPF_CORE_READ(cgroup, root, hierarchy_id) != 0)
		return 0; /* of version 1 */
	r = reserve(KIND_CGROUP, struct cgroup_record);
	if (!r)
		return 0;
	p = identify(task);
	fill(&r->header, KIND_CGROUP, bpf_ktime_get_boot_ns(), p ? p->id : 0,
	     BPF_CORE_READ(task, tgid), BPF_CORE_READ(task, cred, uid.val));
	r->cgroup = BPF_CORE_READ(cgroup, kn, id);
	r->removed = removed;
	n = bpf_probe_read_kernel_str(r->path, sizeof(r->path), path);
	r->length = n > 0 ? n - 1 : 0;
	submit(r);
	return 0;
}

SEC("tp_btf/cgroup_mkdir")
int BPF_PROG(cgroup_made, struct cgroup *cgroup, const char *path)
{
	return report_cgroup(cgroup, path, false);
}

SEC("tp_btf/cgroup_rmdir")
int BPF_PROG(cgroup_removed, struct cgroup *cgroup, const char *path)
{
	return report_cgroup(cgroup, path, true);
}

#endif
