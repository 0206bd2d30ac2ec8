/*
 * A program that is run without exec: its code is mapped into a child that jumps there,
 * as loaders in memory do.
 */
#include "trick.h"
#include <elf.h>

__attribute__((noinline, section(".text.alone"))) static long alone(long fd, const void *text, long size, const void *to)
{
	long result;
	register long flags asm("r10") = 0, address asm("r8") = (long)to, length asm("r9") = sizeof(struct sockaddr_in);

	asm volatile("syscall" : "=a"(result) : "a"(SYS_sendto), "D"(fd), "S"(text), "d"(size), "r"(flags), "r"(address), "r"(length) : "rcx", "r11", "memory");
	return result;
}

int main(void)
{
	struct sockaddr_in to = there();
	char *code = (char *)must(mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
	long (*copy)(long, const void *, long, const void *) = (void *)code;

	memcpy(code, (void *)alone, 256);
	if (must(fork()) == 0) {
		acted();
		if (copy(must(socket(AF_INET, SOCK_DGRAM, 0)), PAYLOAD, sizeof(PAYLOAD), &to) < 0)
			return 1;
		return 0;
	}
	wait_for(-1);
	return 0;
}
