/*
 * A connection that is begun without waiting and closed at once: the packet has left,
 * but the connection never was.
 */
#include "trick.h"

int main(void)
{
	struct sockaddr_in to = there();
	int fd = must(socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0));

	acted();
	if (connect(fd, (void *)&to, sizeof(to)) < 0 && errno != EINPROGRESS)
		die("connect");
	close(fd);
	return 0;
}
