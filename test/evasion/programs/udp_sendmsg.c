/* A datagram by sendmsg, its text in pieces. */
#include "trick.h"

int main(void)
{
	struct sockaddr_in to = there();
	int fd = must(socket(AF_INET, SOCK_DGRAM, 0));
	struct iovec data[] = { { PAYLOAD, 5 }, { PAYLOAD + 5, sizeof(PAYLOAD) - 5 } };
	struct msghdr m = { .msg_name = &to, .msg_namelen = sizeof(to), .msg_iov = data, .msg_iovlen = 2 };

	acted();
	must(sendmsg(fd, &m, 0));
	expect_echo(fd);
	return 0;
}
