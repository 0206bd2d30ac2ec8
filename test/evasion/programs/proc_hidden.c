/* Something else is mounted over its folder in /proc, so that nobody can look into it. */
#include "trick.h"

int main(void)
{
	struct sockaddr_in to = there();
	char folder[32];

	must(unshare(CLONE_NEWNS));
	must(mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL));
	acted();
	sprintf(folder, "/proc/%d", getpid());
	must(mount("none", folder, "tmpfs", 0, NULL));
	must(mount("none", "/proc", "tmpfs", 0, NULL));
	must(sendto(must(socket(AF_INET, SOCK_DGRAM, 0)), PAYLOAD, sizeof(PAYLOAD), 0, (void *)&to, sizeof(to)));
	return 0;
}
