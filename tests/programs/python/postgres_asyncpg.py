"""Statements by asyncpg, which prepares all of them. Argument: how often."""

import asyncio
import sys

import asyncpg
from count import count, report


async def main(rounds):
    connection = await asyncpg.connect(ssl=False)
    await connection.execute("DROP TABLE IF EXISTS asyncpg_items")
    count("DROP")
    await connection.execute("CREATE TABLE asyncpg_items (id int PRIMARY KEY, name text)")
    count("CREATE")
    await connection.executemany(
        "INSERT INTO asyncpg_items VALUES ($1, $2)", [(id, "planted-secret") for id in range(rounds)]
    )
    count("PREPARE")
    count("INSERT", rounds)
    count("PREPARE")
    for id in range(rounds):
        await connection.fetchrow("SELECT name FROM asyncpg_items WHERE id = $1", id)
        count("SELECT")
    # A portal that is suspended every 50 rows.
    async with connection.transaction():
        count("BEGIN")
        count("PREPARE")
        rows = [row async for row in connection.cursor("SELECT * FROM asyncpg_items ORDER BY id", prefetch=50)]
        assert len(rows) == rounds
        count("SELECT")
    count("COMMIT")
    # The statement is that of executemany.
    for _ in range(10):
        try:
            await connection.fetch("INSERT INTO asyncpg_items VALUES ($1, $2)", 0, "planted-secret")
        except asyncpg.UniqueViolationError:
            count("INSERT 23505")
    await connection.close()


asyncio.run(main(int(sys.argv[1])))
report()
