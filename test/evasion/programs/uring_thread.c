/*
 * A connection made by a thread of the kernel that polls the ring (SQPOLL): the process
 * makes no system call for it.
 */
#include "trick.h"

int main(void)
{
	struct sockaddr_in to = there();
	struct ring r = make_ring(IORING_SETUP_SQPOLL);
	int fd = must(socket(AF_INET, SOCK_STREAM, 0));

	acted();
	ring_result(&r, (struct io_uring_sqe){ .opcode = IORING_OP_CONNECT, .fd = fd, .addr = (uint64_t)&to, .off = sizeof(to) });
	ring_result(&r, (struct io_uring_sqe){ .opcode = IORING_OP_SEND, .fd = fd, .addr = (uint64_t)PAYLOAD, .len = sizeof(PAYLOAD) });
	expect_echo(fd);
	return 0;
}
