/* A file without a name (O_TMPFILE) is written, and only then linked into the folder. */
#include "trick.h"

int main(void)
{
	char *path;
	int fd;

	wait_until_watched();
	fd = must(open(below("path"), O_TMPFILE | O_WRONLY, 0755));
	must(write(fd, "#!/bin/sh\n", 10));
	must(asprintf(&path, "/proc/self/fd/%d", fd));
	acted();
	must(linkat(AT_FDCWD, path, AT_FDCWD, below("path/git"), AT_SYMLINK_FOLLOW));
	return 0;
}
