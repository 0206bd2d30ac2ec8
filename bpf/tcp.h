/* SPDX-License-Identifier: GPL-2.0 */
/*
 * TCP connections opened from this machine, from the connect call (SYN_SENT, in the
 * context of the process) to CLOSE. Accepted connections never pass SYN_SENT.
 */
#ifndef SALLYPORT_TCP_H
#define SALLYPORT_TCP_H

#include "socket.h"

struct connection {
	u64 process;
	u64 flow;
	u64 started;
	u64 reported;	/* when */
	u64 sent;	/* of which reported */
	u64 received;
	u64 socket;	/* its address, to read the counts of one that goes on */
	u32 pid;
	u32 uid;
	u32 established;
	/* Of its TLS client's first message: the sequence behind it, if it is not out yet. */
	u32 hello_end;
	u8 hello_seen;
	u8 hello_open;
	u8 reserved[6];
};

/* How many connections have sent the beginning of a TLS client's first message only. */
s64 hellos_open;

/* Open connections by socket cookie. Storage of the socket itself costs thrice. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__type(key, u64);
	__type(value, struct connection);
	__uint(max_entries, 65536);
} connections SEC(".maps");

/*
 * Reads a field: by a plain load through a pointer that the kernel passed, many times
 * cheaper, or by the helper.
 */
#define read_field(trusted, pointer, field) \
	((trusted) ? (pointer)->field : BPF_CORE_READ(pointer, field))

/*
 * Payload bytes. Neither SYN nor FIN is in bytes_sent; a FIN that came is in
 * bytes_received (net/ipv4/tcp_input.c, tcp_rcv_nxt_update).
 */
static __always_inline u64 tcp_sent(struct tcp_sock *tp, bool trusted)
{
	return read_field(trusted, tp, bytes_sent) - read_field(trusted, tp, bytes_retrans);
}

static __always_inline u64 tcp_received(struct tcp_sock *tp, struct sock *sk, bool trusted)
{
	u64 received = read_field(trusted, tp, bytes_received);
	u64 done = 1UL << bpf_core_enum_value(enum sock_flags, SOCK_DONE);

	if (received && read_field(trusted, sk, __sk_common.skc_flags) & done)
		received--;
	return received;
}

/* tp is NULL for a connection that starts. */
static __always_inline void report_tcp(struct sock *sk, struct tcp_sock *tp, struct connection *c,
				       u64 id, u8 state, u64 now, bool trusted)
{
	struct flow_record *r = reserve(KIND_FLOW, struct flow_record);

	if (!r)
		return;
	fill(&r->header, KIND_FLOW, now, c->process, c->pid, c->uid);
	r->id = id;
	r->started = c->started;
	r->sent = 0;
	r->received = 0;
	r->error = 0;
	if (tp) {
		r->sent = growth(&c->sent, tcp_sent(tp, trusted));
		r->received = growth(&c->received, tcp_received(tp, sk, trusted));
		/* skc_num is zero already when the port was given back before CLOSE. */
		r->source_port =
			bpf_ntohs(read_field(trusted, tp, inet_conn.icsk_inet.inet_sport));
		if (state == FLOW_ENDED)
			r->error = read_field(trusted, sk, sk_err);
	} else {
		r->source_port = read_field(trusted, sk, __sk_common.skc_num);
	}
	c->reported = now;
	if (read_field(trusted, sk, __sk_common.skc_family) == AF_INET6) {
		bpf_core_read(&r->source, sizeof(r->source), &sk->__sk_common.skc_v6_rcv_saddr);
		bpf_core_read(&r->destination, sizeof(r->destination),
			      &sk->__sk_common.skc_v6_daddr);
	} else {
		map_v4(&r->source, read_field(trusted, sk, __sk_common.skc_rcv_saddr));
		map_v4(&r->destination, read_field(trusted, sk, __sk_common.skc_daddr));
	}
	r->destination_port = bpf_ntohs(read_field(trusted, sk, __sk_common.skc_dport));
	r->state = state;
	r->protocol = IPPROTO_TCP;
	r->established = c->established;
	__builtin_memset(r->reserved, 0, sizeof(r->reserved));
	submit(r);
}

SEC("tp_btf/inet_sock_set_state")
int BPF_PROG(tcp_state, struct sock *sk, int old, int state)
{
	struct connection *c, new;
	struct tcp_sock *tp;
	struct process *p;
	u64 cookie, id;
	u32 tgid;

	if (sk->sk_protocol != IPPROTO_TCP)
		return 0;
	switch (state) {
	case TCP_SYN_SENT:
		cookie = bpf_get_socket_cookie(sk);
		tgid = bpf_get_current_pid_tgid() >> 32;
		p = lookup_process(tgid);
		new.process = p ? p->id : 0;
		new.pid = tgid;
		new.uid = bpf_get_current_uid_gid();
		new.started = bpf_ktime_get_boot_ns();
		new.sent = 0;
		new.received = 0;
		new.established = 0;
		new.hello_end = 0;
		new.hello_seen = 0;
		new.hello_open = 0;
		__builtin_memset(new.reserved, 0, sizeof(new.reserved));
		new.socket = (u64)sk;
		new.flow = new_flow();
		report_tcp(sk, NULL, &new, new.flow, FLOW_STARTED, new.started, true);
		if (bpf_map_update_elem(&connections, &cookie, &new, BPF_ANY))
			count_lost(KIND_FLOW); /* its end */
		return 0;
	case TCP_ESTABLISHED:
		if (old != TCP_SYN_SENT)
			return 0;
		cookie = bpf_get_socket_cookie(sk);
		c = bpf_map_lookup_elem(&connections, &cookie);
		if (c)
			c->established = 1;
		return 0;
	case TCP_CLOSE:
		cookie = bpf_get_socket_cookie(sk);
		c = bpf_map_lookup_elem(&connections, &cookie);
		if (!c)
			return 0;
		id = __sync_lock_test_and_set(&c->flow, 0);
		if (!id)
			return 0;
		tp = bpf_skc_to_tcp_sock(sk);
		if (tp)
			report_tcp(sk, tp, c, id, FLOW_ENDED, bpf_ktime_get_boot_ns(), true);
		if (c->hello_open)
			__sync_fetch_and_add(&hellos_open, -1);
		bpf_map_delete_elem(&connections, &cookie);
		return 0;
	}
	return 0;
}

static long sweep_connection(struct bpf_map *map, u64 *key, struct connection *c, u64 *now)
{
	struct sock *sk = (void *)c->socket;
	u64 id = c->flow;

	if (!id || *now < c->reported || *now - c->reported < flow_interval)
		return 0;
	/* The memory may be another socket's by now. */
	if (BPF_CORE_READ(sk, __sk_common.skc_cookie.counter) == *key)
		report_tcp(sk, (void *)sk, c, id, FLOW_ACTIVE, *now, false);
	return 0;
}

/* Run by the loader every few seconds: reports connections that go on. */
SEC("syscall")
int sweep_tcp(void *ctx)
{
	u64 now = bpf_ktime_get_boot_ns();

	bpf_for_each_map_elem(&connections, sweep_connection, &now, 0);
	return 0;
}

#endif
