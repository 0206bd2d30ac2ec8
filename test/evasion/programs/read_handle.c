/* Opened by its handle (open_by_handle_at): no path is walked. */
#include "trick.h"

int main(void)
{
	struct {
		struct file_handle head;
		unsigned char rest[MAX_HANDLE_SZ];
	} handle = { .head.handle_bytes = MAX_HANDLE_SZ };
	int mount_id;

	must(name_to_handle_at(AT_FDCWD, below("home/.aws/credentials"), &handle.head, &mount_id, 0));
	acted();
	read_secret(must(open_by_handle_at(must(open(below("."), O_RDONLY)), &handle.head, O_RDONLY)));
	return 0;
}
