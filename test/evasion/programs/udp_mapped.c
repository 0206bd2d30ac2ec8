/* A datagram of an IPv6 socket to an IPv4-mapped address. */
#include "trick.h"

int main(void)
{
	char text[64];
	struct sockaddr_in6 to;
	int fd = must(socket(AF_INET6, SOCK_DGRAM, 0));

	sprintf(text, "::ffff:%s", variable("ADDRESS"));
	to = there6(text);
	acted();
	must(sendto(fd, PAYLOAD, sizeof(PAYLOAD), 0, (void *)&to, sizeof(to)));
	expect_echo(fd);
	return 0;
}
