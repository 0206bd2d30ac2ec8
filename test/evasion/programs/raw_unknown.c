/* A protocol that does not exist (253 is for experiments, RFC 3692). */
#include "trick.h"

int main(void)
{
	struct sockaddr_in to = there();
	int fd = must(socket(AF_INET, SOCK_RAW, 253));

	acted();
	must(sendto(fd, PAYLOAD, sizeof(PAYLOAD), 0, (void *)&to, sizeof(to)));
	return 0;
}
