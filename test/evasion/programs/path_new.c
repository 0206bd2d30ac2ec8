/* A program that later steps will call instead of the real one comes into a PATH folder. */
#include "trick.h"

int main(int argc, char **argv)
{
	wait_until_watched();
	close(must(creat(below("evil"), 0755)));
	acted();
	if (!strcmp(argv[1], "made"))
		close(must(creat(below("path/git"), 0755)));
	else if (!strcmp(argv[1], "renamed"))
		must(rename(below("evil"), below("path/git")));
	else if (!strcmp(argv[1], "linked"))
		must(link(below("evil"), below("path/git")));
	else
		must(symlink(below("evil"), below("path/git")));
	return 0;
}
