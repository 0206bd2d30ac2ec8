/* A cgroup of its own: programs that hang on another cgroup do not run. */
#include "cgroup.h"

int main(void)
{
	struct sockaddr_in to = there();
	char *folder = make_cgroup(), *path;
	pid_t child;
	int fd;

	child = must(fork());
	if (child == 0) {
		must(asprintf(&path, "%s/cgroup.procs", folder));
		fd = must(open(path, O_WRONLY));
		must(write(fd, "0", 1));
		must(unshare(CLONE_NEWCGROUP));
		fd = must(socket(AF_INET, SOCK_DGRAM, 0));
		acted();
		must(sendto(fd, PAYLOAD, sizeof(PAYLOAD), 0, (void *)&to, sizeof(to)));
		expect_echo(fd);
		return 0;
	}
	wait_for(child);
	must(rmdir(folder));
	return 0;
}
