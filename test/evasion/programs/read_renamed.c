/* The file gets a harmless name before it is opened; then it gets its own back. */
#include "trick.h"

int main(void)
{
	wait_until_watched();
	must(rename(below("home/.aws/credentials"), below("harmless")));
	acted();
	read_secret(must(open(below("harmless"), O_RDONLY)));
	must(rename(below("harmless"), below("home/.aws/credentials")));
	return 0;
}
