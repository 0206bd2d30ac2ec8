/*
 * A socket of another process, taken with pidfd_getfd: that process need not even know.
 */
#include "trick.h"

int main(void)
{
	struct sockaddr_in to = there();
	int ends[2], fd, number;
	pid_t owner;

	must(pipe(ends));
	owner = must(fork());
	if (owner == 0) {
		fd = must(socket(AF_INET, SOCK_DGRAM, 0));
		must(write(ends[1], &fd, sizeof(fd)));
		pause();
	}
	must(read(ends[0], &number, sizeof(number)));
	fd = must(syscall(SYS_pidfd_getfd, must(syscall(SYS_pidfd_open, owner, 0)), number, 0));
	kill(owner, SIGKILL);
	acted();
	must(sendto(fd, PAYLOAD, sizeof(PAYLOAD), 0, (void *)&to, sizeof(to)));
	expect_echo(fd);
	return 0;
}
