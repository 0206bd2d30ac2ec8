/*
 * A packet that a process gives to the kernel through a tunnel device of its own, in a
 * network namespace of its own: to the kernel it came from outside, and where forwarding
 * is on it leaves again.
 */
#include "packet.h"
#include <linux/if_tun.h>

int main(void)
{
	struct sockaddr_in to = outside();
	struct ifreq request = { .ifr_name = "tunnel", .ifr_flags = IFF_TUN | IFF_NO_PI };
	struct frame frame = frame_to(to);
	int fd, in;

	own_network();
	fd = must(open("/dev/net/tun", O_RDWR));
	must(ioctl(fd, TUNSETIFF, &request));
	in = receiver("tunnel", to);
	acted();
	must(write(fd, &frame.ip, sizeof(frame) - sizeof(frame.ethernet)));
	expect_echo(in);
	return 0;
}
