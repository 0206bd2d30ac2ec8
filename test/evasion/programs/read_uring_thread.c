/* The same by a thread of the kernel (SQPOLL), without any system call. */
#include "trick.h"

int main(void)
{
	char text[64];
	struct ring r = make_ring(IORING_SETUP_SQPOLL);
	int fd;

	acted();
	fd = ring_result(&r, (struct io_uring_sqe){ .opcode = IORING_OP_OPENAT, .fd = AT_FDCWD, .addr = (uint64_t)below("home/.aws/credentials") });
	expect_secret(text, ring_result(&r, (struct io_uring_sqe){ .opcode = IORING_OP_READ, .fd = fd, .addr = (uint64_t)text, .len = sizeof(text) }));
	return 0;
}
