"""The first message of a TLS client, sent in a way that a parser of the first packet does
not understand: each byte in a segment of its own; cut in the middle of the name; in two
TLS records, with the name in the second; after plain text, as STARTTLS and proxies do;
with the first packet of the connection (TCP Fast Open); mixed into MSG_MORE pieces."""
import os
import socket
import ssl
import sys

incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
client = ssl.create_default_context().wrap_bio(incoming, outgoing, server_hostname=os.environ["NAME"])
try:
    client.do_handshake()
except ssl.SSLWantReadError:
    pass
hello = outgoing.read()

there = (os.environ["ADDRESS"], int(os.environ["PORT"]))
way = sys.argv[1]
print("acted", os.getpid(), flush=True)
s = socket.socket()
if way == "first packet":
    s.sendto(hello, socket.MSG_FASTOPEN, there)
else:
    s.connect(there)
s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
middle = hello.index(os.environ["NAME"].encode()) + 4
if way == "bytes":
    for i in range(len(hello)):
        s.send(hello[i : i + 1])
elif way == "segments":
    s.send(hello[:middle])
    s.send(hello[middle:])
elif way == "records":
    message = hello[5:]
    cut = middle - 5
    for piece in (message[:cut], message[cut:]):
        s.send(hello[:3] + len(piece).to_bytes(2, "big") + piece)
elif way == "plain text":
    s.send(b"CONNECT example.test:443 HTTP/1.1\r\n\r\n")
    s.recv(100)
    s.send(hello)
elif way == "more":
    s.send(hello[:1], socket.MSG_MORE)
    s.send(hello[1:])
# All of it has got there when all has come back.
left = len(hello)
while left > 0:
    left -= len(s.recv(left)) or sys.exit("the connection has ended")
