/* A name is looked up and used: no trick, what those below differ from. */
#include "dns.h"

int main(void)
{
	acted();
	send_there(look_up(variable("NAME")));
	return 0;
}
