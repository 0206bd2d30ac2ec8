/* socket and connect by io_uring: an observer of system calls sees io_uring_enter. */
#include "trick.h"

int main(void)
{
	struct sockaddr_in to = there();
	struct ring r = make_ring(0);
	int fd = ring_result(&r, (struct io_uring_sqe){ .opcode = IORING_OP_SOCKET, .fd = AF_INET, .off = SOCK_STREAM });

	acted();
	ring_result(&r, (struct io_uring_sqe){ .opcode = IORING_OP_CONNECT, .fd = fd, .addr = (uint64_t)&to, .off = sizeof(to) });
	must(write(fd, PAYLOAD, sizeof(PAYLOAD)));
	expect_echo(fd);
	return 0;
}
