/* The folder that GITHUB_ENV's file lies in changes places with another one. */
#include "trick.h"

int main(void)
{
	wait_until_watched();
	must(mkdir(below("others"), 0755));
	must(write(must(creat(below("others/env"), 0644)), "EVIL=yes\n", 9));
	acted();
	must(syscall(SYS_renameat2, AT_FDCWD, below("others"), AT_FDCWD, below("commands"), RENAME_EXCHANGE));
	return 0;
}
