# Two network namespaces with a cable between them, as containers have: the server is in
# one, the client in the other, and the step's own devices carry nothing.
unshare -n sh -c '
	ip link add inner type veth peer name outer
	ip address add 198.51.100.1/24 dev inner
	ip link set inner up
	echo ready
	exec python3 -c "
import socket
l = socket.socket(); l.bind((\"198.51.100.1\", $PORT)); l.listen()
print(\"listening\", flush=True)
c, _ = l.accept(); c.send(c.recv(100))
"' >"$DIR/server" &
server=$!
until grep -q ready "$DIR/server"; do :; done
unshare -n sh -c '
	nsenter -t '$server' -n ip link set outer netns $$
	ip address add 198.51.100.2/24 dev outer
	ip link set outer up
	until grep -q listening "$DIR/server"; do :; done
	exec python3 -c "
import os, socket
print(\"acted\", os.getpid(), flush=True)
c = socket.create_connection((\"198.51.100.1\", $PORT)); c.send(b\"x\"); assert c.recv(1) == b\"x\"
"'
wait $server
