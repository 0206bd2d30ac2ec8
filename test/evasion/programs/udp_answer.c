/*
 * A UDP server that is asked from outside and answers with what it has stolen: it looks
 * like a server that does its work.
 */
#include "trick.h"

int main(void)
{
	struct sockaddr_in at = there(), from;
	socklen_t size = sizeof(from);
	char question[64];
	int fd = must(socket(AF_INET, SOCK_DGRAM, 0)), out;

	at.sin_port = htons(7);
	must(bind(fd, (void *)&at, sizeof(at)));
	if (must(fork()) == 0) {
		struct sockaddr_in self = there();

		out = must(socket(AF_INET, SOCK_DGRAM, 0));
		self.sin_port = htons(8);
		must(bind(out, (void *)&self, sizeof(self)));
		must(sendto(out, PAYLOAD, sizeof(PAYLOAD), 0, (void *)&at, sizeof(at)));
		expect_echo(out);
		return 0;
	}
	must(recvfrom(fd, question, sizeof(question), 0, (void *)&from, &size));
	acted();
	must(sendto(fd, PAYLOAD, sizeof(PAYLOAD), 0, (void *)&from, size));
	wait_for(-1);
	return 0;
}
