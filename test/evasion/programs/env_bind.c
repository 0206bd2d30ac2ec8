/*
 * Another file is mounted over GITHUB_ENV's: neither the file nor its folder changes. In
 * a mount namespace of its own here, so that the test leaves nothing behind.
 */
#include "trick.h"

int main(void)
{
	char text[9];

	wait_until_watched();
	must(unshare(CLONE_NEWNS));
	must(mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL));
	must(write(must(creat(below("other"), 0644)), "EVIL=yes\n", 9));
	acted();
	must(mount(below("other"), variable("GITHUB_ENV"), NULL, MS_BIND, NULL));
	if (must(read(must(open(variable("GITHUB_ENV"), O_RDONLY)), text, 9)) != 9)
		die("another file");
	return 0;
}
