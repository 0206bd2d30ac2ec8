/*
 * A process goes into namespaces of its own and runs no program there: nothing new is
 * started by which it might be noticed.
 */
#include "trick.h"

int main(void)
{
	must(unshare(CLONE_NEWNS | CLONE_NEWNET));
	acted();
	return 0;
}
