/* Read past the page cache (O_DIRECT). */
#include "trick.h"

int main(void)
{
	char *text = aligned_alloc(4096, 4096);

	acted();
	expect_secret(text, must(read(open_secret(O_RDONLY | O_DIRECT), text, 4096)));
	return 0;
}
