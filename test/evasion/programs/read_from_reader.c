/*
 * Somebody else may read the file and is read himself: the text is taken out of the
 * memory of a process that has it.
 */
#include "trick.h"

int main(void)
{
	static char text[64];
	char copy[64];
	struct iovec to = { copy, sizeof(copy) }, from = { text, sizeof(text) };
	int ends[2];
	pid_t reader;

	must(pipe(ends));
	reader = must(fork());
	if (reader == 0) {
		must(read(open_secret(O_RDONLY), text, sizeof(text)));
		must(write(ends[1], "x", 1));
		pause();
	}
	must(read(ends[0], copy, 1));
	acted();
	expect_secret(copy, must(process_vm_readv(reader, &to, 1, &from, 1, 0)));
	kill(reader, SIGKILL);
	return 0;
}
