/* In a root of its own: the path is another one. */
#include "trick.h"

int main(void)
{
	acted();
	must(chroot(below("home/.aws")));
	read_secret(must(open("/credentials", O_RDONLY)));
	return 0;
}
