/* The file of GITHUB_ENV is removed, and another one linked to its name. */
#include "trick.h"

int main(void)
{
	wait_until_watched();
	must(write(must(creat(below("other"), 0644)), "EVIL=yes\n", 9));
	acted();
	must(unlink(variable("GITHUB_ENV")));
	must(link(below("other"), variable("GITHUB_ENV")));
	return 0;
}
