/*
 * A socket that connects to itself: the state machine takes the road of a simultaneous
 * open, from SYN_SENT over SYN_RECV, where servers come along.
 */
#include "trick.h"

int main(void)
{
	struct sockaddr_in self = there();
	int fd = must(socket(AF_INET, SOCK_STREAM, 0));

	self.sin_port = htons(9);
	must(bind(fd, (void *)&self, sizeof(self)));
	acted();
	must(connect(fd, (void *)&self, sizeof(self)));
	must(write(fd, PAYLOAD, sizeof(PAYLOAD)));
	expect_echo(fd);
	return 0;
}
