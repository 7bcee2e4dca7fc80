"""Subscribes and keeps a connection, waits for a line on standard input, then goes on. Arguments: how often, host:port."""

import sys

import redis
from count import count, report

rounds = int(sys.argv[1])
host, port = sys.argv[2].split(":")
client, publisher, listener = (
    redis.Redis(host=host, port=int(port), driver_info=None, protocol=2) for _ in range(3)
)
for connection in (client, publisher):
    connection.set("key", "planted-secret")
subscriber = listener.pubsub()
subscriber.subscribe("news")
subscriber.get_message(timeout=5)
print("ready", flush=True)
sys.stdin.readline()
for i in range(rounds):
    client.set(f"key:{i}", "planted-secret")
    count("SET")
    client.get(f"key:{i}")
    count("GET")
for i in range(rounds):
    publisher.publish("news", "planted-secret")
    count("PUBLISH")
    assert subscriber.get_message(timeout=5)["type"] == "message"
client.close()
report()
