/* A program that removes its own file first. */
#include "trick.h"

int main(int argc, char **argv)
{
	struct sockaddr_in to = there();

	if (argc == 1) {
		must(link("/proc/self/exe", below("gone")) ? link(argv[0], below("gone")) : 0);
		must(execl(below("gone"), "gone", "now", NULL));
	}
	must(unlink(below("gone")));
	acted();
	must(sendto(must(socket(AF_INET, SOCK_DGRAM, 0)), PAYLOAD, sizeof(PAYLOAD), 0, (void *)&to, sizeof(to)));
	return 0;
}
