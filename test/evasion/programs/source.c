/*
 * A file that was checked out is changed before it is built, and in a way that leaves
 * size and time as git knows them: in place, by a shared mapping, by renaming, or through
 * a hard link elsewhere.
 */
#include "trick.h"

int main(int argc, char **argv)
{
	const char *file = below("work/main.c");
	struct stat s;
	char *text;
	int fd;

	wait_until_watched();
	must(stat(file, &s));
	acted();
	if (!strcmp(argv[1], "mapped")) {
		fd = must(open(file, O_RDWR));
		text = (char *)must(mmap(NULL, 9, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0));
		text[0] = 'X';
		return 0;
	}
	if (!strcmp(argv[1], "renamed")) {
		fd = must(creat(below("other"), 0644));
		must(write(fd, "int main(void) { return 1; }\n", 29));
		must(futimens(fd, (struct timespec[]){ s.st_atim, s.st_mtim }));
		must(rename(below("other"), file));
		return 0;
	}
	if (!strcmp(argv[1], "linked")) {
		must(link(file, below("elsewhere")));
		file = below("elsewhere");
	}
	fd = must(open(file, O_WRONLY));
	must(pwrite(fd, "1", 1, 24));
	must(futimens(fd, (struct timespec[]){ s.st_atim, s.st_mtim }));
	return 0;
}
