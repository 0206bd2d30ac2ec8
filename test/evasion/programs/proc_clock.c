/*
 * Lives in another time: in a time namespace of its own, where the machine has been
 * running for years longer.
 */
#include "trick.h"

int main(void)
{
	struct sockaddr_in to = there();
	int fd;

	must(unshare(CLONE_NEWTIME));
	fd = must(open("/proc/self/timens_offsets", O_WRONLY));
	must(dprintf(fd, "monotonic 900000000 0\nboottime 900000000 0\n"));
	if (must(fork()) == 0) {
		acted();
		must(sendto(must(socket(AF_INET, SOCK_DGRAM, 0)), PAYLOAD, sizeof(PAYLOAD), 0, (void *)&to, sizeof(to)));
		return 0;
	}
	wait_for(-1);
	return 0;
}
