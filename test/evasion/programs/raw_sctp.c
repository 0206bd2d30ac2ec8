/* An SCTP chunk by hand: the kernel has no SCTP that could tell of it. */
#include "trick.h"

int main(void)
{
	struct sockaddr_in to = there();
	struct {
		uint16_t source, destination;
		uint32_t tag, checksum;
		uint8_t type, flags;
		uint16_t length;
		char data[sizeof(PAYLOAD)];
	} packet = { .source = htons(1234), .destination = to.sin_port, .type = 1, .length = htons(4 + sizeof(PAYLOAD)), .data = PAYLOAD };
	int fd = must(socket(AF_INET, SOCK_RAW, IPPROTO_SCTP));

	acted();
	must(sendto(fd, &packet, sizeof(packet), 0, (void *)&to, sizeof(to)));
	return 0;
}
