//! HTTP/2 (RFC 9113), and gRPC above it.

mod connection;
mod fields;
mod frames;
mod hpack;
mod settings;
mod stream;
mod streams;
mod sync;

use crate::output::Output;
use crate::protocol::http;
use crate::protocol::{Detection, Detector, Flow, Protocol};
use crate::trace_context::SpanContext;
use connection::Connection;
use fields::Request;
use frames::{HEADER, Header, kind};
use stream::Stream;
use sync::Verdict;

/// HTTP/2.
pub const DETECTOR: Detector = Detector {
    name: "http",
    detect,
    create: |fresh| Box::new(Connection::new(fresh)),
};

/// A request of HTTP/1.1 that the server answered with `101 Switching Protocols` to `h2c` (RFC 7540 § 3.2).
#[derive(Debug, Clone)]
pub struct Upgrade<'a> {
    /// First byte of the request, nanoseconds since the Unix epoch.
    pub start: u64,
    /// The request; what it says of the response is of no interest.
    pub request: http::Record<'a>,
    /// The caller's span.
    pub remote_parent: Option<SpanContext>,
    /// The caller's `tracestate`.
    pub tracestate: Option<&'a str>,
}

/// The rest of a connection after an upgrade to `h2c`: the request becomes stream 1, half closed, and its
/// transaction is reported with the response on that stream. To be given to [`Then::Become`](crate::protocol::Then::Become) after the 101.
pub fn upgraded(upgrade: &Upgrade<'_>, output: &mut dyn Output) -> Box<dyn Protocol> {
    let mut connection = Connection::upgraded();
    let mut stream = Stream::begin(upgrade.start);
    stream.request = Request::upgraded(upgrade);
    stream.begin_upgraded(upgrade.request.request_body_size);
    connection.streams.open(1, stream, false, output);
    connection.streams.ended(1, Flow::ToServer, upgrade.start, output);
    Box::new(connection)
}

fn detect(bytes: &[u8], fresh: bool) -> Detection {
    match sync::is_preface(bytes) {
        Verdict::Frames(_) => return Detection::Yes(Flow::ToServer),
        Verdict::Maybe => return Detection::Maybe,
        Verdict::No => {}
    }
    if !fresh {
        return match sync::judge(bytes, true, None) {
            Verdict::No => Detection::No,
            Verdict::Maybe | Verdict::Frames(None) => Detection::Maybe,
            Verdict::Frames(Some(flow)) => Detection::Yes(flow),
        };
    }
    // A server may be first to speak, and then with SETTINGS (RFC 9113 § 3.4).
    const SETTINGS: [Option<u8>; HEADER] = [
        Some(0),
        Some(0),
        None,
        Some(kind::SETTINGS),
        Some(0),
        Some(0),
        Some(0),
        Some(0),
        Some(0),
    ];
    let is_settings = |(byte, expected): (&u8, Option<u8>)| expected.is_none_or(|expected| *byte == expected);
    if !bytes.iter().zip(SETTINGS).all(is_settings) {
        return Detection::No;
    }
    match Header::parse(bytes) {
        Some(header) if bytes.len() >= header.whole() => match sync::judge(bytes, true, Some(Flow::ToClient))
        {
            Verdict::No => Detection::No,
            _ => Detection::Yes(Flow::ToClient),
        },
        _ => Detection::Maybe,
    }
}
