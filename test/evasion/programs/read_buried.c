/* The folder of the credential is moved three hundred folders down, and read there. */
#include "deep.h"

int main(void)
{
	wait_until_watched();
	go_down();
	must(rename(below("home/.aws"), ".aws"));
	acted();
	read_secret(must(open(".aws/credentials", O_RDONLY)));
	return 0;
}
