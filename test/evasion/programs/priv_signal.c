/*
 * The agent is sent a signal, by a thread of its own: here one that does it no harm.
 */
#include "trick.h"

int main(int argc, char **argv)
{
	if (argc != 2)
		return 1;
	must(syscall(SYS_tkill, atoi(argv[1]), SIGCONT));
	acted();
	return 0;
}
