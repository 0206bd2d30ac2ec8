/* A UDP socket that is connected to a harmless place first, and then elsewhere. */
#include "trick.h"

int main(void)
{
	struct sockaddr_in to = there(), harmless = there();
	int fd = must(socket(AF_INET, SOCK_DGRAM, 0));

	harmless.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	acted();
	must(connect(fd, (void *)&harmless, sizeof(harmless)));
	must(connect(fd, (void *)&to, sizeof(to)));
	must(write(fd, PAYLOAD, sizeof(PAYLOAD)));
	expect_echo(fd);
	return 0;
}
