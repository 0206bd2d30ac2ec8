/*
 * TCP of an IPv6 socket to an IPv4-mapped address: hooks of IPv4 sockets do not run,
 * and rules about IPv6 do not match what leaves.
 */
#include "trick.h"

int main(void)
{
	char text[64];
	struct sockaddr_in6 to;
	int fd = must(socket(AF_INET6, SOCK_STREAM, 0));

	sprintf(text, "::ffff:%s", variable("ADDRESS"));
	to = there6(text);
	acted();
	must(connect(fd, (void *)&to, sizeof(to)));
	must(write(fd, PAYLOAD, sizeof(PAYLOAD)));
	expect_echo(fd);
	return 0;
}
