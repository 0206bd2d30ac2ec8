/* Another file takes the place of GITHUB_ENV's by rename: the file itself is not touched. */
#include "trick.h"

int main(void)
{
	wait_until_watched();
	must(write(must(creat(below("other"), 0644)), "EVIL=yes\n", 9));
	acted();
	must(rename(below("other"), variable("GITHUB_ENV")));
	return 0;
}
