/* A program in a PATH folder is changed where it is: nothing comes or goes. */
#include "trick.h"

int main(void)
{
	int fd;

	wait_until_watched();
	fd = must(open(below("path/tool"), O_WRONLY | O_TRUNC));
	acted();
	must(write(fd, "#!/bin/evil\n", 12));
	return 0;
}
