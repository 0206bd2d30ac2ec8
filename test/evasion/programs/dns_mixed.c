/* The name in mixed case: a list of names in lower case does not match it. */
#include "dns.h"

int main(void)
{
	char name[256];

	strcpy(name, variable("NAME"));
	for (int i = 0; name[i]; i += 2)
		if (name[i] >= 'a' && name[i] <= 'z')
			name[i] -= 'a' - 'A';
	acted();
	send_there(look_up(name));
	return 0;
}
