/*
 * TCP Fast Open by socket option: connect returns without sending anything, the
 * connection is made by the first write.
 */
#include "trick.h"

int main(void)
{
	struct sockaddr_in to = there();
	int fd = must(socket(AF_INET, SOCK_STREAM, 0)), one = 1;

	must(setsockopt(fd, IPPROTO_TCP, TCP_FASTOPEN_CONNECT, &one, sizeof(one)));
	acted();
	must(connect(fd, (void *)&to, sizeof(to)));
	must(write(fd, PAYLOAD, sizeof(PAYLOAD)));
	expect_echo(fd);
	return 0;
}
