/* The file of GITHUB_ENV is written through a descriptor of the shell that waits. */
#include "trick.h"

int main(void)
{
	int fd = must(open(variable("GITHUB_ENV"), O_WRONLY));
	char *path;

	wait_until_watched();
	must(asprintf(&path, "/proc/%d/fd/%d", getpid(), fd));
	if (must(fork()) == 0) {
		close(fd);
		acted();
		must(write(must(open(path, O_WRONLY)), "EVIL=yes\n", 9));
		return 0;
	}
	wait_for(-1);
	return 0;
}
