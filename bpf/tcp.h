/* SPDX-License-Identifier: GPL-2.0 */
/*
 * TCP connections opened from this machine, from the connect call (SYN_SENT, in the
 * context of the process) to CLOSE. Accepted connections never pass SYN_SENT.
 */
#ifndef SALLYPORT_TCP_H
#define SALLYPORT_TCP_H

#include "socket.h"

/*
 * Payload bytes. Neither SYN nor FIN is in bytes_sent; a FIN that came is in
 * bytes_received (net/ipv4/tcp_input.c, tcp_rcv_nxt_update).
 */
static __always_inline u64 tcp_sent(struct sock *sk)
{
	struct tcp_sock *tp = (void *)sk;

	return BPF_CORE_READ(tp, bytes_sent) - BPF_CORE_READ(tp, bytes_retrans);
}

static __always_inline u64 tcp_received(struct sock *sk)
{
	struct tcp_sock *tp = (void *)sk;
	u64 received = BPF_CORE_READ(tp, bytes_received);
	u64 done = 1UL << bpf_core_enum_value(enum sock_flags, SOCK_DONE);

	if (received && sk->__sk_common.skc_flags & done)
		received--;
	return received;
}

static __always_inline void report_tcp(struct sock *sk, struct tracked *t, u64 id, u8 state,
				       u64 now)
{
	struct inet_sock *inet = (void *)sk;
	u64 sent = 0, received = 0;
	struct flow_record *r;

	r = reserve(KIND_FLOW, struct flow_record);
	if (!r)
		return;
	if (state != FLOW_STARTED) {
		sent = growth(&t->sent, tcp_sent(sk));
		received = growth(&t->received, tcp_received(sk));
	}
	t->reported = now;
	fill(&r->header, KIND_FLOW, now, t->process, t->pid, t->uid);
	r->id = id;
	r->started = t->started;
	r->sent = sent;
	r->received = received;
	if (sk->__sk_common.skc_family == AF_INET6) {
		bpf_core_read(&r->source, sizeof(r->source), &sk->__sk_common.skc_v6_rcv_saddr);
		bpf_core_read(&r->destination, sizeof(r->destination),
			      &sk->__sk_common.skc_v6_daddr);
	} else {
		map_v4(&r->source, sk->__sk_common.skc_rcv_saddr);
		map_v4(&r->destination, sk->__sk_common.skc_daddr);
	}
	/* skc_num is zero already when the port was given back before CLOSE. */
	r->source_port = bpf_ntohs(BPF_CORE_READ(inet, inet_sport));
	r->destination_port = bpf_ntohs(sk->__sk_common.skc_dport);
	r->error = state == FLOW_ENDED ? sk->sk_err : 0;
	r->state = state;
	r->protocol = IPPROTO_TCP;
	r->established = t->established;
	__builtin_memset(r->reserved, 0, sizeof(r->reserved));
	submit(r);
}

SEC("tp_btf/inet_sock_set_state")
int BPF_PROG(tcp_state, struct sock *sk, int old, int state)
{
	u64 now, id;
	struct tracked *t;

	if (sk->sk_protocol != IPPROTO_TCP)
		return 0;
	switch (state) {
	case TCP_SYN_SENT:
		t = bpf_sk_storage_get(&sockets, sk, 0, BPF_SK_STORAGE_GET_F_CREATE);
		if (!t) {
			count_lost(KIND_FLOW);
			return 0;
		}
		now = bpf_ktime_get_boot_ns();
		own(t);
		t->started = now;
		t->sent = 0;
		t->received = 0;
		t->established = 0;
		t->flow = new_flow();
		report_tcp(sk, t, t->flow, FLOW_STARTED, now);
		return 0;
	case TCP_ESTABLISHED:
		t = bpf_sk_storage_get(&sockets, sk, 0, 0);
		if (t)
			t->established = 1;
		return 0;
	case TCP_CLOSE:
		t = bpf_sk_storage_get(&sockets, sk, 0, 0);
		if (!t)
			return 0;
		id = __sync_lock_test_and_set(&t->flow, 0);
		if (id)
			report_tcp(sk, t, id, FLOW_ENDED, bpf_ktime_get_boot_ns());
		return 0;
	}
	return 0;
}

/* Run by the loader every few seconds: reports connections that go on. */
SEC("iter/bpf_sk_storage_map")
int sweep_tcp(struct bpf_iter__bpf_sk_storage_map *ctx)
{
	struct sock *sk = ctx->sk;
	u64 now = bpf_ktime_get_boot_ns(), id;
	struct tracked *t = ctx->value;

	if (!sk || !t)
		return 0;
	t = bpf_sk_storage_get(&sockets, sk, 0, 0);
	if (!t)
		return 0;
	id = t->flow;
	if (id && now - t->reported >= flow_interval)
		report_tcp(sk, t, id, FLOW_ACTIVE, now);
	return 0;
}

#endif
