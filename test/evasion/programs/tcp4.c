/*
 * TCP over IPv4: no trick, the plain way. All that follow hope to be seen less well.
 */
#include "trick.h"

int main(void)
{
	struct sockaddr_in to = there();
	int fd = must(socket(AF_INET, SOCK_STREAM, 0));

	acted();
	must(connect(fd, (void *)&to, sizeof(to)));
	must(write(fd, PAYLOAD, sizeof(PAYLOAD)));
	expect_echo(fd);
	return 0;
}
