/* Questions to the step's own resolver, which answers with the address that NAME means. */
#ifndef DNS_H
#define DNS_H

#include "trick.h"

static inline struct sockaddr_in resolver(int port)
{
	struct sockaddr_in to = there();

	to.sin_port = htons(port);
	return to;
}

/* Asks for the A record of a name: the length of the message. */
static inline int question(char *message, const char *name)
{
	char head[] = { 0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0 }, *at = message + sizeof(head);

	memcpy(message, head, sizeof(head));
	while (*name) {
		int length = strcspn(name, ".");

		*at++ = length;
		memcpy(at, name, length);
		at += length;
		name += length + (name[length] == '.');
	}
	memcpy(at, "\0\0\1\0\1", 5);
	return at + 5 - message;
}

/* The answer's last four bytes are the address. */
static inline struct sockaddr_in answered(int fd)
{
	struct pollfd ready = { .fd = fd, .events = POLLIN };
	struct sockaddr_in to = there();
	char answer[512];
	long n;

	if (must(poll(&ready, 1, 5000)) == 0) {
		fprintf(stderr, "the resolver does not answer\n");
		exit(1);
	}
	n = must(read(fd, answer, sizeof(answer)));
	memcpy(&to.sin_addr, answer + n - 4, 4);
	if (to.sin_addr.s_addr != inet_addr(variable("ADDRESS"))) {
		fprintf(stderr, "the resolver does not know the name\n");
		exit(1);
	}
	return to;
}

static inline struct sockaddr_in look_up(const char *name)
{
	struct sockaddr_in server = resolver(53);
	int fd = must(socket(AF_INET, SOCK_DGRAM, 0));
	char message[512];

	must(sendto(fd, message, question(message, name), 0, (void *)&server, sizeof(server)));
	return answered(fd);
}

static inline void send_there(struct sockaddr_in to)
{
	int fd = must(socket(AF_INET, SOCK_STREAM, 0));

	must(connect(fd, (void *)&to, sizeof(to)));
	must(write(fd, PAYLOAD, sizeof(PAYLOAD)));
	expect_echo(fd);
}

#endif
