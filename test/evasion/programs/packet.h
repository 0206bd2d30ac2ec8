/* A frame with a UDP packet to 198.51.100.1, and who gets it. */
#ifndef PACKET_H
#define PACKET_H

#include "trick.h"
#include <linux/if_ether.h>
#include <linux/if_packet.h>

struct frame {
	struct ethhdr ethernet;
	struct iphdr ip;
	struct udphdr udp;
	char data[sizeof(PAYLOAD)];
} __attribute__((packed));

static inline struct sockaddr_in outside(void)
{
	struct sockaddr_in to = there();

	to.sin_addr.s_addr = inet_addr("198.51.100.1");
	return to;
}

static inline struct frame frame_to(struct sockaddr_in to)
{
	struct frame f = {
		.ethernet = { .h_proto = htons(ETH_P_IP) },
		.ip = { .version = 4, .ihl = 5, .ttl = 64, .protocol = IPPROTO_UDP, .daddr = to.sin_addr.s_addr, .saddr = inet_addr("198.51.100.2") },
		.udp = { .source = htons(1234), .dest = to.sin_port, .len = htons(sizeof(struct udphdr) + sizeof(PAYLOAD)) },
		.data = PAYLOAD,
	};
	uint16_t *words = (void *)&f.ip;
	uint32_t sum = 0;

	f.ip.tot_len = htons(sizeof(f) - sizeof(f.ethernet));
	for (int i = 0; i < 10; i++)
		sum += words[i];
	f.ip.check = ~((sum & 0xffff) + (sum >> 16));
	return f;
}

/* A UDP socket of this process that the packet is for, at an address of a device. */
static inline int receiver(const char *device, struct sockaddr_in to)
{
	struct sockaddr_in a = { .sin_family = AF_INET };
	struct ifreq request = {};
	int fd = must(socket(AF_INET, SOCK_DGRAM, 0));

	strcpy(request.ifr_name, device);
	a.sin_addr = to.sin_addr;
	memcpy(&request.ifr_addr, &a, sizeof(a));
	must(ioctl(fd, SIOCSIFADDR, &request));
	a.sin_addr.s_addr = inet_addr("255.255.255.0");
	memcpy(&request.ifr_netmask, &a, sizeof(a));
	must(ioctl(fd, SIOCSIFNETMASK, &request));
	request.ifr_flags = IFF_UP | IFF_RUNNING;
	must(ioctl(fd, SIOCSIFFLAGS, &request));

	must(bind(fd, (void *)&to, sizeof(to)));
	return fd;
}

#endif
