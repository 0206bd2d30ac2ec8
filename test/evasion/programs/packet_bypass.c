/* The same past the queue of the device (PACKET_QDISC_BYPASS), where tc would look. */
#include "packet.h"

int main(void)
{
	struct sockaddr_in to = outside();
	struct sockaddr_ll device = { .sll_family = AF_PACKET, .sll_protocol = htons(ETH_P_IP) };
	struct frame frame = frame_to(to);
	int fd, in, one = 1;

	own_network();
	in = receiver("lo", to);
	device.sll_ifindex = if_nametoindex("lo");
	fd = must(socket(AF_PACKET, SOCK_RAW, htons(ETH_P_IP)));
	must(setsockopt(fd, SOL_PACKET, PACKET_QDISC_BYPASS, &one, sizeof(one)));
	acted();
	must(sendto(fd, &frame, sizeof(frame), 0, (void *)&device, sizeof(device)));
	expect_echo(in);
	return 0;
}
