/* Written by splice from a pipe, and by copy_file_range. */
#include "trick.h"

int main(void)
{
	int ends[2];

	wait_until_watched();
	must(pipe(ends));
	must(write(ends[1], "EVIL=yes\n", 9));
	acted();
	must(splice(ends[0], NULL, must(open(variable("GITHUB_ENV"), O_WRONLY)), NULL, 9, 0));
	return 0;
}
