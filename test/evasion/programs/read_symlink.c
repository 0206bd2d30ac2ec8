/* A symbolic link to its folder, and one to the file. */
#include "trick.h"

int main(void)
{
	must(symlink(below("home/.aws"), below("folder")));
	must(symlink(below("folder/credentials"), below("harmless")));
	acted();
	read_secret(must(open(below("harmless"), O_RDONLY)));
	return 0;
}
