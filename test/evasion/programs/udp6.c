/* A datagram over IPv6. */
#include "trick.h"

int main(void)
{
	struct sockaddr_in6 to = there6("::1");
	int fd = must(socket(AF_INET6, SOCK_DGRAM, 0));

	acted();
	must(sendto(fd, PAYLOAD, sizeof(PAYLOAD), 0, (void *)&to, sizeof(to)));
	expect_echo(fd);
	return 0;
}
