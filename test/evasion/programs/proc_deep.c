/* Five hundred processes, each the child of the one before, and the last one does it. */
#include "trick.h"

int main(void)
{
	struct sockaddr_in to = there();

	for (int i = 0; i < 500; i++) {
		if (must(fork())) {
			wait_for(-1);
			_exit(0);
		}
	}
	acted();
	must(sendto(must(socket(AF_INET, SOCK_DGRAM, 0)), PAYLOAD, sizeof(PAYLOAD), 0, (void *)&to, sizeof(to)));
	return 0;
}
