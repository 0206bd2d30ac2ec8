/*
 * TCP_REPAIR: a socket is put into the established state by hand, as if it had been
 * moved here from another machine. No SYN is sent.
 */
#include "trick.h"

int main(void)
{
	struct sockaddr_in to = there();
	int fd = must(socket(AF_INET, SOCK_STREAM, 0)), one = 1, off = 0;

	must(setsockopt(fd, IPPROTO_TCP, TCP_REPAIR, &one, sizeof(one)));
	acted();
	must(connect(fd, (void *)&to, sizeof(to)));
	must(setsockopt(fd, IPPROTO_TCP, TCP_REPAIR, &off, sizeof(off)));
	/* Here nobody expects it, and the answer may be faster than we are. */
	if (write(fd, PAYLOAD, sizeof(PAYLOAD)) < 0 && errno != ECONNRESET)
		die("write");
	return 0;
}
