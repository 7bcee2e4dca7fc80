//! What was lost, in words for people. `docs/losses.md` explains each.

use redwire_protocol::loss::Loss;
use std::collections::BTreeMap;

/// What a person calls a protocol.
fn protocol_name(protocol: &str) -> &str {
    match protocol {
        "amqp" => "AMQP",
        "http" => "HTTP",
        "grpc" => "gRPC",
        "postgres" => "PostgreSQL",
        "redis" => "Redis",
        "websocket" => "WebSocket",
        other => other,
    }
}

/// What [`Loss`] counts, for one and for many.
fn meaning(reason: &str) -> Option<(&'static str, &'static str)> {
    let loss = Loss::ALL.into_iter().find(|loss| loss.as_str() == reason)?;
    Some(match loss {
        Loss::Gap => (
            "hole in a connection: bytes that were not captured",
            "holes in connections: bytes that were not captured",
        ),
        Loss::GapBytes => (
            "byte is missing in such a hole",
            "bytes are missing in such holes",
        ),
        Loss::ResyncBytes => (
            "byte was passed over on the way to where a message provably begins",
            "bytes were passed over on the way to where a message provably begins",
        ),
        Loss::UnpairedResponse => (
            "response could not be proved to belong to a request",
            "responses could not be proved to belong to a request",
        ),
        Loss::UnpairedRequest => (
            "request whose response was not seen, or could not be proved to be its own",
            "requests whose responses were not seen, or could not be proved to be their own",
        ),
        Loss::Unfinished => (
            "request was still open at the end",
            "requests were still open at the end",
        ),
        Loss::Refused => (
            "message breaks its protocol's rules",
            "messages break their protocol's rules",
        ),
        Loss::Foreign => (
            "connection speaks no protocol that Redwire knows",
            "connections speak no protocol that Redwire knows",
        ),
        Loss::Encrypted => ("connection is encrypted (TLS)", "connections are encrypted (TLS)"),
        Loss::Unreportable => (
            "connection went over to a mode without requests (replication, monitor)",
            "connections went over to a mode without requests (replication, monitor)",
        ),
        Loss::Unattributed => (
            "error of a broker that no request can be proved to have caused",
            "errors of a broker that no request can be proved to have caused",
        ),
        Loss::MalformedField => (
            "malformed header line was left out of its message",
            "malformed header lines were left out of their messages",
        ),
        Loss::StatementText => (
            "prepared statement's text was forgotten: a connection holds too many",
            "prepared statements' texts were forgotten: connections hold too many",
        ),
        Loss::Evicted => (
            "entry was dropped from a full table of the agent",
            "entries were dropped from full tables of the agent",
        ),
    })
}

/// `n` losses of a protocol (`None` before it is known), by [`Loss::as_str`].
pub fn loss_in_words(protocol: Option<&str>, reason: &str, n: u64) -> String {
    let of = protocol
        .map(|name| format!("{}: ", protocol_name(name)))
        .unwrap_or_default();
    match meaning(reason) {
        Some((one, _)) if n == 1 => format!("{of}1 {one}"),
        Some((_, many)) => format!("{of}{n} {many}"),
        None => format!("{of}{n} of {reason}"),
    }
}

/// What is seen and not told, while it happens: connections by why they are not, the rest after them.
pub(crate) fn not_told(
    losses: &BTreeMap<(Option<&'static str>, &'static str), u64>,
    awaiting: &BTreeMap<&'static str, u64>,
) -> Vec<String> {
    let awaiting = awaiting.iter().map(|(protocol, n)| {
        let name = protocol_name(protocol);
        match n {
            1 => format!("1 {name} connection from before the agent awaits proof of its order"),
            n => format!("{n} {name} connections from before the agent await proof of their order"),
        }
    });
    let of_connections = [Loss::Encrypted, Loss::Foreign, Loss::Unreportable].map(Loss::as_str);
    let (mut first, mut rest) = (Vec::new(), Vec::new());
    for (&(protocol, reason), &n) in losses {
        // How many holes there are says less than how large they are.
        if reason == Loss::Gap.as_str() {
            continue;
        }
        let line = loss_in_words(protocol, reason, n);
        if of_connections.contains(&reason) {
            first.push(line);
        } else {
            rest.push(line);
        }
    }
    awaiting.chain(first).chain(rest).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::counters::Drop;

    #[test]
    fn every_loss_has_words_and_a_page() {
        let page = include_str!("../../../docs/losses.md");
        let reasons = Loss::ALL
            .map(Loss::as_str)
            .into_iter()
            .chain(Drop::ALL.map(Drop::as_str));
        for reason in reasons {
            assert!(
                page.contains(&format!("| `{reason}` |")),
                "{reason} is not in docs/losses.md"
            );
        }
        for loss in Loss::ALL {
            assert!(meaning(loss.as_str()).is_some(), "{loss:?} has no words");
        }
    }

    #[test]
    fn one_and_many() {
        let say = loss_in_words;
        assert_eq!(
            say(None, "encrypted_connection", 1),
            "1 connection is encrypted (TLS)"
        );
        assert_eq!(
            say(Some("redis"), "encrypted_connection", 3),
            "Redis: 3 connections are encrypted (TLS)"
        );
        assert_eq!(say(Some("new"), "new_reason", 3), "new: 3 of new_reason");
    }

    #[test]
    fn connections_come_before_the_rest() {
        let losses = BTreeMap::from([
            ((None, "encrypted_connection"), 3),
            ((None, "gap"), 1),
            ((Some("http"), "gap_bytes"), 77),
        ]);
        assert_eq!(
            not_told(&losses, &BTreeMap::from([("redis", 12)])),
            [
                "12 Redis connections from before the agent await proof of their order",
                "3 connections are encrypted (TLS)",
                "HTTP: 77 bytes are missing in such holes",
            ]
        );
    }
}
