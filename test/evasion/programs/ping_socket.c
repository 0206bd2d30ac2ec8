/*
 * Data in an echo of a ping socket, which needs no privilege: a datagram socket that is
 * not UDP. In a network namespace of its own, where it may say who may ping.
 */
#include "trick.h"

int main(void)
{
	struct sockaddr_in to = there();
	unsigned char echo[] = { 8, 0, 0, 0, 0, 0, 0, 0 };
	int fd;

	own_network();
	fd = must(open("/proc/sys/net/ipv4/ping_group_range", O_WRONLY));
	must(write(fd, "0 0", 3));
	fd = must(socket(AF_INET, SOCK_DGRAM, IPPROTO_ICMP));
	acted();
	must(sendto(fd, echo, sizeof(echo), 0, (void *)&to, sizeof(to)));
	return 0;
}
