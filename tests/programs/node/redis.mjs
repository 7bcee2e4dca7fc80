// Commands by ioredis: one at a time, pipelined by themselves, in pipelines and transactions. Arguments: how often,
// host and port.

import Redis from 'ioredis'
import { count, report } from './count.mjs'

const [rounds, host, port] = [Number(process.argv[2]), process.argv[3], Number(process.argv[4])]
const client = new Redis({ host, port, lazyConnect: true })
await client.connect()
// Its check whether the server is ready, and how it introduces itself, which Redis 7.0 does not know.
count('INFO')
count('HELLO')
count('CLIENT SETINFO ERR', 2)
for (let i = 0; i < rounds; i++) {
  await client.set(`key:${i}`, 'planted-secret')
  count('SET')
}
await Promise.all(
  Array.from({ length: rounds }, async (_, i) => {
    await client.get(`key:${i}`)
    count('GET')
  }),
)
for (let i = 0; i < rounds; i += 100) {
  const pipeline = client.pipeline()
  for (let n = 0; n < 100; n++) pipeline.zadd('zset', n, `planted-secret ${n}`)
  await pipeline.exec()
  count('ZADD', 100)
}
for (let i = 0; i < 10; i++) {
  await client.multi().incr('n').incr('n').exec()
  count('MULTI')
  count('INCR', 2)
  count('EXEC')
}
try {
  await client.incr('key:0')
} catch {
  count('INCR ERR')
}
await client.eval('return redis.call("GET", KEYS[1])', 1, 'key:1')
count('EVAL')
await client.quit()
count('QUIT')
report()
