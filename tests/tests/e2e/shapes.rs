//! Load of many shapes: pipelines, big bodies, many connections, agents that come late or do not keep up.

use crate::capturing;
use crate::scene::{Scene, same};
use anyhow::{Context as _, Result, ensure};
use libtest_mimic::Trial;
use redwire_tests::client::{self, Language, program};
use redwire_tests::collector::Transport;
use redwire_tests::load::{self, Client, MIX};
use redwire_tests::otlp::Kind;
use redwire_tests::process::{Process, free_port};
use redwire_tests::service::{LARGE, Server, Service, selected_as};
use redwire_tests::{Counts, Totals, add, tools};
use rustix::process::Signal;
use std::process::Command;
use std::time::Duration;

pub(crate) fn tests() -> Vec<Trial> {
    let mut tests = Vec::new();
    let servers = [
        ("fastapi", Server::FastApi),
        ("stdlib", Server::Stdlib),
        ("node", Server::Node),
        ("go", Server::Go),
        ("nginx", Server::Nginx(0)),
    ];
    for (name, server) in servers {
        tests.push(capturing(format!("pipelined::{name}"), move |test| {
            pipelined(test, server)
        }));
        tests.push(capturing(format!("large_bodies::{name}"), move |test| {
            large_bodies(test, server)
        }));
    }
    for (name, server) in servers
        .into_iter()
        .filter(|(_, server)| *server != Server::Stdlib)
    {
        tests.push(capturing(format!("connections_1000::{name}"), move |test| {
            many_connections(test, server)
        }));
    }
    tests.push(capturing("addresses::ipv6".to_owned(), |test| {
        let port = free_port()?;
        addresses(
            test,
            ["tcp", &format!("[::1]:{port}")],
            &[],
            &format!("http://[::1]:{port}"),
            "::1",
        )
    }));
    tests.push(capturing("addresses::v4_mapped".to_owned(), |test| {
        let port = free_port()?;
        let url = format!("http://[::ffff:127.0.0.1]:{port}");
        addresses(
            test,
            ["tcp", &format!("127.0.0.1:{port}")],
            &[],
            &url,
            "127.0.0.1",
        )
    }));
    tests.push(capturing("addresses::unix".to_owned(), |test| {
        // A path of a socket has at most 107 bytes (unix(7)).
        let path = std::env::temp_dir().join(format!("redwire-{}.sock", std::process::id()));
        let path = path.display().to_string();
        let outcome = addresses(
            test,
            ["unix", &path],
            &["--unix-socket", &path],
            "http://localhost",
            &path,
        );
        let _ = std::fs::remove_file(&path);
        outcome
    }));
    tests.push(capturing("half_closed".to_owned(), half_closed));
    tests.push(capturing(
        "calls_between_services".to_owned(),
        calls_between_services,
    ));
    tests.push(capturing("attached_under_load".to_owned(), attached_under_load));
    tests.push(capturing("ring_buffer_overflow".to_owned(), overflow));
    tests
}

/// curl's requests to a server that listens on `listen` are seen on both sides, with the peer that the client has.
fn addresses(test: &str, listen: [&str; 2], curl: &[&str], url: &str, peer: &str) -> Result<()> {
    const COUNT: u64 = 20;
    let scene = Scene::start(test, Transport::Grpc, &[])?;
    let mut server = Command::new(tools::go_programs().join("server"));
    server.args(listen).envs(selected_as("service"));
    let mut server = Process::spawn("server", &mut server, scene.folder(), false)?;
    server.wait_for_log("listening")?;
    for _ in 0..COUNT {
        let mut command = Command::new("curl");
        command
            .args(["-qsf", "--noproxy", "*", "-o", "/dev/null"])
            .args(curl)
            .arg(format!("{url}/users/7"));
        let status = command.envs(selected_as("client")).status()?;
        ensure!(status.success(), "curl: {status}");
    }
    let telemetry = scene.finish()?;
    let counts = Counts::from([(200, COUNT)]);
    same(&telemetry, "service", Kind::Server, &counts)?;
    same(&telemetry, "client", Kind::Client, &counts)?;
    for span in telemetry.spans("client", Kind::Client) {
        let found = span.attributes.get("network.peer.address").map(String::as_str);
        ensure!(found == Some(peer), "network.peer.address is {found:?}");
    }
    Ok(())
}

/// Connections that are over before both ends have read everything: what is read later is seen, what is not is cut off.
fn half_closed(test: &str) -> Result<()> {
    const COUNT: &str = "20";
    let scene = Scene::start(test, Transport::Grpc, &[])?;
    let mut ends = program(Language::Python, "half_closed");
    let [client, server]: [Totals; 2] = client::run(ends.arg(COUNT).envs(selected_as("ends")))?;
    let telemetry = scene.finish()?;
    let names = ["http.response.status_code", "error.type"];
    for (kind, expected) in [(Kind::Client, client), (Kind::Server, server)] {
        let spans = telemetry.span_totals("ends", kind, &names);
        let metric = telemetry.metric_totals("ends", kind.duration_metric(), &names);
        let paths = telemetry.span_totals("ends", kind, &["url.path", names[0], names[1]]);
        ensure!(
            spans == expected && metric == expected,
            "{kind:?}: expected {expected:?}\n  spans {spans:?}\n  metric {metric:?}\n  {paths:?}\n  losses {:?}",
            telemetry.losses(),
        );
    }
    Ok(())
}

/// nginx asks Node, which asks FastAPI, which asks Go: every hop is seen from both sides.
fn calls_between_services(test: &str) -> Result<()> {
    const COUNT: u64 = 200;
    let scene = Scene::start(test, Transport::Http, &[])?;
    let go = Service::selected(Server::Go, "go", scene.folder())?;
    let fastapi = Service::selected(Server::FastApi, "fastapi", scene.folder())?;
    let node = Service::selected(Server::Node, "node", scene.folder())?;
    let nginx = Service::selected(Server::Nginx(node.port()), "nginx", scene.folder())?;
    let inner = format!("/proxy%3Fport={}%26path=/users/7", go.port());
    let path = format!("/proxy?port={}&path={inner}", fastapi.port());
    let mix = load::json(&[("GET", path, 0)]);
    let counts = load::go(
        &["send", &nginx.url(), &COUNT.to_string(), &mix],
        &selected_as("client"),
    )?;
    ensure!(counts == Counts::from([(200, COUNT)]), "{counts:?}");
    let telemetry = scene.finish()?;
    for service in ["nginx", "node", "fastapi", "go"] {
        same(&telemetry, service, Kind::Server, &counts)?;
    }
    for service in ["client", "nginx", "node", "fastapi"] {
        same(&telemetry, service, Kind::Client, &counts)?;
    }
    Ok(())
}

/// The upstream of nginx, and the selected service.
fn services(server: Server, scene: &Scene) -> Result<(Option<Service>, Service)> {
    let upstream = match server {
        Server::Nginx(_) => Some(Service::start(Server::Go, "upstream", scene.folder(), &[])?),
        _ => None,
    };
    let server = upstream
        .as_ref()
        .map_or(server, |upstream| Server::Nginx(upstream.port()));
    let service = Service::selected(server, "service", scene.folder())?;
    Ok((upstream, service))
}

fn pipelined(test: &str, server: Server) -> Result<()> {
    const DEPTH: &str = "64";
    let scene = Scene::start(test, Transport::Grpc, &[])?;
    let (_upstream, service) = services(server, &scene)?;
    let arguments = ["pipeline", &service.url(), "3200", DEPTH, &load::json(MIX)];
    let counts = load::go(&arguments, &selected_as("client"))?;
    let telemetry = scene.finish()?;
    same(&telemetry, "service", Kind::Server, &counts)?;
    same(&telemetry, "client", Kind::Client, &counts)
}

/// 100 MB both ways, of known length and in chunks.
fn large_bodies(test: &str, server: Server) -> Result<()> {
    let scene = Scene::start(test, Transport::Http, &[])?;
    let (_upstream, service) = services(server, &scene)?;
    // Small requests around the large ones show that the place after a body is found.
    let mix = [
        ("GET", "/users/1", 0),
        ("GET", "/bytes/100000000", 0),
        ("GET", "/users/2", 0),
        ("POST", "/upload", LARGE),
        ("GET", "/users/3", 0),
        ("GET", "/chunked/100000000", 0),
        ("GET", "/users/4", 0),
        ("POST", "/upload?chunked", LARGE),
        ("GET", "/status/404", 0),
    ];
    let counts = Client::Go.run(
        &service.url(),
        mix.len(),
        &mix,
        &selected_as("client"),
        scene.folder(),
    )?;
    let telemetry = scene.finish()?;
    same(&telemetry, "service", Kind::Server, &counts)?;
    same(&telemetry, "client", Kind::Client, &counts)?;
    for (path, attribute, count) in [
        ("/bytes/100000000", "http.response.body.size", 1),
        ("/chunked/100000000", "http.response.body.size", 1),
        ("/upload", "http.request.body.size", 2),
    ] {
        let sizes: Vec<_> = telemetry
            .spans("service", Kind::Server)
            .filter(|span| span.attributes.get("url.path").is_some_and(|found| found == path))
            .map(|span| span.attributes.get(attribute).cloned())
            .collect();
        let expected = vec![Some(LARGE.to_string()); count];
        ensure!(sizes == expected, "{path}: body sizes {sizes:?}");
    }
    // Bodies cost nothing, whichever their framing; here a part of each is there before the agent has read its begin.
    let bytes = telemetry.captured_bytes();
    ensure!(
        bytes["captured"] * 4 < bytes.values().sum(),
        "captured of the bodies: {bytes:?}"
    );
    Ok(())
}

fn many_connections(test: &str, server: Server) -> Result<()> {
    let scene = Scene::start(test, Transport::Grpc, &[])?;
    let (_upstream, service) = services(server, &scene)?;
    let arguments = ["hold", &service.url(), "1000", "3", "/status/200"];
    let counts = load::go(&arguments, &selected_as("client"))?;
    let telemetry = scene.finish()?;
    same(&telemetry, "service", Kind::Server, &counts)?;
    same(&telemetry, "client", Kind::Client, &counts)
}

/// Requests that begin when the agent captures are all seen, also on connections older than it.
fn attached_under_load(test: &str) -> Result<()> {
    let mut scene = Scene::without_agent(test, Transport::Grpc)?;
    let service = Service::selected(Server::Go, "service", scene.folder())?;
    let url = service.url();
    let mut all = std::thread::scope(|scope| -> Result<Counts> {
        let folder = scene.folder().to_owned();
        let load = scope.spawn(move || load::wrk(&url, 8, 40_000, MIX, &[], &folder));
        std::thread::sleep(Duration::from_millis(300));
        scene.start_agent(&[])?;
        load.join()
            .map_err(|_| anyhow::anyhow!("wrk's thread panicked"))?
    })?;
    // Then without other load: on the same service, everything is exact.
    let after = Client::Go.run(&service.url(), 5_000, MIX, &[], scene.folder())?;
    let telemetry = scene.finish()?;

    add(&mut all, &after);
    let seen = telemetry.metric_counts("service", Kind::Server);
    let spans = telemetry.span_counts("service", Kind::Server);
    let total = |counts: &Counts| counts.values().sum::<u64>();
    ensure!(seen == spans, "metric {seen:?}, spans {spans:?}");
    ensure!(
        total(&seen) > total(&after),
        "nothing of the load under way was seen: {seen:?}"
    );
    for (status, count) in &seen {
        let sent = all.get(status).copied().unwrap_or_default();
        ensure!(*count <= sent, "{count} responses {status} of {sent}");
        ensure!(
            *count >= after.get(status).copied().unwrap_or_default(),
            "{count} responses {status}: too few"
        );
    }
    Ok(())
}

/// What a stopped agent misses is missing exactly: every byte is in a transaction or in a counter.
fn overflow(test: &str) -> Result<()> {
    let mut scene = Scene::start(test, Transport::Grpc, &["--ring-buffer", "256KiB"])?;
    let service = Service::selected(Server::Go, "service", scene.folder())?;
    let raw = std::thread::scope(|scope| -> Result<load::Raw> {
        let load = scope.spawn(|| load::raw(service.port(), 8, 5_000, "/status/200"));
        std::thread::sleep(Duration::from_millis(200));
        let agent = scene.agent().context("the agent runs")?.process();
        agent.signal(Signal::STOP);
        std::thread::sleep(Duration::from_millis(700));
        agent.signal(Signal::CONT);
        load.join().map_err(|_| anyhow::anyhow!("a thread panicked"))?
    })?;
    let telemetry = scene.finish()?;
    let seen = telemetry.metric_counts("service", Kind::Server);
    let spans = telemetry.span_counts("service", Kind::Server);
    ensure!(seen == spans, "metric {seen:?}, spans {spans:?}");
    ensure!(
        seen.keys().all(|status| *status == 200),
        "false transactions: {seen:?}"
    );
    let (sent, seen) = (raw.counts[&200], seen.get(&200).copied().unwrap_or_default());
    ensure!(
        0 < seen && seen < sent,
        "{seen} of {sent} requests seen: no overflow, or nothing but"
    );

    // Every byte was captured or is counted as lost, by the kernel programs.
    let bytes = telemetry.captured_bytes();
    let of = |state: &str| bytes.get(state).copied().unwrap_or_default();
    let total = raw.sent + raw.received;
    ensure!(of("ring_full") > 0, "no overflow: {bytes:?}");
    ensure!(
        of("captured") + of("ring_full") == total,
        "{bytes:?} of {total} bytes"
    );
    // Every captured byte is in a transaction, or in a request or response that is counted as alone.
    let losses = telemetry.losses();
    let lost = |reason: &str| losses.get(reason).copied().unwrap_or_default();
    let (request, response) = (raw.sent / sent, raw.received / sent);
    let told = seen * (request + response)
        + lost("resync_bytes")
        + (lost("unpaired_request") + lost("unfinished")) * request
        + lost("unpaired_response") * response;
    ensure!(
        told == of("captured"),
        "{seen} of {sent} requests of {request} and {response} bytes seen; losses {losses:?}: {told} of {bytes:?}",
    );
    Ok(())
}
