//! Redis, watched at both ends of its connections.

use crate::capturing;
use crate::database::{SECRET, attach_in_the_middle, attribute, replay_as_live, run, same};
use crate::scene::{Scene, nowhere};
use anyhow::{Context as _, Result, ensure};
use libtest_mimic::Trial;
use redwire_tests::client::{self, Language, program};
use redwire_tests::collector::Transport;
use redwire_tests::otlp::{Kind, Telemetry};
use redwire_tests::redis::Redis;
use redwire_tests::service::selected_as;
use redwire_tests::tcpdump::Tcpdump;
use redwire_tests::transactions::Line;
use redwire_tests::{Totals, add, tools, tshark};
use std::path::Path;
use std::process::Command;

pub(crate) fn tests() -> Vec<Trial> {
    vec![
        capturing("redis::benchmark".to_owned(), |test| benchmark(test, &[])),
        capturing("redis::ring_buffer_overflow".to_owned(), |test| {
            benchmark(test, &["--ring-buffer", "256KiB"])
        }),
        capturing("redis::clients".to_owned(), clients),
        capturing("redis::unix_socket".to_owned(), unix_socket),
        capturing("redis::attached_in_the_middle".to_owned(), attached),
        capturing("redis::password".to_owned(), password),
        capturing("redis::captured".to_owned(), captured),
        capturing("redis::inline_first".to_owned(), inline_first),
        capturing("redis::many_buffers".to_owned(), many_buffers),
        capturing(
            "redis::pipelines_in_the_middle".to_owned(),
            pipelines_in_the_middle,
        ),
    ]
}

/// Connections that begin with inline commands are Redis for what the server answers.
fn inline_first(test: &str) -> Result<()> {
    let scene = Scene::start(test, Transport::Grpc, &[])?;
    let server = Redis::start(scene.folder(), &selected_as("server"))?;
    let port = server.port().to_string();
    let counts = run(program(Language::Python, "redis_raw").args(["inline", &port]))?;
    let folder = scene.folder().to_owned();
    let telemetry = scene.finish()?;
    same(&telemetry, "client", Kind::Client, &counts)?;
    same(&telemetry, "server", Kind::Server, &counts)?;
    nowhere(&folder, SECRET)
}

/// The answer to COMMAND is written from 272 buffers in one call (Linux takes 1,024); what follows on the connection
/// is seen as ever.
fn many_buffers(test: &str) -> Result<()> {
    let scene = Scene::start(test, Transport::Grpc, &[])?;
    let server = Redis::start(scene.folder(), &selected_as("server"))?;
    let counts = run(program(Language::Python, "redis_raw").args(["buffers", &server.port().to_string()]))?;
    let telemetry = scene.finish()?;
    same(&telemetry, "client", Kind::Client, &counts)?;
    same(&telemetry, "server", Kind::Server, &counts)
}

/// A connection of a pool, from before, that sends several commands at a time: all but the first batch, with which the
/// silence between them begins.
fn pipelines_in_the_middle(test: &str) -> Result<()> {
    let mut scene = Scene::without_agent(test, Transport::Grpc)?;
    let server = Redis::start(scene.folder(), &[])?;
    let mut client = program(Language::Python, "redis_raw");
    client.args(["pipeline", &server.port().to_string()]);
    client.envs(selected_as("client"));
    let mut counts = attach_in_the_middle(&mut scene, &mut client, &[])?;
    for count in counts.values_mut() {
        *count -= 3;
    }
    let telemetry = scene.finish()?;
    same(&telemetry, "client", Kind::Client, &counts)
}

/// Both sides count as the clients do, the server's side with what else it was `asked`, and as the server does by
/// command, whatever the outcome.
fn agree(telemetry: &Telemetry, server: &Redis, expected: &Totals, asked: &Totals) -> Result<()> {
    same(telemetry, "client", Kind::Client, expected)?;
    let mut expected = expected.clone();
    add(&mut expected, asked);
    same(telemetry, "server", Kind::Server, &expected)?;
    let commands = telemetry.span_totals("server", Kind::Server, &["db.operation.name"]);
    let statistics = server.statistics()?;
    ensure!(
        commands == statistics,
        "{commands:?}, by commandstats {statistics:?}"
    );
    Ok(())
}

/// More than 100,000 commands, one, 16 and 500 at a time. Counts are equal, unless the ring buffer had no room for all.
fn benchmark(test: &str, arguments: &[&str]) -> Result<()> {
    let scene = Scene::start(test, Transport::Grpc, arguments)?;
    let server = Redis::start(scene.folder(), &selected_as("server"))?;
    let before = server.traffic()?;
    let mut expected = Totals::new();
    for (depth, each, commands) in [
        (1, 10_000, &["SET", "GET", "INCR", "LPUSH", "MSET"][..]),
        (16, 20_000, &["SET", "GET"][..]),
        (500, 20_000, &["SET", "GET", "HSET"][..]),
    ] {
        add(
            &mut expected,
            &server.benchmark(depth, each, commands, &selected_as("client"))?,
        );
    }
    ensure!(expected.values().sum::<u64>() >= 100_000, "{expected:?}");
    let after = server.traffic()?;
    let telemetry = scene.finish()?;

    // Every byte that went through either end is in a counter, whether it was captured or not.
    let at_server = after.total + after.answer;
    let at_client = after.total - after.question - before.total - before.answer;
    let bytes = telemetry.captured_bytes();
    ensure!(
        bytes.values().sum::<u64>() == at_server + at_client,
        "{bytes:?}, by the server's count {at_server} and {at_client}"
    );
    let losses = telemetry.losses();
    if !bytes.contains_key("ring_full") {
        ensure!(arguments.is_empty(), "no overflow: {bytes:?}");
        ensure!(losses.is_empty(), "without an overflow: {losses:?}");
        let asked = Totals::from([("INFO".to_owned(), 2)]);
        return agree(&telemetry, &server, &expected, &asked);
    }
    no_more_than(&telemetry, &server, &expected)
}

/// Where the ring buffer had no room for all (with other load on few cores, say), what is missing is counted, and nothing
/// is there that was not sent.
fn no_more_than(telemetry: &Telemetry, server: &Redis, expected: &Totals) -> Result<()> {
    const OPERATION: &[&str] = &["db.operation.name", "error.type"];
    let losses = telemetry.losses();
    let lost = |reason: &str| losses.get(reason).copied().unwrap_or_default();
    let statistics = server.statistics()?;
    for (service, kind, sent) in [
        ("client", Kind::Client, expected),
        ("server", Kind::Server, &statistics),
    ] {
        let seen = telemetry.span_totals(service, kind, OPERATION);
        let metric = match kind {
            Kind::Server => "db.server.operation.duration",
            _ => "db.client.operation.duration",
        };
        ensure!(
            seen == telemetry.metric_totals(service, metric, OPERATION),
            "{service}: spans and metric differ"
        );
        for (command, count) in &seen {
            let sent = sent.get(command).copied().unwrap_or_default();
            ensure!(*count <= sent, "{service}: {count} of {sent} {command}");
        }
    }
    let bytes = telemetry.captured_bytes();
    // Not all of it is missing in a stream: some lies before the first byte that was seen of a connection.
    let missing = bytes["ring_full"] + bytes.get("not_captured").copied().unwrap_or_default();
    ensure!(
        lost("gap_bytes") > 0 && lost("gap_bytes") <= missing,
        "missing in streams {losses:?}, in the ring buffer {bytes:?}"
    );
    Ok(())
}

/// The usual libraries: RESP2 and RESP3, pipelines, transactions, publish and subscribe, blocking commands, errors.
fn clients(test: &str) -> Result<()> {
    let scene = Scene::start(test, Transport::Http, &[])?;
    let server = Redis::start(scene.folder(), &selected_as("server"))?;
    let port = server.port().to_string();
    let address = format!("127.0.0.1:{port}");
    let mut all = run(program(Language::Python, "redis_py").args(["500", &address]))?;
    // Each of two rounds: what is there is found, and what is not is not; and what HGET finds.
    let cache = Totals::from([("hit".to_owned(), 2 * (500 + 511)), ("miss".to_owned(), 2 * 500)]);
    let node = run(program(Language::Node, "redis").args(["1000", "127.0.0.1", &port]))?;
    let go = run(program(Language::Go, "redis").args(["1000", &address]))?;
    add(&mut all, &node);
    add(&mut all, &go);
    let folder = scene.folder().to_owned();
    let telemetry = scene.finish()?;
    // EVAL's command inside the script is the server's own.
    let mut statistics = server.statistics()?;
    if let Some(gets) = statistics.get_mut("GET") {
        *gets -= 1;
    }
    same(&telemetry, "client", Kind::Client, &all)?;
    same(&telemetry, "server", Kind::Server, &all)?;
    // Redis 7.0 does not know this one, and counts it nowhere.
    let mut commands = telemetry.span_totals("server", Kind::Server, &["db.operation.name"]);
    commands.remove("CLIENT SETINFO");
    ensure!(
        commands == statistics,
        "{commands:?}, by commandstats {statistics:?}"
    );
    let mut expected = cache;
    // ioredis reads what it wrote, go-redis too: with HGET on each of four times and in pipelines.
    *expected.entry("hit".to_owned()).or_default() += node["GET"] + go["GET"] + go["HGET"];
    let found = telemetry.metric_totals("client", "redwire.cache.requests", &["result"]);
    ensure!(
        found == expected,
        "redwire.cache.requests: {found:?}, not {expected:?}"
    );
    nowhere(&folder, SECRET)
}

/// The same over a unix socket, where nothing but order tells positions.
fn unix_socket(test: &str) -> Result<()> {
    let scene = Scene::start(test, Transport::Grpc, &[])?;
    let server = Redis::start(scene.folder(), &selected_as("server"))?;
    let socket = server.socket().display().to_string();
    let counts = run(program(Language::Python, "redis_py").args(["500", &socket]))?;
    let telemetry = scene.finish()?;
    agree(&telemetry, &server, &counts, &Totals::new())
}

/// A subscription and connections from before: nothing false, and what is new is right once its turns are proved.
fn attached(test: &str) -> Result<()> {
    const ROUNDS: u64 = 500;
    let mut scene = Scene::without_agent(test, Transport::Grpc)?;
    let server = Redis::start(scene.folder(), &[])?;
    let address = format!("127.0.0.1:{}", server.port());
    let mut client = program(Language::Python, "redis_middle");
    client
        .args([&ROUNDS.to_string(), &address])
        .envs(selected_as("client"));
    let counts = attach_in_the_middle(&mut scene, &mut client, &["--pid", &server.pid().to_string()])?;
    let folder = scene.folder().to_owned();
    let telemetry = scene.finish()?;
    for (service, kind) in [("client", Kind::Client), ("redis-server", Kind::Server)] {
        let seen = telemetry.span_totals(service, kind, &["db.operation.name", "error.type"]);
        for (command, count) in &counts {
            let seen = seen.get(command).copied().unwrap_or_default();
            // The first exchange of a connection may answer something older.
            ensure!(
                seen == *count || seen + 1 == *count,
                "{service}: {seen} of {count} {command}; losses {:?}",
                telemetry.losses()
            );
        }
        ensure!(
            seen.keys().all(|command| counts.contains_key(command)),
            "{service}: false ones in {seen:?}"
        );
    }
    nowhere(&folder, SECRET)
}

/// Passwords of AUTH and HELLO are arguments as any.
fn password(test: &str) -> Result<()> {
    let scene = Scene::start(test, Transport::Http, &[])?;
    let server = Redis::start(scene.folder(), &selected_as("server"))?;
    let cli = |arguments: &[&str]| {
        let mut cli = Command::new(tools::find("redis-cli").context("redis-cli is not installed")?);
        cli.args(["-p", &server.port().to_string()]).args(arguments);
        client::output(cli.envs(selected_as("client")))
    };
    cli(&["config", "set", "requirepass", SECRET])?;
    cli(&["auth", "planted-secret-wrong"])?;
    cli(&["auth", SECRET])?;
    cli(&["hello", "3", "auth", "default", SECRET])?;
    let folder = scene.folder().to_owned();
    let telemetry = scene.finish()?;
    let expected = Totals::from([
        ("CONFIG SET".to_owned(), 1),
        ("AUTH WRONGPASS".to_owned(), 1),
        ("AUTH".to_owned(), 1),
        ("HELLO".to_owned(), 1),
    ]);
    same(&telemetry, "client", Kind::Client, &expected)?;
    nowhere(&folder, SECRET)
}

/// What tcpdump captures meanwhile is replayed as the same transactions, and tshark finds as many in it.
fn captured(test: &str) -> Result<()> {
    let scene = Scene::start(test, Transport::Grpc, &[])?;
    let server = Redis::start(scene.folder(), &[])?;
    let folder = scene.folder().to_owned();
    let tcpdump = Tcpdump::start(&folder, server.port())?;
    let mut counts = server.benchmark(1, 500, &["SET", "GET", "INCR", "MSET"], &selected_as("client"))?;
    add(
        &mut counts,
        &server.benchmark(16, 1_600, &["SET", "GET", "LPUSH"], &selected_as("client"))?,
    );
    let address = format!("127.0.0.1:{}", server.port());
    let redis_py = run(program(Language::Python, "redis_py").args(["200", &address]))?;
    add(&mut counts, &redis_py);
    let capture = tcpdump.finish()?;
    let telemetry = scene.finish()?;
    same(&telemetry, "client", Kind::Client, &counts)?;
    let lines = replay_as_live(&capture, &telemetry)?;
    tshark_agrees(&capture, server.port(), &lines)?;
    nowhere(&folder, SECRET)
}

/// tshark finds the commands of `lines` in the capture, by name and number of arguments, and the errors.
fn tshark_agrees(capture: &Path, port: u16, lines: &[Line]) -> Result<()> {
    let (mut commands, mut errors) = (Totals::new(), Totals::new());
    for line in lines {
        let operation = attribute(line, "db.operation.name");
        let (name, subcommand) = operation.split_once(' ').unwrap_or((&operation, ""));
        // `MSET ? ? ? ? ? ? ? ? … (20 arguments)`
        let text = attribute(line, "db.query.text");
        let number = text.rsplit_once('(').and_then(|(_, rest)| rest.split(' ').next());
        let arguments = match number {
            Some(number) => number.parse()?,
            None => text.matches('?').count(),
        };
        let arguments = arguments + usize::from(!subcommand.is_empty());
        *commands.entry(format!("{name} {arguments}")).or_default() += 1;
        let code = attribute(line, "db.response.status_code");
        if !code.is_empty() {
            *errors.entry(code).or_default() += 1;
        }
    }
    let expected = tshark::redis(capture, port)?;
    ensure!(
        expected.commands.len() >= 15 && !expected.errors.is_empty(),
        "tshark finds no more than {expected:?}"
    );
    ensure!(
        commands == expected.commands && errors == expected.errors,
        "replayed {commands:?} {errors:?}, tshark finds {expected:?}"
    );
    Ok(())
}
