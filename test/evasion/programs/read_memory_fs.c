/* The file lies in memory (tmpfs), as homes in containers may: no page cache is filled. */
#include "trick.h"

int main(void)
{
	int fd;

	must(unshare(CLONE_NEWNS));
	must(mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL));
	must(mount("none", below("home/.aws"), "tmpfs", 0, NULL));
	fd = must(open(below("home/.aws/credentials"), O_WRONLY | O_CREAT, 0600));
	must(write(fd, SECRET, sizeof(SECRET)));
	close(fd);
	acted();
	read_secret(open_secret(O_RDONLY));
	return 0;
}
