/* Started by posix_spawn: the child shares its parent's memory until it runs. */
#include "trick.h"
#include <spawn.h>

int main(int argc, char **argv)
{
	struct sockaddr_in to = there();
	pid_t child;

	if (argc == 1) {
		must(-posix_spawn(&child, "/proc/self/exe", NULL, NULL, (char *[]){ "spawned", "child", NULL }, environ));
		wait_for(child);
		return 0;
	}
	acted();
	must(sendto(must(socket(AF_INET, SOCK_DGRAM, 0)), PAYLOAD, sizeof(PAYLOAD), 0, (void *)&to, sizeof(to)));
	return 0;
}
