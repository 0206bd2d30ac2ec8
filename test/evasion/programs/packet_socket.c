/*
 * A frame of a packet socket (AF_PACKET), in a network namespace of its own: it goes to
 * the device without passing IP, and with it all hooks of sockets.
 */
#include "packet.h"

int main(void)
{
	struct sockaddr_in to = outside();
	struct sockaddr_ll device = { .sll_family = AF_PACKET, .sll_protocol = htons(ETH_P_IP) };
	struct frame frame = frame_to(to);
	int fd, in;

	own_network();
	in = receiver("lo", to);
	device.sll_ifindex = if_nametoindex("lo");
	fd = must(socket(AF_PACKET, SOCK_RAW, htons(ETH_P_IP)));
	acted();
	must(sendto(fd, &frame, sizeof(frame), 0, (void *)&device, sizeof(device)));
	expect_echo(in);
	return 0;
}
