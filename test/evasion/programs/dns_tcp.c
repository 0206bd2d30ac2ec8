/* DNS over TCP, its message sent byte by byte; or from port 53, as a resolver's answer. */
#include "dns.h"

int main(int argc, char **argv)
{
	struct sockaddr_in server = resolver(53);
	int fd = must(socket(AF_INET, SOCK_STREAM, 0)), one = 1, n;
	char message[512];

	n = question(message + 2, variable("NAME"));
	message[0] = 0;
	message[1] = n;
	if (argc > 1) {
		struct sockaddr_in here = resolver(53);

		here.sin_addr.s_addr = htonl(INADDR_LOOPBACK | (getpid() << 4 & 0xfff0));
		must(setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)));
		must(bind(fd, (void *)&here, sizeof(here)));
	}
	acted();
	must(connect(fd, (void *)&server, sizeof(server)));
	must(setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one)));
	for (int i = 0; i < n + 2; i++)
		must(write(fd, message + i, 1));
	send_there(answered(fd));
	return 0;
}
