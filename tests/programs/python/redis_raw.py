"""Redis by hand: redis_raw.py inline|buffers|pipeline PORT.

`inline`: a connection that begins with inline commands, as health checks and mass insertion do, and one that sends a
single one. `buffers`: answers that the server writes from more buffers than 128 in one call. `pipeline`: batches of commands in one write on a connection that is kept, of which some come before a line on
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
elif sys.argv[1] == "buffers":
    ping, pong = b"*1\r\n$4\r\nPING\r\n", b"+PONG\r\n"
    connection.sendall(b"*1\r\n$7\r\nCOMMAND\r\n" + ping)
    answer = b""
    while not answer.endswith(pong):
        answer += connection.recv(1 << 20)
    for _ in range(20):
        for request, length in [(b"*1\r\n$7\r\nCOMMAND\r\n", len(answer) - len(pong)), (ping, len(pong))]:
            connection.sendall(request)
            left = length
            while left > 0:
                left -= len(connection.recv(left))
    count("COMMAND", 21)
    count("PING", 21)
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
