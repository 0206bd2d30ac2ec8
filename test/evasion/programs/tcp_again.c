/*
 * A TCP socket that was connected to a harmless place is disconnected (AF_UNSPEC) and
 * connected elsewhere: who knows sockets by their first connection is misled.
 */
#include "trick.h"

int main(void)
{
	struct sockaddr_in to = there(), harmless = there();
	struct sockaddr nowhere = { .sa_family = AF_UNSPEC };
	int fd = must(socket(AF_INET, SOCK_STREAM, 0));

	harmless.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	acted();
	if (connect(fd, (void *)&harmless, sizeof(harmless)) == 0 || errno != ECONNREFUSED)
		die("connect to nobody");
	must(connect(fd, &nowhere, sizeof(nowhere)));
	must(connect(fd, (void *)&to, sizeof(to)));
	must(write(fd, PAYLOAD, sizeof(PAYLOAD)));
	expect_echo(fd);
	return 0;
}
