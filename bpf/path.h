/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Paths, by walking dentries and mounts up to the root, since bpf_d_path is not to
 * be had in tracepoint programs.
 */
#ifndef SALLYPORT_PATH_H
#define SALLYPORT_PATH_H

#include "kernel.h"
#include "record.h"

#define MAX_COMPONENTS 128

/* Written from its end; 256 bytes more for the verifier's view of the last name. */
struct path_buffer {
	char data[MAX_PATH + 256];
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__type(key, u32);
	__type(value, struct path_buffer);
	__uint(max_entries, 1);
} path_buffers SEC(".maps");

struct walk {
	struct dentry *dentry;
	struct vfsmount *mnt;
	u32 position;
	bool whole;
};

/* Puts a dentry's name and a slash before what is there; false if it does not fit. */
static __always_inline bool prepend(struct walk *w, struct dentry *dentry)
{
	u32 zero = 0;
	struct path_buffer *b = bpf_map_lookup_elem(&path_buffers, &zero);
	u32 length = BPF_CORE_READ(dentry, d_name.len);
	u32 position = w->position;

	if (!b || length > 255 || position < length + 1)
		return false;
	position -= length;
	if (position >= MAX_PATH)
		return false;
	if (bpf_probe_read_kernel(&b->data[position], length & 255,
				  BPF_CORE_READ(dentry, d_name.name)))
		return false;
	position = (position - 1) & (MAX_PATH - 1);
	b->data[position] = '/';
	w->position = position;
	return true;
}

static long walk_up(u32 i, struct walk *w)
{
	struct dentry *dentry = w->dentry, *parent = BPF_CORE_READ(dentry, d_parent);
	struct vfsmount *mnt = w->mnt;

	if (dentry == BPF_CORE_READ(mnt, mnt_root)) {
		struct mount *m = (void *)mnt - bpf_core_field_offset(struct mount, mnt);
		struct mount *up = BPF_CORE_READ(m, mnt_parent);

		if (up == m) {
			w->whole = true;
			return 1;
		}
		w->dentry = BPF_CORE_READ(m, mnt_mountpoint);
		w->mnt = (void *)up + bpf_core_field_offset(struct mount, mnt);
		return 0;
	}
	if (!parent || !prepend(w, dentry))
		return 1;
	if (parent == dentry) {
		/* Not in any folder, as a memfd. */
		w->whole = true;
		return 1;
	}
	w->dentry = parent;
	return 0;
}

/*
 * Writes the path to the CPU's buffer: the first byte's position, or MAX_PATH if
 * it was longer than MAX_PATH bytes or MAX_COMPONENTS names. Not static, and its
 * pointers numbers: the kernel proves it once then, not for each way to each call.
 */
__noinline u32 walk_path(u64 dentry_at, u64 mnt_at)
{
	static const char deleted[] = " (deleted)";
	struct dentry *dentry = (void *)dentry_at;
	struct vfsmount *mnt = (void *)mnt_at;
	u32 zero = 0;
	struct path_buffer *b = bpf_map_lookup_elem(&path_buffers, &zero);
	struct walk w = { .dentry = dentry, .mnt = mnt, .position = MAX_PATH };

	if (!b || !dentry || !mnt)
		return MAX_PATH;
	if (!BPF_CORE_READ(dentry, d_hash.pprev) && dentry != BPF_CORE_READ(mnt, mnt_root)) {
		w.position = MAX_PATH - (sizeof(deleted) - 1);
		__builtin_memcpy(&b->data[MAX_PATH - (sizeof(deleted) - 1)], " (deleted)",
				 sizeof(deleted) - 1);
	}
	bpf_loop(MAX_COMPONENTS, walk_up, &w, 0);
	if (!w.whole)
		return MAX_PATH;
	if (w.position == MAX_PATH) {
		w.position = MAX_PATH - 1;
		b->data[MAX_PATH - 1] = '/';
	}
	return w.position;
}

/*
 * When an inode last changed, in ns. The upper bit of the rest says that somebody has
 * asked for it (multigrain timestamps).
 */
static __always_inline u64 changed_at(struct inode *inode)
{
	struct inode___6_6 *later = (void *)inode;
	struct inode___early *early = (void *)inode;

	if (bpf_core_field_exists(inode->i_ctime_sec))
		return BPF_CORE_READ(inode, i_ctime_sec) * 1000000000ULL +
		       (BPF_CORE_READ(inode, i_ctime_nsec) & 0x7fffffff);
	if (bpf_core_field_exists(later->__i_ctime))
		return BPF_CORE_READ(later, __i_ctime.tv_sec) * 1000000000ULL +
		       (BPF_CORE_READ(later, __i_ctime.tv_nsec) & 0x7fffffff);
	return BPF_CORE_READ(early, i_ctime.tv_sec) * 1000000000ULL +
	       BPF_CORE_READ(early, i_ctime.tv_nsec);
}

/* When an inode was last accessed, in ns. */
static __always_inline u64 accessed_at(struct inode *inode)
{
	struct inode___6_6 *later = (void *)inode;
	struct inode___early *early = (void *)inode;

	if (bpf_core_field_exists(inode->i_atime_sec))
		return BPF_CORE_READ(inode, i_atime_sec) * 1000000000ULL +
		       BPF_CORE_READ(inode, i_atime_nsec);
	if (bpf_core_field_exists(later->__i_atime))
		return BPF_CORE_READ(later, __i_atime.tv_sec) * 1000000000ULL +
		       BPF_CORE_READ(later, __i_atime.tv_nsec);
	return BPF_CORE_READ(early, i_atime.tv_sec) * 1000000000ULL +
	       BPF_CORE_READ(early, i_atime.tv_nsec);
}

#endif
