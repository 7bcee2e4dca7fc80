//! PostgreSQL, watched at both ends of its connections.

use crate::capturing;
use crate::database::{SECRET, attach_in_the_middle, run, same};
use crate::scene::{Scene, nowhere};
use anyhow::{Result, ensure};
use libtest_mimic::Trial;
use redwire_tests::client::{self, Language, program};
use redwire_tests::collector::Transport;
use redwire_tests::otlp::Kind;
use redwire_tests::postgres::Postgres;
use redwire_tests::service::selected_as;
use redwire_tests::{Totals, add, tools};

pub(crate) fn tests() -> Vec<Trial> {
    vec![
        capturing("postgres::pgbench".to_owned(), pgbench),
        capturing("postgres::clients".to_owned(), clients),
        capturing("postgres::unix_socket".to_owned(), unix_socket),
        capturing("postgres::attached_in_the_middle".to_owned(), attached),
        capturing("postgres::password".to_owned(), password),
    ]
}

/// Statements that make the tables of the tests, by psql.
const TABLES: &[(&str, &str)] = &[
    (
        "CREATE",
        "CREATE TABLE bench AS SELECT id, 0 AS balance FROM generate_series(1, 1000) AS id",
    ),
    ("CREATE", "CREATE INDEX ON bench (id)"),
    ("CREATE", "CREATE TABLE history (id int)"),
];

/// A server, and what it was asked so far: the extension, and the tables.
fn server(scene: &Scene, environment: &[(&str, &str)]) -> Result<(Postgres, Totals)> {
    let server = Postgres::start(scene.folder(), environment)?;
    let mut asked = Totals::from([("CREATE".to_owned(), 1)]);
    for (operation, statement) in TABLES {
        server.sql(statement)?;
        *asked.entry((*operation).to_owned()).or_default() += 1;
    }
    Ok((server, asked))
}

/// pg_stat_statements, which counts what succeeded, says the same.
fn server_agrees(server: &Postgres, counted: &Totals) -> Result<()> {
    let statistics = server.statistics()?;
    for (operation, count) in counted {
        // Of the others it leaves some executions out (those of a prepared BEGIN, for one).
        if !["SELECT", "INSERT", "UPDATE", "DELETE", "COPY"].contains(&operation.as_str()) {
            continue;
        }
        let found = statistics.get(operation).copied().unwrap_or_default();
        ensure!(
            found == *count,
            "{operation}: clients count {count}, pg_stat_statements {found}"
        );
    }
    Ok(())
}

/// More than 100,000 statements in the three modes of the protocol.
fn pgbench(test: &str) -> Result<()> {
    const CLIENTS: u64 = 4;
    let scene = Scene::start(test, Transport::Grpc, &[])?;
    let (server, asked) = server(&scene, &selected_as("server"))?;
    let mut expected = Totals::new();
    for mode in ["simple", "extended", "prepared"] {
        for (script, each, operations) in [
            (
                "transaction",
                1_200,
                &["BEGIN", "UPDATE", "SELECT", "INSERT", "END"][..],
            ),
            ("select", 3_000, &["SELECT"][..]),
        ] {
            let mut pgbench = server.program("pgbench");
            pgbench.args([
                "-n",
                "-M",
                mode,
                "-t",
                &each.to_string(),
                "-c",
                &CLIENTS.to_string(),
            ]);
            pgbench
                .arg("-f")
                .arg(tools::programs().join(format!("postgres/{script}.sql")));
            let text = client::output(pgbench.envs(selected_as("client")))?;
            let processed = format!("actually processed: {0}/{0}", each * CLIENTS);
            ensure!(text.contains(&processed), "{text}");
            for operation in operations {
                *expected.entry((*operation).to_owned()).or_default() += each * CLIENTS;
                if mode == "prepared" {
                    *expected.entry("PREPARE".to_owned()).or_default() += CLIENTS;
                }
            }
        }
    }
    ensure!(expected.values().sum::<u64>() >= 100_000, "{expected:?}");
    let folder = scene.folder().to_owned();
    let telemetry = scene.finish()?;
    same(&telemetry, "client", Kind::Client, &expected)?;
    add(&mut expected, &asked);
    same(&telemetry, "server", Kind::Server, &expected)?;
    server_agrees(&server, &expected)?;
    nowhere(&folder, SECRET)
}

/// The usual libraries, with pipelines, batches, cursors, COPY and errors.
fn clients(test: &str) -> Result<()> {
    let scene = Scene::start(test, Transport::Http, &[])?;
    let (server, mut all) = server(&scene, &selected_as("server"))?;
    let mut of_clients = Totals::new();
    for (language, name) in [
        (Language::Python, "postgres_psycopg"),
        (Language::Python, "postgres_asyncpg"),
        (Language::Node, "postgres"),
        (Language::Go, "postgres"),
    ] {
        let mut client = program(language, name);
        server.connect(client.arg("1000"));
        add(&mut of_clients, &run(&mut client)?);
    }
    let mut psql = server.program("psql");
    psql.args(["-Xq", "-c", "COPY (SELECT generate_series(1, 100000)) TO STDOUT"]);
    client::output(psql.envs(selected_as("client")))?;
    *of_clients.entry("COPY".to_owned()).or_default() += 1;
    let folder = scene.folder().to_owned();
    let telemetry = scene.finish()?;
    same(&telemetry, "client", Kind::Client, &of_clients)?;
    add(&mut all, &of_clients);
    same(&telemetry, "server", Kind::Server, &all)?;
    server_agrees(&server, &all)?;
    nowhere(&folder, SECRET)
}

/// The same over a unix socket, where nothing but order tells positions.
fn unix_socket(test: &str) -> Result<()> {
    let scene = Scene::start(test, Transport::Grpc, &[])?;
    let (server, mut all) = server(&scene, &selected_as("server"))?;
    let mut client = program(Language::Python, "postgres_psycopg");
    server.connect(client.arg("1000"));
    let counts = run(client.env("PGHOST", server.sockets()))?;
    let telemetry = scene.finish()?;
    same(&telemetry, "client", Kind::Client, &counts)?;
    add(&mut all, &counts);
    same(&telemetry, "server", Kind::Server, &all)
}

/// A statement prepared before the agent came has no text, and what its answer tells for an operation; everything else
/// is as ever.
fn attached(test: &str) -> Result<()> {
    const ROUNDS: u64 = 200;
    let mut scene = Scene::without_agent(test, Transport::Grpc)?;
    let (server, _) = server(&scene, &[])?;
    let mut client = program(Language::Python, "postgres_middle");
    server.connect(client.arg(ROUNDS.to_string()).envs(selected_as("client")));
    let pid = server.pid().to_string();
    let counts = attach_in_the_middle(&mut scene, &mut client, &["--pid", &pid])?;
    let folder = scene.folder().to_owned();
    let telemetry = scene.finish()?;
    same(&telemetry, "client", Kind::Client, &counts)?;
    same(&telemetry, "postgres", Kind::Server, &counts)?;
    for (service, kind) in [("client", Kind::Client), ("postgres", Kind::Server)] {
        let texts = telemetry.span_totals(service, kind, &["db.operation.name", "db.query.text"]);
        let expected = [
            ("SELECT", ROUNDS),
            ("UPDATE UPDATE bench SET balance = $1 WHERE id = ?", ROUNDS),
            ("DELETE DELETE FROM bench WHERE id = $1", ROUNDS),
            ("PREPARE DELETE FROM bench WHERE id = $1", 1),
        ];
        let expected = expected.map(|(text, count)| (text.to_owned(), count)).into();
        ensure!(texts == expected, "{service}: {texts:?}");
    }
    nowhere(&folder, SECRET)
}

/// A password that crosses the connection in clear is not told; a refused login is an error.
fn password(test: &str) -> Result<()> {
    let scene = Scene::start(test, Transport::Http, &[])?;
    let (server, _) = server(&scene, &selected_as("server"))?;
    server.sql(&format!("CREATE ROLE guarded LOGIN PASSWORD '{SECRET}'"))?;
    server.require_password("guarded")?;
    let login = |password: &str| {
        let mut psql = server.program("psql");
        psql.args(["-Xq", "-c", "SELECT 1"])
            .env("PGUSER", "guarded")
            .env("PGPASSWORD", password);
        client::output(psql.envs(selected_as("client")))
    };
    login(SECRET)?;
    ensure!(
        login("planted-secret-wrong").is_err(),
        "a wrong password is taken"
    );
    let folder = scene.folder().to_owned();
    let telemetry = scene.finish()?;
    let expected = Totals::from([("SELECT".to_owned(), 1), ("CONNECT 28P01".to_owned(), 1)]);
    same(&telemetry, "client", Kind::Client, &expected)?;
    nowhere(&folder, SECRET)
}
