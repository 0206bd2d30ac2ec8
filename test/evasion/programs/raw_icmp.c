/* Data in an ICMP echo of a raw socket: ping is allowed everywhere, and has no port. */
#include "trick.h"

int main(void)
{
	struct sockaddr_in to = there();
	unsigned char echo[] = { 8, 0, 0xf7, 0xff, 0, 0, 0, 0 };
	int fd = must(socket(AF_INET, SOCK_RAW, IPPROTO_ICMP));

	acted();
	must(sendto(fd, echo, sizeof(echo), 0, (void *)&to, sizeof(to)));
	return 0;
}
