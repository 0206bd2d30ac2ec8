/* A SYN with data, made by hand: no TCP socket has any state. */
#include "trick.h"

int main(void)
{
	struct sockaddr_in to = there();
	struct {
		struct tcphdr tcp;
		char data[sizeof(PAYLOAD)];
	} packet = {
		.tcp = { .source = htons(1234), .dest = to.sin_port, .doff = 5, .syn = 1 },
		.data = PAYLOAD,
	};
	int fd = must(socket(AF_INET, SOCK_RAW, IPPROTO_TCP));

	acted();
	must(sendto(fd, &packet, sizeof(packet), 0, (void *)&to, sizeof(to)));
	return 0;
}
