/*
 * A process gets the number of one that has just ended (clone3 with set_tid): who joins
 * by number takes it for that one.
 */
#include "trick.h"

static void child_does(const char *name, pid_t number)
{
	struct clone_args how = { .exit_signal = SIGCHLD, .set_tid = number ? (uint64_t)&number : 0, .set_tid_size = number ? 1 : 0 };
	pid_t child = must(syscall(SYS_clone3, &how, sizeof(how)));

	if (child == 0)
		must(execl("/proc/self/exe", name, name, NULL));
	wait_for(child);
	if (number == 0)
		child_does("second", child);
}

int main(int argc, char **argv)
{
	struct sockaddr_in to = there();

	if (argc == 1) {
		child_does("first", 0);
		return 0;
	}
	acted();
	if (!strcmp(argv[1], "second"))
		must(sendto(must(socket(AF_INET, SOCK_DGRAM, 0)), PAYLOAD, sizeof(PAYLOAD), 0, (void *)&to, sizeof(to)));
	return 0;
}
