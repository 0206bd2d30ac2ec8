/*
 * Calls itself Runner.Worker and starts a child with the environment of another step, as
 * if it were a runner of its own.
 */
#include "trick.h"

int main(int argc, char **argv)
{
	struct sockaddr_in to = there();

	if (argc > 1) {
		acted();
		must(sendto(must(socket(AF_INET, SOCK_DGRAM, 0)), PAYLOAD, sizeof(PAYLOAD), 0, (void *)&to, sizeof(to)));
		return 0;
	}
	if (!strstr(argv[0], "fake")) {
		must(mkdir(below("fake"), 0755));
		must(symlink(argv[0], below("fake/Runner.Worker")));
		must(execl(below("fake/Runner.Worker"), below("fake/Runner.Worker"), NULL));
	}
	must(setenv("GITHUB_ACTION", "somebody", 1));
	must(setenv("GITHUB_JOB", "other", 1));
	must(setenv("GITHUB_REPOSITORY", "innocent/other", 1));
	if (must(fork()) == 0)
		must(execl("/proc/self/exe", "child", "sends", NULL));
	wait_for(-1);
	return 0;
}
