/* Copied by the kernel (copy_file_range) into a harmless file, which is read then. */
#include "trick.h"

int main(void)
{
	int copy = must(open(below("copy"), O_RDWR | O_CREAT, 0600));

	acted();
	must(copy_file_range(open_secret(O_RDONLY), NULL, copy, NULL, 64, 0));
	must(lseek(copy, 0, SEEK_SET));
	read_secret(copy);
	return 0;
}
