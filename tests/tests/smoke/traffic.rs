//! What the agent must see: real servers and clients, and every way to send and to receive.

use crate::peer::{CALLS, RINGS, Told};
use crate::report::{Outcome, Reports};
use crate::stage::{Expected, OLDER, Stage, peer, serve};
use anyhow::{Context as _, Result, ensure};
use redwire_tests::load::{self, MIX};
use redwire_tests::otlp::Kind;
use redwire_tests::postgres::Postgres;
use redwire_tests::process::{Process, free_port};
use redwire_tests::redis::Redis;
use redwire_tests::service::{Server, Service, selected_as};
use redwire_tests::{Counts, Totals, add, client, tools};
use std::collections::BTreeMap;
use std::process::Command;

fn total<K>(counts: &BTreeMap<K, u64>) -> u64 {
    counts.values().sum()
}

/// wrk asks nginx, which asks Python's `http.server` for what it does not have itself.
pub(crate) fn http_keep_alive(stage: &mut Stage, test: &str, reports: &mut Reports) -> Result<()> {
    let python = Service::selected(Server::Stdlib, "keep-alive-python", stage.folder())?;
    let nginx = Service::selected(Server::Nginx(python.port()), "keep-alive-nginx", stage.folder())?;
    let environment = selected_as("keep-alive-wrk");
    let counts = load::wrk(&nginx.url(), 4, 50, MIX, &environment, stage.folder())?;
    // What Python was asked is what nginx did not answer itself.
    let mut to_python = Counts::new();
    let own = ["/status/", "/bytes/"];
    let own = |path: &str| own.iter().any(|begin| path.starts_with(begin));
    for (_, path, _) in MIX.iter().filter(|(_, path, _)| !own(path)) {
        ensure!(!path.starts_with("/status"), "{path}: its status is not known");
        *to_python.entry(200).or_default() += 4 * 50 / MIX.len() as u64;
    }
    let expected = [
        Expected::http("keep-alive-wrk", Kind::Client, &counts),
        Expected::http("keep-alive-nginx", Kind::Server, &counts),
        Expected::http("keep-alive-nginx", Kind::Client, &to_python),
        Expected::http("keep-alive-python", Kind::Server, &to_python),
    ];
    let all = 2 * (total(&counts) + total(&to_python));
    reports.add(&stage.check(test, true, all, &expected)?)
}

/// Go sends 16 requests at a time to nginx.
pub(crate) fn http_pipelined(stage: &mut Stage, test: &str, reports: &mut Reports) -> Result<()> {
    let nginx = Service::selected(Server::Nginx(free_port()?), "pipelined-nginx", stage.folder())?;
    let mix = [
        ("GET", "/status/200", 0),
        ("GET", "/status/404", 0),
        ("GET", "/bytes/1000", 0),
    ];
    let arguments = ["pipeline", &nginx.url(), "320", "16", &load::json(&mix)];
    let counts = load::go(&arguments, &selected_as("pipelined-go"))?;
    let expected = [
        Expected::http("pipelined-go", Kind::Client, &counts),
        Expected::http("pipelined-nginx", Kind::Server, &counts),
    ];
    reports.add(&stage.check(test, true, 2 * total(&counts), &expected)?)
}

/// redis-benchmark with 16 commands at a time.
pub(crate) fn redis_pipeline(stage: &mut Stage, test: &str, reports: &mut Reports) -> Result<()> {
    let server = Redis::start(stage.folder(), &selected_as("redis-server"))?;
    let counts = server.benchmark(16, 640, &["SET", "GET"], &selected_as("redis-client"))?;
    let expected = [
        Expected::database("redis-client", Kind::Client, &counts),
        Expected::database("redis-server", Kind::Server, &counts),
    ];
    reports.add(&stage.check(test, true, 2 * total(&counts), &expected)?)
}

/// pgbench by the extended protocol, with statements prepared each time, and once.
pub(crate) fn postgres_extended(stage: &mut Stage, test: &str, reports: &mut Reports) -> Result<()> {
    let server = Postgres::start(stage.folder(), &selected_as("postgres-server"))?;
    let asked = server.tables()?;
    let mut counts = Totals::new();
    for mode in ["extended", "prepared"] {
        let environment = selected_as("postgres-client");
        add(
            &mut counts,
            &server.pgbench(mode, "select", 40, &["SELECT"], &environment)?,
        );
    }
    let mut at_server = asked;
    add(&mut at_server, &counts);
    let expected = [
        Expected::database("postgres-client", Kind::Client, &counts),
        Expected::database("postgres-server", Kind::Server, &at_server),
    ];
    let all = total(&counts) + total(&at_server);
    reports.add(&stage.check(test, true, all, &expected)?)
}

/// curl asks Go over a unix socket.
pub(crate) fn unix_socket(stage: &mut Stage, test: &str, reports: &mut Reports) -> Result<()> {
    const COUNT: u64 = 20;
    let sockets = tempfile::tempdir()?;
    let path = sockets.path().join("http.sock");
    let mut server = Command::new(tools::go_programs().join("server"));
    server.arg("unix").arg(&path).envs(selected_as("unix-go"));
    let mut server = Process::spawn("unix-go", &mut server, stage.folder(), false)?;
    server.wait_for_log("listening")?;
    let mut curl = Command::new("curl");
    curl.args(["-qsf", "--noproxy", "*", "--unix-socket"]).arg(&path);
    for _ in 0..COUNT {
        curl.args(["-o", "/dev/null", "http://localhost/users/7"]);
    }
    client::output(curl.envs(selected_as("unix-curl")))?;
    let counts = Counts::from([(200, COUNT)]);
    let expected = [
        Expected::http("unix-curl", Kind::Client, &counts),
        Expected::http("unix-go", Kind::Server, &counts),
    ];
    reports.add(&stage.check(test, true, 2 * COUNT, &expected)?)
}

/// What a client that goes on, on a connection older than the agent, asks from its second request on: nothing proves
/// whose response the first one is.
pub(crate) fn attach(stage: &mut Stage, test: &str, reports: &mut Reports) -> Result<()> {
    let Told::Counts(counts) = stage.go_on()? else {
        anyhow::bail!("the client counted nothing");
    };
    let [server, client] = OLDER;
    let mut at_server = counts.clone();
    // The server's thread was in its read when the programs were attached: a hook at the end of a kernel function is
    // not on calls of before, so that the first exchange seen whole is one later, and it proves the order.
    if stage.backend() != "tracepoint" {
        *at_server.get_mut(&200).context("the first answer is 200")? -= 1;
    }
    let expected = [
        Expected::http(client, Kind::Client, &counts),
        Expected::http(server, Kind::Server, &at_server),
    ];
    reports.add(&stage.check(test, true, total(&counts) + total(&at_server), &expected)?)
}

/// Both peers, each by its way. What the client told.
fn exchange(stage: &Stage, name: &str, serving: &str, asking: &str, place: &str, count: u32) -> Result<Told> {
    let (server, address) = serve(stage.folder(), &format!("{name}-server"), serving, place)?;
    let mut ask = peer(&["ask", asking, &address, &count.to_string()])?;
    let text = client::output(ask.envs(selected_as(&format!("{name}-client"))));
    let text = text.with_context(|| format!("the server says {:?}", server.log()))?;
    serde_json::from_str(&text).with_context(|| text.clone())
}

/// A test whose traffic is over, and what it must have come to.
struct Done {
    test: String,
    seen: bool,
    client: u64,
    expected: [Expected; 2],
}

/// Reports on those; what is not seen is waited for but once.
fn check_all(stage: &mut Stage, done: &[Done], reports: &mut Reports) -> Result<()> {
    for Done {
        test,
        seen,
        client,
        expected,
    } in done
    {
        reports.add(&stage.check_later(test, *seen, *client, expected)?)?;
    }
    Ok(())
}

/// Every way to send and to receive by calls, at both ends, also on unix sockets.
pub(crate) fn calls(stage: &mut Stage, test: &str, reports: &mut Reports) -> Result<()> {
    let sockets = tempfile::tempdir()?;
    let mut done = Vec::new();
    let ways = CALLS.iter().map(|way| (*way, "tcp"));
    for (way, place) in ways.chain([("plain", "unix"), ("messages", "unix")]) {
        let name = if place == "unix" {
            format!("{way}_unix")
        } else {
            way.to_owned()
        };
        let path = sockets.path().join(&name).display().to_string();
        let place = if place == "unix" { &path } else { place };
        let count = if way == "partial" { 15 } else { 60 };
        let service = format!("calls-{name}");
        let test = format!("{test}::{name}");
        match exchange(stage, &service, way, way, place, count)? {
            Told::Lacking(reason) => reports.plain(&test, Outcome::Skipped(reason))?,
            Told::Counts(counts) => done.push(Done {
                test,
                seen: true,
                client: 2 * total(&counts),
                expected: [
                    Expected::http(&format!("{service}-client"), Kind::Client, &counts),
                    Expected::http(&format!("{service}-server"), Kind::Server, &counts),
                ],
            }),
        }
    }
    stage.traffic_is_over();
    check_all(stage, &done, reports)
}

/// Every way to send and to receive by io_uring: of a client whose server makes calls, and of a server whose client
/// does. Hooks on calls do not see io_uring: then nothing is told of its end, and the other is told as ever.
pub(crate) fn io_uring(stage: &mut Stage, test: &str, reports: &mut Reports) -> Result<()> {
    let seen = stage.backend() != "tracepoint";
    let (mut done, mut lacking) = (Vec::new(), BTreeMap::new());
    let clients = RINGS.iter().map(|way| ((*way).to_owned(), "plain", *way));
    let servers = ["send_recv", "multishot_recv"].map(|way| (format!("server_{way}"), way, "plain"));
    for (name, serving, asking) in clients.chain(servers) {
        let of_ring = |way: &str| {
            if way == "plain" {
                way.to_owned()
            } else {
                format!("io_uring::{way}")
            }
        };
        let service = format!("io_uring-{name}");
        let test = format!("{test}::{name}");
        // What a client found lacking, a server lacks as well.
        let told = match lacking.get(serving) {
            Some(reason) => Told::Lacking(String::clone(reason)),
            None => exchange(stage, &service, &of_ring(serving), &of_ring(asking), "tcp", 60)?,
        };
        match told {
            Told::Lacking(reason) => {
                reports.plain(&test, Outcome::Skipped(reason.clone()))?;
                lacking.insert(asking, reason);
            }
            Told::Counts(counts) => {
                let mut client = Expected::http(&format!("{service}-client"), Kind::Client, &counts);
                let mut server = Expected::http(&format!("{service}-server"), Kind::Server, &counts);
                if !seen && serving == "plain" {
                    client = client.unseen();
                } else if !seen {
                    server = server.unseen();
                }
                done.push(Done {
                    test,
                    seen,
                    client: 2 * total(&counts),
                    expected: [client, server],
                });
            }
        }
    }
    stage.traffic_is_over();
    check_all(stage, &done, reports)
}
