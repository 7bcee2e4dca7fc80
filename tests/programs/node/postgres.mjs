// Statements by node-postgres: simple, unnamed and named. Argument: how often.

import pg from 'pg'
import { count, report } from './count.mjs'

const rounds = Number(process.argv[2])
const client = new pg.Client()
await client.connect()
await client.query('DROP TABLE IF EXISTS node_items')
count('DROP')
await client.query('CREATE TABLE node_items (id int PRIMARY KEY, name text)')
count('CREATE')
for (let id = 0; id < rounds; id++) {
  await client.query('INSERT INTO node_items VALUES ($1, $2)', [id, 'planted-secret'])
  count('INSERT')
}
// The first time it is parsed in the same batch, which is one operation.
for (let id = 0; id < rounds; id++) {
  await client.query({ name: 'by-id', text: 'SELECT name FROM node_items WHERE id = $1', values: [id] })
  count('SELECT')
}
for (let id = 0; id < rounds; id++) {
  await client.query("SELECT 'planted-secret'")
  count('SELECT')
}
// Queued without waiting: the client sends the next one when the answer has come.
await Promise.all(
  Array.from({ length: rounds }, async (_, id) => {
    await client.query('UPDATE node_items SET name = $1 WHERE id = $2', ['y', id])
    count('UPDATE')
  }),
)
for (let i = 0; i < 10; i++) {
  try {
    await client.query('SELECT * FROM nowhere')
  } catch (error) {
    count(`SELECT ${error.code}`)
  }
}
await client.end()
report()
