/* Written by io_uring's thread. */
#include "trick.h"

int main(void)
{
	struct ring r = make_ring(IORING_SETUP_SQPOLL);
	int fd = must(open(variable("GITHUB_ENV"), O_WRONLY));

	wait_until_watched();
	acted();
	ring_result(&r, (struct io_uring_sqe){ .opcode = IORING_OP_WRITE, .fd = fd, .addr = (uint64_t)"EVIL=yes\n", .len = 9 });
	return 0;
}
