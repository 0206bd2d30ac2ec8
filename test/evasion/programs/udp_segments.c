/*
 * Many datagrams in one call and one packet, which the kernel or the device takes apart
 * (UDP_SEGMENT): as many bytes as sixty datagrams have.
 */
#include "trick.h"

int main(void)
{
	struct sockaddr_in to = there();
	int fd = must(socket(AF_INET, SOCK_DGRAM, 0)), size = sizeof(PAYLOAD);
	char text[60 * sizeof(PAYLOAD)];

	for (int i = 0; i < 60; i++)
		memcpy(text + i * size, PAYLOAD, size);
	must(setsockopt(fd, IPPROTO_UDP, UDP_SEGMENT, &size, sizeof(size)));
	acted();
	must(sendto(fd, text, sizeof(text), 0, (void *)&to, sizeof(to)));
	expect_echo(fd);
	return 0;
}
