/* A datagram of a connected socket: sent by write, which names no address. */
#include "trick.h"

int main(void)
{
	struct sockaddr_in to = there();
	int fd = must(socket(AF_INET, SOCK_DGRAM, 0));

	acted();
	must(connect(fd, (void *)&to, sizeof(to)));
	must(write(fd, PAYLOAD, sizeof(PAYLOAD)));
	expect_echo(fd);
	return 0;
}
