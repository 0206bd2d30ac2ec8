/* SPDX-License-Identifier: GPL-2.0 */
/* Sockets that were open before the sensor: they belong to the first process found. */
#ifndef SALLYPORT_OPENED_H
#define SALLYPORT_OPENED_H

#include "tcp.h"

/* First come those that listen: what is connected to their ports came in. */
u32 opened_listening;

static __always_inline void enter_tcp(struct sock *sk, struct task_struct *task)
{
	u8 state = sk->__sk_common.skc_state, direction = FLOW_OUTBOUND;
	struct listener key = listener_of(sk);
	u64 cookie = bpf_get_socket_cookie(sk);
	struct process *p = identify(task);
	struct tcp_sock *tp = (void *)sk;
	struct connection c = {};

	if (state != (opened_listening ? TCP_LISTEN : TCP_ESTABLISHED) || !p ||
	    bpf_map_lookup_elem(&connections, &cookie))
		return;
	if (opened_listening) {
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
	c.sent = tcp_sent(tp, false);
	c.received = tcp_received(tp, sk, false);
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
	struct process *p;
	struct tracked *t;
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
	if (has_own_table(sk->sk_type, sk->sk_protocol)) {
		if (sk->sk_protocol == IPPROTO_TCP)
			enter_tcp(sk, task);
		return 0;
	}
	p = identify(task);
	t = bpf_sk_storage_get(&sockets, sk, 0, BPF_SK_STORAGE_GET_F_CREATE);
	if (!p || !t || t->process)
		return 0;
	t->process = p->id;
	t->pid = BPF_CORE_READ(task, tgid);
	t->uid = BPF_CORE_READ(task, cred, uid.val);
	return 0;
}

#endif
