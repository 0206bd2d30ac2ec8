/* The credential is opened and read: no trick, the plain way. */
#include "trick.h"

int main(void)
{
	acted();
	read_secret(open_secret(O_RDONLY));
	return 0;
}
