/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Packets of this machine's sockets, as the cgroup hooks see them: datagrams are
 * counted, and DNS messages handed over. All other packets leave after two loads.
 */
#ifndef SALLYPORT_PACKET_H
#define SALLYPORT_PACKET_H

#include "udp.h"
#include "tcp.h"

#define DNS_PORT 53
/* Link-local name resolution, in messages of the same form. */
#define MDNS_PORT 5353	/* RFC 6762 */
#define LLMNR_PORT 5355	/* RFC 4795 */
#define MAX_EXTENSIONS 6

struct datagram {
	struct address source, destination;
	u16 source_port, destination_port;
	u32 protocol;
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

/* Skips extensions: the protocol behind an IPv6 header, and where it begins. */
static __always_inline u32 skip_extensions(struct __sk_buff *skb, u8 next, u32 *offset)
{
	*offset = sizeof(struct ipv6_header);
	for (int i = 0; i < MAX_EXTENSIONS; i++) {
		u8 extension[2];

		/* Hop-by-hop, routing, destination options: RFC 8200. */
		if (next != 0 && next != 43 && next != 60)
			break;
		if (bpf_skb_load_bytes(skb, *offset, extension, sizeof(extension)))
			break;
		next = extension[0];
		*offset += (extension[1] + 1) * 8;
	}
	return next;
}

/* False for what is no IP packet. Ports are 0 of protocols without. */
static __always_inline bool parse(struct __sk_buff *skb, struct datagram *d)
{
	struct udp_header udp;
	u32 offset;

	if (skb->protocol == bpf_htons(ETH_P_IP)) {
		struct ipv4_header ip;

		if (bpf_skb_load_bytes(skb, 0, &ip, sizeof(ip)))
			return false;
		map_v4(&d->source, ip.source);
		map_v4(&d->destination, ip.destination);
		d->protocol = ip.protocol;
		offset = (ip.version_length & 15) * 4;
	} else if (skb->protocol == bpf_htons(ETH_P_IPV6)) {
		struct ipv6_header ip;

		if (bpf_skb_load_bytes(skb, 0, &ip, sizeof(ip)))
			return false;
		d->protocol = skip_extensions(skb, ip.next, &offset);
		d->source = ip.source;
		d->destination = ip.destination;
	} else {
		return false;
	}
	d->source_port = 0;
	d->destination_port = 0;
	d->offset = offset;
	/* These three begin with their ports. */
	if (d->protocol == IPPROTO_UDP || d->protocol == IPPROTO_TCP ||
	    d->protocol == IPPROTO_SCTP) {
		if (bpf_skb_load_bytes(skb, offset, &udp, sizeof(udp)))
			return false;
		d->source_port = bpf_ntohs(udp.source);
		d->destination_port = bpf_ntohs(udp.destination);
		if (d->protocol == IPPROTO_UDP)
			d->offset += sizeof(udp);
	}
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

/*
 * Whether a length is 1 to a limit, so that verifiers until Linux 6.4 see it, too: they
 * learn no lower bound from a comparison with 0, and none of either kind from the one
 * comparison that the compiler makes of two.
 */
#define is_between(length, limit)				\
	({							\
		asm volatile("" : "+r"(length));		\
		(s32)(length) < 1 ? false : ({			\
			asm volatile("" : "+r"(length));	\
			(length) <= (limit);			\
		});						\
	})

/* Hands a DNS message over, short or long. */
#define report_dns(type, limit) ({							\
	type *r_ = reserve(KIND_DNS, type);						\
	u32 length_ = size;								\
	if (r_) {									\
		if (length_ > limit)							\
			length_ = limit;						\
		if (!is_between(length_, limit) ||					\
		    bpf_skb_load_bytes(skb, offset, r_->payload, length_))		\
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

/*
 * Whether it is a message of link-local name resolution that goes to, or comes from,
 * this port, and an answer or not. Who asks and who answers may use one socket, and
 * both hear everybody: the message itself says which it is.
 */
static __always_inline bool is_link_dns(struct __sk_buff *skb, const struct datagram *d, u16 port,
					bool response)
{
	u8 flags;

	if (d->protocol != IPPROTO_UDP || (port != MDNS_PORT && port != LLMNR_PORT))
		return false;
	if (bpf_skb_load_bytes(skb, d->offset + 2, &flags, 1))
		return false;
	return (flags >> 7) == response;
}

/* Whether a DNS message is an answer, by its QR bit (RFC 1035, 4.1.1), or is none. */
static __always_inline bool is_answer(struct __sk_buff *skb, const struct datagram *d)
{
	u8 flags;

	return bpf_skb_load_bytes(skb, d->offset + 2, &flags, 1) || flags & 0x80;
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

struct tcp_header {
	u16 source, destination;
	u32 sequence, acknowledgement;
	u8 offset, flags;
	u16 window, checksum, urgent;
};

/* A TCP packet, as far as it is looked at. */
struct segment {
	u32 offset;	/* of the payload */
	u32 size;	/* of the payload */
	u32 sequence;	/* of the payload's first byte */
	u16 source_port, destination_port;
};

#define TCP_SYN 2

enum look {
	LOOK_AT_DATAGRAM,	/* anything but TCP of a TCP socket */
	LOOK_AT_TCP,	/* a TCP packet with payload; the segment is filled in */
	LOOK_AWAY,
};

/* Whether somebody made the packet by hand. */
static __always_inline bool is_raw(struct __sk_buff *skb)
{
	struct bpf_sock *sk = skb->sk;

	if (!sk)
		return false;
	sk = bpf_sk_fullsock(sk);
	return sk && sk->type == SOCK_RAW;
}

/*
 * Looks at a packet where it lies: most are TCP and are to leave at once. One whose
 * headers do not lie in one piece is looked at as if it were not TCP.
 */
static __always_inline enum look look_at(struct __sk_buff *skb, struct segment *s)
{
	void *data = (void *)(long)skb->data, *end = (void *)(long)skb->data_end;
	struct tcp_header *tcp;
	u32 header;

	if (skb->protocol == bpf_htons(ETH_P_IP)) {
		struct ipv4_header *ip = data;

		if ((void *)(ip + 1) > end || ip->protocol != IPPROTO_TCP)
			return LOOK_AT_DATAGRAM;
		header = (ip->version_length & 15) * 4;
	} else if (skb->protocol == bpf_htons(ETH_P_IPV6)) {
		struct ipv6_header *ip = data;

		if ((void *)(ip + 1) > end || ip->next != IPPROTO_TCP)
			return LOOK_AT_DATAGRAM;
		header = sizeof(*ip);
	} else {
		return LOOK_AWAY;
	}
	if (is_raw(skb))
		return LOOK_AT_DATAGRAM;
	tcp = data + header;
	if ((void *)(tcp + 1) > end)
		return LOOK_AWAY;
	s->offset = header + (tcp->offset >> 4) * 4;
	if (skb->len <= s->offset)
		return LOOK_AWAY;
	s->size = skb->len - s->offset;
	s->sequence = bpf_ntohl(tcp->sequence) + (tcp->flags & TCP_SYN ? 1 : 0);
	s->source_port = bpf_ntohs(tcp->source);
	s->destination_port = bpf_ntohs(tcp->destination);
	return LOOK_AT_TCP;
}

struct pieces {
	struct __sk_buff *skb;
	struct header header;
	u64 flow;
	u32 offset;	/* in the packet, of what is to be handed over */
	u32 size;
	u32 sequence;
	u8 use;
	u8 received;
};

/* Called by bpf_loop: 1 ends it. */
static long hand_over(u32 i, struct pieces *p)
{
	u32 length = p->size < PAYLOAD_PIECE ? p->size : PAYLOAD_PIECE;
	struct payload_record *r;

	if (length == 0)
		return 1;
	r = reserve(KIND_PAYLOAD, struct payload_record);
	if (!r)
		return 1;
	r->header = p->header;
	r->flow = p->flow;
	r->sequence = p->sequence;
	r->use = p->use;
	r->received = p->received;
	if (!is_between(length, PAYLOAD_PIECE) ||
	    bpf_skb_load_bytes(p->skb, p->offset, r->data, length))
		length = 0;
	r->length = length;
	submit(r);
	p->offset += length;
	p->sequence += length;
	p->size -= length;
	return length == 0;
}

#define MAX_PIECES 8

#define TLS_HANDSHAKE 0x16
#define TLS_CLIENT_HELLO 1
#define TLS_RECORD_HEADER 5
#define TLS_MESSAGE_HEADER 4
/* Longer first messages are cut. */
#define MAX_HELLO 8192

/*
 * How much is taken: the record, or all up to the most if the message goes on behind it,
 * or its lengths are not here yet.
 */
static __always_inline s32 hello_size(const u8 *b, u32 have)
{
	s32 record = b[3] << 8 | b[4], message = b[6] << 16 | b[7] << 8 | b[8];

	if (have < TLS_RECORD_HEADER + TLS_MESSAGE_HEADER ||
	    record < TLS_MESSAGE_HEADER + message || record > MAX_HELLO - TLS_RECORD_HEADER)
		return MAX_HELLO;
	return TLS_RECORD_HEADER + record;
}

/* Hands over what a TLS client says first: what begins here, or goes on here. */
static __noinline int tls_out(struct __sk_buff *skb, struct segment *s, u64 cookie)
{
	struct connection *c = bpf_map_lookup_elem(&connections, &cookie);
	struct pieces p = { .skb = skb };
	s32 left;
	u8 b[TLS_RECORD_HEADER + TLS_MESSAGE_HEADER] = {};
	u32 have = s->size < sizeof(b) ? s->size : sizeof(b);

	if (!c)
		return 0;
	if (!c->hello_seen) {
		if (!is_between(have, sizeof(b)) || bpf_skb_load_bytes(skb, s->offset, b, have))
			return 0;
		if (b[0] != TLS_HANDSHAKE || (have > 1 && b[1] != 3) ||
		    (have > TLS_RECORD_HEADER && b[TLS_RECORD_HEADER] != TLS_CLIENT_HELLO))
			return 0;
		c->hello_seen = 1;
		c->hello_end = s->sequence + hello_size(b, have);
		c->hello_open = 1;
		__sync_fetch_and_add(&hellos_open, 1);
	} else if (!c->hello_open) {
		return 0;
	}
	left = (s32)(c->hello_end - s->sequence);
	if (left <= 0)
		return 0;
	fill(&p.header, KIND_PAYLOAD, bpf_ktime_get_boot_ns(), c->process, c->pid, c->uid);
	p.flow = c->flow;
	p.offset = s->offset;
	p.size = s->size < left ? s->size : left;
	p.sequence = s->sequence;
	p.use = PAYLOAD_TLS;
	if (s->size >= left) {
		c->hello_open = 0;
		__sync_fetch_and_add(&hellos_open, -1);
	}
	bpf_loop(MAX_PIECES, hand_over, &p, 0);
	return 0;
}

static __noinline int dns_over_tcp(struct __sk_buff *skb, struct segment *s, u64 cookie, bool received)
{
	struct connection *c = bpf_map_lookup_elem(&connections, &cookie);
	struct pieces p = { .skb = skb };

	if (!c || c->direction != FLOW_OUTBOUND)
		return 0;
	fill(&p.header, KIND_PAYLOAD, bpf_ktime_get_boot_ns(), c->process, c->pid, c->uid);
	p.flow = c->flow;
	p.offset = s->offset;
	p.size = s->size;
	p.sequence = s->sequence;
	p.use = PAYLOAD_DNS;
	p.received = received;
	bpf_loop(MAX_PIECES, hand_over, &p, 0);
	return 0;
}

/* How many of a flow's QUIC Initial packets are handed over. */
#define MAX_INITIALS 4
#define MIN_INITIAL 1200	/* RFC 9000, 14.1 */

/* A QUIC client begins with long headers, of Initial packets (RFC 9000, 17.2; 9369). */
static __always_inline void quic_out(struct __sk_buff *skb, const struct remote *key,
				     const struct datagram *d)
{
	struct udp_flow *f;
	struct pieces p = { .skb = skb };
	u8 first;

	if (d->size < MIN_INITIAL || bpf_skb_load_bytes(skb, d->offset, &first, 1) ||
	    (first & 0xc0) != 0xc0)
		return;
	f = bpf_map_lookup_elem(&udp_flows, key);
	if (!f || f->initials >= MAX_INITIALS)
		return;
	f->initials++;
	fill(&p.header, KIND_PAYLOAD, bpf_ktime_get_boot_ns(), f->process, f->pid, f->uid);
	p.flow = f->id;
	p.offset = d->offset;
	p.size = d->size;
	p.use = PAYLOAD_QUIC;
	hand_over(0, &p);
}

static __always_inline void tcp_out(struct __sk_buff *skb, struct segment *s)
{
	u8 first;

	if (s->destination_port == DNS_PORT) {
		dns_over_tcp(skb, s, bpf_get_socket_cookie(skb), false);
		return;
	}
	if (bpf_skb_load_bytes(skb, s->offset, &first, 1))
		return;
	if (first == TLS_HANDSHAKE || hellos_open > 0)
		tls_out(skb, s, bpf_get_socket_cookie(skb));
}

SEC("cgroup_skb/egress")
int packet_out(struct __sk_buff *skb)
{
	struct datagram d;
	struct segment s;
	struct remote key = {};
	struct tracked *t;

	switch (look_at(skb, &s)) {
	case LOOK_AT_TCP:
		tcp_out(skb, &s);
		return 1;
	case LOOK_AWAY:
		return 1;
	default:
		break;
	}
	if (!parse(skb, &d))
		return 1;
	t = tracked_of(skb);
	/* Other protocols only from sockets of processes: the kernel speaks them, too. */
	if (!t && d.protocol != IPPROTO_UDP)
		return 1;
	key.cookie = bpf_get_socket_cookie(skb);
	key.address = d.destination;
	key.port = d.destination_port;
	key.protocol = d.protocol;
	udp_sent(t, &key, &d.source, d.source_port, d.size);
	if (d.protocol != IPPROTO_UDP)
		return 1;
	quic_out(skb, &key, &d);

	/* From port 53 a server speaks; who asks may have taken that port, too. */
	if (d.source_port == DNS_PORT && is_answer(skb, &d))
		return 1;
	/*
	 * A container's resolver on loopback is reached through a translated port, but
	 * answers from 53: the port that the process gave counts.
	 */
	if (d.destination_port == DNS_PORT ||
	    (t && t->asks && is_loopback(&d.destination)))
		dns(skb, t, &d, false, DNS_PORT);
	else if (is_link_dns(skb, &d, d.destination_port, false))
		dns(skb, t, &d, false, d.destination_port);
	return 1;
}

SEC("cgroup_skb/ingress")
int packet_in(struct __sk_buff *skb)
{
	struct datagram d;
	struct segment s;
	struct remote key = {};

	switch (look_at(skb, &s)) {
	case LOOK_AT_TCP:
		if (s.source_port == DNS_PORT)
			dns_over_tcp(skb, &s, bpf_get_socket_cookie(skb), true);
		return 1;
	case LOOK_AWAY:
		return 1;
	default:
		break;
	}
	if (!parse(skb, &d))
		return 1;
	key.cookie = bpf_get_socket_cookie(skb);
	key.address = d.source;
	key.port = d.source_port;
	key.protocol = d.protocol;
	udp_received(&key, d.size);
	if (d.protocol == IPPROTO_UDP && d.source_port == DNS_PORT &&
	    (d.destination_port != DNS_PORT || is_answer(skb, &d)))
		dns(skb, tracked_of(skb), &d, true, DNS_PORT);
	else if (is_link_dns(skb, &d, d.source_port, true))
		dns(skb, tracked_of(skb), &d, true, d.source_port);
	return 1;
}

#endif
