/* A script with an interpreter of its own: the kernel runs the interpreter. */
#include "trick.h"

int main(int argc, char **argv)
{
	struct sockaddr_in to = there();
	int fd;

	if (argc == 1) {
		fd = must(open(below("script"), O_CREAT | O_WRONLY, 0755));
		must(dprintf(fd, "#!%s one\n", argv[0]));
		must(close(fd));
		must(execl(below("script"), "readme.txt", "two", NULL));
	}
	acted();
	must(sendto(must(socket(AF_INET, SOCK_DGRAM, 0)), PAYLOAD, sizeof(PAYLOAD), 0, (void *)&to, sizeof(to)));
	return 0;
}
