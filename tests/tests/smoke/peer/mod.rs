//! `smoke peer …`: a server and a client of HTTP/1.1 whose ways to send and to receive are chosen. The client counts.

mod calls;
mod ring;

use anyhow::{Context as _, Result, bail, ensure};
use redwire_tests::Counts;
use serde::{Deserialize, Serialize};
use std::io::{self, BufRead as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};

/// What a client tells in the end.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Told {
    /// Responses by status.
    Counts(Counts),
    /// Why this kernel cannot do what was asked for.
    Lacking(String),
}

/// Ways to send and to receive by calls, besides `plain`.
pub(crate) const CALLS: &[&str] = &[
    "vectored", "messages", "mmsg", "sendfile", "splice", "peek", "trunc", "zerocopy", "partial",
];

/// Ways to send and to receive by io_uring.
pub(crate) const RINGS: &[&str] = &[
    "send_recv",
    "read_write",
    "vectored",
    "messages",
    "linked",
    "fixed_buffers",
    "registered_files",
    "provided_buffers",
    "multishot_recv",
    "send_zc",
    "send_zc_fixed",
    "sendmsg_zc",
    "sqpoll",
];

/// One end of a connection.
trait Wire {
    /// Sends all of `bytes`.
    fn send(&mut self, bytes: &[u8]) -> io::Result<()>;

    /// Receives something, 0 at the end.
    fn receive(&mut self, buffer: &mut [u8]) -> io::Result<usize>;

    /// Sends the first `size` bytes of [`pattern`].
    fn send_body(&mut self, size: usize) -> io::Result<()> {
        self.send(&pattern(size))
    }

    /// Receives the rest of a body, from its byte `begin` on.
    fn receive_body(&mut self, begin: usize, size: usize) -> io::Result<()> {
        let mut body = vec![0; size];
        let mut at = begin;
        while at < size {
            let received = self.receive(&mut body[at..])?;
            if received == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            at += received;
        }
        check(&body, begin)
    }
}

/// `body` is right from its byte `begin` on.
fn check(body: &[u8], begin: usize) -> io::Result<()> {
    if body[begin..] != pattern(body.len())[begin..] {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "another body"));
    }
    Ok(())
}

/// What bodies consist of.
fn pattern(size: usize) -> Vec<u8> {
    (0..size).map(|i| b"abcdefghijklmnopqrstuvw"[i % 23]).collect()
}

/// The end `stream`, by the way `name`.
fn wire(name: &str, stream: OwnedFd) -> Result<Box<dyn Wire>> {
    match name.strip_prefix("io_uring::") {
        Some(way) => ring::open(way, stream),
        None => calls::open(name, stream),
    }
}

/// Begin of a message, and how many bytes of its body came along.
struct Head {
    first: String,
    size: usize,
    begin: usize,
}

/// The begin of the next message; none at the end of the connection.
fn head(wire: &mut dyn Wire) -> Result<Option<Head>> {
    let mut bytes = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        let received = wire.receive(&mut buffer)?;
        if received == 0 {
            ensure!(bytes.is_empty(), "the connection ends in a message's head");
            return Ok(None);
        }
        bytes.extend_from_slice(&buffer[..received]);
        let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") else {
            continue;
        };
        let text = std::str::from_utf8(&bytes[..end])?;
        let mut lines = text.split("\r\n");
        let first = lines.next().unwrap_or_default().to_owned();
        let size = lines.find_map(|line| line.strip_prefix("Content-Length: "));
        let size = size.context("a message without length")?.parse()?;
        let begin = bytes.len() - end - 4;
        ensure!(begin <= size, "more than one message");
        return Ok(Some(Head { first, size, begin }));
    }
}

/// Size of the body of the request with this number, and of the response to it. Partial sends need larger ones.
fn sizes(way: &str, number: usize) -> (usize, usize) {
    if way == "partial" {
        return (60_000 + number, 150_000 + number);
    }
    (number * 37 % 1_500, number * 91 % 2_900)
}

/// Status of the response to the request with this number.
fn status(number: usize) -> u16 {
    if number % 3 == 2 { 404 } else { 200 }
}

fn serve(way: &str, stream: OwnedFd) -> Result<()> {
    let mut wire = wire(way, stream)?;
    while let Some(Head { first, size, begin }) = head(&mut *wire)? {
        wire.receive_body(begin, size)?;
        let number = first.split([' ', '/']).nth(3).context("a request's number")?;
        let number: usize = number.parse().with_context(|| first.clone())?;
        let (_, size) = sizes(way, number);
        let head = format!("HTTP/1.1 {} .\r\nContent-Length: {size}\r\n\r\n", status(number));
        wire.send(head.as_bytes())?;
        wire.send_body(size)?;
    }
    Ok(())
}

/// Serves connections, each in a thread, for as long as it is let.
fn serve_all(way: &str, address: &str) -> Result<()> {
    let serve_one = |stream: OwnedFd| {
        let way = way.to_owned();
        std::thread::spawn(move || {
            if let Err(error) = serve(&way, stream) {
                println!("{error:#}");
            }
        });
    };
    if address.starts_with('/') {
        let listener = UnixListener::bind(address)?;
        println!("listening on {address}");
        loop {
            serve_one(listener.accept()?.0.into());
        }
    }
    let listener = TcpListener::bind(("127.0.0.1", 0))?;
    println!("listening on {}", listener.local_addr()?.port());
    loop {
        if way.starts_with("io_uring::") {
            serve_one(ring::accept(listener.as_raw_fd())?);
        } else {
            serve_one(listener.accept()?.0.into());
        }
    }
}

/// Sends `count` requests one after another on one connection; where there is a second count, that many first,
/// then, after a line, one that does not count.
fn ask(way: &str, address: &str, count: usize, first: Option<usize>) -> Result<Told> {
    let stream: OwnedFd = if address.starts_with('/') {
        UnixStream::connect(address)?.into()
    } else {
        let stream = TcpStream::connect(("127.0.0.1", address.parse()?))?;
        stream.set_nodelay(true)?;
        stream.into()
    };
    let mut wire = match wire(way, stream) {
        Ok(wire) => wire,
        Err(error) if is_lacking(&error) => return Ok(Told::Lacking(format!("{error:#}"))),
        Err(error) => return Err(error),
    };
    let mut one = |number: usize| -> Result<u16> {
        let (size, expected) = sizes(way, number);
        let head =
            format!("POST /items/{number} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {size}\r\n\r\n");
        wire.send(head.as_bytes())?;
        wire.send_body(size)?;
        let head = self::head(&mut *wire)?.context("the server closed the connection")?;
        ensure!(
            head.size == expected,
            "a body of {} bytes instead of {expected}",
            head.size
        );
        wire.receive_body(head.begin, head.size)?;
        let status = head.first.split(' ').nth(1).context("a status")?;
        Ok(status.parse()?)
    };
    if let Some(first) = first {
        for number in 0..first {
            one(number)?;
        }
        println!("ready");
        io::stdout().flush()?;
        io::stdin().lock().read_line(&mut String::new())?;
        one(0)?;
    }
    let mut counts = Counts::new();
    for number in 0..count {
        *counts.entry(one(number)?).or_default() += 1;
    }
    Ok(Told::Counts(counts))
}

/// Whether an error is about something that the kernel does not have.
fn is_lacking(error: &anyhow::Error) -> bool {
    let kind = error.downcast_ref::<io::Error>().map(io::Error::kind);
    kind == Some(io::ErrorKind::Unsupported)
}

/// An error for [`is_lacking`].
fn lacking(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::Unsupported, format!("the kernel has no {what}"))
}

/// `serve WAY PLACE` (PLACE is a unix socket's path, or `tcp`) or `ask WAY ADDRESS COUNT [FIRST]`.
pub(crate) fn run(arguments: &[String]) -> Result<()> {
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        ["serve", way, place] => serve_all(way, place),
        ["ask", way, address, count, ref first @ ..] => {
            let first = first.first().map(|first| first.parse()).transpose()?;
            let told = ask(way, address, count.parse()?, first)?;
            println!("{}", serde_json::to_string(&told)?);
            Ok(())
        }
        _ => bail!("what {arguments:?} means is not known"),
    }
}
