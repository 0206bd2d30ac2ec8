/*
 * A process gives its rights up, and its child takes them back by the saved user: no
 * setuid program is run that somebody might look at.
 */
#include "trick.h"

int main(void)
{
	must(setresuid(1, 1, 0));
	if (must(fork()) == 0) {
		must(setresuid(0, 0, 0));
		acted();
		_exit(0);
	}
	wait(NULL);
	return 0;
}
