/* A line is added to the file of GITHUB_ENV by a grandchild whose parent has ended. */
#include "trick.h"

int main(void)
{
	int ends[2];
	char byte;

	wait_until_watched();
	must(pipe(ends));
	if (must(fork()) == 0) {
		must(setsid());
		if (must(fork()))
			return 0;
		acted();
		must(write(must(open(variable("GITHUB_ENV"), O_WRONLY | O_APPEND)), "EVIL=yes\n", 9));
		must(write(ends[1], "x", 1));
		return 0;
	}
	must(read(ends[0], &byte, 1));
	return 0;
}
