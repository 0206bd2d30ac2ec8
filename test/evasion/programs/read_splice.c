/* Spliced into a pipe: the pages change hands, nothing is read from the file. */
#include "trick.h"

int main(void)
{
	int ends[2];

	must(pipe(ends));
	acted();
	must(splice(open_secret(O_RDONLY), NULL, ends[1], NULL, 64, 0));
	read_secret(ends[0]);
	return 0;
}
