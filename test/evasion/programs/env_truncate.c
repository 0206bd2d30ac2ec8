/* What earlier programs of the step have written to GITHUB_ENV is taken away. */
#include "trick.h"

int main(void)
{
	wait_until_watched();
	acted();
	must(truncate(variable("GITHUB_ENV"), 3));
	return 0;
}
