/*
 * A shell's profile is written in the same tick of the clock in which the time of its last
 * access is set to one that lies ahead.
 */
#include "trick.h"

int main(void)
{
	struct timespec times[2] = { { .tv_sec = 4102444800 }, { .tv_nsec = UTIME_OMIT } };
	int fd = must(open(below("home/.bashrc"), O_WRONLY | O_CREAT, 0644));

	acted();
	must(futimens(fd, times));
	must(write(fd, "evil\n", 5));
	return 0;
}
