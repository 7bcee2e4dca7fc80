// Statements by pgx: prepared, in batches, simple, COPY. Argument: how often.
package main

import (
	"context"
	"errors"
	"log"
	"os"
	"strconv"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"redwire.test/programs/count"
)

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}

func main() {
	rounds, err := strconv.Atoi(os.Args[1])
	check(err)
	context := context.Background()
	connection, err := pgx.Connect(context, "")
	check(err)
	simple := func(operation, statement string) {
		_, err := connection.Exec(context, statement, pgx.QueryExecModeSimpleProtocol)
		check(err)
		count.Add(operation, 1)
	}
	simple("DROP", "DROP TABLE IF EXISTS pgx_items")
	simple("CREATE", "CREATE TABLE pgx_items (id int PRIMARY KEY, name text)")

	// pgx prepares each statement once, and remembers it.
	count.Add("PREPARE", 1)
	for id := range rounds {
		_, err := connection.Exec(context, "INSERT INTO pgx_items VALUES ($1, $2)", id, "planted-secret")
		check(err)
		count.Add("INSERT", 1)
	}
	count.Add("PREPARE", 1)
	for id := range rounds {
		var name string
		check(connection.QueryRow(context, "SELECT name FROM pgx_items WHERE id = $1", id).Scan(&name))
		count.Add("SELECT", 1)
	}
	for range rounds {
		simple("SELECT", "SELECT 'planted-secret'")
	}

	// Batches: many statements, one Sync.
	count.Add("PREPARE", 1)
	for first := 0; first < rounds; first += 100 {
		batch := &pgx.Batch{}
		for id := first; id < first+100; id++ {
			batch.Queue("UPDATE pgx_items SET name = $1 WHERE id = $2", "x", id)
		}
		check(connection.SendBatch(context, batch).Close())
		count.Add("UPDATE", 100)
	}

	// pgx forgets a statement that failed, and prepares it again.
	count.Add("PREPARE", 9)
	for range 10 {
		_, err := connection.Exec(context, "INSERT INTO pgx_items VALUES ($1, $2)", 0, "planted-secret")
		var refused *pgconn.PgError
		if !errors.As(err, &refused) {
			log.Fatal(err)
		}
		count.Add("INSERT "+refused.Code, 1)
	}

	// pgx asks for the columns' types by preparing a SELECT first.
	count.Add("PREPARE", 1)
	rows := [][]any{}
	for id := range rounds {
		rows = append(rows, []any{rounds + id, "planted-secret"})
	}
	_, err = connection.CopyFrom(context, pgx.Identifier{"pgx_items"}, []string{"id", "name"}, pgx.CopyFromRows(rows))
	check(err)
	count.Add("COPY", 1)
	check(connection.Close(context))
	count.Report()
}
