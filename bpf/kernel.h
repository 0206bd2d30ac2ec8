/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The few fields of kernel structures that the programs read. Offsets are fixed
 * up when the programs are loaded (CO-RE), so only names and types matter here,
 * neither order nor size.
 */
#ifndef SALLYPORT_KERNEL_H
#define SALLYPORT_KERNEL_H

#include <linux/bpf.h>
#include <linux/types.h>
#include <stdbool.h>

#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_tracing.h>

typedef __u8 u8;
typedef __u16 u16;
typedef __u32 u32;
typedef __u64 u64;
typedef __s32 s32;
typedef __s64 s64;

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

struct list_head {
	struct list_head *next, *prev;
};

struct hlist_node {
	struct hlist_node *next, **pprev;
};

struct hlist_head {
	struct hlist_node *first;
};

struct hlist_bl_node {
	struct hlist_bl_node *next, **pprev;
};

typedef struct {
	int counter;
} atomic_t;

typedef struct {
	u32 val;
} kuid_t;

typedef struct {
	u32 val;
} kgid_t;

/* include/linux/dcache.h */
struct qstr {
	u32 len;
	const unsigned char *name;
};

struct dentry {
	struct hlist_bl_node d_hash;
	struct dentry *d_parent;
	struct qstr d_name;
	union {
		struct hlist_node d_alias;
	} d_u;
};

/* Linux 7 has no name for the union (seen on 7.3). */
struct dentry___7 {
	struct hlist_node d_alias;
};

/* include/linux/fs.h */
struct super_block {
	unsigned long s_magic;
	u32 s_dev;
};

struct timespec64 {
	s64 tv_sec;
	long tv_nsec;
};

/*
 * The times of change and access, as Linux 6.6 to 6.10 have them (of access: 6.7) and as
 * earlier ones do.
 */
struct inode___6_6 {
	struct timespec64 __i_atime, __i_ctime;
};

struct inode___early {
	struct timespec64 i_atime, i_ctime;
};

struct inode {
	unsigned short i_mode;
	unsigned int i_nlink;
	struct super_block *i_sb;
	unsigned long i_ino;
	struct hlist_head i_dentry;
	long long i_atime_sec, i_ctime_sec;
	u32 i_atime_nsec, i_ctime_nsec;
	u32 i_generation;
	u32 i_state;
};

/* include/linux/fs.h, under either name since Linux 6.18; macros before. */
enum inode_state_flags_t {
	I_DIRTY_DATASYNC = 1,
	I_DIRTY_PAGES,
};

enum inode_state_flags_enum {
	I_DIRTY_DATASYNC___later = 1,
	I_DIRTY_PAGES___later,
};

struct address_space {
	struct inode *host;
};

struct vfsmount {
	struct dentry *mnt_root;
};

struct path {
	struct vfsmount *mnt;
	struct dentry *dentry;
};

struct file {
	struct inode *f_inode;
	struct address_space *f_mapping;
	struct path f_path;
};

struct kiocb {
	struct file *ki_filp;
};

/* include/linux/mm_types.h, include/linux/mm.h */
struct vm_area_struct {
	struct file *vm_file;
};

struct vm_fault {
	struct vm_area_struct *vma;
};

/* fs/mount.h */
struct mount {
	struct mount *mnt_parent;
	struct dentry *mnt_mountpoint;
	struct vfsmount mnt;
};

/* fs/proc/internal.h */
struct proc_inode {
	struct pid *pid;
	struct inode vfs_inode;
};

/* include/linux/io_uring_types.h */
struct io_cqe {
	int res;
};

struct io_kiocb {
	u8 opcode;
	struct io_cqe cqe;
};

/* include/linux/fdtable.h */
struct fdtable {
	unsigned int max_fds;
	struct file **fd;
};

struct files_struct {
	struct fdtable *fdt;
};

/* include/linux/fs_struct.h */
struct fs_struct {
	struct path pwd;
};

/* include/linux/mm_types.h */
struct mm_struct {
	struct task_struct *owner;
	unsigned long arg_start, arg_end, env_start, env_end;
	struct file *exe_file;
};

/* include/linux/cred.h */
struct user_namespace;

typedef struct {
	u64 val; /* until Linux 6.3 two numbers of 32 bits */
} kernel_cap_t;

struct cred {
	kuid_t uid;
	kgid_t gid;
	kuid_t euid;
	kernel_cap_t cap_effective;
	struct user_namespace *user_ns;
};

/* include/linux/nsproxy.h */
struct nsproxy {
	void *uts_ns, *ipc_ns, *mnt_ns, *pid_ns_for_children, *net_ns, *time_ns, *cgroup_ns;
};

/* include/linux/module.h */
struct module {
	char name[56];
};

/* include/linux/cgroup-defs.h */
struct kernfs_node {
	u64 id;
};

struct cgroup_root {
	int hierarchy_id;
};

struct cgroup {
	struct kernfs_node *kn;
	struct cgroup_root *root;
};

struct css_set {
	struct cgroup *dfl_cgrp;
};

/* include/linux/pid.h */
struct pid_namespace {
	unsigned int level;
};

struct upid {
	int nr;
	struct pid_namespace *ns;
};

struct pid {
	unsigned int level;
	struct hlist_head tasks[4];
	struct upid numbers[1];
};

/* include/linux/sched/signal.h */
struct signal_struct {
	atomic_t live;
	int group_exit_code;
	unsigned int flags;
};

/* include/linux/sched.h */
struct task_struct {
	int pid;
	int tgid;
	unsigned int flags;
	unsigned int ptrace;
	int exit_code;
	char comm[16];
	u64 start_boottime;
	struct task_struct *group_leader;
	struct task_struct *real_parent;
	struct list_head ptraced;
	struct list_head ptrace_entry;
	struct hlist_node pid_links[4];
	struct pid *thread_pid;
	struct signal_struct *signal;
	struct mm_struct *mm;
	struct files_struct *files;
	struct fs_struct *fs;
	const struct cred *cred;
	struct nsproxy *nsproxy;
	struct css_set *cgroups;
};

/* include/linux/binfmts.h */
struct linux_binprm {
	const char *filename;
	const char *interp; /* another string once a script's first line was followed */
	unsigned int have_execfd : 1, execfd_creds : 1, secureexec : 1;
};

/* include/net/sock.h, include/net/inet_sock.h, include/linux/tcp.h */
struct in6_addr {
	union {
		u8 u6_addr8[16];
	} in6_u;
};

typedef struct {
	long long counter;
} atomic64_t;

typedef struct {
	struct net *net;
} possible_net_t;

struct sock_common {
	u32 skc_daddr;
	u32 skc_rcv_saddr;
	u16 skc_dport;
	u16 skc_num;
	unsigned short skc_family;
	volatile unsigned char skc_state;
	unsigned long skc_flags;
	atomic64_t skc_cookie;
	possible_net_t skc_net;
	struct in6_addr skc_v6_daddr;
	struct in6_addr skc_v6_rcv_saddr;
};

struct sock {
	struct sock_common __sk_common;
	u16 sk_type;
	u16 sk_protocol;
	int sk_err;
};

struct inet_sock {
	struct sock sk;
	u16 inet_sport;
};

struct inet_connection_sock {
	struct inet_sock icsk_inet;
};

struct tcp_sock {
	struct inet_connection_sock inet_conn;
	u64 bytes_sent;
	u64 bytes_retrans;
	u64 bytes_received;
};

enum sock_flags {
	SOCK_DONE = 1,
};

struct socket {
	struct sock *sk;
};

/* include/linux/bpf.h, kernel/bpf/task_iter.c */
struct seq_file;
struct bpf_map;

struct bpf_iter_meta {
	struct seq_file *seq;
	u64 session_id;
	u64 seq_num;
};

struct bpf_iter__task {
	struct bpf_iter_meta *meta;
	struct task_struct *task;
};

struct bpf_iter__task_file {
	struct bpf_iter_meta *meta;
	struct task_struct *task;
	u32 fd;
	struct file *file;
};

#pragma clang attribute pop

#define PF_KTHREAD 0x00200000
#define SIGNAL_GROUP_EXIT 0x00000004

/* include/uapi/linux/stat.h, include/linux/fs.h */
#define S_IFMT 0170000
#define S_IFREG 0100000
/* include/uapi/linux/magic.h */
#define TMPFS_MAGIC 0x01021994

#define AF_UNIX 1
#define AF_INET 2
#define AF_INET6 10
#define AF_PACKET 17
#define AF_XDP 44
#define SOCK_STREAM 1
#define SOCK_RAW 3
#define IPPROTO_TCP 6
#define IPPROTO_UDP 17
#define IPPROTO_SCTP 132
#define IPPROTO_MPTCP 262
#define ETH_P_IP 0x0800
#define ETH_P_IPV6 0x86dd

/* include/net/tcp_states.h */
#define TCP_ESTABLISHED 1
#define TCP_SYN_SENT 2
#define TCP_SYN_RECV 3
#define TCP_CLOSE 7
#define TCP_LISTEN 10

#endif
