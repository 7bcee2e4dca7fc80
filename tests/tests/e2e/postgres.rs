//! PostgreSQL, watched at both ends of its connections.

use crate::capturing;
use crate::database::{SECRET, attach_in_the_middle, attribute, replay_as_live, run, same};
use crate::scene::{Scene, nowhere};
use anyhow::{Result, ensure};
use libtest_mimic::Trial;
use redwire_tests::client::{self, Language, program};
use redwire_tests::collector::Transport;
use redwire_tests::otlp::Kind;
use redwire_tests::postgres::Postgres;
use redwire_tests::service::selected_as;
use redwire_tests::tcpdump::Tcpdump;
use redwire_tests::transactions::{self, Line};
use redwire_tests::{Totals, add, tshark};
use std::fmt::Write as _;
use std::fs::File;

pub(crate) fn tests() -> Vec<Trial> {
    vec![
        capturing("postgres::pgbench".to_owned(), pgbench),
        capturing("postgres::clients".to_owned(), clients),
        capturing("postgres::unix_socket".to_owned(), unix_socket),
        capturing("postgres::attached_in_the_middle".to_owned(), attached),
        capturing("postgres::password".to_owned(), password),
        capturing("postgres::captured".to_owned(), captured),
        capturing("postgres::encrypted".to_owned(), encrypted),
        capturing("postgres::encryption_refused".to_owned(), encryption_refused),
    ]
}

/// A server, and what it was asked so far: the extension, and the tables.
fn server(scene: &Scene, environment: &[(&str, &str)]) -> Result<(Postgres, Totals)> {
    let server = Postgres::start(scene.folder(), environment)?;
    let asked = server.tables()?;
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

/// The statements of `transaction.sql`.
const TRANSACTION: &[&str] = &["BEGIN", "UPDATE", "SELECT", "INSERT", "COMMIT"];

/// More than 100,000 statements in the three modes of the protocol.
fn pgbench(test: &str) -> Result<()> {
    let scene = Scene::start(test, Transport::Grpc, &[])?;
    let (server, asked) = server(&scene, &selected_as("server"))?;
    let mut expected = Totals::new();
    for mode in ["simple", "extended", "prepared"] {
        for (script, each, operations) in [
            ("transaction", 1_200, TRANSACTION),
            ("select", 3_000, &["SELECT"][..]),
        ] {
            add(
                &mut expected,
                &server.pgbench(mode, script, each, operations, &selected_as("client"))?,
            );
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

/// What tcpdump captures meanwhile is replayed as the same transactions, and tshark finds as many in it.
fn captured(test: &str) -> Result<()> {
    let scene = Scene::start(test, Transport::Grpc, &[])?;
    let (server, _) = server(&scene, &[])?;
    let folder = scene.folder().to_owned();
    let tcpdump = Tcpdump::start(&folder, server.port())?;
    let mut counts = Totals::new();
    for mode in ["simple", "extended", "prepared"] {
        add(
            &mut counts,
            &server.pgbench(mode, "transaction", 60, TRANSACTION, &selected_as("client"))?,
        );
    }
    let mut psycopg = program(Language::Python, "postgres_psycopg");
    server.connect(psycopg.arg("300"));
    add(&mut counts, &run(&mut psycopg)?);
    let rows = folder.join("rows");
    let mut text = String::new();
    for id in 0..20_000 {
        writeln!(text, "{id}")?;
    }
    std::fs::write(&rows, text)?;
    for copy in [
        "COPY history FROM STDIN",
        "COPY (SELECT generate_series(1, 20000)) TO STDOUT",
    ] {
        let mut psql = server.program("psql");
        psql.args(["-Xq", "-c", copy]).stdin(File::open(&rows)?);
        client::output(psql.envs(selected_as("client")))?;
        *counts.entry("COPY".to_owned()).or_default() += 1;
    }
    let capture = tcpdump.finish()?;
    let telemetry = scene.finish()?;
    same(&telemetry, "client", Kind::Client, &counts)?;
    let lines = replay_as_live(&capture, &telemetry)?;
    tshark_agrees(&capture, server.port(), &lines)?;
    nowhere(&folder, SECRET)
}

/// tshark finds the statements of `lines` in the capture, by command tag, SQLSTATE and whether they were skipped, and
/// their rows.
fn tshark_agrees(capture: &std::path::Path, port: u16, lines: &[Line]) -> Result<()> {
    let mut found = Totals::new();
    let mut rows = 0;
    for line in lines {
        let operation = attribute(line, "db.operation.name");
        let what = match attribute(line, "error.type").as_str() {
            "" => operation,
            "rollback" => "ROLLBACK".to_owned(),
            "pipeline_aborted" => "aborted".to_owned(),
            _ => format!("error {}", attribute(line, "db.response.status_code")),
        };
        *found.entry(what).or_default() += 1;
        let returned = attribute(line, "db.response.returned_rows");
        rows += returned.parse::<u64>().unwrap_or_default();
    }
    let (expected, expected_rows) = tshark::postgres(capture, port)?;
    ensure!(expected.len() >= 15, "tshark finds no more than {expected:?}");
    ensure!(
        (&found, rows) == (&expected, expected_rows),
        "replayed {found:?} with {rows} rows, tshark finds {expected:?} with {expected_rows}"
    );
    Ok(())
}

/// Encrypted connections are counted at both ends and in a capture; of what they hold nothing is told.
fn encrypted(test: &str) -> Result<()> {
    const CONNECTIONS: u64 = 5;
    let scene = Scene::start(test, Transport::Http, &[])?;
    let folder = scene.folder().to_owned();
    let server = Postgres::start_encrypting(&folder, &selected_as("server"))?;
    let tcpdump = Tcpdump::start(&folder, server.port())?;
    for _ in 0..CONNECTIONS {
        let mut psql = server.program("psql");
        psql.env("PGSSLMODE", "require");
        for statement in [
            "SELECT 'planted-secret'",
            "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()",
            "SELECT generate_series(1, 10000)",
        ] {
            psql.args(["-XqAtc", statement]);
        }
        let rows = client::output(psql.envs(selected_as("client")))?;
        ensure!(rows.starts_with("planted-secret\nt\n"), "{rows}");
    }
    let capture = tcpdump.finish()?;
    let telemetry = scene.finish()?;
    same(&telemetry, "client", Kind::Client, &Totals::new())?;
    // The extension, made without encryption before the capture.
    let expected = Totals::from([("CREATE".to_owned(), 1)]);
    same(&telemetry, "server", Kind::Server, &expected)?;
    let losses = Totals::from([("encrypted_connection".to_owned(), 2 * CONNECTIONS)]);
    ensure!(telemetry.losses() == losses, "{:?}", telemetry.losses());
    let (status, lines, said) = transactions::replay(&capture)?;
    ensure!(
        status == Some(0) && lines.is_empty() && said.contains("5 connections are encrypted (TLS)"),
        "replay: {status:?} {lines:?} {said}"
    );
    nowhere(&folder, SECRET)
}

/// Encryption that the server refuses: the session goes on in plain text, and is seen whole.
fn encryption_refused(test: &str) -> Result<()> {
    const CONNECTIONS: u64 = 5;
    let scene = Scene::start(test, Transport::Grpc, &[])?;
    let (server, mut all) = server(&scene, &selected_as("server"))?;
    let folder = scene.folder().to_owned();
    let tcpdump = Tcpdump::start(&folder, server.port())?;
    let mut counts = Totals::new();
    for _ in 0..CONNECTIONS {
        let mut psql = server.program("psql");
        psql.env("PGSSLMODE", "prefer").env("PGGSSENCMODE", "prefer");
        psql.args(["-XqAtc", "SELECT 'planted-secret'", "-c", "SELECT 1/0"]);
        let output = psql.envs(selected_as("client")).output()?;
        ensure!(output.stdout == b"planted-secret\n", "{output:?}");
        add(
            &mut counts,
            &Totals::from([("SELECT".to_owned(), 1), ("SELECT 22012".to_owned(), 1)]),
        );
    }
    let mut negotiating = program(Language::Python, "postgres_negotiating");
    server.connect(negotiating.arg(server.sockets()));
    add(&mut counts, &run(&mut negotiating)?);
    let capture = tcpdump.finish()?;
    let telemetry = scene.finish()?;
    same(&telemetry, "client", Kind::Client, &counts)?;
    add(&mut all, &counts);
    same(&telemetry, "server", Kind::Server, &all)?;
    // The server offered GSSAPI to one that asked for it, at both ends.
    let losses = Totals::from([("encrypted_connection".to_owned(), 2)]);
    ensure!(telemetry.losses() == losses, "{:?}", telemetry.losses());
    let asked = tshark::fields(&capture, server.port(), "pgsql", &["pgsql.type"])?;
    let asked = asked.iter().flatten().flatten();
    let asked = asked.filter(|kind| *kind == "SSL request").count() as u64;
    ensure!(asked >= CONNECTIONS, "psql asked {asked} times for encryption");
    nowhere(&folder, SECRET)
}
