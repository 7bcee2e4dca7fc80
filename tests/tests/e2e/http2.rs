//! HTTP/2: many streams at once, prior knowledge and upgrade.

use crate::capturing;
use crate::scene::{Scene, same};
use anyhow::{Context as _, Result, ensure};
use libtest_mimic::Trial;
use redwire_tests::Counts;
use redwire_tests::client;
use redwire_tests::collector::Transport;
use redwire_tests::load::{self, Request};
use redwire_tests::otlp::{Kind, Telemetry};
use redwire_tests::process::{Process, free_port};
use redwire_tests::service::selected_as;
use redwire_tests::tools;
use std::io::Read as _;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

/// Requests that the h2c server answers.
const MIX: &[Request] = &[
    ("GET", "/status/200", 0),
    ("POST", "/upload", 1_000),
    ("GET", "/bytes/100000", 0),
    ("GET", "/status/404", 0),
    ("HEAD", "/bytes/100", 0),
    ("GET", "/status/204", 0),
    ("GET", "/status/500", 0),
    ("DELETE", "/status/200", 0),
];

pub(crate) fn tests() -> Vec<Trial> {
    let mut tests = Vec::new();
    for server in ["nghttpd", "nginx"] {
        for connections in [1, 50] {
            for streams in [1, 10, 100] {
                tests.push(capturing(
                    format!("http2::{server}::{connections}_connections_{streams}_streams"),
                    move |test| h2load(test, server, connections, streams),
                ));
            }
        }
    }
    for (name, option) in [("upgrade", "http2"), ("prior_knowledge", "http2-prior-knowledge")] {
        tests.push(capturing(format!("http2::curl::{name}"), move |test| {
            curl(test, option)
        }));
    }
    tests.push(capturing("http2::go::h2load".to_owned(), go));
    for server in ["nghttpd", "nginx", "go"] {
        tests.push(capturing(format!("http2::attach::{server}"), move |test| {
            attach(test, server)
        }));
    }
    tests
}

/// A server with a file of 100 bytes at `/100`, and 404 for the rest.
fn serve(server: &str, folder: &Path) -> Result<(Process, u16)> {
    let port = free_port()?;
    std::fs::write(folder.join("100"), [b'x'; 100])?;
    let mut command =
        Command::new(tools::find(server).with_context(|| format!("{server} is not installed"))?);
    if server == "nghttpd" {
        command.args(["--no-tls", "--address=127.0.0.1", "--htdocs"]);
        command.arg(folder).arg(port.to_string());
    } else {
        let config = folder.join("nginx.conf");
        let folder = folder.display();
        let text = format!(
            "daemon off; worker_processes 2; pid {folder}/nginx.pid; error_log stderr warn; user root;\n\
             events {{ worker_connections 4096; }}\n\
             http {{ access_log off; keepalive_requests 1000000; default_type text/plain;\n  \
             client_body_temp_path {folder}/b; proxy_temp_path {folder}/p; fastcgi_temp_path {folder}/f;\n  \
             uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;\n  \
             server {{ listen 127.0.0.1:{port} http2; http2_max_concurrent_streams 128; root {folder};\n    \
             log_not_found off; }} }}\n"
        );
        std::fs::write(&config, text)?;
        command.arg("-p").arg(folder.to_string()).arg("-c").arg(config);
    }
    command.envs(selected_as("service"));
    let mut process = Process::spawn(server, &mut command, folder, false)?;
    process.wait_for_port(port)?;
    Ok((process, port))
}

fn h2load_command(connections: usize, streams: usize, count: usize) -> Result<Command> {
    let mut command = Command::new(tools::find("h2load").context("h2load is not installed")?);
    command.args(["-n", &count.to_string(), "-c", &connections.to_string()]);
    command.args(["-m", &streams.to_string()]);
    command.envs(selected_as("client"));
    Ok(command)
}

/// h2load's count of responses: three quarters of `good`, the rest of `bad`, by its own count.
fn load(url: &str, connections: usize, streams: usize, count: usize, paths: [&str; 4]) -> Result<[u64; 2]> {
    let mut command = h2load_command(connections, streams, count)?;
    command.args(paths.map(|path| format!("{url}{path}")));
    let output = command.output()?;
    counted(&String::from_utf8(output.stdout)?, count)
}

/// What h2load printed that it counted.
fn counted(text: &str, count: usize) -> Result<[u64; 2]> {
    // status codes: 7500 2xx, 0 3xx, 2500 4xx, 0 5xx
    let line = text.lines().find_map(|line| line.strip_prefix("status codes: "));
    let numbers: Vec<u64> = line
        .with_context(|| text.to_owned())?
        .split(", ")
        .filter_map(|part| part.split(' ').next()?.parse().ok())
        .collect();
    let [good, 0, bad, 0] = numbers[..] else {
        anyhow::bail!("{text}");
    };
    load::all(good + bad, count)?;
    ensure!(good > 0 && bad > 0, "{text}");
    Ok([good, bad])
}

fn h2load(test: &str, server: &str, connections: usize, streams: usize) -> Result<()> {
    let scene = Scene::start(test, Transport::Grpc, &[])?;
    let (_server, port) = serve(server, scene.folder())?;
    let url = format!("http://127.0.0.1:{port}");
    let [good, bad] = load(
        &url,
        connections,
        streams,
        10_000,
        ["/100", "/100?a=1", "/none", "/100"],
    )?;
    let telemetry = scene.finish()?;
    let counts = Counts::from([(200, good), (404, bad)]);
    same(&telemetry, "service", Kind::Server, &counts)?;
    same(&telemetry, "client", Kind::Client, &counts)?;
    for (service, kind) in [("service", Kind::Server), ("client", Kind::Client)] {
        for span in telemetry.spans(service, kind) {
            let attribute = |name: &str| span.attributes.get(name).map(String::as_str);
            ensure!(attribute("http.request.method") == Some("GET"), "{span:?}");
            ensure!(attribute("network.protocol.version") == Some("2"), "{span:?}");
            if kind == Kind::Server {
                let path = if span.status_code() == 200 {
                    "/100"
                } else {
                    "/none"
                };
                ensure!(attribute("url.path") == Some(path), "{span:?}");
            }
        }
    }
    Ok(())
}

/// The agent comes when connections with many streams have long been open. h2load (nghttp2) sends `:path` anew each
/// time, and the method and both status codes are in the static table: all is known of each request that is seen.
fn attach(test: &str, server: &str) -> Result<()> {
    const COUNT: usize = 6_000;
    let mut scene = Scene::without_agent(test, Transport::Grpc)?;
    let folder = scene.folder().to_owned();
    let (_server, port) = match server {
        "go" => h2c(&folder)?,
        _ => serve(server, &folder)?,
    };
    let url = format!("http://127.0.0.1:{port}");
    let (good, bad) = match server {
        "go" => ("/bytes/100", "/status/404"),
        _ => ("/100", "/none"),
    };
    // Two connections with 500 requests a second each.
    let mut command = h2load_command(2, 10, COUNT)?;
    command.args(["--rps", "500"]);
    command.args([good, good, bad, good].map(|path| format!("{url}{path}")));
    command.stdout(std::process::Stdio::piped());
    let mut process = Process::spawn("client", &mut command, &folder, true)?;
    let mut output = process.take_stdout().context("h2load has no output")?;
    std::thread::sleep(Duration::from_millis(1_500));
    ensure!(process.is_running(), "h2load was done before the agent came");
    // nginx has written over the environment that would select it.
    let (arguments, service) = match server {
        "nginx" => (&["--exe", "nginx"][..], "nginx"),
        _ => (&[][..], "service"),
    };
    scene.start_agent(arguments)?;
    let mut text = String::new();
    output.read_to_string(&mut text)?;
    process.wait(Duration::from_secs(60))?;
    let [all_good, all_bad] = counted(&text, COUNT)?;
    let telemetry = scene.finish()?;
    for (service, kind) in [("client", Kind::Client), (service, Kind::Server)] {
        let mut seen = [0, 0];
        for span in telemetry.spans(service, kind) {
            let attribute = |name: &str| span.attributes.get(name).map(String::as_str);
            let which = match (attribute("url.path"), span.status_code()) {
                (Some(path), 200) if path == good => 0,
                (Some(path), 404) if path == bad => 1,
                _ => anyhow::bail!("{span:?}"),
            };
            seen[which] += 1;
            ensure!(attribute("http.request.method") == Some("GET"), "{span:?}");
        }
        println!("{test}: {service}: {seen:?} of {:?}", [all_good, all_bad]);
        ensure!(
            seen[0] + seen[1] > COUNT as u64 / 3 && seen[0] < all_good && seen[1] < all_bad,
            "{service}: {seen:?} of {:?}; losses {:?}",
            [all_good, all_bad],
            telemetry.losses()
        );
    }
    Ok(())
}

fn h2c(folder: &Path) -> Result<(Process, u16)> {
    let port = free_port()?;
    let mut command = Command::new(tools::go_programs().join("h2c"));
    command.arg(port.to_string()).envs(selected_as("service"));
    let mut process = Process::spawn("h2c", &mut command, folder, false)?;
    process.wait_for_port(port)?;
    Ok((process, port))
}

/// Go's count, asked for when the agent has stopped.
fn counts_of_h2c(port: u16) -> Result<Counts> {
    let url = format!("http://127.0.0.1:{port}/counts");
    client::run(Command::new("curl").args(["-sSf", "--noproxy", "*", &url]))
}

/// Every span speaks HTTP/2.
fn versions(telemetry: &Telemetry) -> Result<()> {
    for span in &telemetry.spans {
        let version = span.attributes.get("network.protocol.version");
        ensure!(version.is_some_and(|version| version == "2"), "{span:?}");
    }
    Ok(())
}

fn curl(test: &str, option: &str) -> Result<()> {
    let scene = Scene::start(test, Transport::Http, &[])?;
    let (_server, port) = h2c(scene.folder())?;
    let url = format!("http://127.0.0.1:{port}");
    let client = selected_as("client");
    let mut counts = Counts::new();
    // Many on one connection, which curl cannot after prior knowledge (7.88: error 16 on reuse).
    if option == "http2" {
        redwire_tests::add(&mut counts, &load::curl(&url, 800, MIX, &client, Some(option))?);
    }
    // Connections of one request each.
    for request in MIX.iter().cycle().take(80) {
        redwire_tests::add(
            &mut counts,
            &load::curl(&url, 1, &[*request], &client, Some(option))?,
        );
    }
    let telemetry = scene.finish()?;
    ensure!(counts_of_h2c(port)? == counts, "curl counts {counts:?}");
    same(&telemetry, "service", Kind::Server, &counts)?;
    same(&telemetry, "client", Kind::Client, &counts)?;
    versions(&telemetry)
}

fn go(test: &str) -> Result<()> {
    let scene = Scene::start(test, Transport::Http, &[])?;
    let (_server, port) = h2c(scene.folder())?;
    let url = format!("http://127.0.0.1:{port}");
    let paths = ["/bytes/20000", "/status/200", "/status/404", "/bytes/0"];
    let [good, bad] = load(&url, 10, 10, 10_000, paths)?;
    let telemetry = scene.finish()?;
    let counts = Counts::from([(200, good), (404, bad)]);
    ensure!(counts_of_h2c(port)? == counts, "h2load counts {counts:?}");
    same(&telemetry, "service", Kind::Server, &counts)?;
    same(&telemetry, "client", Kind::Client, &counts)?;
    versions(&telemetry)
}
