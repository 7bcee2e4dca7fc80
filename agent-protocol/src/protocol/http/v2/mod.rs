//! HTTP/2 (RFC 9113), and gRPC above it.

mod connection;
mod fields;
mod frames;
mod hpack;
mod settings;
mod stream;
mod streams;
mod sync;

pub use fields::Upgrade;

use crate::output::Output;
use crate::protocol::http::NAME;
use crate::protocol::{Detection, Detector, Flow, Protocol};
use connection::Connection;
use fields::Request;
use frames::{HEADER, Header, kind};
use stream::Stream;
use sync::Verdict;

/// HTTP/2.
pub const DETECTOR: Detector = Detector {
    name: NAME,
    detect,
    answered: |_, _| None,
    create: |fresh| Box::new(Connection::new(fresh)),
};

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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::loss::Loss;
    use crate::protocol::{Input, Mark};
    use crate::record::http;
    use crate::trace_context::SpanContext;
    use crate::transaction::Transaction;

    /// What was reported, written down.
    #[derive(Default)]
    struct Report(Vec<String>);

    impl Output for Report {
        fn transaction(&mut self, transaction: &Transaction<'_>) -> SpanContext {
            self.0.push(format!("{transaction:?}"));
            SpanContext {
                trace_id: [1; 16],
                span_id: [1; 8],
                flags: 0,
            }
        }

        fn lost(&mut self, loss: Loss, n: u64) {
            self.0.push(format!("{loss:?} {n}"));
        }

        fn sessions(&mut self, _: i64) {}
    }

    #[test]
    fn an_upgrade_is_one_transaction_with_the_response_on_stream_1() {
        let upgrade = Upgrade {
            start: 5,
            request: http::Record {
                method: Some("POST"),
                path: Some("/up"),
                query: Some("q"),
                authority: Some("a.example"),
                version: "1.1",
                request_body_size: Some(3),
                ..http::Record::default()
            },
            remote_parent: None,
            tracestate: None,
        };
        let mut report = Report::default();
        let mut protocol = upgraded(&upgrade, &mut report);
        let mut mark = Mark { position: 0, time: 0 };
        let mut feed = |flow, time, bytes: &[u8]| {
            let progress = protocol.data(flow, Input::at(time, bytes, &mut mark), &mut report);
            assert_eq!(progress.consumed, bytes.len());
        };
        feed(Flow::ToClient, 10, &[0, 0, 0, 4, 0, 0, 0, 0, 0]);
        feed(Flow::ToServer, 11, frames::PREFACE);
        feed(Flow::ToServer, 11, &[0, 0, 0, 4, 0, 0, 0, 0, 0]);
        // HEADERS with `:status: 204`, END_STREAM.
        feed(Flow::ToClient, 12, &[0, 0, 1, 1, 5, 0, 0, 0, 1, 0x89]);
        protocol.close(20, &mut report);
        let [only] = &report.0[..] else {
            panic!("{:?}", report.0)
        };
        for part in [
            "start: 5",
            "end: 12",
            "Some(\"POST\")",
            "Some(\"/up\")",
            "query: Some(\"q\")",
            "version: \"2\"",
            "status: Some(204)",
            "request_body_size: Some(3)",
            "error: None",
        ] {
            assert!(only.contains(part), "{part} in {only}");
        }
    }

    #[test]
    fn detection() {
        use Detection::{Maybe, No, Yes};
        let settings = [0, 0, 6, 4, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 100];
        let request = [0, 0, 3, 1, 5, 0, 0, 0, 9, 0x82, 0x86, 0x84];
        let response = [0, 0, 1, 1, 5, 0, 0, 0, 9, 0x88];
        // Indexed fields of the dynamic table only.
        let unknown = [0, 0, 2, 1, 5, 0, 0, 0, 9, 0xc6, 0xc7];
        let update = [0, 0, 4, 8, 0, 0, 0, 0, 0, 0, 0, 1, 0];
        // PostgreSQL: SSLRequest, and a startup message.
        let ssl = [0, 0, 0, 8, 4, 0xd2, 0x16, 0x2f];
        let startup = b"\0\0\0\x20\0\x03\0\0user\0postgres\0database\0a\0\0";
        // A gRPC message, as at the beginning of a body.
        let message = b"\0\0\0\0\x07\x0a\x05world";
        for (bytes, fresh, joined) in [
            (frames::PREFACE, Yes(Flow::ToServer), Yes(Flow::ToServer)),
            (&frames::PREFACE[..10], Maybe, Maybe),
            (&settings, Yes(Flow::ToClient), Maybe),
            (&settings[..10], Maybe, Maybe),
            (&request, No, Yes(Flow::ToServer)),
            (&request[..10], No, Maybe),
            (&response, No, Yes(Flow::ToClient)),
            (&unknown, No, Maybe),
            (&update, No, Maybe),
            (&ssl, No, Maybe),
            (startup, No, No),
            (message, No, No),
            (b"GET / HTTP/1.1\r\n\r\n", No, No),
            (b"*1\r\n$4\r\nPING\r\n", No, No),
            (&[0; 64], No, No),
            (&[0xff; 64], No, No),
        ] {
            assert_eq!(detect(bytes, true), fresh, "{bytes:?}");
            assert_eq!(detect(bytes, false), joined, "{bytes:?}");
        }
    }
}
