/*
 * A server that waits for its master: the connection comes from outside, and the step
 * answers. In a network namespace of its own, with an address that is not of loopback.
 */
#include "trick.h"

int main(void)
{
	struct sockaddr_in at = { .sin_family = AF_INET, .sin_port = htons(atoi(variable("PORT"))) };
	struct ifreq request = { .ifr_name = "lo:1" };
	int fd, in, out;

	own_network();
	at.sin_addr.s_addr = inet_addr("198.51.100.7");
	fd = must(socket(AF_INET, SOCK_STREAM, 0));
	memcpy(&request.ifr_addr, &at, sizeof(at));
	must(ioctl(fd, SIOCSIFADDR, &request));
	acted();
	must(bind(fd, (void *)&at, sizeof(at)));
	must(listen(fd, 1));
	if (must(fork()) == 0) {
		out = must(socket(AF_INET, SOCK_STREAM, 0));
		must(connect(out, (void *)&at, sizeof(at)));
		expect_echo(out);
		return 0;
	}
	in = must(accept(fd, NULL, NULL));
	must(write(in, PAYLOAD, sizeof(PAYLOAD)));
	wait_for(-1);
	return 0;
}
