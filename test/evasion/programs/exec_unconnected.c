/* A socket that one program makes and another one, in the same process, connects. */
#include "trick.h"

int main(int argc, char **argv)
{
	struct sockaddr_in to = there();
	char number[16];
	int fd;

	if (argc == 1) {
		fd = must(socket(AF_INET, SOCK_STREAM, 0));
		sprintf(number, "%d", fd);
		must(execl("/proc/self/exe", "sender", number, NULL));
	}
	fd = atoi(argv[1]);
	acted();
	must(connect(fd, (void *)&to, sizeof(to)));
	must(write(fd, PAYLOAD, sizeof(PAYLOAD)));
	expect_echo(fd);
	return 0;
}
