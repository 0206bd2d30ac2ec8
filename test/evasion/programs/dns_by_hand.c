/*
 * The question in a packet made by hand, the answer to an ordinary socket: no socket has
 * ever sent to port 53.
 */
#include "dns.h"

int main(void)
{
	struct sockaddr_in server = resolver(53), here = there();
	struct {
		struct iphdr ip;
		struct udphdr udp;
		char message[512];
	} packet = {
		.ip = { .version = 4, .ihl = 5, .ttl = 64, .protocol = IPPROTO_UDP, .daddr = server.sin_addr.s_addr, .saddr = htonl(INADDR_LOOPBACK) },
		.udp = { .dest = htons(53) },
	};
	int fd = must(socket(AF_INET, SOCK_RAW, IPPROTO_RAW)), in = must(socket(AF_INET, SOCK_DGRAM, 0)), n;
	socklen_t size = sizeof(here);

	here.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	here.sin_port = 0;
	must(bind(in, (void *)&here, sizeof(here)));
	must(getsockname(in, (void *)&here, &size));
	n = question(packet.message, variable("NAME")) + sizeof(packet.udp);
	packet.udp.source = here.sin_port;
	packet.udp.len = htons(n);
	acted();
	must(sendto(fd, &packet, n + sizeof(packet.ip), 0, (void *)&server, sizeof(server)));
	send_there(answered(in));
	return 0;
}
