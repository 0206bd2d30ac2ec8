/* Goes down so many folders that no path of what is there fits into any limit. */
#ifndef DEEP_H
#define DEEP_H

#include "trick.h"

static inline void go_down(void)
{
	must(chdir(below(".")));
	for (int i = 0; i < 300; i++) {
		must(mkdir("a-folder-in-a-folder", 0755));
		must(chdir("a-folder-in-a-folder"));
	}
}

#endif
