/*
 * A program that is in no file system: copied into memory and run from there by
 * execveat with an empty path. There is no file to look up, and none to find later.
 */
#include "trick.h"

int main(int argc, char **argv)
{
	char text[65536];
	long n;

	if (argc == 1) {
		int from = must(open("/proc/self/exe", O_RDONLY)), fd = must(memfd_create("ghost", MFD_CLOEXEC));

		while ((n = must(read(from, text, sizeof(text)))) > 0)
			must(write(fd, text, n));
		must(syscall(SYS_execveat, fd, "", (char *[]){ "innocent", "again", NULL }, environ, AT_EMPTY_PATH));
	}
	acted();
	return 0;
}
