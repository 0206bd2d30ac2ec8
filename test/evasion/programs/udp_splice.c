/* A datagram that is spliced from a pipe into the socket: no call takes its text. */
#include "trick.h"

int main(void)
{
	struct sockaddr_in to = there();
	int fd = must(socket(AF_INET, SOCK_DGRAM, 0)), ends[2];

	must(pipe(ends));
	must(write(ends[1], PAYLOAD, sizeof(PAYLOAD)));
	must(connect(fd, (void *)&to, sizeof(to)));
	acted();
	must(splice(ends[0], NULL, fd, NULL, sizeof(PAYLOAD), 0));
	expect_echo(fd);
	return 0;
}
