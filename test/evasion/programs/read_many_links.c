/*
 * Many harmless names, then the file is opened under one of them: whoever asks a file for
 * its names has to stop somewhere.
 */
#include "trick.h"

int main(void)
{
	char name[32];

	wait_until_watched();
	for (int i = 0; i < 20; i++) {
		sprintf(name, "harmless%d", i);
		must(link(below("home/.aws/credentials"), below(name)));
		close(must(open(below(name), O_PATH)));
	}
	acted();
	read_secret(must(open(below("harmless7"), O_RDONLY)));
	return 0;
}
