/* A network namespace of its own: another loopback device, other routes, other rules. */
#include "trick.h"

int main(void)
{
	struct sockaddr_in to = there();
	int fd, in;

	own_network();
	in = must(socket(AF_INET, SOCK_DGRAM, 0));
	must(bind(in, (void *)&to, sizeof(to)));
	fd = must(socket(AF_INET, SOCK_DGRAM, 0));
	acted();
	must(sendto(fd, PAYLOAD, sizeof(PAYLOAD), 0, (void *)&to, sizeof(to)));
	expect_echo(in);
	return 0;
}
