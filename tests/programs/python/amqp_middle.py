"""Has a connection with consumers, unacknowledged deliveries and unconfirmed publishes when somebody joins; by pika.
Arguments: port, password. Says `open`, waits for a line, publishes what nobody confirms yet, says `ready`, waits for a
line, and goes on. Counts as "operation outcome error" what it does from then on, and besides: `settled`, methods that
settle older deliveries only; `confirmed`, methods that confirm older publishes; `in flight`, publishes they confirm;
`unknown`, deliveries that only who saw the begin can know to be settled.
"""

import sys
import time

import pika
from count import count, report

SECRET = "planted-secret-7be2a9"
IN_FLIGHT = 10


def until(done):
    while not done():
        connection.process_data_events(time_limit=0.1)


def say(word):
    print(word, flush=True)
    sys.stdin.readline()


def publish(channel, queue, times, outcome):
    for number in range(times):
        properties = pika.BasicProperties(message_id=str(number))
        channel.basic_publish("", queue, SECRET, properties)
    count(f"publish {outcome} -", times)


def confirmed(times):
    """Publishes one after another."""
    global sent
    for _ in range(times):
        publish(producer, "work", 1, "ack")
        sent += 1
        until(lambda: confirms[-1] >= sent)


def declare(channel, times):
    for number in range(times):
        channel.queue_declare(f"other-{number}", auto_delete=True)
        count("queue.declare - -")


connection = pika.BlockingConnection(
    pika.ConnectionParameters(
        "127.0.0.1", int(sys.argv[1]), credentials=pika.PlainCredentials("guest", sys.argv[2])
    )
)
consumer, producer, plain = (connection.channel() for _ in range(3))
confirms = [0]
# The blocking channel waits for each confirm.
producer._impl.confirm_delivery(lambda frame: confirms.append(max(confirms[-1], frame.method.delivery_tag)))
for queue in "work", "automatic", "sink", "box":
    producer.queue_declare(queue)
deliveries, automatic = [], []
consumer.basic_qos(prefetch_count=1000)
tags = [
    consumer.basic_consume("work", lambda _channel, method, *_: deliveries.append(method.delivery_tag)),
    consumer.basic_consume("automatic", lambda *_: automatic.append(1), auto_ack=True),
]
for _ in range(20):
    producer.basic_publish("", "work", SECRET)
sent = 20
until(lambda: len(deliveries) == 20 and confirms[-1] == 20)
plain.basic_publish("", "sink", SECRET)
plain.queue_declare("sink")
say("open")
for _ in range(IN_FLIGHT):
    producer.basic_publish("", "work", SECRET)
sent += IN_FLIGHT
before = len(confirms)
say("ready")

until(lambda: confirms[-1] == sent and len(deliveries) == sent)
count("confirmed", len(confirms) - before)
count("in flight", IN_FLIGHT)
# Older ones only.
consumer.basic_ack(5, multiple=True)
consumer.basic_reject(6, requeue=False)
consumer.basic_nack(7, requeue=False)
count("settled", 3)
# Older ones, and what came of those in flight.
consumer.basic_ack(sent - 1, multiple=True)
consumer.basic_ack(sent)
count("deliver ack -", IN_FLIGHT)

# Nothing tells yet which publish a confirm is of, nor whether all replies are here.
confirmed(30)
declare(plain, 1)
declare(consumer, 3)
publish(plain, "automatic", 15, "-")
until(lambda: len(automatic) == 15)
count("unknown", 15)
for _ in range(2):
    time.sleep(1.5)
    confirmed(1)
# By now it is told.
confirmed(50)
until(lambda: len(deliveries) == sent)
for number, tag in enumerate(deliveries[30:]):
    if number < 5:
        consumer.basic_reject(tag, requeue=False)
        count("deliver reject reject")
    elif number < 10:
        consumer.basic_nack(tag, requeue=False)
        count("deliver nack nack")
    elif tag == deliveries[-1]:
        consumer.basic_ack(tag, multiple=True)
        count("deliver ack -", sent - 40)

# Without confirm mode, as shows in time.
publish(plain, "sink", 40, "-")
publish(plain, "box", 4, "-")
time.sleep(5.5)
declare(plain, 3)
for number in range(5):
    method, _, _ = consumer.basic_get("box", auto_ack=number < 2)
    if method is None:
        count("get - -")
    elif number < 2:
        count("get auto -")
    else:
        count("get - -")
        consumer.basic_ack(method.delivery_tag)
        count("deliver ack -")
# A channel that is new.
channel = connection.channel()
channel.confirm_delivery()
count("confirm.select - -")
publish(channel, "sink", 20, "ack")
for tag in tags:
    consumer.basic_cancel(tag)
    count("basic.cancel - -")
for channel in channel, consumer, producer, plain:
    channel.close()
connection.close()
report()
