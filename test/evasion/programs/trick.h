/* What most tricks need. A trick that does not work ends with a message. */
#ifndef TRICK_H
#define TRICK_H

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/io_uring.h>
#include <linux/openat2.h>
#include <linux/sched.h>
#include <net/if.h>
#include <netinet/in.h>
#include <netinet/ip.h>
#include <netinet/tcp.h>
#include <netinet/udp.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#define PAYLOAD "a stolen secret"

static inline void die(const char *what)
{
	perror(what);
	exit(1);
}

/* The call's result; ends the program if it is negative. */
#define must(call) ({ long result_ = (long)(call); if (result_ < 0) die(#call); result_; })

/* Says that the calling process is the one that does it, by its number on the machine. */
static inline void acted(void)
{
	char number[32] = {};

	must(readlink("/proc/self", number, sizeof(number) - 1));
	dprintf(1, "acted %s\n", number);
}

static inline const char *variable(const char *name)
{
	const char *value = getenv(name);

	if (!value) {
		fprintf(stderr, "%s is not set\n", name);
		exit(1);
	}
	return value;
}

/* A path below the trick's own folder. */
static inline const char *below(const char *name)
{
	char *path;

	must(asprintf(&path, "%s/%s", variable("DIR"), name));
	return path;
}

/* Waits until the agent watches the files of this step, as a long build does. */
static inline void wait_until_watched(void)
{
	char byte;

	must(read(0, &byte, 1));
}

static inline struct sockaddr_in there(void)
{
	struct sockaddr_in to = { .sin_family = AF_INET, .sin_port = htons(atoi(variable("PORT"))) };

	to.sin_addr.s_addr = inet_addr(variable("ADDRESS"));
	return to;
}

static inline struct sockaddr_in6 there6(const char *address)
{
	struct sockaddr_in6 to = { .sin6_family = AF_INET6, .sin6_port = htons(atoi(variable("PORT"))) };

	must(inet_pton(AF_INET6, address, &to.sin6_addr) - 1);
	return to;
}

/* The other side sends back what it gets: then it has got there. */
static inline void expect_echo(int fd)
{
	struct pollfd ready = { .fd = fd, .events = POLLIN };
	char answer[sizeof(PAYLOAD)] = {};

	if (must(poll(&ready, 1, 5000)) == 0 ||
	    must(read(fd, answer, sizeof(answer))) != sizeof(PAYLOAD) || strcmp(answer, PAYLOAD)) {
		fprintf(stderr, "what was sent did not come back\n");
		exit(1);
	}
}

/* A network namespace of its own, with a loopback device that is up. */
static inline void own_network(void)
{
	struct ifreq request = { .ifr_name = "lo" };
	int fd;

	must(unshare(CLONE_NEWNET));
	fd = must(socket(AF_INET, SOCK_DGRAM, 0));
	request.ifr_flags = IFF_UP | IFF_LOOPBACK | IFF_RUNNING;
	must(ioctl(fd, SIOCSIFFLAGS, &request));
	close(fd);
}

/* A ring of io_uring, mapped by hand. */
struct ring {
	int fd;
	struct io_uring_params p;
	char *submission, *completion;
	struct io_uring_sqe *entries;
};

static inline struct ring make_ring(unsigned flags)
{
	struct ring r = { .p = { .flags = flags } };
	int access = PROT_READ | PROT_WRITE;

	r.fd = must(syscall(SYS_io_uring_setup, 8, &r.p));
	r.submission = (char *)must(mmap(NULL, 4096, access, MAP_SHARED, r.fd, IORING_OFF_SQ_RING));
	r.completion = (char *)must(mmap(NULL, 4096, access, MAP_SHARED, r.fd, IORING_OFF_CQ_RING));
	r.entries = (void *)must(mmap(NULL, 4096, access, MAP_SHARED, r.fd, IORING_OFF_SQES));
	return r;
}

/* Has the ring do one thing and waits for its result. */
static inline int ring_result(struct ring *r, struct io_uring_sqe e)
{
	uint32_t *tail = (void *)(r->submission + r->p.sq_off.tail);
	uint32_t *array = (void *)(r->submission + r->p.sq_off.array);
	uint32_t *head = (void *)(r->completion + r->p.cq_off.head);
	uint32_t *done = (void *)(r->completion + r->p.cq_off.tail);
	struct io_uring_cqe *results = (void *)(r->completion + r->p.cq_off.cqes);
	uint32_t at = *tail & (r->p.sq_entries - 1);
	int result;

	r->entries[at] = e;
	array[at] = at;
	__atomic_store_n(tail, *tail + 1, __ATOMIC_RELEASE);
	if (r->p.flags & IORING_SETUP_SQPOLL) {
		while (__atomic_load_n(done, __ATOMIC_ACQUIRE) == *head)
			must(syscall(SYS_io_uring_enter, r->fd, 0, 0, IORING_ENTER_SQ_WAKEUP, NULL, 0));
	} else {
		must(syscall(SYS_io_uring_enter, r->fd, 1, 1, IORING_ENTER_GETEVENTS, NULL, 0));
	}
	result = results[*head & (r->p.cq_entries - 1)].res;
	__atomic_store_n(head, *head + 1, __ATOMIC_RELEASE);
	if (result < 0) {
		errno = -result;
		die("io_uring");
	}
	return result;
}

/* Passes a descriptor over a Unix socket. */
static inline void pass(int over, int fd)
{
	char space[CMSG_SPACE(sizeof(int))] = {}, byte = 'x';
	struct iovec data = { &byte, 1 };
	struct msghdr m = { .msg_iov = &data, .msg_iovlen = 1, .msg_control = space, .msg_controllen = sizeof(space) };
	struct cmsghdr *c = CMSG_FIRSTHDR(&m);

	c->cmsg_level = SOL_SOCKET;
	c->cmsg_type = SCM_RIGHTS;
	c->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(c), &fd, sizeof(int));
	must(sendmsg(over, &m, 0));
}

static inline int passed(int over)
{
	char space[CMSG_SPACE(sizeof(int))], byte;
	struct iovec data = { &byte, 1 };
	struct msghdr m = { .msg_iov = &data, .msg_iovlen = 1, .msg_control = space, .msg_controllen = sizeof(space) };
	int fd;

	must(recvmsg(over, &m, 0));
	memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&m)), sizeof(int));
	return fd;
}

/* What the file of credentials holds. */
#define SECRET "aws_secret_access_key"

static inline void expect_secret(const char *text, long length)
{
	if (length < (long)strlen(SECRET) || memcmp(text, SECRET, strlen(SECRET))) {
		fprintf(stderr, "that is not the secret\n");
		exit(1);
	}
}

static inline void read_secret(int fd)
{
	char text[64];

	expect_secret(text, must(read(fd, text, sizeof(text))));
}

static inline int open_secret(int flags)
{
	return must(open(below("home/.aws/credentials"), flags));
}

/* Ends with the child's status unless that is zero. */
static inline void wait_for(pid_t child)
{
	int status;

	must(waitpid(child, &status, __WALL));
	if (status) {
		fprintf(stderr, "the child ended with %x\n", status);
		exit(1);
	}
}

#endif
