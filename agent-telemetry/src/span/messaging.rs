//! Messaging: the conventions' "Messaging spans", "Messaging metrics" and "Semantic conventions for RabbitMQ".

use super::network;
use super::{Context, Description, Kind, Scratch};
use crate::instrument::{Instrument, InstrumentKind};
use crate::route::{PLACEHOLDER, looks_like_identifier};
use crate::value::{Key, Value};
use opentelemetry_semantic_conventions::attribute::{
    ERROR_TYPE, MESSAGING_BATCH_MESSAGE_COUNT, MESSAGING_DESTINATION_ANONYMOUS, MESSAGING_DESTINATION_NAME,
    MESSAGING_DESTINATION_TEMPLATE, MESSAGING_DESTINATION_TEMPORARY, MESSAGING_MESSAGE_BODY_SIZE,
    MESSAGING_MESSAGE_CONVERSATION_ID, MESSAGING_MESSAGE_ID, MESSAGING_OPERATION_NAME,
    MESSAGING_OPERATION_TYPE, MESSAGING_RABBITMQ_DESTINATION_ROUTING_KEY,
    MESSAGING_RABBITMQ_MESSAGE_DELIVERY_TAG, MESSAGING_SYSTEM,
};
use opentelemetry_semantic_conventions::metric as semconv;
use redwire_protocol::connection::{ConnectionInfo, Side};
use redwire_protocol::record::amqp::{Operation, Outcome, Record};
use std::fmt::Write as _;

/// How a message was settled: `ack`, `nack`, `reject`, `requeue`, `auto`.
const OUTCOME: Key = "redwire.messaging.outcome";

/// Whether a message was delivered before.
const REDELIVERED: Key = "redwire.messaging.redelivered";

/// The exchange of a message; empty for the default exchange.
const EXCHANGE: Key = "redwire.messaging.exchange";

/// The queue that a consumer reads, or that a method is about.
const QUEUE: Key = "redwire.messaging.queue";

/// The tag of a consumer.
const CONSUMER_TAG: Key = "redwire.messaging.consumer_tag";

/// The boundaries that the conventions give for `messaging.*.duration`.
const SECONDS: &[f64] = &[
    0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0,
];

static OPERATION_DURATION: Instrument = Instrument {
    name: semconv::MESSAGING_CLIENT_OPERATION_DURATION,
    unit: "s",
    description: "Duration of messaging operation initiated by a producer or consumer client.",
    kind: InstrumentKind::Histogram(SECONDS),
};
static PROCESS_DURATION: Instrument = Instrument {
    name: semconv::MESSAGING_PROCESS_DURATION,
    unit: "s",
    description: "Duration of processing operation.",
    kind: InstrumentKind::Histogram(SECONDS),
};
static SENT: Instrument = Instrument {
    name: semconv::MESSAGING_CLIENT_SENT_MESSAGES,
    unit: "{message}",
    description: "Number of messages producer attempted to send to the broker.",
    kind: InstrumentKind::Counter,
};
static CONSUMED: Instrument = Instrument {
    name: semconv::MESSAGING_CLIENT_CONSUMED_MESSAGES,
    unit: "{message}",
    description: "Number of messages that were delivered to the application.",
    kind: InstrumentKind::Counter,
};

static UNATTRIBUTED: Instrument = Instrument {
    name: "redwire.messaging.exceptions",
    unit: "{exception}",
    description: "Exceptions of a broker, and messages that it returned, of which no operation can be proved to be the cause.",
    kind: InstrumentKind::Counter,
};

/// An exception of this reply code.
pub(crate) fn unattributed(connection: &ConnectionInfo, side: Side, code: u16) -> Description<'_> {
    let mut to = Description::new("AMQP", "AMQP", Kind::Client);
    to.metric(MESSAGING_SYSTEM, "rabbitmq");
    to.metric(ERROR_TYPE, Value::Decimal(code.into()));
    let (_, server) = super::client_and_server(connection, side);
    network::set_server(&mut to, network::address(server), true);
    to.measure(&UNATTRIBUTED, 1.0);
    to
}

pub(super) fn amqp<'a>(
    record: &'a Record<'a>,
    context: Context<'a>,
    scratch: &'a mut Scratch,
) -> Description<'a> {
    let (kind, operation_type) = match record.operation {
        Operation::Publish => (Kind::Producer, Some("send")),
        Operation::Deliver => (Kind::Consumer, Some("process")),
        Operation::Get => (Kind::Consumer, Some("receive")),
        _ => (Kind::Client, None),
    };
    let operation = record.operation.as_str();
    let names = [record.routing_key, record.queue];
    let anonymous = names.into_iter().flatten().any(is_server_named);
    let temporary = anonymous || record.temporary;
    write_destination(record, false, &mut scratch.url);
    write_destination(record, true, &mut scratch.template);
    scratch.name.clear();
    scratch.name.push_str(operation);
    if !scratch.template.is_empty() {
        let _ = write!(scratch.name, " {}", scratch.template);
    }
    let scratch: &'a Scratch = scratch;

    let mut to = Description::new("AMQP", &scratch.name, kind);
    to.both(MESSAGING_SYSTEM, "rabbitmq");
    to.both(MESSAGING_OPERATION_NAME, operation);
    if let Some(operation_type) = operation_type {
        to.both(MESSAGING_OPERATION_TYPE, operation_type);
    }
    if scratch.template == scratch.url {
        if !scratch.url.is_empty() {
            to.both(MESSAGING_DESTINATION_NAME, scratch.url.as_str());
        }
    } else {
        // Of a name of its own there are too many for a metric.
        to.span(MESSAGING_DESTINATION_NAME, scratch.url.as_str());
        if !scratch.template.is_empty() {
            to.both(MESSAGING_DESTINATION_TEMPLATE, scratch.template.as_str());
        }
    }
    if temporary {
        to.both(MESSAGING_DESTINATION_TEMPORARY, true);
    }
    if anonymous {
        to.both(MESSAGING_DESTINATION_ANONYMOUS, true);
    }
    if let Some(outcome) = record.outcome {
        to.both(OUTCOME, outcome.as_str());
    }
    for (key, value) in [
        (
            MESSAGING_RABBITMQ_DESTINATION_ROUTING_KEY,
            record.routing_key.filter(|key| !key.is_empty()),
        ),
        (EXCHANGE, record.exchange),
        (QUEUE, record.queue),
        (CONSUMER_TAG, record.consumer_tag),
        (MESSAGING_MESSAGE_ID, record.message_id),
        (MESSAGING_MESSAGE_CONVERSATION_ID, record.correlation_id),
    ] {
        if let Some(value) = value {
            to.span(key, value);
        }
    }
    for (key, value) in [
        (MESSAGING_MESSAGE_BODY_SIZE, record.body_size),
        (MESSAGING_RABBITMQ_MESSAGE_DELIVERY_TAG, record.delivery_tag),
        (MESSAGING_BATCH_MESSAGE_COUNT, record.message_count),
    ] {
        if let Some(value) = value {
            to.span(key, value);
        }
    }
    if let Some(redelivered) = record.redelivered {
        to.span(REDELIVERED, redelivered);
    }
    network::set_server(&mut to, network::server(context, None), true);
    network::client(context, &mut to);
    network::describe(context, &mut to);
    if let Some(reason) = context.transaction.error {
        to.error(reason);
    }
    match record.operation {
        Operation::Publish => to.measure(&SENT, 1.0),
        Operation::Deliver => to.measure(&CONSUMED, 1.0),
        // The message of a basic.get that is to be acknowledged is a delivery of its own.
        Operation::Get if record.outcome == Some(Outcome::Auto) => to.measure(&CONSUMED, 1.0),
        _ => {}
    }
    let duration = if record.operation == Operation::Deliver {
        &PROCESS_DURATION
    } else {
        &OPERATION_DURATION
    };
    to.measure(duration, context.duration());
    to
}

/// Whether the broker made the name: of a queue that was declared without one, or of direct reply-to.
fn is_server_named(name: &str) -> bool {
    name.starts_with("amq.gen-") || name.starts_with("amq.rabbitmq.reply-to")
}

/// `messaging.destination.name` as the conventions have it for RabbitMQ: of a producer `exchange:routing_key`, of a
/// consumer with its queue behind; parts that are empty, unknown or the same as the one before are left out. A message
/// to the default exchange without a routing key goes to `amq.default`.
///
/// As `template` it is what many destinations share: without the names of temporary queues, and with a placeholder for
/// each part of a routing key or queue name that identifies one thing among many.
fn write_destination(record: &Record<'_>, template: bool, to: &mut String) {
    to.clear();
    let queue = record.queue.filter(|&queue| Some(queue) != record.routing_key);
    // The default exchange's routing key names a queue, and so does one that is the queue's.
    let names_queue = record.exchange == Some("") || record.routing_key == record.queue;
    for (part, is_queue) in [
        (record.exchange, false),
        (record.routing_key, names_queue),
        (queue, true),
    ] {
        let Some(part) = part.filter(|part| !part.is_empty()) else {
            continue;
        };
        if template && (is_server_named(part) || is_queue && record.temporary) {
            continue;
        }
        if !to.is_empty() {
            to.push(':');
        }
        if !template || Some(part) == record.exchange {
            to.push_str(part);
            continue;
        }
        for (index, word) in part.split('.').enumerate() {
            if index > 0 {
                to.push('.');
            }
            to.push_str(if looks_like_identifier(word) && !word.is_empty() {
                PLACEHOLDER
            } else {
                word
            });
        }
    }
    let of_message = matches!(record.operation, Operation::Publish | Operation::Deliver);
    if to.is_empty() && of_message && record.exchange == Some("") && record.routing_key == Some("") {
        to.push_str("amq.default");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::route::{RouteConfig, Routes};
    use crate::span::{SpanConfig, Status};
    use redwire_protocol::connection::{ConnectionId, Endpoint, Opener, Vantage};
    use redwire_protocol::record;
    use redwire_protocol::transaction::Transaction;
    use std::collections::BTreeMap;

    fn connection() -> ConnectionInfo {
        ConnectionInfo {
            id: ConnectionId(1),
            local: Endpoint::Inet("10.0.0.1:41000".parse().unwrap()),
            remote: Endpoint::Inet("10.0.0.2:5672".parse().unwrap()),
            vantage: Vantage::Socket,
            opener: Opener::Local,
            process: None,
        }
    }

    fn record(operation: Operation) -> Record<'static> {
        Record {
            operation,
            channel: 1,
            exchange: None,
            routing_key: None,
            queue: None,
            consumer_tag: None,
            message_id: None,
            correlation_id: None,
            tracestate: None,
            body_size: None,
            delivery_tag: None,
            redelivered: None,
            outcome: None,
            message_count: None,
            temporary: false,
        }
    }

    fn describe<T>(record: Record<'_>, error: Option<&str>, read: impl FnOnce(&Description<'_>) -> T) -> T {
        let connection = connection();
        let transaction = Transaction {
            start: 1_000_000_000,
            end: 1_250_000_000,
            error,
            remote_parent: None,
            tracestate: None,
            parent: None,
            record: record::Record::Amqp(record.clone()),
        };
        let context = Context {
            connection: &connection,
            side: Side::Client,
            transaction: &transaction,
            config: &SpanConfig::default(),
            resource: 0,
        };
        let mut scratch = Scratch::new(Routes::new(&RouteConfig::default()).unwrap());
        read(&amqp(&record, context, &mut scratch))
    }

    fn destination(operation: Operation, parts: [Option<&'static str>; 3]) -> Option<String> {
        let [exchange, routing_key, queue] = parts;
        let record = Record {
            exchange,
            routing_key,
            queue,
            ..record(operation)
        };
        describe(record, None, |said| {
            let of = |(key, value): &crate::value::Attribute<'_>| {
                (*key == MESSAGING_DESTINATION_NAME).then(|| ToString::to_string(value))
            };
            let destination = said.attributes.iter().find_map(of);
            let name = match &destination {
                Some(destination) => format!("{} {destination}", operation.as_str()),
                None => operation.as_str().to_owned(),
            };
            assert_eq!(said.name, name);
            destination
        })
    }

    #[test]
    fn destinations_are_as_the_conventions_say() {
        use Operation::{Deliver, Get, Publish, QueueBind};
        for (operation, parts, expected) in [
            (Publish, [Some("logs"), Some("warn"), None], Some("logs:warn")),
            (Publish, [Some(""), Some("jobs"), None], Some("jobs")),
            (Publish, [Some("logs"), Some(""), None], Some("logs")),
            (Publish, [Some(""), Some(""), None], Some("amq.default")),
            (Publish, [None, None, None], None),
            (
                Deliver,
                [Some("logs"), Some("warn"), Some("inbox")],
                Some("logs:warn:inbox"),
            ),
            (Deliver, [Some("logs"), Some("warn"), None], Some("logs:warn")),
            // The routing key is the queue.
            (Deliver, [Some(""), Some("jobs"), Some("jobs")], Some("jobs")),
            (Deliver, [Some("e"), Some("jobs"), Some("jobs")], Some("e:jobs")),
            (Get, [None, None, Some("jobs")], Some("jobs")),
            (QueueBind, [Some("e"), Some("k"), Some("q")], Some("e:k:q")),
        ] {
            let found = destination(operation, parts);
            assert_eq!(found.as_deref(), expected, "{operation:?} {parts:?}");
        }
    }

    /// Name of the span, then the attributes of the destination, those of metrics marked.
    fn destinations(record: Record<'_>) -> Vec<String> {
        describe(record, None, |said| {
            let keys = [
                MESSAGING_DESTINATION_NAME,
                MESSAGING_DESTINATION_TEMPLATE,
                MESSAGING_DESTINATION_TEMPORARY,
                MESSAGING_DESTINATION_ANONYMOUS,
            ];
            let short = |key: &str| key.rsplit('.').next().unwrap_or_default().to_owned();
            let mut lines = vec![said.name.to_owned()];
            for (key, value) in said.attributes.iter().filter(|(key, _)| keys.contains(key)) {
                let metric = said.dimensions.iter().any(|(other, _)| other == key);
                lines.push(format!("{}{}={value}", short(key), if metric { "*" } else { "" }));
            }
            lines
        })
    }

    #[test]
    fn temporary_destinations_have_no_name_in_metrics() {
        use Operation::{BasicConsume, Deliver, Publish};
        let generated = "amq.gen-JzTY20BRgKO-HjmUJj0wLg";
        let reply_to = "amq.rabbitmq.reply-to.g1h2AA5yZXBseUAxMDU2";
        for (operation, [exchange, routing_key, queue], temporary, expected) in [
            (
                Publish,
                [Some(""), Some(generated), None],
                false,
                vec![
                    "publish",
                    "name=amq.gen-JzTY20BRgKO-HjmUJj0wLg",
                    "temporary*=true",
                    "anonymous*=true",
                ],
            ),
            (
                Publish,
                [Some(""), Some(reply_to), None],
                false,
                vec![
                    "publish",
                    "name=amq.rabbitmq.reply-to.g1h2AA5yZXBseUAxMDU2",
                    "temporary*=true",
                    "anonymous*=true",
                ],
            ),
            (
                Deliver,
                [Some("logs"), Some("warn"), Some(generated)],
                true,
                vec![
                    "deliver logs:warn",
                    "name=logs:warn:amq.gen-JzTY20BRgKO-HjmUJj0wLg",
                    "template*=logs:warn",
                    "temporary*=true",
                    "anonymous*=true",
                ],
            ),
            // Declared as exclusive under a name of the client's.
            (
                BasicConsume,
                [None, None, Some("reply-of-worker")],
                true,
                vec!["basic.consume", "name=reply-of-worker", "temporary*=true"],
            ),
            (
                Publish,
                [Some(""), Some("reply-of-worker"), None],
                true,
                vec!["publish", "name=reply-of-worker", "temporary*=true"],
            ),
            (
                Publish,
                [Some("orders"), Some("order.1234567.created"), None],
                false,
                vec![
                    "publish orders:order.{id}.created",
                    "name=orders:order.1234567.created",
                    "template*=orders:order.{id}.created",
                ],
            ),
            (
                Publish,
                [Some("orders"), Some("order.created"), None],
                false,
                vec!["publish orders:order.created", "name*=orders:order.created"],
            ),
        ] {
            let record = Record {
                exchange,
                routing_key,
                queue,
                temporary,
                ..record(operation)
            };
            assert_eq!(destinations(record), expected);
        }
    }

    #[test]
    fn kinds_outcomes_and_what_is_measured() {
        let measured = |record: Record<'_>, error| {
            describe(record, error, |said| {
                let names: Vec<&str> = said
                    .measurements
                    .iter()
                    .map(|(instrument, _)| instrument.name)
                    .collect();
                let dimensions: BTreeMap<Key, String> = said
                    .dimensions
                    .iter()
                    .map(|(key, value)| (*key, value.to_string()))
                    .collect();
                let of = |key: Key| dimensions.get(key).cloned().unwrap_or_default();
                (said.kind, said.status, names, of(OUTCOME), of(ERROR_TYPE))
            })
        };
        let text = str::to_owned;
        let operation = "messaging.client.operation.duration";
        let consumed = "messaging.client.consumed.messages";
        let published = Record {
            outcome: Some(Outcome::Nack),
            ..record(Operation::Publish)
        };
        assert_eq!(
            measured(published, Some("nack")),
            (
                Kind::Producer,
                Status::Error,
                vec!["messaging.client.sent.messages", operation],
                text("nack"),
                text("nack")
            )
        );
        let delivered = Record {
            outcome: Some(Outcome::Requeue),
            ..record(Operation::Deliver)
        };
        assert_eq!(
            measured(delivered, Some("reject")),
            (
                Kind::Consumer,
                Status::Error,
                vec![consumed, "messaging.process.duration"],
                text("requeue"),
                text("reject")
            )
        );
        // The message of one that is to be acknowledged is a delivery of its own.
        for (outcome, measurements) in [
            (None, vec![operation]),
            (Some(Outcome::Auto), vec![consumed, operation]),
        ] {
            let got = Record {
                outcome,
                message_count: Some(1),
                ..record(Operation::Get)
            };
            let outcome = outcome.map_or("", Outcome::as_str);
            assert_eq!(
                measured(got, None),
                (
                    Kind::Consumer,
                    Status::Unset,
                    measurements,
                    text(outcome),
                    text("")
                )
            );
        }
        let (kind, _, measurements, ..) = measured(record(Operation::TxCommit), None);
        assert_eq!((kind, measurements), (Kind::Client, vec![operation]));
    }

    #[test]
    fn exceptions_without_a_cause_are_counted_by_code() {
        let connection = connection();
        let said = unattributed(&connection, Side::Client, 406);
        let dimensions: BTreeMap<Key, String> = said
            .dimensions
            .iter()
            .map(|(key, value)| (*key, value.to_string()))
            .collect();
        let expected = [
            (MESSAGING_SYSTEM, "rabbitmq"),
            (ERROR_TYPE, "406"),
            ("server.address", "10.0.0.2"),
            ("server.port", "5672"),
        ];
        assert_eq!(
            dimensions,
            expected.map(|(key, value)| (key, value.to_owned())).into()
        );
        let [(instrument, count)] = said.measurements[..] else {
            panic!("{:?}", said.measurements.len())
        };
        assert_eq!((instrument.name, count), ("redwire.messaging.exceptions", 1.0));
    }
}
