"""Prepares statements, waits for a line on standard input, then goes on with them. Argument: how often."""

import sys

import psycopg
from count import count, report

rounds = int(sys.argv[1])
with psycopg.connect("", autocommit=True) as connection:
    for id in range(3):
        connection.execute("SELECT 'old', %s::int", (id,), prepare=True)
    print("ready", flush=True)
    sys.stdin.readline()
    # Whoever joins here cannot know whether something older is under way: its answer is the first proof that it is not.
    connection.execute("SELECT 'old', %s::int", (0,), prepare=True)
    for id in range(rounds):
        connection.execute("SELECT 'old', %s::int", (id,), prepare=True)
        count("SELECT")
        connection.execute("UPDATE bench SET balance = %s WHERE id = 1", (id,), prepare=False)
        count("UPDATE")
    count("PREPARE")
    for id in range(rounds):
        connection.execute("DELETE FROM bench WHERE id = %s", (-id,), prepare=True)
        count("DELETE")
report()
