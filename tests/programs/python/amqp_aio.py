"""Publishes with confirms and consumes with aio-pika, some of it twice. Arguments: port, password, how many messages.
Counts as "operation outcome error"."""

import asyncio
import sys

import aio_pika
from count import count, report


async def main(port, password, messages):
    connection = await aio_pika.connect(host="127.0.0.1", port=port, login="guest", password=password)
    async with connection:
        channel = await connection.channel()
        count("confirm.select - -")
        await channel.set_qos(prefetch_count=50)
        count("basic.qos - -")
        queue = await channel.declare_queue("aio", auto_delete=True)
        count("queue.declare - -")
        done = asyncio.get_running_loop().create_future()
        seen = 0

        async def take(message):
            nonlocal seen
            if not message.redelivered and int(message.message_id) % 100 == 0:
                await message.reject(requeue=True)
                count("deliver requeue reject")
                return
            await message.ack()
            count("deliver ack -")
            seen += 1
            if seen == messages:
                done.set_result(None)

        tag = await queue.consume(take)
        count("basic.consume - -")
        for id in range(messages):
            message = aio_pika.Message(b"planted-secret-7be2a9", message_id=str(id))
            await channel.default_exchange.publish(message, "aio")
            count("publish ack -")
        await done
        await queue.cancel(tag)
        count("basic.cancel - -")


asyncio.run(main(int(sys.argv[1]), sys.argv[2], int(sys.argv[3])))
report()
