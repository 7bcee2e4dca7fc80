// Publishes and consumes with amqplib as fast as it goes: node amqp.mjs PORT PASSWORD COUNT. Prints what it did, as
// "operation outcome error".

import amqp from "amqplib";

const [port, password, count] = [process.argv[2], process.argv[3], Number(process.argv[4])];
const connection = await amqp.connect({ port, username: "guest", password, hostname: "127.0.0.1" });
const producer = await connection.createConfirmChannel();
const consumer = await connection.createChannel();
await producer.assertQueue("many");
await consumer.prefetch(200);

const done = new Promise((resolve) => {
  let seen = 0;
  consumer.consume("many", (message) => {
    seen += 1;
    // One acknowledgement for ten, and one for each of the next ten.
    if (Math.floor((seen - 1) / 10) % 2 === 1) consumer.ack(message);
    else if (seen % 10 === 0) consumer.ack(message, true);
    if (seen === count) resolve();
  }, { consumerTag: "many-reader" });
});
for (let sent = 0; sent < count; ) {
  for (const end = Math.min(count, sent + 500); sent < end; sent += 1) {
    producer.sendToQueue("many", Buffer.from(`message ${sent}`), { messageId: String(sent % 10) });
  }
  await producer.waitForConfirms();
}
await done;
await consumer.cancel("many-reader");
await connection.close();
console.log(JSON.stringify({
  "confirm.select - -": 1,
  "queue.declare - -": 1,
  "basic.qos - -": 1,
  "basic.consume - -": 1,
  "basic.cancel - -": 1,
  "publish ack -": count,
  "deliver ack -": count,
}));
