/* Opened as a mere place (O_PATH), and opened again through /proc/self/fd. */
#include "trick.h"

int main(void)
{
	char *path;

	must(asprintf(&path, "/proc/self/fd/%d", open_secret(O_PATH)));
	acted();
	read_secret(must(open(path, O_RDONLY)));
	return 0;
}
