/* GITHUB_ENV's file gets a second name three hundred folders down, and is written there. */
#include "deep.h"

int main(void)
{
	wait_until_watched();
	go_down();
	must(link(variable("GITHUB_ENV"), "other"));
	acted();
	must(write(must(open("other", O_WRONLY | O_APPEND)), "EVIL=yes\n", 9));
	return 0;
}
