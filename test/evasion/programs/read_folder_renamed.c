/* Its folder gets a harmless name: the file keeps its own, which alone says little. */
#include "trick.h"

int main(void)
{
	wait_until_watched();
	must(rename(below("home/.aws"), below("harmless")));
	acted();
	read_secret(must(open(below("harmless/credentials"), O_RDONLY)));
	must(rename(below("harmless"), below("home/.aws")));
	return 0;
}
