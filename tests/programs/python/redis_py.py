"""Commands by redis-py: one at a time, in pipelines, transactions, RESP3, pub/sub. Argument: how often, and where:
`host:port` or the path of a unix socket."""

import sys

import redis
from count import count, report
from redis.maint_notifications import MaintNotificationsConfig

rounds, place = int(sys.argv[1]), sys.argv[2]
if place.startswith("/"):
    address = {"unix_socket_path": place}
else:
    host, port = place.split(":")
    address = {"host": host, "port": int(port)}

# Every command is packed here, those with which a client introduces itself, too.
pack = redis.connection.PythonRespSerializer.pack


def counted(self, *arguments):
    words = " ".join(str(argument) for argument in arguments).split(" ")
    count(" ".join(words[:2]).upper() if words[0].upper() in ("CLIENT", "PUBSUB") else words[0].upper())
    return pack(self, *arguments)


redis.connection.PythonRespSerializer.pack = counted

for protocol in (2, 3):
    client = redis.Redis(
        protocol=protocol,
        driver_info=None,
        maint_notifications_config=MaintNotificationsConfig(enabled=False),
        **address,
    )
    for i in range(rounds):
        client.set(f"key:{i}", "planted-secret")
        client.get(f"key:{i}")
        client.get(f"nothing:{i}")
    for size in (1, 10, 500):
        pipeline = client.pipeline(transaction=False)
        for i in range(size):
            pipeline.incr("counter")
            pipeline.hset("hash", f"field{i}", "planted-secret")
            pipeline.hget("hash", f"field{i}")
        assert len(pipeline.execute()) == 3 * size
    for _ in range(10):
        with client.pipeline(transaction=True) as transaction:
            transaction.set("a", 1)
            transaction.incr("a")
            transaction.execute()
    for _ in range(10):
        try:
            client.lpush("a", "not a list")
        except redis.ResponseError:
            # The command is one that failed.
            count("LPUSH", -1)
            count("LPUSH WRONGTYPE")
    subscriber = client.pubsub()
    subscriber.subscribe("news", "weather")
    for _ in range(2):
        assert subscriber.get_message(timeout=5)["type"] == "subscribe"
    for i in range(50):
        client.publish("news", f"planted-secret {i}")
        assert subscriber.get_message(timeout=5)["type"] == "message"
    subscriber.unsubscribe()
    for _ in range(2):
        assert subscriber.get_message(timeout=5)["type"] == "unsubscribe"
    subscriber.close()
    client.blpop("empty", timeout=0.01)
    client.close()
report()
