/* Another name for the same file: it is opened under a harmless one. */
#include "trick.h"

int main(void)
{
	must(link(below("home/.aws/credentials"), below("harmless")));
	acted();
	read_secret(must(open(below("harmless"), O_RDONLY)));
	return 0;
}
