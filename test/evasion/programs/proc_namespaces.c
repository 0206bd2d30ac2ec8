/*
 * In PID, mount and user namespaces of its own it is process 1, and root, and sees
 * another /proc.
 */
#include "trick.h"

int main(void)
{
	struct sockaddr_in to = there();

	must(unshare(CLONE_NEWUSER | CLONE_NEWPID | CLONE_NEWNS | CLONE_NEWUTS | CLONE_NEWIPC));
	if (must(fork()) == 0) {
		if (getpid() != 1)
			die("process 1");
		acted();
		must(mount("proc", "/proc", "proc", 0, NULL));
		must(sendto(must(socket(AF_INET, SOCK_DGRAM, 0)), PAYLOAD, sizeof(PAYLOAD), 0, (void *)&to, sizeof(to)));
		return 0;
	}
	wait_for(-1);
	return 0;
}
