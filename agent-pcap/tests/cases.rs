//! Captures of what other people's servers and clients do, with what is right of each.

use redwire_pcap::{limits, replay};
use redwire_protocol::connection::{ConnectionInfo, Side};
use redwire_protocol::loss::Loss;
use redwire_protocol::output::Observer;
use redwire_protocol::record::Record;
use redwire_protocol::stream::Connections;
use redwire_protocol::trace_context::SpanContext;
use redwire_protocol::transaction::Transaction;
use std::collections::BTreeMap;

#[derive(Default)]
struct Seen {
    /// Name and outcome of each transaction.
    lines: Vec<String>,
    losses: BTreeMap<&'static str, u64>,
}

impl Observer for Seen {
    fn transaction(&mut self, _: &ConnectionInfo, _: Side, transaction: &Transaction<'_>) -> SpanContext {
        let name = |name: Option<&str>| name.unwrap_or("-").to_owned();
        let mut line = match &transaction.record {
            Record::Rpc(call) => {
                let status = call.status.and_then(|status| status.name());
                format!("{}/{} {}", name(call.service), name(call.method), name(status))
            }
            Record::Http(http) => format!("{} {} {:?}", name(http.method), name(http.path), http.status),
            other => panic!("{other:?}"),
        };
        if let Some(error) = transaction.error {
            line += &format!(" {error}");
        }
        self.lines.push(line);
        SpanContext {
            trace_id: [1; 16],
            span_id: [1; 8],
            flags: 1,
        }
    }

    fn lost(&mut self, _: &ConnectionInfo, _: Option<&'static str>, loss: Loss, n: u64) {
        *self.losses.entry(loss.as_str()).or_default() += n;
    }

    fn sessions(&mut self, _: &ConnectionInfo, _: Side, _: i64) {}
}

fn seen(name: &str) -> Seen {
    let file = std::fs::read(format!("tests/cases/{name}.pcap")).expect("a case");
    let mut seen = Seen::default();
    let mut connections = Connections::new(limits());
    replay(&file[..], &mut connections, &mut seen, &mut |_| {}).expect("a whole capture");
    seen
}

#[track_caller]
fn assert_seen(name: &str, lines: &[&str]) {
    let seen = seen(name);
    assert_eq!(seen.lines, lines, "{:?}", seen.losses);
    assert_eq!(seen.losses, BTreeMap::new());
}

#[test]
fn a_server_that_speaks_first_with_an_unknown_setting() {
    assert_seen("grpc-settings-extension-large-frame", &["p/one OK"; 3]);
    assert_seen("grpc-settings-extension-table-size", &["p/one OK"; 2]);
}

/// A first call without a deadline, then 60 with one of 5 ms.
#[test]
fn a_deadline_that_the_library_rounded_up() {
    let mut lines = ["live.v1.Echo/Unary DEADLINE_EXCEEDED"; 61];
    lines[0] = "live.v1.Echo/Unary OK";
    assert_seen("grpc-deadline-5ms", &lines);
}

/// The last two calls have their status in the head of the response; the connection is lost in the body of the last.
#[test]
fn a_status_in_compressed_trailers() {
    assert_seen(
        "grpc-web-compressed-trailers",
        &[
            "POST /w.Svc/Stream Some(200)",
            "POST /w.Svc/Stream Some(200)",
            "w.Svc/Echo OK",
            "w.Svc/Fail NOT_FOUND",
            "w.Svc/Slow DEADLINE_EXCEEDED connection_closed",
        ],
    );
}

/// Statuses of HTTP in the order of the streams by tshark: 503 × 4, 404, 401, 429, 502 × 2, 500. The client resets some,
/// the one of the 404 with INTERNAL_ERROR.
#[test]
fn a_status_of_http_before_a_reset() {
    assert_seen(
        "grpc-404-then-reset",
        &[
            "w.Svc/Echo UNAVAILABLE",
            "w.Svc/Echo UNAVAILABLE",
            "w.Svc/Echo UNAVAILABLE",
            "w.Svc/Echo UNAVAILABLE",
            "w.Svc/Fail UNIMPLEMENTED",
            "w.Svc/Slow UNAUTHENTICATED",
            "w.Svc/Nope UNAVAILABLE",
            "w.Svc/Stream UNAVAILABLE",
            "w.Svc/Stream UNAVAILABLE",
            "w.Svc/Bidi UNKNOWN",
        ],
    );
}
