/*
 * The file of GITHUB_ENV is made longer and written through a shared mapping: there is
 * no write call to see, and the file is closed before anything is written.
 */
#include "trick.h"

int main(void)
{
	int fd = must(open(variable("GITHUB_ENV"), O_RDWR));
	char *text;

	wait_until_watched();
	acted();
	must(ftruncate(fd, 9));
	text = (char *)must(mmap(NULL, 9, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0));
	close(fd);
	memcpy(text, "EVIL=yes\n", 9);
	return 0;
}
