/* TCP Fast Open: data goes out with the first packet, and connect is never called. */
#include "trick.h"

int main(void)
{
	struct sockaddr_in to = there();
	int fd = must(socket(AF_INET, SOCK_STREAM, 0));

	acted();
	must(sendto(fd, PAYLOAD, sizeof(PAYLOAD), MSG_FASTOPEN, (void *)&to, sizeof(to)));
	expect_echo(fd);
	return 0;
}
