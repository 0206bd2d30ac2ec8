/* Born into another cgroup (CLONE_INTO_CGROUP): nobody was ever moved. */
#include "cgroup.h"

int main(void)
{
	struct sockaddr_in to = there();
	char *folder = make_cgroup();
	struct clone_args how = { .flags = CLONE_INTO_CGROUP, .exit_signal = SIGCHLD, .cgroup = must(open(folder, O_RDONLY | O_DIRECTORY)) };
	pid_t child = must(syscall(SYS_clone3, &how, sizeof(how)));
	int fd;

	if (child == 0) {
		fd = must(socket(AF_INET, SOCK_STREAM, 0));
		acted();
		must(connect(fd, (void *)&to, sizeof(to)));
		must(write(fd, PAYLOAD, sizeof(PAYLOAD)));
		expect_echo(fd);
		return 0;
	}
	wait_for(child);
	must(rmdir(folder));
	return 0;
}
