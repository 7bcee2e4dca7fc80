"""A client that opens with the header of AMQP 0-9, which RabbitMQ takes for 0-9-1: amqp_header.py PORT PASSWORD. Prints how
many operations of each kind it made, as "operation outcome error".
"""

import json
import sys

import pika
import pika.frame

pika.frame.ProtocolHeader.marshal = lambda _: b"AMQP\x01\x01\x00\x09"
parameters = pika.ConnectionParameters(
    "127.0.0.1", int(sys.argv[1]), credentials=pika.PlainCredentials("guest", sys.argv[2])
)
connection = pika.BlockingConnection(parameters)
channel = connection.channel()
channel.confirm_delivery()
channel.queue_declare("older")
for _ in range(100):
    channel.basic_publish("", "older", b"planted-secret-7be2a9")
    channel.basic_get("older", auto_ack=True)
channel.queue_delete("older")
connection.close()
counts = {"confirm.select": 1, "queue.declare": 1, "queue.delete": 1}
counts = {f"{operation} - -": number for operation, number in counts.items()}
print(json.dumps({**counts, "publish ack -": 100, "get auto -": 100}))
