/* TCP over IPv6: whoever looks at IPv4 only sees nothing. */
#include "trick.h"

int main(void)
{
	struct sockaddr_in6 to = there6("::1");
	int fd = must(socket(AF_INET6, SOCK_STREAM, 0));

	acted();
	must(connect(fd, (void *)&to, sizeof(to)));
	must(write(fd, PAYLOAD, sizeof(PAYLOAD)));
	expect_echo(fd);
	return 0;
}
