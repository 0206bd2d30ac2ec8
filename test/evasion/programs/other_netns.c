/*
 * A socket that was opened in another network namespace and is used from here: packets
 * leave there.
 */
#include "trick.h"

int main(void)
{
	struct sockaddr_in to = there();
	int here = must(open("/proc/self/ns/net", O_RDONLY)), fd, in;

	own_network();
	in = must(socket(AF_INET, SOCK_DGRAM, 0));
	must(bind(in, (void *)&to, sizeof(to)));
	fd = must(socket(AF_INET, SOCK_DGRAM, 0));
	must(setns(here, CLONE_NEWNET));
	acted();
	must(sendto(fd, PAYLOAD, sizeof(PAYLOAD), 0, (void *)&to, sizeof(to)));
	expect_echo(in);
	return 0;
}
