/*
 * A connection that a daemon outside of the job has open is handed to a step over a Unix
 * socket: the step connects nowhere, and what it sends goes on somebody else's account.
 */
#include "trick.h"

int main(void)
{
	struct sockaddr_un daemon = { .sun_family = AF_UNIX };
	int over = must(socket(AF_UNIX, SOCK_STREAM, 0)), fd;

	strcpy(daemon.sun_path, below("daemon"));
	must(connect(over, (void *)&daemon, sizeof(daemon)));
	fd = passed(over);
	acted();
	must(write(fd, PAYLOAD, sizeof(PAYLOAD)));
	expect_echo(fd);
	return 0;
}
