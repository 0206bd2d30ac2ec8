/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Sockets that were open before the sensor: they belong to the first process found.
 *
 * Kernels of 2026 let a program that walks files read a socket and no more: its cookie is
 * made, and its storage filled, by the loader, through a descriptor of it (opened.go). So
 * they are listed first.
 */
#ifndef SALLYPORT_OPENED_H
#define SALLYPORT_OPENED_H

#include "tcp.h"
#include "process.h"

enum opened_pass {
	OPENED_LIST,
	/* Then those that listen: what is connected to their ports came in. */
	OPENED_LISTENING,
	OPENED_CONNECTED,
};

u32 opened_pass;

/* An open socket, as written by the iterator (opened.go decodes it). */
struct opened {
	u64 process;
	u64 cookie;	/* 0 if nobody has asked for it */
	u32 pid;
	u32 local_pid;	/* in the reader's PID namespace */
	u32 uid;
	u32 fd;
	u32 own_table;
	u32 reserved;
};

_Static_assert(sizeof(struct opened) == 40, "opened");

/*
 * Of MPTCP those that listen, as servers written in Go do: what they accept is TCP. Their
 * connections of before have no file of their own.
 */
static __always_inline bool enters(struct sock *sk)
{
	return sk->sk_protocol == IPPROTO_TCP ||
	       (sk->sk_protocol == IPPROTO_MPTCP && opened_pass == OPENED_LISTENING);
}

static __always_inline void enter_tcp(struct sock *sk, struct task_struct *task, struct process *p)
{
	u8 state = sk->__sk_common.skc_state, direction = FLOW_OUTBOUND;
	struct listener key = listener_of(sk);
	u64 cookie = sk->__sk_common.skc_cookie.counter;
	struct tcp_sock *tp = sk->sk_protocol == IPPROTO_TCP ? (void *)sk : NULL;
	bool listening = opened_pass == OPENED_LISTENING;
	struct connection c = {};

	if (state != (listening ? TCP_LISTEN : TCP_ESTABLISHED) || !cookie ||
	    bpf_map_lookup_elem(&connections, &cookie))
		return;
	if (listening) {
		direction = FLOW_LISTENING;
		bpf_map_update_elem(&listeners, &key, &cookie, BPF_ANY);
	} else if (bpf_map_lookup_elem(&listeners, &key)) {
		direction = FLOW_INBOUND;
		if (from_loopback(sk))
			return; /* the other end is told of */
	}
	c.process = p->id;
	c.pid = BPF_CORE_READ(task, tgid);
	c.uid = BPF_CORE_READ(task, cred, uid.val);
	c.started = bpf_ktime_get_boot_ns();
	/* What was carried before is nobody's to tell. */
	if (tp) {
		c.sent = tcp_sent(tp, false);
		c.received = tcp_received(tp, sk, false);
	}
	c.established = 1;
	c.hello_seen = 1;
	c.direction = direction;
	c.socket = (u64)sk;
	c.flow = new_flow();
	report_tcp(sk, tp, &c, c.flow, FLOW_FOUND, c.started, false);
	if (bpf_map_update_elem(&connections, &cookie, &c, BPF_NOEXIST))
		count_lost(KIND_FLOW); /* its end */
}

SEC("iter/task_file")
int found_sockets(struct bpf_iter__task_file *ctx)
{
	struct task_struct *task = ctx->task;
	struct file *file = ctx->file;
	struct socket *socket;
	struct opened o = {};
	struct process *p;
	struct sock *sk;
	u16 family;

	if (!task || !file)
		return 0;
	socket = bpf_sock_from_file(file);
	if (!socket)
		return 0;
	sk = socket->sk;
	if (!sk)
		return 0;
	family = sk->__sk_common.skc_family;
	if (family != AF_INET && family != AF_INET6)
		return 0;
	o.own_table = has_own_table(sk->sk_type, sk->sk_protocol);
	p = identify(task);
	if (!p)
		return 0;
	if (opened_pass != OPENED_LIST) {
		if (o.own_table && enters(sk))
			enter_tcp(sk, task, p);
		return 0;
	}
	o.process = p->id;
	o.cookie = sk->__sk_common.skc_cookie.counter;
	o.pid = BPF_CORE_READ(task, tgid);
	o.local_pid = local_pid(task);
	o.uid = BPF_CORE_READ(task, cred, uid.val);
	o.fd = ctx->fd;
	bpf_seq_write(ctx->meta->seq, &o, sizeof(o));
	return 0;
}

#endif
