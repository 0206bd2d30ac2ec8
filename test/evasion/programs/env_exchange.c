/* Two files change places (RENAME_EXCHANGE): none is made, none is removed. */
#include "trick.h"

int main(void)
{
	wait_until_watched();
	must(write(must(creat(below("other"), 0644)), "EVIL=yes\n", 9));
	acted();
	must(syscall(SYS_renameat2, AT_FDCWD, below("other"), AT_FDCWD, variable("GITHUB_ENV"), RENAME_EXCHANGE));
	return 0;
}
