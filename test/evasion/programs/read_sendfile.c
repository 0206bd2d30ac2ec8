/* Sent to a socket by sendfile: the process never has the text. */
#include "trick.h"

int main(void)
{
	int ends[2];

	must(socketpair(AF_UNIX, SOCK_STREAM, 0, ends));
	acted();
	must(sendfile(ends[1], open_secret(O_RDONLY), NULL, 64));
	read_secret(ends[0]);
	return 0;
}
