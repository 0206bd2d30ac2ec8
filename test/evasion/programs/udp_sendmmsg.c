/*
 * Many datagrams by one sendmmsg: an observer of sendto and sendmsg sees neither call.
 */
#include "trick.h"

int main(void)
{
	struct sockaddr_in to = there();
	int fd = must(socket(AF_INET, SOCK_DGRAM, 0));
	struct iovec data = { PAYLOAD, sizeof(PAYLOAD) };
	struct mmsghdr all[2] = {};

	for (int i = 0; i < 2; i++)
		all[i].msg_hdr = (struct msghdr){ .msg_name = &to, .msg_namelen = sizeof(to), .msg_iov = &data, .msg_iovlen = 1 };
	acted();
	must(sendmmsg(fd, all, 2, 0));
	expect_echo(fd);
	return 0;
}
