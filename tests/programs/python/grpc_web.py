"""Client of gRPC-Web over HTTP/1.1 by hand (doc/PROTOCOL-WEB.md of the gRPC project): `grpc_web.py PORT COUNT`.

Prints how many calls ended how, and how many messages came back."""

import base64
import collections
import http.client
import json
import socket
import struct
import sys

NAMES = {0: "OK", 5: "NOT_FOUND", 10: "ABORTED", 12: "UNIMPLEMENTED", 13: "INTERNAL"}


def parts(text):
    """Base64 that may be padded anywhere, decoded."""
    decoded = b""
    for at in range(0, len(text), 4):
        decoded += base64.b64decode(text[at : at + 4])
    return decoded


def call(connection, method, request, text):
    content = "application/grpc-web-text" if text else "application/grpc-web+proto"
    body = b"\0" + struct.pack(">I", len(request)) + request
    body = base64.b64encode(body) if text else body
    head = f"POST /redwire.test.Peer/{method} HTTP/1.1\r\nhost: localhost\r\nx-grpc-web: 1\r\n"
    head += f"content-type: {content}\r\naccept: {content}\r\ncontent-length: {len(body)}\r\n\r\n"
    # In one piece: a server that refuses the head must not close while the body is on its way.
    connection.sendall(head.encode() + body)
    response = http.client.HTTPResponse(connection, method="POST")
    response.begin()
    body = response.read()
    status, messages = response.getheader("grpc-status"), 0
    body = parts(body) if text else body
    while body:
        flags, length = body[0], struct.unpack(">I", body[1:5])[0]
        if flags & 0x80:
            lines = body[5 : 5 + length].decode().split("\r\n")
            status = dict(line.lower().split(":", 1) for line in lines if line)["grpc-status"]
        else:
            messages += 1
        body = body[5 + length :]
    return NAMES[int(status)], messages


def run(port, count):
    counts = collections.Counter()
    connections = [socket.create_connection(("127.0.0.1", port)) for _ in range(4)]
    calls = [("Unary", b"0 0"), ("Unary", b"5 0"), ("Stream", b"0 5"), ("Stream", b"10 2"), ("Missing", b"0 0")]
    for i in range(count):
        method, request = calls[i % len(calls)]
        code, messages = call(connections[i % len(connections)], method, request, i % 2 == 1)
        counts[f"{method} {code}"] += 1
        counts["messages"] += messages
    for connection in connections:
        connection.close()
    print(json.dumps(counts))


run(int(sys.argv[1]), int(sys.argv[2]))
