/* A program three hundred folders down: its path is longer than what is kept of paths. */
#include "deep.h"

int main(int argc, char **argv)
{
	struct sockaddr_in to = there();

	if (argc == 1) {
		go_down();
		must(link(argv[0], "buried"));
		must(execl("./buried", "buried", "deep", NULL));
	}
	acted();
	must(sendto(must(socket(AF_INET, SOCK_DGRAM, 0)), PAYLOAD, sizeof(PAYLOAD), 0, (void *)&to, sizeof(to)));
	return 0;
}
