/*
 * A socket that a helper makes and passes over a Unix socket: the one who sends has
 * never asked for a socket.
 */
#include "trick.h"

int main(void)
{
	struct sockaddr_in to = there();
	int ends[2], fd;

	must(socketpair(AF_UNIX, SOCK_STREAM, 0, ends));
	if (must(fork()) == 0) {
		pass(ends[1], must(socket(AF_INET, SOCK_DGRAM, 0)));
		return 0;
	}
	fd = passed(ends[0]);
	wait_for(-1);
	acted();
	must(sendto(fd, PAYLOAD, sizeof(PAYLOAD), 0, (void *)&to, sizeof(to)));
	expect_echo(fd);
	return 0;
}
