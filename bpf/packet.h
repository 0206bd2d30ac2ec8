/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Packets of this machine's sockets, as the cgroup hooks see them: datagrams are
 * counted, and DNS messages handed over. All other packets leave after two loads.
 */
#ifndef SALLYPORT_PACKET_H
#define SALLYPORT_PACKET_H

#include "udp.h"

#define DNS_PORT 53
#define MAX_EXTENSIONS 6

struct datagram {
	struct address source, destination;
	u16 source_port, destination_port;
	u32 offset;	/* of the payload */
	u32 size;	/* of the payload */
};

struct ipv4_header {
	u8 version_length;
	u8 service;
	u16 length, id, fragment;
	u8 lifetime, protocol;
	u16 checksum;
	u32 source, destination;
};

struct ipv6_header {
	u32 version_class_flow;
	u16 length;
	u8 next, hops;
	struct address source, destination;
};

struct udp_header {
	u16 source, destination, length, checksum;
};

/* Where the UDP header is behind an IPv6 header, 0 if there is none. */
static __always_inline u32 skip_extensions(struct __sk_buff *skb, u8 next)
{
	u32 offset = sizeof(struct ipv6_header);

	for (int i = 0; i < MAX_EXTENSIONS; i++) {
		u8 extension[2];

		if (next == IPPROTO_UDP)
			return offset;
		/* Hop-by-hop, routing, destination options: RFC 8200. */
		if (next != 0 && next != 43 && next != 60)
			return 0;
		if (bpf_skb_load_bytes(skb, offset, extension, sizeof(extension)))
			return 0;
		next = extension[0];
		offset += (extension[1] + 1) * 8;
	}
	return 0;
}

static __always_inline bool parse(struct __sk_buff *skb, struct datagram *d)
{
	struct udp_header udp;
	u32 offset;

	if (skb->protocol == bpf_htons(ETH_P_IP)) {
		struct ipv4_header ip;

		if (bpf_skb_load_bytes(skb, 0, &ip, sizeof(ip)) || ip.protocol != IPPROTO_UDP)
			return false;
		map_v4(&d->source, ip.source);
		map_v4(&d->destination, ip.destination);
		offset = (ip.version_length & 15) * 4;
	} else if (skb->protocol == bpf_htons(ETH_P_IPV6)) {
		struct ipv6_header ip;

		if (bpf_skb_load_bytes(skb, 0, &ip, sizeof(ip)))
			return false;
		offset = skip_extensions(skb, ip.next);
		if (!offset)
			return false;
		d->source = ip.source;
		d->destination = ip.destination;
	} else {
		return false;
	}
	if (bpf_skb_load_bytes(skb, offset, &udp, sizeof(udp)))
		return false;
	d->source_port = bpf_ntohs(udp.source);
	d->destination_port = bpf_ntohs(udp.destination);
	d->offset = offset + sizeof(udp);
	/* Not the header's own length: a segmented packet is whole here. */
	d->size = skb->len > d->offset ? skb->len - d->offset : 0;
	return true;
}

static __always_inline void fill_dns(struct dns_record *r, struct tracked *t, u64 now,
				     const struct address *server, u16 server_port, u16 port,
				     u32 size, u32 length, bool response)
{
	fill(&r->header, KIND_DNS, now, t ? t->process : 0, t ? t->pid : 0, t ? t->uid : 0);
	r->server = *server;
	r->server_port = server_port;
	r->port = port;
	r->size = size;
	r->length = length;
	r->response = response;
	__builtin_memset(r->reserved, 0, sizeof(r->reserved));
}

/* Hands a DNS message over, short or long. */
#define report_dns(type, limit) ({							\
	type *r_ = reserve(KIND_DNS, type);						\
	u32 length_ = size;								\
	if (r_) {									\
		if (length_ > limit)							\
			length_ = limit;						\
		if (length_ == 0 || bpf_skb_load_bytes(skb, offset, r_->payload, length_)) \
			length_ = 0;							\
		fill_dns(&r_->dns, t, bpf_ktime_get_boot_ns(), server, server_port, port, \
			 size, length_, response);					\
		submit(r_);								\
	}										\
})

static __noinline int dns(struct __sk_buff *skb, struct tracked *t, struct datagram *d,
			  bool response, u16 server_port)
{
	const struct address *server = response ? &d->source : &d->destination;
	u16 port = response ? d->destination_port : d->source_port;
	u32 size = d->size, offset = d->offset;

	if (size <= SHORT_DNS)
		report_dns(struct short_dns_record, SHORT_DNS);
	else
		report_dns(struct long_dns_record, MAX_DNS);
	return 0;
}

static __always_inline struct tracked *tracked_of(struct __sk_buff *skb)
{
	struct bpf_sock *sk = skb->sk;

	if (!sk)
		return NULL;
	sk = bpf_sk_fullsock(sk);
	if (!sk)
		return NULL;
	return bpf_sk_storage_get(&sockets, sk, 0, 0);
}

/*
 * Whether a packet is TCP, looked at where it lies: most are, and are to leave at once.
 * False also for one whose header does not lie in one piece.
 */
static __always_inline bool is_tcp(struct __sk_buff *skb)
{
	void *data = (void *)(long)skb->data, *end = (void *)(long)skb->data_end;

	if (skb->protocol == bpf_htons(ETH_P_IP)) {
		struct ipv4_header *ip = data;

		return (void *)(ip + 1) <= end && ip->protocol == IPPROTO_TCP;
	}
	if (skb->protocol == bpf_htons(ETH_P_IPV6)) {
		struct ipv6_header *ip = data;

		return (void *)(ip + 1) <= end && ip->next == IPPROTO_TCP;
	}
	return true; /* neither */
}

SEC("cgroup_skb/egress")
int packet_out(struct __sk_buff *skb)
{
	struct datagram d;
	struct remote key = {};
	struct tracked *t;

	if (is_tcp(skb) || !parse(skb, &d))
		return 1;
	t = tracked_of(skb);
	key.cookie = bpf_get_socket_cookie(skb);
	key.address = d.destination;
	key.port = d.destination_port;
	udp_sent(t, &key, &d.source, d.source_port, d.size);

	/* From port 53 a server speaks, not one who asks. */
	if (d.source_port == DNS_PORT)
		return 1;
	/*
	 * A container's resolver on loopback is reached through a translated port, but
	 * answers from 53: the port that the process gave counts.
	 */
	if (d.destination_port == DNS_PORT ||
	    (t && t->asks && is_loopback(&d.destination)))
		dns(skb, t, &d, false, DNS_PORT);
	return 1;
}

SEC("cgroup_skb/ingress")
int packet_in(struct __sk_buff *skb)
{
	struct datagram d;
	struct remote key = {};

	if (is_tcp(skb) || !parse(skb, &d))
		return 1;
	key.cookie = bpf_get_socket_cookie(skb);
	key.address = d.source;
	key.port = d.source_port;
	udp_received(&key, d.size);
	if (d.source_port == DNS_PORT && d.destination_port != DNS_PORT)
		dns(skb, tracked_of(skb), &d, true, DNS_PORT);
	return 1;
}

#endif
