"""Redis by hand: redis_raw.py inline|pipeline PORT.

`inline`: a connection that begins with inline commands, as health checks and mass insertion do, and one that sends a
single one. `pipeline`: batches of commands in one write on a connection that is kept, of which some come before a line on
standard input, and 50 ms of silence after each.
"""

import socket
import sys
import time

from count import count, report

connection = socket.create_connection(("127.0.0.1", int(sys.argv[2])))


def exchange(connection, request, replies):
    connection.sendall(request)
    answer = b""
    while answer.count(b"\r\n") < replies:
        answer += connection.recv(65536)


def batch():
    exchange(connection, b"*2\r\n$4\r\nINCR\r\n$1\r\nn\r\n*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$1\r\nv\r\n" * 3, 6)


if sys.argv[1] == "inline":
    exchange(connection, b"SET text planted-secret\r\nGET text\r\nINCR number\r\nLPUSH text 1\r\n", 5)
    exchange(connection, b"*2\r\n$4\r\nECHO\r\n$2\r\nhi\r\n", 2)
    for name in ["SET", "GET", "INCR", "LPUSH WRONGTYPE", "ECHO"]:
        count(name)
    with socket.create_connection(("127.0.0.1", int(sys.argv[2]))) as check:
        exchange(check, b"INFO replication\r\n", 1)
        exchange(check, b"QUIT\r\n", 1)
    count("INFO")
    count("QUIT")
else:
    for _ in range(3):
        batch()
    print("ready", flush=True)
    sys.stdin.readline()
    for _ in range(60):
        batch()
        time.sleep(0.05)
    count("INCR", 180)
    count("SET", 180)
connection.close()
report()
