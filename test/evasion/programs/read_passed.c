/* A helper opens the file and passes it: the one who reads has opened nothing. */
#include "trick.h"

int main(void)
{
	int ends[2], fd;

	must(socketpair(AF_UNIX, SOCK_STREAM, 0, ends));
	if (must(fork()) == 0) {
		pass(ends[1], open_secret(O_RDONLY));
		return 0;
	}
	fd = passed(ends[0]);
	wait_for(-1);
	acted();
	read_secret(fd);
	return 0;
}
