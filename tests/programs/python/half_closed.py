"""Both ends of connections that are over before all was read. Prints what the clients and the servers saw, as JSON.

Arguments: how often. Each exchange is one of HTTP/1.1, over TCP and, where there is no reset in it, over a unix socket.
"""

import json
import os
import select
import socket
import struct
import sys
import tempfile
import termios
import time
import fcntl

BODY = b"x" * 3000
RESPONSE = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(BODY) + BODY
TCP_CLOSE = 7
SIOCOUTQ = termios.TIOCOUTQ

client, server = {}, {}


def count(side, outcome):
    side[outcome] = side.get(outcome, 0) + 1


def connect(family, before=lambda near: None):
    """The two ends of a connection. `before` is called before the second one is accepted."""
    with socket.socket(family) as listener:
        if family == socket.AF_INET:
            listener.bind(("127.0.0.1", 0))
        else:
            listener.bind(os.path.join(tempfile.mkdtemp(dir=folder), "socket"))
        listener.listen()
        near = socket.socket(family)
        near.connect(listener.getsockname())
        before(near)
        return near, listener.accept()[0]


def request(near, path):
    near.sendall(b"GET /%s HTTP/1.1\r\nHost: test\r\n\r\n" % path)


def read_request(far):
    data = b""
    while not data.endswith(b"\r\n\r\n"):
        data += far.recv(4096)


def read_all(near, size=4096):
    data = b""
    while piece := near.recv(size):
        data += piece
    assert data == RESPONSE, data[:100]


def closed(near):
    """Waits until the peer's FIN or reset has come."""
    if near.family == socket.AF_INET:
        while near.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] != TCP_CLOSE:
            time.sleep(0.0002)
    else:
        poll = select.poll()
        poll.register(near, select.POLLRDHUP)
        poll.poll()


def delivered(far):
    """Waits until the peer has all bytes."""
    while struct.unpack("i", fcntl.ioctl(far, SIOCOUTQ, b"\0" * 4))[0]:
        time.sleep(0.0002)


def reset(far):
    far.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    far.close()


def answered(family, path):
    """A request, the client's FIN, the response, the server's FIN: nothing of the response is read yet."""
    near, far = connect(family)
    request(near, path)
    near.shutdown(socket.SHUT_WR)
    read_request(far)
    assert far.recv(1) == b""
    far.sendall(RESPONSE)
    count(server, "200")
    far.close()
    closed(near)
    return near


def read_late(family):
    near = answered(family, b"read-late")
    read_all(near)
    near.close()
    count(client, "200")


def read_in_pieces(family):
    near = answered(family, b"read-in-pieces")
    read_all(near, 500)
    near.close()
    count(client, "200")


def read_by_another(family):
    """The descriptor that sent the request is closed, the response is read through its duplicate."""
    near = answered(family, b"read-by-another")
    other = near.dup()
    near.close()
    read_all(other)
    other.close()
    count(client, "200")


def read_by_a_child(family):
    near = answered(family, b"read-by-a-child")
    child = os.fork()
    if child == 0:
        read_all(near)
        os._exit(0)
    near.close()
    assert os.waitpid(child, 0)[1] == 0
    count(client, "200")


def never_read(family):
    near = answered(family, b"never-read")
    near.close()
    count(client, "connection_closed")


def read_in_part(family):
    near = answered(family, b"read-in-part")
    assert near.recv(500) == RESPONSE[:500]
    near.close()
    count(client, "200 connection_closed")


def server_shuts_down(family):
    """Both ends shut down before either has read; then both read what there is."""
    near, far = connect(family)
    request(near, b"server-shuts-down")
    near.shutdown(socket.SHUT_WR)
    far.recv(10, socket.MSG_PEEK)
    read_request(far)
    far.sendall(RESPONSE)
    far.shutdown(socket.SHUT_WR)
    closed(near)
    read_all(near)
    assert far.recv(1) == b""
    near.close()
    far.close()
    count(client, "200")
    count(server, "200")


def reset_after_response(family):
    """The server resets the connection behind a whole response, which is still read."""
    near, far = connect(family)
    request(near, b"reset-after-response")
    read_request(far)
    far.sendall(RESPONSE)
    delivered(far)
    reset(far)
    closed(near)
    data = b""
    while len(data) < len(RESPONSE):
        data += near.recv(1000)
    near.close()
    count(client, "200")
    count(server, "200")


def request_and_reset(near):
    request(near, b"reset")
    delivered(near)
    reset(near)


def reset_request(family):
    """The client resets the connection behind its request, which the server still reads and cannot answer."""
    near, far = connect(family)
    request_and_reset(near)
    not_answered(far)


def reset_before_accept(family):
    """The same, before the server accepts the connection."""
    not_answered(connect(family, request_and_reset)[1])


def not_answered(far):
    closed(far)
    read_request(far)
    try:
        far.sendall(RESPONSE)
        raise AssertionError("a reset connection takes a response")
    except OSError:
        pass
    far.close()
    count(client, "connection_closed")
    count(server, "connection_closed")


def exit_without_reading(family):
    """A process ends, without close(2), with a response unread on a connection that is over."""
    child = os.fork()
    if child == 0:
        near = answered(family, b"exit-without-reading")
        os._exit(0 if near else 1)
    assert os.waitpid(child, 0)[1] == 0
    count(client, "connection_closed")
    count(server, "200")


ANY = [read_late, read_in_pieces, read_by_another, read_by_a_child, never_read, read_in_part, server_shuts_down]
TCP = [reset_after_response, reset_request, reset_before_accept, exit_without_reading]

with tempfile.TemporaryDirectory() as folder:
    for _ in range(int(sys.argv[1])):
        for family in (socket.AF_INET, socket.AF_UNIX):
            for shape in ANY:
                shape(family)
        for shape in TCP:
            shape(socket.AF_INET)
print(json.dumps([client, server]))
