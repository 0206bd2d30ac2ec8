/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Files that matter: which ones user space says (watch.go). A program that runs at
 * every read or write of the machine must leave fast, so that two small filters come
 * first; what they let through is looked up.
 */
#ifndef SALLYPORT_WATCH_H
#define SALLYPORT_WATCH_H

#include "lineage.h"
#include "path.h"

#define NAME_SIZE 32

enum watched {
	WATCHED_READ = 1,		/* reads of the file */
	WATCHED_WRITE = 2,		/* writes to the file */
	WATCHED_CHILD_READ = 4,		/* reads of files in the folder */
	WATCHED_CHILD_WRITE = 8,	/* writes to files in the folder */
	WATCHED_INODE_READ = 16,	/* reads of this very inode, whatever its name */
};

struct watched_name {
	char text[NAME_SIZE];	/* zeros behind the name; longer names do not match */
};

struct watched_inode {
	u64 number;
	u32 device;	/* as in s_dev: major << 20 | minor */
	u32 reserved;
};

/* Its memory is there from the beginning: no name of the watch list may be refused. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__type(key, struct watched_name);
	__type(value, u32);
	__uint(max_entries, 4096);
} watched_names SEC(".maps");

struct watched_file {
	u64 changed;	/* its time of change when last looked at, in ns */
	u32 watched;
	u32 generation;	/* of WATCHED_INODE_READ: numbers are used again */
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct watched_inode);
	__type(value, struct watched_file);
	__uint(max_entries, 262144);
} watched_inodes SEC(".maps");

#define NAME_BITS 4096
#define INODE_BITS (1 << 20)

/* A bit for each hash of a name or inode that is watched: no bit, not watched. */
struct filter {
	u64 names[NAME_BITS / 64];
	u64 inodes[INODE_BITS / 64];
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__type(key, u32);
	__type(value, struct filter);
	__uint(max_entries, 1);
} filters SEC(".maps");

/* watch.go has the same two. */
static __always_inline u32 name_bit(u64 first, u32 length)
{
	return ((first ^ length) * 0x9e3779b97f4a7c15ULL) >> (64 - 12);
}

static __always_inline u32 inode_bit(u64 number, u32 device)
{
	return ((number ^ device) * 0x9e3779b97f4a7c15ULL) >> (64 - 20);
}

/* What is watched of names like this dentry's, 0 for nearly all. */
static __always_inline u32 watched_by_name(struct filter *f, struct dentry *dentry)
{
	struct watched_name key = {};
	u32 length = BPF_CORE_READ(dentry, d_name.len), bit, *watched;
	const unsigned char *name = BPF_CORE_READ(dentry, d_name.name);
	u64 first = 0;

	if (length == 0 || length >= NAME_SIZE)
		return 0;
	/* Names lie in blocks of at least eight bytes. */
	if (bpf_probe_read_kernel(&first, sizeof(first), name))
		return 0;
	if (length < 8)
		first &= (1ULL << (length * 8)) - 1;
	bit = name_bit(first, length);
	if (!(f->names[(bit / 64) & (NAME_BITS / 64 - 1)] & (1ULL << (bit % 64))))
		return 0;
	if (bpf_probe_read_kernel(key.text, length & (NAME_SIZE - 1), name))
		return 0;
	watched = bpf_map_lookup_elem(&watched_names, &key);
	return watched ? *watched : 0;
}

static __always_inline struct watched_file *watched_by_inode(struct filter *f, u64 number, u32 device)
{
	struct watched_inode key = { .number = number, .device = device };
	u32 bit = inode_bit(number, device);

	if (!(f->inodes[(bit / 64) & (INODE_BITS / 64 - 1)] & (1ULL << (bit % 64))))
		return NULL;
	return bpf_map_lookup_elem(&watched_inodes, &key);
}

#endif
