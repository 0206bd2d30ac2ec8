/* A bind mount of the file over a harmless one, in a mount namespace of its own. */
#include "trick.h"

int main(void)
{
	must(unshare(CLONE_NEWNS));
	must(mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL));
	close(must(creat(below("harmless"), 0600)));
	must(mount(below("home/.aws/credentials"), below("harmless"), NULL, MS_BIND, NULL));
	acted();
	read_secret(must(open(below("harmless"), O_RDONLY)));
	return 0;
}
