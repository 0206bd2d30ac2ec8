/* Through another process's root: /proc/PID/root is the machine seen from there. */
#include "trick.h"

int main(void)
{
	char *path;

	must(asprintf(&path, "/proc/%d/root%s", getppid(), below("home/.aws/credentials")));
	acted();
	read_secret(must(open(path, O_RDONLY)));
	return 0;
}
