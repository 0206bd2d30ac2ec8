/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Reads of and writes to files that matter, seen where the page cache is read and
 * where an inode changes: whatever call, link or mount led there, and at no cost to
 * calls that touch no file.
 */
#ifndef SALLYPORT_FILE_H
#define SALLYPORT_FILE_H

#include <asm-generic/errno-base.h>

#include "watch.h"

/* The alias of an inode that is asked: another may have been made to mislead. */
#define MAX_ALIASES 4

struct touched {
	u64 process;
	u64 inode;
	u32 device;
	u32 access;
};

/* How often each process did it; the first time is reported. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__type(key, struct touched);
	__type(value, u64);
	__uint(max_entries, 16384);
} touches SEC(".maps");

static __always_inline struct dentry *alias_of(struct hlist_node *node)
{
	struct dentry___7 *later = NULL;

	if (bpf_core_field_exists(later->d_alias))
		return (void *)node - bpf_core_field_offset(struct dentry___7, d_alias);
	return (void *)node - bpf_core_field_offset(struct dentry, d_u.d_alias);
}

/*
 * Writes the path below the root of the file system to the CPU's buffer, as
 * walk_path does.
 */
static long climb(u32 i, struct walk *w)
{
	struct dentry *dentry = w->dentry, *parent = BPF_CORE_READ(dentry, d_parent);

	if (!parent || parent == dentry) {
		w->whole = true;
		return 1;
	}
	if (!prepend(w, dentry))
		return 1;
	w->dentry = parent;
	return 0;
}

static __noinline int report_file(struct dentry *dentry, struct inode *inode, u32 access,
				  u32 watched)
{
	struct walk w = { .dentry = dentry, .position = MAX_PATH };
	u32 tgid = bpf_get_current_pid_tgid() >> 32, zero = 0, length, position;
	struct path_buffer *b = bpf_map_lookup_elem(&path_buffers, &zero);
	struct process *p = lookup_process(tgid);
	struct touched key = {};
	struct file_record *r;
	u64 one = 1, *times;

	if (!p || !b || !inode || !dentry || !(p->flags & (PROCESS_STEP | PROCESS_CHILD)))
		return 0;
	key.process = p->id;
	key.inode = BPF_CORE_READ(inode, i_ino);
	key.device = BPF_CORE_READ(inode, i_sb, s_dev);
	key.access = access;
	times = bpf_map_lookup_elem(&touches, &key);
	if (times) {
		__sync_fetch_and_add(times, 1);
		return 0;
	}
	/*
	 * Another thread of the process may be first. What the table does not take for
	 * another reason is told each time.
	 */
	if (bpf_map_update_elem(&touches, &key, &one, BPF_NOEXIST) == -EEXIST)
		return 0;
	r = reserve(KIND_FILE, struct file_record);
	if (!r)
		return 0;
	fill(&r->header, KIND_FILE, bpf_ktime_get_boot_ns(), p->id, tgid,
	     bpf_get_current_uid_gid());
	r->inode = key.inode;
	r->device = key.device;
	r->access = access;
	r->watched = watched;
	r->path_length = 0;
	__builtin_memset(r->reserved, 0, sizeof(r->reserved));
	bpf_loop(MAX_COMPONENTS, climb, &w, 0);
	position = w.position;
	length = MAX_PATH - position;
	if (w.whole && position < MAX_PATH && length <= MAX_PATH &&
	    !bpf_probe_read_kernel(r->path, length, &b->data[position]))
		r->path_length = length;
	submit_urgent(r);
	return 0;
}

/* A file that had the number before may have changed in the same tick of the clock. */
struct change {
	u64 at;
	u32 generation;
	u32 told;	/* that it was changed then */
};

/* Times of change of files that were found by name. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__type(key, struct watched_inode);
	__type(value, struct change);
	__uint(max_entries, 4096);
} changes SEC(".maps");

/* The flags of an inode that has data to be written. */
static __always_inline u32 dirty_data(void)
{
	struct inode *inode = NULL;

	if (bpf_core_enum_value_exists(enum inode_state_flags_t, I_DIRTY_PAGES))
		return bpf_core_enum_value(enum inode_state_flags_t, I_DIRTY_PAGES) |
		       bpf_core_enum_value(enum inode_state_flags_t, I_DIRTY_DATASYNC);
	if (bpf_core_enum_value_exists(enum inode_state_flags_enum, I_DIRTY_PAGES___later))
		return bpf_core_enum_value(enum inode_state_flags_enum, I_DIRTY_PAGES___later) |
		       bpf_core_enum_value(enum inode_state_flags_enum, I_DIRTY_DATASYNC___later);
	/* They were given other bits when the field became shorter, in Linux 6.12. */
	return bpf_core_field_size(inode->i_state) == sizeof(u32) ? 16 | 32 : 2 | 4;
}

/*
 * An inode is marked when it was only read, too, for its time of access: it was
 * changed if its time of change is another than before, or if it has pages to be written.
 * Of one that is met for the first time: if that time is not older than that of access,
 * which anybody may set.
 */
static __always_inline bool was_changed(struct inode *inode, int flags)
{
	struct watched_inode key = {
		.number = BPF_CORE_READ(inode, i_ino),
		.device = BPF_CORE_READ(inode, i_sb, s_dev),
	};
	struct change now = { .at = changed_at(inode), .generation = BPF_CORE_READ(inode, i_generation) };
	struct change *before = bpf_map_lookup_elem(&changes, &key);
	bool same = before && before->generation == now.generation;
	bool written = flags & dirty_data();

	if (same && before->at == now.at && (before->told || !written))
		return false;
	now.told = same || written || now.at >= accessed_at(inode);
	bpf_map_update_elem(&changes, &key, &now, BPF_ANY);
	return now.told;
}

struct search {
	struct inode *inode;
	u32 access;
	u32 own;	/* bits of its own name or inode that count */
	u32 parent;	/* bits of its folder's name that count */
	int flags;
	bool changing;
};

/* Asks one alias. */
static __always_inline bool ask_alias(struct filter *f, struct search *s, struct dentry *dentry)
{
	struct dentry *parent;
	u32 watched = watched_by_name(f, dentry) & s->own;

	if (!watched && s->parent) {
		parent = BPF_CORE_READ(dentry, d_parent);
		if (parent != dentry)
			watched = watched_by_name(f, parent) & s->parent;
	}
	if (!watched)
		return false;
	if (!s->changing || was_changed(s->inode, s->flags))
		report_file(dentry, s->inode, s->access, watched);
	return true;
}

static __always_inline void ask_names(struct filter *f, struct search *s)
{
	/* Only kernel structures may stand inside BPF_CORE_READ. */
	struct inode *inode = s->inode;
	struct hlist_node *node = BPF_CORE_READ(inode, i_dentry.first);

	for (int i = 0; i < MAX_ALIASES && node; i++) {
		if (ask_alias(f, s, alias_of(node)))
			return;
		node = BPF_CORE_READ(node, next);
	}
}

static __always_inline int read_of(struct inode *inode)
{
	struct search s = { .inode = inode, .access = FILE_READ, .own = WATCHED_READ,
			    .parent = WATCHED_CHILD_READ };
	u32 zero = 0;
	struct filter *f = bpf_map_lookup_elem(&filters, &zero);
	struct watched_file *file;
	struct hlist_node *node;

	if (!f || !inode)
		return 0;
	file = watched_by_inode(f, BPF_CORE_READ(inode, i_ino), BPF_CORE_READ(inode, i_sb, s_dev));
	node = BPF_CORE_READ(inode, i_dentry.first);
	if (file && node && file->watched & WATCHED_INODE_READ &&
	    file->generation == BPF_CORE_READ(inode, i_generation))
		return report_file(alias_of(node), inode, FILE_READ, WATCHED_INODE_READ);
	ask_names(f, &s);
	return 0;
}

SEC("tp_btf/mm_filemap_get_pages")
int BPF_PROG(file_read, struct address_space *mapping)
{
	return read_of(BPF_CORE_READ(mapping, host));
}

SEC("tp_btf/mm_filemap_fault")
int BPF_PROG(file_fault, struct address_space *mapping)
{
	return read_of(BPF_CORE_READ(mapping, host));
}

SEC("tp_btf/mm_filemap_map_pages")
int BPF_PROG(file_map, struct address_space *mapping)
{
	return read_of(BPF_CORE_READ(mapping, host));
}

/*
 * Before Linux 6.12 there are no such tracepoints: the functions of the page cache
 * (mm/filemap.c), where the kernel allows to attach to functions.
 */
SEC("fentry/filemap_read")
int BPF_PROG(enter_read, struct kiocb *call)
{
	return read_of(BPF_CORE_READ(call, ki_filp, f_mapping, host));
}

/* Linux 6.3 and later: before, it went through filemap_read. */
SEC("fentry/filemap_splice_read")
int BPF_PROG(enter_splice, struct file *file)
{
	return read_of(BPF_CORE_READ(file, f_mapping, host));
}

SEC("fentry/filemap_fault")
int BPF_PROG(enter_fault, struct vm_fault *fault)
{
	return read_of(BPF_CORE_READ(fault, vma, vm_file, f_mapping, host));
}

SEC("fentry/filemap_map_pages")
int BPF_PROG(enter_map, struct vm_fault *fault)
{
	return read_of(BPF_CORE_READ(fault, vma, vm_file, f_mapping, host));
}

SEC("tp_btf/writeback_mark_inode_dirty")
int BPF_PROG(inode_dirty, struct inode *inode, int flags)
{
	struct search s = { .inode = inode, .access = FILE_WRITE, .own = WATCHED_WRITE,
			    .parent = WATCHED_CHILD_WRITE, .flags = flags, .changing = true };
	u64 number = BPF_CORE_READ(inode, i_ino), now;
	u32 zero = 0, device = BPF_CORE_READ(inode, i_sb, s_dev);
	struct filter *f = bpf_map_lookup_elem(&filters, &zero);
	struct watched_file *file;
	struct hlist_node *node;

	/* File systems change folders without marking them: folder.go looks at those. */
	if (!f || (BPF_CORE_READ(inode, i_mode) & S_IFMT) != S_IFREG)
		return 0;
	file = watched_by_inode(f, number, device);
	if (file && file->watched & s.own) {
		now = changed_at(inode);
		node = BPF_CORE_READ(inode, i_dentry.first);
		if (now == file->changed || !node)
			return 0;
		file->changed = now;
		report_file(alias_of(node), inode, s.access, file->watched & s.own);
		return 0;
	}
	ask_names(f, &s);
	return 0;
}

#endif
