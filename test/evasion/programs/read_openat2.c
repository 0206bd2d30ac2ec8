/* Opened by openat2, below a descriptor of its folder, and read with preadv2. */
#include "trick.h"

int main(void)
{
	char text[64];
	struct iovec data = { text, sizeof(text) };
	struct open_how how = { .flags = O_RDONLY };
	int folder = must(open(below("home/.aws"), O_PATH)), fd;

	acted();
	fd = must(syscall(SYS_openat2, folder, "credentials", &how, sizeof(how)));
	expect_secret(text, must(preadv2(fd, &data, 1, 0, 0)));
	return 0;
}
