/* A resolver on another port: what goes there is a datagram like any other. */
#include "dns.h"

int main(void)
{
	struct sockaddr_in server = resolver(54);
	int fd = must(socket(AF_INET, SOCK_DGRAM, 0));
	char message[512];

	acted();
	must(sendto(fd, message, question(message, variable("NAME")), 0, (void *)&server, sizeof(server)));
	send_there(answered(fd));
	return 0;
}
