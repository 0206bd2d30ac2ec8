/* Not a trick: a file comes into a watched folder, and what comes later is told later. */
#include "trick.h"

int main(void)
{
	wait_until_watched();
	must(creat(below("path/barrier"), 0755));
	acted();
	return 0;
}
