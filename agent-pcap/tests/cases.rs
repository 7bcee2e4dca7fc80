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
fn assert_all(name: &str, count: usize, line: &str) {
    let seen = seen(name);
    assert_eq!(seen.lines, vec![line; count], "{:?}", seen.losses);
    assert_eq!(seen.losses, BTreeMap::new());
}

#[test]
fn a_server_that_speaks_first_with_an_unknown_setting() {
    assert_all("grpc-settings-extension-large-frame", 3, "p/one OK");
    assert_all("grpc-settings-extension-table-size", 2, "p/one OK");
}
