/* The library of proc_preload.sh: it sends before the program's main begins. */
#include "trick.h"

__attribute__((constructor)) static void send_it(void)
{
	struct sockaddr_in to = there();

	acted();
	must(sendto(must(socket(AF_INET, SOCK_DGRAM, 0)), PAYLOAD, sizeof(PAYLOAD), 0, (void *)&to, sizeof(to)));
}
