/*
 * An argument as long as can be (128 KiB), and behind it the one that matters; or an
 * environment of a megabyte.
 */
#include "trick.h"

int main(int argc, char **argv)
{
	struct sockaddr_in to = there();
	char *longest = malloc(128 << 10), name[32];

	if (argc == 2) {
		memset(longest, 'x', (128 << 10) - 1);
		longest[(128 << 10) - 1] = 0;
		if (!strcmp(argv[1], "arguments"))
			must(execl("/proc/self/exe", "long", longest, "--hidden", NULL));
		longest[100 << 10] = 0;
		for (int i = 0; i < 10; i++) {
			sprintf(name, "LONG%d", i);
			must(setenv(name, longest, 1));
		}
		must(execl("/proc/self/exe", "long", "environment", "--seen", NULL));
	}
	acted();
	must(sendto(must(socket(AF_INET, SOCK_DGRAM, 0)), PAYLOAD, sizeof(PAYLOAD), 0, (void *)&to, sizeof(to)));
	return 0;
}
