/*
 * A UDP socket that a helper connects, and passes on before it ends: no datagram was
 * sent before, and the one who sends names no address.
 */
#include "trick.h"

int main(void)
{
	struct sockaddr_in to = there();
	int ends[2], fd;

	must(socketpair(AF_UNIX, SOCK_STREAM, 0, ends));
	if (must(fork()) == 0) {
		fd = must(socket(AF_INET, SOCK_DGRAM, 0));
		acted();
		must(connect(fd, (void *)&to, sizeof(to)));
		pass(ends[1], fd);
		return 0;
	}
	fd = passed(ends[0]);
	wait_for(-1);
	must(write(fd, PAYLOAD, sizeof(PAYLOAD)));
	expect_echo(fd);
	return 0;
}
