/* A datagram by sendto: nothing is ever connected. */
#include "trick.h"

int main(void)
{
	struct sockaddr_in to = there();
	int fd = must(socket(AF_INET, SOCK_DGRAM, 0));

	acted();
	must(sendto(fd, PAYLOAD, sizeof(PAYLOAD), 0, (void *)&to, sizeof(to)));
	expect_echo(fd);
	return 0;
}
