/* SPDX-License-Identifier: GPL-2.0 */
/*
 * TCP connections: those opened from this machine from the connect call on (SYN_SENT,
 * in the context of the process), those accepted from when they are established, and
 * sockets that listen; each until CLOSE.
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
	u8 direction;
	u8 reserved[5];
	/* Who else has sent, last. */
	u64 user;
};

/* Who listens, as far as a connection that comes in needs to know. */
struct listener {
	u64 net;
	u32 port;
	u32 reserved;
};

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__type(key, struct listener);
	__type(value, u64); /* cookie: an entry of connections */
	__uint(max_entries, 4096);
} listeners SEC(".maps");

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
	r->direction = c->direction;
	__builtin_memset(r->reserved, 0, sizeof(r->reserved));
	submit(r);
}

static __always_inline void begin(struct sock *sk, u8 direction, u64 process, u32 pid, u32 uid)
{
	u64 cookie = bpf_get_socket_cookie(sk);
	struct connection c;

	c.process = process;
	c.pid = pid;
	c.uid = uid;
	c.started = bpf_ktime_get_boot_ns();
	c.sent = 0;
	c.received = 0;
	c.established = direction != FLOW_OUTBOUND;
	c.hello_end = 0;
	c.hello_seen = direction != FLOW_OUTBOUND;
	c.hello_open = 0;
	c.direction = direction;
	__builtin_memset(c.reserved, 0, sizeof(c.reserved));
	c.user = 0;
	c.socket = (u64)sk;
	c.flow = new_flow();
	report_tcp(sk, NULL, &c, c.flow, FLOW_STARTED, c.started, true);
	if (bpf_map_update_elem(&connections, &cookie, &c, BPF_ANY))
		count_lost(KIND_FLOW); /* its end */
}

static __always_inline struct listener listener_of(struct sock *sk)
{
	struct listener key = {
		.net = (u64)sk->__sk_common.skc_net.net,
		.port = sk->__sk_common.skc_num,
	};

	return key;
}

/* By a process: a socket that connects, or listens. */
static __always_inline void begin_here(struct sock *sk, u8 direction)
{
	u32 tgid = bpf_get_current_pid_tgid() >> 32;
	struct process *p = lookup_process(tgid);

	begin(sk, direction, p ? p->id : 0, tgid, bpf_get_current_uid_gid());
	if (direction == FLOW_LISTENING) {
		struct listener key = listener_of(sk);
		u64 cookie = bpf_get_socket_cookie(sk);

		bpf_map_update_elem(&listeners, &key, &cookie, BPF_ANY);
	}
}

static __always_inline bool from_loopback(struct sock *sk)
{
	struct address a;

	if (sk->__sk_common.skc_family != AF_INET6)
		return (sk->__sk_common.skc_daddr & bpf_htonl(0xff000000)) == bpf_htonl(0x7f000000);
	bpf_core_read(&a, sizeof(a), &sk->__sk_common.skc_v6_daddr);
	return is_loopback(&a);
}

/*
 * A connection that came in belongs to who listens; one from this machine has been
 * told of as one that went out.
 */
static __always_inline void begin_inbound(struct sock *sk)
{
	struct listener key = listener_of(sk);
	u64 *cookie = bpf_map_lookup_elem(&listeners, &key);
	struct connection *l = cookie ? bpf_map_lookup_elem(&connections, cookie) : NULL;

	if (!from_loopback(sk))
		begin(sk, FLOW_INBOUND, l ? l->process : 0, l ? l->pid : 0, l ? l->uid : 0);
}

static __always_inline void end(struct sock *sk)
{
	u64 cookie = bpf_get_socket_cookie(sk), id;
	struct connection *c = bpf_map_lookup_elem(&connections, &cookie);
	struct tcp_sock *tp;

	if (!c)
		return;
	id = __sync_lock_test_and_set(&c->flow, 0);
	if (!id)
		return;
	tp = bpf_skc_to_tcp_sock(sk); /* none of MPTCP */
	report_tcp(sk, tp, c, id, FLOW_ENDED, bpf_ktime_get_boot_ns(), true);
	if (c->hello_open)
		__sync_fetch_and_add(&hellos_open, -1);
	bpf_map_delete_elem(&connections, &cookie);
}

SEC("tp_btf/inet_sock_set_state")
int BPF_PROG(tcp_state, struct sock *sk, int old, int state)
{
	struct connection *c;
	u64 cookie;

	if (sk->sk_protocol != IPPROTO_TCP) {
		/* One that was open before the sensor and listened (opened.h). */
		if (sk->sk_protocol == IPPROTO_MPTCP && state == TCP_CLOSE)
			end(sk);
		return 0;
	}
	switch (state) {
	case TCP_SYN_SENT:
		begin_here(sk, FLOW_OUTBOUND);
		return 0;
	case TCP_LISTEN:
		begin_here(sk, FLOW_LISTENING);
		return 0;
	case TCP_ESTABLISHED:
		if (old == TCP_SYN_RECV) {
			begin_inbound(sk);
			return 0;
		}
		cookie = bpf_get_socket_cookie(sk);
		c = bpf_map_lookup_elem(&connections, &cookie);
		if (c)
			c->established = 1;
		return 0;
	case TCP_CLOSE:
		end(sk);
		return 0;
	}
	return 0;
}

static long sweep_connection(struct bpf_map *map, u64 *key, struct connection *c, u64 *now)
{
	struct sock *sk = (void *)c->socket;
	u64 id = c->flow;

	if (!id || c->direction == FLOW_LISTENING || *now < c->reported || *now - c->reported < flow_interval)
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
