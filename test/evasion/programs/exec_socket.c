/*
 * A socket that one program makes and connects and the next one, run in the same
 * process, sends with: it makes no socket and connects nowhere.
 */
#include "trick.h"

int main(int argc, char **argv)
{
	struct sockaddr_in to = there();
	char number[16];
	int fd;

	if (argc == 1) {
		fd = must(socket(AF_INET, SOCK_DGRAM, 0));
		must(connect(fd, (void *)&to, sizeof(to)));
		sprintf(number, "%d", fd);
		must(execl("/proc/self/exe", "sender", number, NULL));
	}
	fd = atoi(argv[1]);
	acted();
	must(write(fd, PAYLOAD, sizeof(PAYLOAD)));
	expect_echo(fd);
	return 0;
}
