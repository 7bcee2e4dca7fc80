//! Load with an exact count: every generator tells its own count of responses by status.

use crate::client::{self, Language, program};
use crate::process::Process;
use crate::{Counts, add, tools};
use anyhow::{Context as _, Result, bail};
use rustix::process::Signal;
use std::io::{BufRead, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, TcpStream};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

/// How long a load may last.
const PATIENCE: Duration = Duration::from_secs(600);

/// A request: method, path, body size.
pub type Request = (&'static str, &'static str, usize);

/// Requests of many kinds, that every test service answers.
pub const MIX: &[Request] = &[
    ("GET", "/status/200", 0),
    ("GET", "/users/17", 0),
    ("POST", "/upload", 1_000),
    ("GET", "/bytes/1000", 0),
    ("GET", "/status/404", 0),
    ("GET", "/chunked/3000", 0),
    ("GET", "/status/204", 0),
    ("GET", "/status/500", 0),
    ("GET", "/users/4711", 0),
    ("GET", "/status/503", 0),
];

/// A client that sends requests one after another on a connection that it keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Client {
    /// curl, one process for all requests.
    Curl,
    /// wrk.
    Wrk,
    /// Python's requests.
    Requests,
    /// Python's httpx.
    Httpx,
    /// Node's fetch.
    Fetch,
    /// Go's `net/http`.
    Go,
}

impl Client {
    /// Sends `count` requests of `mix` to `url`, with `environment` besides; logs go to `folder`.
    ///
    /// # Errors
    /// Where the client fails, or a response is missing.
    pub fn run(
        self,
        url: &str,
        count: usize,
        mix: &[Request],
        environment: &[(&str, &str)],
        folder: &Path,
    ) -> Result<Counts> {
        let count_and_mix = [count.to_string(), json(mix)];
        let python = |library: &str| {
            let mut command = program(Language::Python, "client");
            command.args([library, url]).args(&count_and_mix);
            command
        };
        let mut command = match self {
            Client::Curl => return curl(url, count, mix, environment, None),
            Client::Wrk => return wrk(url, 8, count / 8, mix, environment, folder),
            Client::Requests => python("requests"),
            Client::Httpx => python("httpx"),
            Client::Fetch => {
                let mut command = program(Language::Node, "client");
                command.arg(url).args(&count_and_mix);
                command
            }
            Client::Go => return go(&["send", url, &count_and_mix[0], &count_and_mix[1]], environment),
        };
        let counts = client::run(command.envs(environment.iter().copied()))?;
        complete(counts, count)
    }
}

/// Runs the Go client; see its source for its modes.
///
/// # Errors
/// Where it fails.
pub fn go(arguments: &[&str], environment: &[(&str, &str)]) -> Result<Counts> {
    let mut command = program(Language::Go, "client");
    client::run(command.args(arguments).envs(environment.iter().copied()))
}

/// `mix` as the clients take it.
pub fn json(mix: &[(&str, impl serde::Serialize, usize)]) -> String {
    serde_json::to_string(mix).unwrap_or_default()
}

/// wrk with `connections`, each of which gets exactly `count` responses.
///
/// # Errors
/// Where it fails, or a response is missing.
pub fn wrk(
    url: &str,
    connections: usize,
    count: usize,
    mix: &[Request],
    environment: &[(&str, &str)],
    folder: &Path,
) -> Result<Counts> {
    let number = connections.to_string();
    let mut command = Command::new(tools::find("wrk").context("wrk is not installed")?);
    command.args([
        "-t",
        &number,
        "-c",
        &number,
        "-d",
        "3600",
        "--timeout",
        "60",
        "-s",
    ]);
    command
        .arg(tools::programs().join("wrk/exact.lua"))
        .args([url, "--", &count.to_string()]);
    command.args(
        mix.iter()
            .map(|(method, path, size)| format!("{method} {path} {size}")),
    );
    command.envs(environment.iter().copied());
    let mut process = Process::spawn("wrk", &mut command, folder, true)?;
    let mut counts = Counts::new();
    let output = BufReader::new(process.take_stdout().context("wrk has no output")?);
    for line in output
        .lines()
        .filter(|line| line.as_ref().map_or(true, |line| line.starts_with('{')))
        .take(connections)
    {
        add(&mut counts, &serde_json::from_str(&line?)?);
    }
    process.signal(Signal::INT);
    process.wait(PATIENCE)?;
    complete(counts, connections * count)
}

/// What [`raw`] sent and received.
#[derive(Debug, Default)]
pub struct Raw {
    /// Responses by status.
    pub counts: Counts,
    /// Bytes of all requests.
    pub sent: u64,
    /// Bytes of all responses.
    pub received: u64,
}

/// `count` times GET `path` one after another on each of `connections`, from this very process: bytes are
/// counted, too.
///
/// # Errors
/// Where a connection fails, or a response has no length.
pub fn raw(port: u16, connections: usize, count: usize, path: &str) -> Result<Raw> {
    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n");
    let one = || -> Result<Raw> {
        let mut connection = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
        connection.set_nodelay(true)?;
        let mut reader = BufReader::new(connection.try_clone()?);
        let mut raw = Raw::default();
        for _ in 0..count {
            connection.write_all(request.as_bytes())?;
            raw.sent += request.len() as u64;
            let (status, length) = response(&mut reader)?;
            raw.received += length;
            *raw.counts.entry(status).or_default() += 1;
        }
        Ok(raw)
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..connections).map(|_| scope.spawn(one)).collect();
        let mut total = Raw::default();
        for thread in threads {
            let raw = thread
                .join()
                .map_err(|_| anyhow::anyhow!("a connection's thread panicked"))??;
            add(&mut total.counts, &raw.counts);
            total.sent += raw.sent;
            total.received += raw.received;
        }
        Ok(total)
    })
}

/// Status and size in bytes of the next response, which has a Content-Length.
fn response(reader: &mut impl BufRead) -> Result<(u16, u64)> {
    let (mut status, mut length, mut body) = (0, 0, None);
    loop {
        let mut line = String::new();
        length += reader.read_line(&mut line)? as u64;
        if let Some((_, rest)) = line.split_once(' ').filter(|_| status == 0) {
            status = rest.get(..3).context("a status line")?.parse()?;
        }
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            body = Some(value.trim().parse::<u64>()?);
        }
        if line.trim().is_empty() {
            break;
        }
    }
    let body = body.context("a response without Content-Length")?;
    std::io::copy(&mut reader.take(body), &mut std::io::sink())?;
    Ok((status, length + body))
}

/// curl, one process for all requests; `option` besides, without dashes.
///
/// # Errors
/// Where it fails, or a response is missing.
pub fn curl(
    url: &str,
    count: usize,
    mix: &[Request],
    environment: &[(&str, &str)],
    option: Option<&str>,
) -> Result<Counts> {
    let body = |size: usize| "x".repeat(size);
    // One process and one connection for all: transfers are separated by `next` in a configuration file.
    let config = (0..count).map(|i| {
        let (method, path, size) = mix[i % mix.len()];
        let data = if size > 0 { format!("data = \"{}\"\n", body(size)) } else { String::new() };
        let method = if method == "HEAD" { "head\n".to_owned() } else { format!("request = {method}\n") };
        let option = option.map(|option| format!("{option}\n")).unwrap_or_default();
        format!("url = {url}{path}\n{option}{method}{data}noproxy = *\nsilent\noutput = /dev/null\nwrite-out = \"%{{http_code}}\\n\"\n")
    });
    let config = config.collect::<Vec<_>>().join("next\n");
    let mut command = Command::new("curl");
    command
        .args(["-q", "--config", "-"])
        .envs(environment.iter().copied());
    command
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped());
    let mut child = command.spawn().context("starting curl")?;
    let mut input = child.stdin.take().context("curl has no input")?;
    let writer = std::thread::spawn(move || input.write_all(config.as_bytes()));
    let mut text = String::new();
    child
        .stdout
        .take()
        .context("curl has no output")?
        .read_to_string(&mut text)?;
    let status = child.wait()?;
    writer
        .join()
        .map_err(|_| anyhow::anyhow!("writing curl's configuration"))??;
    if !status.success() {
        bail!("curl: {status}");
    }
    let mut counts = Counts::new();
    for line in text.lines() {
        *counts.entry(line.parse()?).or_default() += 1;
    }
    complete(counts, count)
}

fn complete(counts: Counts, expected: usize) -> Result<Counts> {
    all(counts.values().sum(), expected).with_context(|| format!("{counts:?}"))?;
    Ok(counts)
}

/// `total` is what was expected.
///
/// # Errors
/// Where it is not.
pub fn all(total: u64, expected: usize) -> Result<()> {
    if total != expected as u64 {
        bail!("{total} responses instead of {expected}");
    }
    Ok(())
}
