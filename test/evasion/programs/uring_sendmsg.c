/* A datagram by io_uring. */
#include "trick.h"

int main(void)
{
	struct sockaddr_in to = there();
	struct iovec data = { PAYLOAD, sizeof(PAYLOAD) };
	struct msghdr m = { .msg_name = &to, .msg_namelen = sizeof(to), .msg_iov = &data, .msg_iovlen = 1 };
	struct ring r = make_ring(0);
	int fd = must(socket(AF_INET, SOCK_DGRAM, 0));

	acted();
	ring_result(&r, (struct io_uring_sqe){ .opcode = IORING_OP_SENDMSG, .fd = fd, .addr = (uint64_t)&m, .len = 1 });
	expect_echo(fd);
	return 0;
}
