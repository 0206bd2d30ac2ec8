/*
 * The memory of the runner's worker, which holds the secrets of the job, is read: by
 * another name of the file below /proc, by a call that needs no file, from namespaces of
 * its own, or with somebody else's open file.
 */
#include "trick.h"

static unsigned long address;
static char text[32];

static void check(long n)
{
	if (must(n) < 21 || strncmp(text, "the secret of the job", 21)) {
		fprintf(stderr, "that is not the secret\n");
		exit(1);
	}
}

static void read_memory(const char *path)
{
	check(pread(must(open(path, O_RDONLY)), text, 21, address));
}

int main(int argc, char **argv)
{
	pid_t worker = getppid();
	struct iovec to = { text, 21 };
	char path[64], *tag = argv[1];
	int status, ends[2], fd;

	sscanf(variable("SECRET_ADDRESS"), "%lx", &address);
	sprintf(path, "/proc/%d/mem", worker);
	acted();
	if (!strcmp(tag, "file")) {
		read_memory(path);
	} else if (!strcmp(tag, "thread")) {
		sprintf(path, "/proc/%d/task/%d/mem", worker, worker);
		read_memory(path);
	} else if (!strcmp(tag, "roundabout")) {
		sprintf(path, "/proc/self/../%d/task/../mem", worker);
		read_memory(path);
	} else if (!strcmp(tag, "uring")) {
		struct ring r = make_ring(IORING_SETUP_SQPOLL);

		fd = ring_result(&r, (struct io_uring_sqe){ .opcode = IORING_OP_OPENAT, .fd = AT_FDCWD, .addr = (uint64_t)path });
		check(ring_result(&r, (struct io_uring_sqe){ .opcode = IORING_OP_READ, .fd = fd, .addr = (uint64_t)text, .len = 21, .off = address }));
	} else if (!strcmp(tag, "namespace")) {
		must(unshare(CLONE_NEWNS));
		must(mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL));
		must(mkdir(below("proc"), 0755));
		must(mount("proc", below("proc"), "proc", 0, NULL));
		sprintf(path, "proc/%d/mem", worker);
		read_memory(below(path));
	} else if (!strcmp(tag, "vm")) {
		struct iovec from = { (void *)address, 21 };

		check(process_vm_readv(worker, &to, 1, &from, 1, 0));
	} else if (!strcmp(tag, "ptrace")) {
		must(ptrace(PTRACE_ATTACH, worker, 0, 0));
		must(waitpid(worker, &status, __WALL));
		for (int i = 0; i < 3; i++)
			*(long *)(text + 8 * i) = ptrace(PTRACE_PEEKDATA, worker, address + 8 * i, 0);
		must(ptrace(PTRACE_DETACH, worker, 0, 0));
		check(21);
	} else if (!strcmp(tag, "passed")) {
		must(socketpair(AF_UNIX, SOCK_STREAM, 0, ends));
		if (must(fork()) == 0) {
			pass(ends[1], must(open(path, O_RDONLY)));
			return 0;
		}
		fd = passed(ends[0]);
		wait_for(-1);
		check(pread(fd, text, 21, address));
	} else if (!strcmp(tag, "environ")) {
		sprintf(path, "/proc/%d/environ", worker);
		must(read(must(open(path, O_RDONLY)), text, 21));
	} else if (!strcmp(tag, "maps")) {
		wait_until_watched();
		sprintf(path, "/proc/%d/maps", worker);
		must(read(must(open(path, O_RDONLY)), text, 21));
		must(read(0, text, 1)); /* the worker lives on, as it does in a job */
	} else if (!strcmp(tag, "maps elsewhere")) {
		must(unshare(CLONE_NEWNS));
		must(mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL));
		must(mkdir(below("proc"), 0755));
		must(mount("proc", below("proc"), "proc", 0, NULL));
		sprintf(path, "proc/%d/maps", worker);
		must(read(must(open(below(path), O_RDONLY)), text, 21));
	} else if (!strcmp(tag, "descriptor")) {
		/* No memory: a file that the worker has open. */
		must(syscall(SYS_pidfd_getfd, must(syscall(SYS_pidfd_open, worker, 0)), 1, 0));
	} else if (!strcmp(tag, "seize")) {
		siginfo_t info;

		/* Registers alone, by a tracer that wants no signals. */
		signal(SIGCHLD, SIG_IGN);
		must(ptrace(PTRACE_SEIZE, worker, 0, 0));
		must(ptrace(PTRACE_INTERRUPT, worker, 0, 0));
		must(waitid(P_PID, worker, &info, WSTOPPED));
		must(ptrace(PTRACE_DETACH, worker, 0, 0));
	} else {
		return 2;
	}
	return 0;
}
