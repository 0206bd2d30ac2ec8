/* The home folder as the lower layer of an overlay: the file has another inode there. */
#include "trick.h"

int main(void)
{
	char *options;

	must(unshare(CLONE_NEWNS));
	must(mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL));
	must(mkdir(below("upper"), 0700));
	must(mkdir(below("work2"), 0700));
	must(mkdir(below("merged"), 0700));
	must(asprintf(&options, "lowerdir=%s,upperdir=%s,workdir=%s", below("home"), below("upper"), below("work2")));
	must(mount("overlay", below("merged"), "overlay", 0, options));
	acted();
	read_secret(must(open(below("merged/.aws/credentials"), O_RDONLY)));
	return 0;
}
