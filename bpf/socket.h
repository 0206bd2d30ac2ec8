/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Whose a socket is. Packets are seen in whatever context the kernel handles them,
 * so the process is noted in the socket's own storage by hooks that run in the
 * process: socket, connect and sendmsg.
 */
#ifndef SALLYPORT_SOCKET_H
#define SALLYPORT_SOCKET_H

#include "lineage.h"

/* A socket, one remote address and port, and a protocol. */
struct remote {
	u64 cookie;
	struct address address;
	u16 port;	/* 0 of protocols without ports */
	u16 protocol;
	u16 reserved[2];
};

struct tracked {
	/* The process that made, connected or last used it. */
	u64 process;
	u32 pid;
	u32 uid;

	/* Its UDP flows: how many are open, and the last one begun. */
	u32 udp_flows;
	/* It was connected, or sent, to port 53. */
	u32 asks;
	struct remote last;
};

struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct tracked);
} sockets SEC(".maps");

/* Added to the number of a flow: the boot time at which the sensor was loaded. */
const volatile u64 first_flow;
u64 flows_begun;

/* After how much time, in ns, an open flow is reported again. */
const volatile u64 flow_interval = 60000000000ULL;
/* After how much time, in ns, without a datagram a UDP flow has ended. */
const volatile u64 flow_idle = 60000000000ULL;

static __always_inline u64 new_flow(void)
{
	return first_flow + __sync_fetch_and_add(&flows_begun, 1);
}

/* Who runs now; leaves what is there for a kernel thread. */
static __always_inline void own(struct tracked *t)
{
	u32 tgid = bpf_get_current_pid_tgid() >> 32;
	struct process *p = lookup_process(tgid);

	if (!p)
		return;
	t->process = p->id;
	t->pid = tgid;
	t->uid = bpf_get_current_uid_gid();
}

/*
 * Takes a counter's growth since the last report, exactly once even when two
 * reports are made at a time: 0 for the one that comes second.
 */
static __always_inline u64 growth(u64 *reported, u64 total)
{
	u64 old = *(volatile u64 *)reported;

	for (int i = 0; i < 4; i++) {
		u64 seen;

		if (total <= old)
			return 0;
		seen = __sync_val_compare_and_swap(reported, old, total);
		if (seen == old)
			return total - old;
		old = seen;
	}
	return 0;
}

static __always_inline void map_v4(struct address *a, u32 v4)
{
	__builtin_memset(a->bytes, 0, 10);
	a->bytes[10] = 0xff;
	a->bytes[11] = 0xff;
	__builtin_memcpy(&a->bytes[12], &v4, 4);
}

static __always_inline bool is_loopback(const struct address *a)
{
	const u64 *half = (const u64 *)a->bytes;
	const u32 *word = (const u32 *)a->bytes;

	if (half[0])
		return false;
	return word[2] == bpf_htonl(0xffff) ? a->bytes[12] == 127 :
					      half[1] == bpf_cpu_to_be64(1);
}

/* TCP, and MPTCP, have a table of their own (tcp.h); SCTP has not. */
static __always_inline bool has_own_table(u32 type, u32 protocol)
{
	return type == SOCK_STREAM && protocol != IPPROTO_SCTP;
}

SEC("cgroup/sock_create")
int socket_create(struct bpf_sock *ctx)
{
	struct tracked *t;

	if (has_own_table(ctx->type, ctx->protocol))
		return 1;
	t = bpf_sk_storage_get(&sockets, ctx, 0, BPF_SK_STORAGE_GET_F_CREATE);
	if (t)
		own(t);
	return 1;
}

static __always_inline int use(struct bpf_sock_addr *ctx)
{
	struct bpf_sock *sk = ctx->sk;
	struct tracked *t;

	if (!sk || has_own_table(ctx->type, ctx->protocol))
		return 1;
	t = bpf_sk_storage_get(&sockets, sk, 0, BPF_SK_STORAGE_GET_F_CREATE);
	if (!t)
		return 1;
	own(t);
	t->asks = (u16)ctx->user_port == bpf_htons(53);
	return 1;
}

SEC("cgroup/connect4")
int socket_connect4(struct bpf_sock_addr *ctx)
{
	return use(ctx);
}

SEC("cgroup/connect6")
int socket_connect6(struct bpf_sock_addr *ctx)
{
	return use(ctx);
}

SEC("cgroup/sendmsg4")
int socket_sendmsg4(struct bpf_sock_addr *ctx)
{
	return use(ctx);
}

SEC("cgroup/sendmsg6")
int socket_sendmsg6(struct bpf_sock_addr *ctx)
{
	return use(ctx);
}

#endif
