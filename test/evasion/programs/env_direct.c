/* Written past the page cache (O_DIRECT). */
#include "trick.h"

int main(void)
{
	char *text = aligned_alloc(4096, 4096);

	memset(text, '\n', 4096);
	memcpy(text, "EVIL=yes", 8);
	wait_until_watched();
	acted();
	must(write(must(open(variable("GITHUB_ENV"), O_WRONLY | O_DIRECT)), text, 4096));
	return 0;
}
