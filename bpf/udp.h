/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Flows of datagrams: one socket, one remote address and port, one protocol, begun by
 * a datagram that we sent. UDP, and whatever raw sockets send: ICMP, for instance. What
 * a UDP server answers to those who asked first is no flow.
 */
#ifndef SALLYPORT_UDP_H
#define SALLYPORT_UDP_H

#include "socket.h"

struct udp_flow {
	u64 process;
	u32 pid;
	u32 uid;
	u64 id;
	u64 started;
	u64 reported;	/* when */
	u64 last;	/* datagram, when */
	u64 sent;
	u64 received;
	u64 sent_reported;
	u64 received_reported;
	u64 user;	/* who else has sent, last */
	struct address source;
	u16 source_port;
	u16 initials;	/* QUIC Initial packets handed over */
	u16 reserved[2];
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct remote);
	__type(value, struct udp_flow);
	__uint(max_entries, 65536);
} udp_flows SEC(".maps");

/*
 * Those who sent to us first, with the time of the last datagram. Apart from the
 * flows, and forgetting the eldest, so that a flood from outside hides no flow.
 */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__type(key, struct remote);
	__type(value, u64);
	__uint(max_entries, 16384);
} udp_askers SEC(".maps");

static __always_inline void report_udp(const struct remote *key, struct udp_flow *f, u8 state,
				       u64 now)
{
	struct flow_record *r = reserve(KIND_FLOW, struct flow_record);

	if (!r)
		return;
	f->reported = now;
	fill(&r->header, KIND_FLOW, now, f->process, f->pid, f->uid);
	r->id = f->id;
	r->started = f->started;
	r->sent = growth(&f->sent_reported, f->sent);
	r->received = growth(&f->received_reported, f->received);
	r->source = f->source;
	r->destination = key->address;
	r->source_port = f->source_port;
	r->destination_port = key->port;
	r->error = 0;
	r->state = state;
	r->protocol = key->protocol;
	r->established = 0;
	r->direction = FLOW_OUTBOUND;
	__builtin_memset(r->reserved, 0, sizeof(r->reserved));
	submit(r);
}

/* A datagram of size bytes went out. */
static __always_inline void udp_sent(struct tracked *t, const struct remote *key,
				     const struct address *source, u16 source_port, u64 size)
{
	struct udp_flow *f = bpf_map_lookup_elem(&udp_flows, key), new = {};
	u64 now = bpf_ktime_get_boot_ns(), *asked;

	if (f) {
		__sync_fetch_and_add(&f->sent, size);
		f->last = now;
		return;
	}
	asked = bpf_map_lookup_elem(&udp_askers, key);
	if (asked && now - *asked < flow_idle) {
		*asked = now;
		return;
	}
	if (t) {
		new.process = t->process;
		new.pid = t->pid;
		new.uid = t->uid;
	}
	new.id = new_flow();
	new.started = now;
	new.last = now;
	new.source = *source;
	new.source_port = source_port;
	/* Reported first: the counts of the record are zero. */
	report_udp(key, &new, FLOW_STARTED, now);
	new.sent = size;
	if (bpf_map_update_elem(&udp_flows, key, &new, BPF_NOEXIST)) {
		count_lost(KIND_FLOW);
		return;
	}
	if (t) {
		t->last = *key;
		__sync_fetch_and_add(&t->udp_flows, 1);
	}
}

/* A datagram of size bytes came in. */
static __always_inline void udp_received(const struct remote *key, u64 size)
{
	struct udp_flow *f = bpf_map_lookup_elem(&udp_flows, key);
	u64 now = bpf_ktime_get_boot_ns();

	if (f) {
		__sync_fetch_and_add(&f->received, size);
		f->last = now;
		return;
	}
	if (key->protocol == IPPROTO_UDP)
		bpf_map_update_elem(&udp_askers, key, &now, BPF_ANY);
}

static __always_inline void end_udp(struct remote *key, struct udp_flow *f, u64 now)
{
	report_udp(key, f, FLOW_ENDED, now);
	bpf_map_delete_elem(&udp_flows, key);
}

struct closing {
	u64 cookie;
	u64 now;
};

static long close_one(struct bpf_map *map, struct remote *key, struct udp_flow *f,
		      struct closing *c)
{
	struct remote k = *key;

	if (k.cookie == c->cookie)
		end_udp(&k, f, c->now);
	return 0;
}

SEC("cgroup/sock_release")
int socket_release(struct bpf_sock *ctx)
{
	struct closing c;
	struct tracked *t;

	if (has_own_table(ctx->type, ctx->protocol))
		return 1;
	t = bpf_sk_storage_get(&sockets, ctx, 0, 0);
	if (!t || !t->udp_flows)
		return 1;
	c.now = bpf_ktime_get_boot_ns();
	if (t->udp_flows == 1) {
		struct remote key = t->last;
		struct udp_flow *f = bpf_map_lookup_elem(&udp_flows, &key);

		/* None if it has been idle. */
		if (f)
			end_udp(&key, f, c.now);
		return 1;
	}
	/* Rare: a socket that sent to several. All flows are asked whose they are. */
	c.cookie = t->last.cookie;
	bpf_for_each_map_elem(&udp_flows, close_one, &c, 0);
	return 1;
}

static long sweep_one(struct bpf_map *map, struct remote *key, struct udp_flow *f, u64 *now)
{
	struct remote k = *key;

	if (*now > f->last && *now - f->last >= flow_idle)
		end_udp(&k, f, *now);
	else if (*now > f->reported && *now - f->reported >= flow_interval)
		report_udp(&k, f, FLOW_ACTIVE, *now);
	return 0;
}

/* Run by the loader every few seconds: reports flows that go on or are idle. */
SEC("syscall")
int sweep_udp(void *ctx)
{
	u64 now = bpf_ktime_get_boot_ns();

	bpf_for_each_map_elem(&udp_flows, sweep_one, &now, 0);
	return 0;
}

#endif
