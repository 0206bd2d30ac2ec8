/*
 * Not a trick: the runner's worker. Installed as Runner.Worker it runs its arguments as
 * a step, with its own environment, and ends with the step's status. A secret lies in
 * its memory, where SECRET_ADDRESS says, for the tricks that reach for it.
 */
#include "trick.h"

static char secret[] = "the secret of the job";

int main(int argc, char **argv)
{
	char where[32];
	int status;

	sprintf(where, "%lx", (unsigned long)secret);
	setenv("SECRET_ADDRESS", where, 1);
	if (fork() == 0) {
		execvp(argv[1], argv + 1);
		die(argv[1]);
	}
	must(wait(&status));
	return WIFEXITED(status) ? WEXITSTATUS(status) : 100;
}
