/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Who sends on a socket, if it is not who began the flow: a program that inherited it,
 * or was passed it. And who sends frames by packet and XDP sockets, which pass all
 * hooks of flows by. Runs after each call that sends.
 */
#ifndef SALLYPORT_USE_H
#define SALLYPORT_USE_H

#include "tcp.h"
#include "udp.h"
#include "reach.h"

/*
 * Who sent last on this CPU, and on what: most sends are like the one before. By its
 * memory, which each program has anew.
 */
struct sender {
	u64 socket;
	u64 memory;
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__type(key, u32);
	__type(value, struct sender);
	__uint(max_entries, 1);
} senders SEC(".maps");

static __always_inline void report_packets(struct task_struct *task, u32 family)
{
	struct process *p = lookup_process(task->tgid);
	struct reached key = { .target = family, .kind = 0x100 | PRIVILEGE_PACKETS };
	struct privilege_record *r;
	u64 one = 1;

	key.process = p ? p->id : task->tgid;
	if (bpf_map_update_elem(&reaches, &key, &one, BPF_NOEXIST))
		return; /* told */
	r = reserve_privilege(PRIVILEGE_PACKETS, p ? p->id : 0, task);
	if (!r)
		return;
	r->number = family;
	submit_urgent(r);
}

static __always_inline void report_tcp_use(struct sock *sk, struct process *p, u32 tgid, u32 uid)
{
	u64 cookie = bpf_get_socket_cookie(sk);
	struct connection *c = bpf_map_lookup_elem(&connections, &cookie), copy;

	if (!c || c->process == p->id || c->user == p->id || c->direction == FLOW_LISTENING)
		return;
	c->user = p->id;
	copy = *c;
	copy.process = p->id;
	copy.pid = tgid;
	copy.uid = uid;
	report_tcp(sk, NULL, &copy, copy.flow, FLOW_USED, bpf_ktime_get_boot_ns(), true);
}

static __always_inline void report_udp_use(struct sock *sk, struct process *p, u32 tgid, u32 uid)
{
	struct tracked *t = bpf_sk_storage_get(&sockets, sk, 0, 0);
	struct udp_flow *f, copy;
	struct remote key;

	if (!t || !t->udp_flows)
		return;
	key = t->last;
	f = bpf_map_lookup_elem(&udp_flows, &key);
	if (!f || f->process == p->id || f->user == p->id)
		return;
	f->user = p->id;
	copy = *f;
	copy.process = p->id;
	copy.pid = tgid;
	copy.uid = uid;
	copy.sent_reported = copy.sent;
	copy.received_reported = copy.received;
	report_udp(&key, &copy, FLOW_USED, bpf_ktime_get_boot_ns());
}

static __always_inline int sent_on(struct sock *sk)
{
	struct task_struct *task = bpf_get_current_task_btf();
	u16 family = sk->__sk_common.skc_family;
	u64 memory = (u64)task->mm;
	struct sender *last;
	struct process *p;
	u32 zero = 0;

	if (family == AF_UNIX)
		return 0;
	last = bpf_map_lookup_elem(&senders, &zero);
	if (!last || (last->socket == (u64)sk && last->memory == memory))
		return 0;
	last->socket = (u64)sk;
	last->memory = memory;
	switch (family) {
	case AF_PACKET:
	case AF_XDP:
		report_packets(task, family);
		return 0;
	case AF_INET:
	case AF_INET6:
		break;
	default:
		return 0;
	}
	p = lookup_process(task->tgid);
	if (!p)
		return 0;
	if (sk->sk_protocol == IPPROTO_TCP)
		report_tcp_use(sk, p, task->tgid, bpf_get_current_uid_gid());
	else
		report_udp_use(sk, p, task->tgid, bpf_get_current_uid_gid());
	return 0;
}

SEC("tp_btf/sock_send_length")
int BPF_PROG(socket_sent, struct sock *sk)
{
	return sent_on(sk);
}

/*
 * Before Linux 6.3 there is no such tracepoint: the functions of each family, where the
 * kernel allows to attach to functions. sendfile and splice pass them by.
 */
SEC("fexit/inet_sendmsg")
int BPF_PROG(inet_sent, struct socket *socket)
{
	return socket->sk ? sent_on(socket->sk) : 0;
}

SEC("fexit/inet6_sendmsg")
int BPF_PROG(inet6_sent, struct socket *socket)
{
	return socket->sk ? sent_on(socket->sk) : 0;
}

SEC("fexit/packet_sendmsg")
int BPF_PROG(packet_sent, struct socket *socket)
{
	return socket->sk ? sent_on(socket->sk) : 0;
}

#endif
