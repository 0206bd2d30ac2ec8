/* A UDP packet by hand over IPv6, behind an extension header that hides its protocol. */
#include "trick.h"

int main(void)
{
	struct sockaddr_in6 to = there6("::1");
	struct {
		uint8_t options[8];
		struct udphdr udp;
		char data[sizeof(PAYLOAD)];
	} packet = {
		.options = { IPPROTO_UDP, 0, 1, 4 },
		.udp = { .source = htons(1234), .dest = to.sin6_port, .len = htons(sizeof(struct udphdr) + sizeof(PAYLOAD)) },
		.data = PAYLOAD,
	};
	int fd = must(socket(AF_INET6, SOCK_RAW, IPPROTO_DSTOPTS));

	to.sin6_port = 0;
	acted();
	must(sendto(fd, &packet, sizeof(packet), 0, (void *)&to, sizeof(to)));
	return 0;
}
