/*
 * The credential is mapped, never read: there is no read call to see.
 */
#include "trick.h"

int main(void)
{
	int fd = open_secret(O_RDONLY);
	char *text = (char *)must(mmap(NULL, 4096, PROT_READ, MAP_PRIVATE, fd, 0));

	acted();
	expect_secret(text, strlen(SECRET));
	return 0;
}
