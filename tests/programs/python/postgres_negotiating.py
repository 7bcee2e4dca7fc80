"""Asks a server for encryption by GSSAPI, which libpq does only with Kerberos credentials, and goes on without. Argument:
the folder of the server's unix socket, over which it refuses (manual, section "GSSAPI Session Encryption")."""

import os
import socket
import struct
import sys

from count import count, report

GSSENC, SSL, VERSION = 80877104, 80877103, 3 << 16


def untyped(code, body=b""):
    return struct.pack("!II", 8 + len(body), code) + body


def message(kind, body):
    return kind + struct.pack("!I", 4 + len(body)) + body


def connect(unix):
    port = os.environ["PGPORT"]
    if unix:
        connection = socket.socket(socket.AF_UNIX)
        connection.connect(f"{sys.argv[1]}/.s.PGSQL.{port}")
    else:
        connection = socket.create_connection((os.environ["PGHOST"], int(port)))
    return connection


def until_ready(connection):
    received = b""
    while not received.endswith(b"Z\0\0\0\5I"):
        more = connection.recv(65536)
        assert more, received
        received += more
    return received


def session(connection):
    names = ("user", os.environ["PGUSER"], "database", os.environ["PGDATABASE"])
    connection.sendall(untyped(VERSION, b"".join(name.encode() + b"\0" for name in names) + b"\0"))
    until_ready(connection)
    for _ in range(10):
        connection.sendall(message(b"Q", b"SELECT 'planted-secret'\0"))
        assert b"planted-secret" in until_ready(connection)
        count("SELECT")
    connection.sendall(message(b"X", b""))
    connection.close()


refused = connect(unix=True)
for code in (GSSENC, SSL):
    refused.sendall(untyped(code))
    assert refused.recv(1) == b"N"
session(refused)

# Debian's server knows GSSAPI, and offers it by TCP. A client without credentials connects anew.
offered = connect(unix=False)
offered.sendall(untyped(GSSENC))
assert offered.recv(1) == b"G"
offered.close()
again = connect(unix=False)
again.sendall(untyped(SSL))
assert again.recv(1) == b"N"
session(again)
report()
