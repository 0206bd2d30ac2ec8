/*
 * A process that lives for less than a millisecond: it sends its datagram and has ended
 * before anybody could look into /proc.
 */
#include "trick.h"

int main(int argc, char **argv)
{
	struct sockaddr_in to = there();

	if (argc == 1) {
		/* The parent says it: the child has no time. */
		pid_t child = vfork();

		if (child == 0) {
			execl("/proc/self/exe", "blink", "once", NULL);
			_exit(1);
		}
		dprintf(1, "acted %d\n", child);
		wait_for(child);
		return 0;
	}
	sendto(socket(AF_INET, SOCK_DGRAM, 0), PAYLOAD, sizeof(PAYLOAD), 0, (void *)&to, sizeof(to));
	_exit(0);
}
