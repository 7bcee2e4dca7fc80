"""Every kind of AMQP operation, with pika: amqp_shapes.py PORT PASSWORD SIZE, where SIZE is that of the big messages.
Prints how many of each it made, as "operation outcome error"; and how many methods of its own settled deliveries, as
"method basic.ack", and exceptions that are those of no operation, as "exception code".
"""

import collections
import datetime
import decimal
import json
import sys
import time

import pika
from pika import exceptions

SECRET = "planted-secret-7be2a9"
TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
counts = collections.Counter()


def did(operation, outcome="-", error="-", times=1):
    counts[f"{operation} {outcome} {error}"] += times


def call(operation, method, *arguments, error="-", **options):
    """One synchronous method; `error` is the exception that the broker must answer with."""
    did(operation, error=error)
    try:
        result = method(*arguments, **options)
    except exceptions.ChannelClosedByBroker as closed:
        if str(closed.reply_code) != error:
            raise
        return None
    if error != "-":
        sys.exit(f"{operation} went well")
    return result


def publish(channel, exchange, key, times, size=20, outcome="-"):
    for number in range(times):
        body = f"{number} {SECRET}".ljust(size)
        properties = pika.BasicProperties(message_id=str(number), correlation_id=key)
        channel.basic_publish(exchange, key, body, properties)
    did("publish", outcome, times=times)


def unroutable(channel, times, confirmed):
    returned = []
    if not confirmed:
        channel.add_on_return_callback(lambda *message: returned.append(message))
    for _ in range(times):
        try:
            channel.basic_publish("orders", "nowhere", SECRET, mandatory=True)
        except exceptions.UnroutableError as error:
            returned.append(error)
    while len(returned) < times:
        connection.process_data_events(time_limit=1)
    did("publish", "ack" if confirmed else "-", "312", times)


def consume(queue, expected, callback, **options):
    """Consumes `expected` messages; the channel and the consumer's tag."""
    channel = connection.channel()
    seen = []

    def each(channel, method, properties, body):
        seen.append(method)
        callback(channel, method, int(body.split()[0]))

    tag = call("basic.consume", channel.basic_consume, queue, each, **options)
    while len(seen) < expected:
        connection.process_data_events(time_limit=1)
    return channel, tag


def settlement(method, *arguments, **options):
    counts[f"method basic.{method.__name__.removeprefix('basic_')}"] += 1
    method(*arguments, **options)


def settle(channel, method, number):
    tag = method.delivery_tag
    if number < 60 or method.redelivered:
        settlement(channel.basic_ack, tag)
        did("deliver", "ack")
    elif number < 90:
        if number % 3 == 2:
            settlement(channel.basic_ack, tag, multiple=True)
            did("deliver", "ack", times=3)
    elif number < 100:
        settlement(channel.basic_reject, tag, requeue=False)
        did("deliver", "reject", "reject")
    elif number < 110:
        settlement(channel.basic_nack, tag, requeue=False)
        did("deliver", "nack", "nack")
    elif number < 115:
        settlement(channel.basic_reject, tag, requeue=True)
        did("deliver", "requeue", "reject")
    else:
        # Outstanding when the channel is closed.
        did("deliver", "-", "connection_closed")


def settings(channel):
    call("exchange.declare", channel.exchange_declare, "orders", "topic")
    call("exchange.declare", channel.exchange_declare, "copies", "fanout")
    call("exchange.bind", channel.exchange_bind, "copies", "orders", "copy.#")
    call("exchange.unbind", channel.exchange_unbind, "copies", "orders", "copy.#")
    call("exchange.delete", channel.exchange_delete, "copies")
    for queue in ["work", "auto", "polled", "big", "doomed", "empty", "traced"]:
        call("queue.declare", channel.queue_declare, queue)
        call("queue.bind", channel.queue_bind, queue, "orders", f"{queue}.#")
    call("queue.unbind", channel.queue_unbind, "empty", "orders", "empty.#")
    call("queue.purge", channel.queue_purge, "empty")
    call("queue.declare", channel.queue_declare, "", exclusive=True)
    call("basic.qos", channel.basic_qos, prefetch_count=500)


def polled(channel):
    for number in range(30):
        automatic = number >= 20
        method, _, _ = channel.basic_get("polled", auto_ack=automatic)
        did("get", "auto" if automatic else "-")
        if not automatic:
            settlement(channel.basic_ack, method.delivery_tag)
            did("deliver", "ack")
    for _ in range(5):
        method, _, _ = call("get", channel.basic_get, "empty")
        if method:
            sys.exit("a message in an empty queue")


def traced(producer):
    """A message with all that is looked at."""
    headers = {
        "number": 7, "time": datetime.datetime(2026, 1, 1), "list": [1, "two", {"three": None}], "yes": True,
        "traceparent": TRACEPARENT, "tracestate": "vendor=1", "price": decimal.Decimal("1.5"), "big": 1 << 40,
    }
    properties = pika.BasicProperties(
        content_type="text/plain", delivery_mode=1, message_id="message-1", correlation_id="talk-1", headers=headers
    )
    producer.basic_publish("orders", "traced.new", "x" * 5000, properties)
    did("publish", "ack")
    done = []
    channel = connection.channel()

    def take(channel, method, *_):
        time.sleep(0.02)
        settlement(channel.basic_ack, method.delivery_tag)
        did("deliver", "ack")
        done.append(method)

    tag = call("basic.consume", channel.basic_consume, "traced", take, consumer_tag="traced-reader")
    while not done:
        connection.process_data_events(time_limit=1)
    call("basic.cancel", channel.basic_cancel, tag)


def recovered(producer):
    """Two deliveries go back, and come again."""
    publish(producer, "orders", "empty.new", 2, outcome="ack")
    channel = connection.channel()
    seen = []

    def take(channel, method, *_):
        seen.append(method)
        if method.redelivered:
            settlement(channel.basic_ack, method.delivery_tag)

    call("queue.bind", channel.queue_bind, "empty", "orders", "empty.new")
    publish(producer, "orders", "empty.new", 2, outcome="ack")
    tag = call("basic.consume", channel.basic_consume, "empty", take)
    while len(seen) < 2:
        connection.process_data_events(time_limit=1)
    did("deliver", "requeue", times=2)
    call("basic.recover", channel.basic_recover, requeue=True)
    while len(seen) < 4:
        connection.process_data_events(time_limit=1)
    did("deliver", "ack", times=2)
    call("basic.cancel", channel.basic_cancel, tag)
    call("queue.unbind", channel.queue_unbind, "empty", "orders", "empty.new")


def transactions():
    channel = connection.channel()
    call("tx.select", channel.tx_select)
    publish(channel, "orders", "empty.none", 3)
    call("tx.commit", channel.tx_commit)
    publish(channel, "orders", "empty.none", 2)
    call("tx.rollback", channel.tx_rollback)


def unknown_tag():
    """A settlement of nothing, whose exception is that of no operation."""
    channel = connection.channel()
    settlement(channel.basic_ack, 99)
    while channel.is_open:
        connection.process_data_events(time_limit=1)
    counts["exception 406"] += 1


def channel_exceptions():
    call("queue.declare", connection.channel().queue_declare, "absent", passive=True, error="404")
    call("queue.declare", connection.channel().queue_declare, "work", durable=True, error="406")
    call("basic.consume", connection.channel().basic_consume, "absent", print, error="404")
    channel = connection.channel()
    call("confirm.select", channel.confirm_delivery)
    call("publish", channel.basic_publish, "absent", "key", SECRET, error="404")


connection = pika.BlockingConnection(
    pika.ConnectionParameters(
        "127.0.0.1", int(sys.argv[1]), credentials=pika.PlainCredentials("guest", sys.argv[2])
    )
)
plain = connection.channel()
settings(plain)
confirmed = connection.channel()
call("confirm.select", confirmed.confirm_delivery)
for queue, times in [("work", 120), ("auto", 40), ("polled", 30)]:
    publish(confirmed, "orders", f"{queue}.new", times, outcome="ack")
publish(confirmed, "orders", "big.new", 3, size=int(sys.argv[3]), outcome="ack")
publish(plain, "orders", "empty.none", 50)
unroutable(confirmed, 4, confirmed=True)
unroutable(plain, 3, confirmed=False)

channel, tag = consume("work", 125, settle)
call("basic.cancel", channel.basic_cancel, tag)
channel.close()
channel, tag = consume("auto", 40, lambda *_: did("deliver", "auto"), auto_ack=True)
call("basic.cancel", channel.basic_cancel, tag)
channel, tag = consume("big", 3, settle)
call("basic.cancel", channel.basic_cancel, tag)
cancelled = []
channel, _ = consume("doomed", 0, settle)
channel.add_on_cancel_callback(cancelled.append)
call("queue.delete", plain.queue_delete, "doomed")
while not cancelled:
    connection.process_data_events(time_limit=1)

polled(plain)
traced(confirmed)
recovered(confirmed)
# To the default exchange, without a routing key.
publish(confirmed, "", "", 1, outcome="ack")
transactions()
channel_exceptions()
unknown_tag()
for channel in [connection.channel() for _ in range(50)]:
    publish(channel, "orders", "empty.none", 1)
    call("get", channel.basic_get, "empty")
connection.close()
print(json.dumps(counts))
