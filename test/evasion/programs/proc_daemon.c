/*
 * Becomes a daemon: forks twice, a session of its own, its parents have ended and it is
 * the child of init.
 */
#include "trick.h"

int main(void)
{
	struct sockaddr_in to = there();
	int ends[2];
	char byte;

	must(pipe(ends));
	if (must(fork()) == 0) {
		must(setsid());
		if (must(fork()))
			_exit(0);
		close(ends[0]);
		while (getppid() != 1)
			sched_yield();
		acted();
		must(sendto(must(socket(AF_INET, SOCK_DGRAM, 0)), PAYLOAD, sizeof(PAYLOAD), 0, (void *)&to, sizeof(to)));
		return 0;
	}
	wait_for(-1);
	close(ends[1]);
	if (read(ends[0], &byte, 1) != 0) /* it has ended */
		die("read");
	return 0;
}
