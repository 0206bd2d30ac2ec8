/*
 * A UDP packet with its headers made by hand (IP_HDRINCL), from a source address that
 * the machine does not have: the kernel's UDP never hears of it.
 */
#include "trick.h"

int main(void)
{
	struct sockaddr_in to = there();
	struct {
		struct iphdr ip;
		struct udphdr udp;
		char data[sizeof(PAYLOAD)];
	} packet = {
		.ip = { .version = 4, .ihl = 5, .ttl = 64, .protocol = IPPROTO_UDP, .daddr = to.sin_addr.s_addr, .saddr = htonl(0x7f000009) },
		.udp = { .source = htons(1234), .dest = to.sin_port, .len = htons(sizeof(struct udphdr) + sizeof(PAYLOAD)) },
		.data = PAYLOAD,
	};
	int fd = must(socket(AF_INET, SOCK_RAW, IPPROTO_RAW));

	acted();
	must(sendto(fd, &packet, sizeof(packet), 0, (void *)&to, sizeof(to)));
	return 0;
}
