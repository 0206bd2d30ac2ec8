/* One program looks the name up and hands the address to the next in the same process. */
#include "dns.h"

int main(int argc, char **argv)
{
	struct sockaddr_in to = there();

	acted();
	if (argc > 1) {
		to.sin_addr.s_addr = inet_addr(argv[1]);
		send_there(to);
		return 0;
	}
	to = look_up(variable("NAME"));
	must(execl("/proc/self/exe", "sender", inet_ntoa(to.sin_addr), NULL));
}
