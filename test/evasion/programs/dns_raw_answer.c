/*
 * The question in a packet made by hand, and the answer taken by a raw socket: no UDP
 * socket asks, none gets the answer.
 */
#include "dns.h"

int main(void)
{
	struct sockaddr_in server = resolver(53), to = there();
	struct {
		struct udphdr udp;
		char message[512];
	} packet = { .udp = { .source = htons(1053), .dest = htons(53) } };
	int fd = must(socket(AF_INET, SOCK_RAW, IPPROTO_UDP)), n;
	unsigned char answer[1024];

	n = question(packet.message, variable("NAME")) + sizeof(packet.udp);
	packet.udp.len = htons(n);
	acted();
	must(connect(fd, (void *)&server, sizeof(server)));
	must(write(fd, &packet, n));
	do
		n = must(read(fd, answer, sizeof(answer)));
	while (answer[20] != 0 || answer[21] != 53);
	memcpy(&to.sin_addr, answer + n - 4, 4);
	send_there(to);
	return 0;
}
