//! `redwire replay` of captures that a generator made from scratch: every file format, link layer and kind of
//! damage, with one exchange whose times and ends are known.

use crate::plain;
use crate::scene::folder;
use anyhow::{Context as _, Result, ensure};
use libtest_mimic::Trial;
use redwire_tests::client::{Language, output, program};
use redwire_tests::process::free_port;
use redwire_tests::tools;
use redwire_tests::transactions::{Line, replay};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

pub(crate) fn tests() -> Vec<Trial> {
    vec![
        plain("captures::made", made),
        plain("captures::standard_input", standard_input),
        plain("captures::usage", usage),
        plain("captures::memory", memory),
        plain("captures::undelivered", undelivered),
        plain("captures::names", names),
    ]
}

/// Has the generator write its captures.
fn generate(folder: &Path) -> Result<()> {
    output(program(Language::Python, "captures").arg(folder)).map(drop)
}

fn made(test: &str) -> Result<()> {
    let folder = folder(test)?;
    generate(&folder)?;
    let mut wrong = Vec::new();
    for (kind, lines) in [("one", 1), ("none", 0), ("three", 3), ("nineteen", 19)] {
        for capture in files(&folder.join(kind))? {
            if let Err(error) = check(&capture, lines) {
                wrong.push(format!("{kind}/{}: {error:#}", name(&capture)));
            }
        }
    }
    ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
    Ok(())
}

fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    let files = std::fs::read_dir(folder)?.map(|entry| entry.map(|entry| entry.path()));
    let mut files = files.collect::<std::io::Result<Vec<PathBuf>>>()?;
    files.sort();
    ensure!(!files.is_empty(), "{} is empty", folder.display());
    Ok(files)
}

fn name(capture: &Path) -> String {
    capture
        .file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned()
}

/// The status that `replay` must end with is the extension of the name, 0 where there is none.
fn check(capture: &Path, expected: usize) -> Result<()> {
    let (status, lines, said) = replay(capture)?;
    let name = name(capture);
    let wanted = name
        .rsplit_once('.')
        .map_or(0, |(_, status)| status.parse().unwrap_or(-1));
    ensure!(status == Some(wanted), "status {status:?}, not {wanted}: {said}");
    ensure!(wanted != 3 || said.contains("offset"), "no offset in '{said}'");
    ensure!(wanted != 1 || said.lines().count() == 1, "no one line: '{said}'");
    ensure!(lines.len() == expected, "{} transactions: {said}", lines.len());
    // The first byte of the request came with the second of its packets.
    let start = match name.as_str() {
        "reordered" => 1_000_002_000,
        _ => 1_000_001_000,
    };
    if name == "others" {
        for skipped in ["2 UDP", "1 ICMP", "1 other IP protocol", "1 ARP", "1 not IP"] {
            ensure!(said.contains(&format!("skipped: {skipped}\n")), "{said}");
        }
    }
    let mut times = 0..;
    lines
        .iter()
        .zip(times.by_ref())
        .try_for_each(|(line, number)| exchange(line, start, number * 1_000_000_000))
}

/// The exchange that the generator puts into every capture, its request at `start`, all of it `later` (nanoseconds).
fn exchange(line: &Line, start: u64, later: u64) -> Result<()> {
    let six = line.connection["client"].starts_with('[');
    let (client, server) = if six {
        ("2001:db8::1", "2001:db8::2")
    } else {
        ("192.0.2.1", "192.0.2.2")
    };
    let end = |address: &str, port: u16| match six {
        true => format!("[{address}]:{port}"),
        false => format!("{address}:{port}"),
    };
    let connection = BTreeMap::from([
        ("client".to_owned(), end(client, 40000)),
        ("server".to_owned(), end(server, 8080)),
    ]);
    ensure!(line.connection == connection, "{:?}", line.connection);
    let times = (line.start_unix_nano, line.end_unix_nano);
    ensure!(times == (start + later, 1_000_003_000 + later), "{times:?}");
    ensure!(
        line.kind == "CLIENT" && line.status == "error",
        "{} {}",
        line.kind,
        line.status
    );
    ensure!(
        line.trace_id.len() == 32 && line.span_id.len() == 16,
        "{} {}",
        line.trace_id,
        line.span_id
    );
    ensure!(line.parent_span_id.is_none(), "{:?}", line.parent_span_id);
    let expected = [
        ("http.request.method", "GET".into()),
        ("http.response.status_code", 404.into()),
        ("error.type", "404".into()),
        ("network.protocol.version", "1.1".into()),
        ("network.peer.address", server.into()),
        ("network.peer.port", 8080.into()),
        ("client.address", client.into()),
        ("client.port", 40000.into()),
        ("server.address", "shop.example".into()),
    ];
    for (key, value) in expected {
        let found: Option<&serde_json::Value> = line.attributes.get(key);
        ensure!(found == Some(&value), "{key} is {found:?}");
    }
    Ok(())
}

/// A capture from a pipe is as good as a file, also where it is cut off.
fn standard_input(test: &str) -> Result<()> {
    let folder = folder(test)?;
    generate(&folder)?;
    for (name, status) in [("pcapng-little", 0), ("pcap-nano-big", 0), ("cut-in-packet.3", 3)] {
        let mut replay = Command::new(tools::agent());
        replay.args(["replay", "--output", "jsonl", "-"]);
        replay
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut replay = replay.spawn()?;
        let mut input = replay.stdin.take().context("no standard input")?;
        // As it comes from a process that is still writing it.
        for piece in std::fs::read(folder.join("one").join(name))?.chunks(100) {
            input.write_all(piece)?;
        }
        drop(input);
        let output = replay.wait_with_output()?;
        ensure!(output.status.code() == Some(status), "{name}: {output:?}");
        let line = serde_json::from_slice(&output.stdout).with_context(|| name.to_owned())?;
        exchange(&line, 1_000_001_000, 0)?;
    }
    Ok(())
}

/// What is wrong with the command is 2, what is wrong with the file is 1, and both are said.
fn usage(test: &str) -> Result<()> {
    let folder = folder(test)?;
    let here = folder.display().to_string();
    let nowhere = folder.join("nowhere").display().to_string();
    for (arguments, status, said) in [
        (&["replay"][..], 2, "<FILE>"),
        (&["replay", &nowhere, "--output", "xml"], 2, "xml"),
        (&["replay", &nowhere, "--no-such-flag"], 2, "--no-such-flag"),
        (&["replay", &nowhere, "another"], 2, "another"),
        (&["replay", &nowhere], 1, "nowhere: No such file"),
        (&["replay", &here], 1, "Is a directory"),
    ] {
        let output = Command::new(tools::agent()).args(arguments).output()?;
        let text = String::from_utf8_lossy(&output.stderr);
        ensure!(
            output.status.code() == Some(status) && text.contains(said) && output.stdout.is_empty(),
            "{arguments:?}: {output:?}"
        );
    }
    Ok(())
}

/// To a place that takes nothing: what was not delivered is counted, and the status is 4.
fn undelivered(test: &str) -> Result<()> {
    let folder = folder(test)?;
    generate(&folder)?;
    let capture = files(&folder.join("three"))?.remove(0);
    // It takes connections and never answers.
    let silent = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    for port in [free_port()?, silent.local_addr()?.port()] {
        for protocol in ["grpc", "http/protobuf"] {
            let begin = Instant::now();
            let output = Command::new(tools::agent())
                .args(["replay", "--otlp-protocol", protocol])
                .arg("--otlp-endpoint")
                .arg(format!("http://127.0.0.1:{port}"))
                .arg(&capture)
                .env("OTEL_EXPORTER_OTLP_TIMEOUT", "2000")
                .output()?;
            let said = String::from_utf8_lossy(&output.stderr);
            ensure!(output.status.code() == Some(4), "{protocol}: {output:?}");
            // Duration and both sizes of the bodies.
            for word in ["not delivered: 3 spans", " and 3 points", &port.to_string()] {
                ensure!(said.contains(word), "no '{word}' in {said}");
            }
            ensure!(begin.elapsed() < Duration::from_secs(20), "{:?}", begin.elapsed());
        }
    }
    Ok(())
}

/// Servers are called by their addresses, so that equal routes of two of them stay two, unless the user names them.
fn names(test: &str) -> Result<()> {
    let folder = folder(test)?;
    generate(&folder)?;
    let capture = folder.join("one/vlan");
    let name = |environment: &[(&str, &str)]| -> Result<String> {
        let mut replay = Command::new(tools::agent());
        replay.args(["replay", "--output", "jsonl"]).arg(&capture);
        let output = replay.envs(environment.iter().copied()).output()?;
        let line: serde_json::Value = serde_json::from_slice(&output.stdout)?;
        Ok(line["resource"]["service.name"]
            .as_str()
            .unwrap_or_default()
            .to_owned())
    };
    ensure!(name(&[])? == "192.0.2.2:8080", "{}", name(&[])?);
    ensure!(name(&[("OTEL_SERVICE_NAME", "mine")])? == "mine");
    ensure!(name(&[("OTEL_RESOURCE_ATTRIBUTES", "service.name=mine")])? == "mine");
    Ok(())
}

/// Whether it goes to the server, and its bytes.
type Write = (bool, Vec<u8>);

/// Time before the first packet.
const BEGIN: u64 = 1_700_000_000_000_000_000;

/// How often a connection has its exchange.
const EXCHANGES: usize = 16;

/// A capture of new connections again and again, each with exchanges of one of the protocols.
struct Traffic {
    file: BufWriter<File>,
    bytes: u64,
    nanoseconds: u64,
    connections: u32,
}

impl Traffic {
    fn create(path: &Path) -> Result<Traffic> {
        let mut file = BufWriter::with_capacity(1 << 20, File::create(path)?);
        // pcap, little endian, nanoseconds, raw IP.
        let header = [0xa1b2_3c4d, 4 << 16 | 2, 0, 0, 1 << 18, 101_u32];
        for word in header {
            file.write_all(&word.to_le_bytes())?;
        }
        Ok(Traffic {
            file,
            bytes: 24,
            nanoseconds: BEGIN,
            connections: 0,
        })
    }

    /// One packet of the connection that is the last so far. `flags`: SYN 2, ACK 16, FIN 1.
    fn packet(&mut self, up: bool, port: u16, numbers: [u32; 2], flags: u8, payload: &[u8]) -> Result<()> {
        let client = 0x0a00_0000 + self.connections;
        let (source, destination) = if up {
            (client, 0xc000_0202)
        } else {
            (0xc000_0202, client)
        };
        let ports = if up { [40_000, port] } else { [port, 40_000] };
        let [sequence, acknowledged] = if up { numbers } else { [numbers[1], numbers[0]] };
        let length = 40 + payload.len() as u32;
        self.nanoseconds += 5_000;
        let seconds = (self.nanoseconds / 1_000_000_000) as u32;
        let mut head = Vec::with_capacity(56);
        for word in [seconds, (self.nanoseconds % 1_000_000_000) as u32, length, length] {
            head.extend(word.to_le_bytes());
        }
        for word in [
            0x4500_0000 | length,
            0x0000_4000,
            0x4006_0000,
            source,
            destination,
        ] {
            head.extend(word.to_be_bytes());
        }
        head.extend(ports.map(u16::to_be_bytes).concat());
        for word in [sequence, acknowledged, 0x5000_ffff | u32::from(flags) << 16, 0] {
            head.extend(word.to_be_bytes());
        }
        self.file.write_all(&head)?;
        self.file.write_all(payload)?;
        self.bytes += (head.len() + payload.len()) as u64;
        Ok(())
    }

    /// A connection to `port`: these writes first, then those of an exchange [`EXCHANGES`] times.
    fn connection(&mut self, port: u16, login: &[Write], exchange: &[Write]) -> Result<()> {
        self.connections += 1;
        let mut sent = [1_000, 9_000];
        self.packet(true, port, [sent[0], 0], 2, b"")?;
        self.packet(false, port, [sent[0] + 1, sent[1]], 18, b"")?;
        sent = [sent[0] + 1, sent[1] + 1];
        let exchanges = std::iter::repeat_n(exchange, EXCHANGES).flatten();
        for (up, bytes) in login.iter().chain(exchanges) {
            for piece in bytes.chunks(1_448) {
                self.packet(*up, port, sent, 16, piece)?;
                sent[usize::from(!up)] += piece.len() as u32;
            }
        }
        self.packet(true, port, sent, 17, b"")?;
        self.packet(false, port, [sent[0] + 1, sent[1]], 17, b"")?;
        self.packet(true, port, [sent[0] + 1, sent[1] + 1], 16, b"")
    }
}

/// Writes a capture of at least `size` bytes. How many transactions are in it, per second of its time.
fn traffic(path: &Path, size: u64) -> Result<f64> {
    let value = "x".repeat(900);
    let message = |kind: &[u8], body: &[u8]| {
        let length = (4 + body.len() as u32).to_be_bytes();
        [kind, &length, body].concat()
    };
    let http = [
        (
            true,
            b"GET /items/42 HTTP/1.1\r\nHost: shop.example\r\n\r\n".to_vec(),
        ),
        (
            false,
            format!("HTTP/1.1 200 OK\r\nContent-Length: 900\r\n\r\n{value}").into_bytes(),
        ),
    ];
    let redis = [
        (true, b"*2\r\n$3\r\nGET\r\n$6\r\nitem:1\r\n".to_vec()),
        (false, format!("$900\r\n{value}\r\n").into_bytes()),
    ];
    let login = [
        (true, message(b"", b"\0\x03\0\0user\0ann\0database\0shop\0\0")),
        (false, [message(b"R", &[0; 4]), message(b"Z", b"I")].concat()),
    ];
    let row = [&[0, 1, 0, 0, 3, 132][..], value.as_bytes()].concat();
    let postgres = [
        (true, message(b"Q", b"SELECT item FROM items WHERE id = 7\0")),
        (
            false,
            [
                message(b"D", &row),
                message(b"C", b"SELECT 1\0"),
                message(b"Z", b"I"),
            ]
            .concat(),
        ),
    ];
    let connections = [
        (80, &[][..], http),
        (6379, &[][..], redis),
        (5432, &login[..], postgres),
    ];
    let mut traffic = Traffic::create(path)?;
    let mut transactions = 0;
    for (port, login, exchange) in connections.iter().cycle() {
        if traffic.bytes >= size {
            break;
        }
        traffic.connection(*port, login, exchange)?;
        transactions += EXCHANGES;
    }
    traffic.file.flush()?;
    Ok(transactions as f64 / (traffic.nanoseconds - BEGIN) as f64 * 1e9)
}

/// The most memory that a replay of `capture` has at a time, in KiB, and how many seconds it takes. Its table has `rate`
/// transactions a second.
fn measure(capture: &Path, rate: f64) -> Result<(u64, f64)> {
    const WAIT: &str = "import resource, subprocess, sys, time\n\
        begin = time.monotonic()\n\
        subprocess.run(sys.argv[1:], check=True, stdout=sys.stderr)\n\
        print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss, time.monotonic() - begin)";
    let mut command = Command::new(tools::python());
    command.args(["-c", WAIT]).arg(tools::agent());
    let output = command
        .args(["replay", "--output", "table"])
        .arg(capture)
        .output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(
        output.status.success() && !said.contains("not reported"),
        "{said}"
    );
    // Behind the rate: errors, status and three quantiles.
    let rows = said.lines().filter(|line| line.contains(" client "));
    let rates = rows.filter_map(|line| line.split_whitespace().rev().nth(5)?.parse::<f64>().ok());
    let found: f64 = rates.sum();
    ensure!(
        (found / rate - 1.0).abs() < 0.001,
        "{found} transactions a second instead of {rate}: {said}"
    );
    let text = String::from_utf8(output.stdout)?;
    let (memory, seconds) = text.trim().split_once(' ').with_context(|| text.clone())?;
    Ok((memory.parse()?, seconds.parse()?))
}

/// Four times as much to read takes no more memory, apart from the table of connections until it has its 65,536
/// places. `REDWIRE_CAPTURE_MB` is the size of the larger capture.
fn memory(test: &str) -> Result<()> {
    const TABLE: u64 = 32 << 10;
    let folder = folder(test)?;
    let size = std::env::var("REDWIRE_CAPTURE_MB").map_or(Ok(256), |size| size.parse())?;
    let mut found = Vec::new();
    for megabytes in [size / 4, size] {
        let path = folder.join("traffic.pcap");
        let rate = traffic(&path, megabytes * 1_000_000)?;
        let measured = measure(&path, rate);
        std::fs::remove_file(&path)?;
        let (memory, seconds) = measured?;
        println!("{test}: {megabytes} MB: {memory} KiB, {seconds:.2} s");
        // Asked for is 1 GB a minute.
        let limit = 1.0 + megabytes as f64 * 0.06;
        ensure!(seconds < limit, "{megabytes} MB take {seconds} s");
        found.push(memory);
    }
    ensure!(found[1] < found[0] + TABLE, "KiB by size: {found:?}");
    Ok(())
}
