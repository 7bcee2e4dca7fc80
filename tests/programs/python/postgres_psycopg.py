"""Statements by psycopg 3: simple, extended, prepared, in pipelines, COPY, cursors and errors. Argument: how often."""

import sys

import psycopg
from count import count, report

rounds = int(sys.argv[1])

# So that nothing is prepared that does not ask for it.
NEVER = 1_000_000

with psycopg.connect("", autocommit=True, prepare_threshold=NEVER) as connection:
    connection.execute("DROP TABLE IF EXISTS psycopg_items")
    count("DROP")
    connection.execute("CREATE TABLE psycopg_items (id int PRIMARY KEY, name text)")
    count("CREATE")

    # A pipeline, 100 statements per sync.
    for batch in range(0, rounds, 100):
        with connection.pipeline():
            for id in range(batch, batch + 100):
                connection.execute("INSERT INTO psycopg_items VALUES (%s, %s)", (id, "planted-secret"))
                count("INSERT")
    with connection.pipeline() as pipeline:
        for id in range(rounds):
            connection.execute("SELECT name FROM psycopg_items WHERE id = %s", (id,))
            count("SELECT")
            if id % 7 == 0:
                pipeline.sync()

    # One at a time: unnamed, prepared, and as a simple query.
    for id in range(rounds):
        connection.execute("UPDATE psycopg_items SET name = %s WHERE id = %s", ("planted-secret", id))
        count("UPDATE")
    count("PREPARE")
    for id in range(rounds):
        connection.execute("SELECT id FROM psycopg_items WHERE name = %s AND id = %s", ("x", id), prepare=True)
        count("SELECT")
    for id in range(rounds):
        connection.execute("SELECT 'planted-secret', 17")
        count("SELECT")

    # An error, and what the server skips for it: by libpq, since psycopg sends no more where it sees the error in time.
    libpq = connection.pgconn
    for _ in range(10):
        libpq.enter_pipeline_mode()
        for statement in (b"SELECT 1", b"SELECT 1/0", b"SELECT 2", b"UPDATE psycopg_items SET id = id"):
            libpq.send_query_params(statement, None)
        libpq.pipeline_sync()
        while libpq.flush():
            pass
        synced = False
        while not synced:
            result = libpq.get_result()
            synced = result is not None and result.status == psycopg.pq.ExecStatus.PIPELINE_SYNC
        libpq.exit_pipeline_mode()
        count("SELECT")
        count("SELECT 22012")
        count("SELECT pipeline_aborted")
        count("UPDATE pipeline_aborted")
    for _ in range(10):
        connection.execute("BEGIN")
        count("BEGIN")
        try:
            connection.execute("SELECT nope")
        except psycopg.errors.UndefinedColumn:
            count("SELECT 42703")
        connection.execute("COMMIT")
        count("COMMIT rollback")
    # What psycopg does about the statement that it prepared, after the first rollback.
    count("DEALLOCATE")

    # Several statements in one string.
    for _ in range(10):
        connection.execute("SELECT 1; DELETE FROM psycopg_items WHERE id = -1; SELECT 3")
        count("SELECT", 2)
        count("DELETE")

    for _ in range(10):
        with connection.cursor().copy("COPY psycopg_items TO STDOUT") as copy:
            assert len(list(copy.rows())) == rounds
        count("COPY")
    connection.execute("TRUNCATE psycopg_items")
    count("TRUNCATE")
    with connection.cursor().copy("COPY psycopg_items FROM STDIN") as copy:
        for id in range(rounds * 10):
            copy.write_row((id, "planted-secret"))
    count("COPY")

    # A cursor on the server.
    with connection.transaction():
        count("BEGIN")
        with connection.cursor(name="items") as cursor:
            cursor.itersize = 100
            cursor.execute("SELECT * FROM psycopg_items")
            count("DECLARE")
            for _ in range(10):
                assert len(cursor.fetchmany(50)) == 50
                count("FETCH")
        count("CLOSE")
    count("COMMIT")

report()
