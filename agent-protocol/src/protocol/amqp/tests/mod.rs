//! Expected values come from the generator of the traffic, which knows what it does.

mod middle;
mod random;
mod specification;
mod transactions;

use super::frames::PROTOCOL_HEADER;
use crate::loss::Loss;
use crate::protocol::testing::{Ending, Random, Seen, View, Write, run, run_whole};
use crate::protocol::{Detection, Flow};
use crate::record::Record;
use crate::transaction::Transaction;
use std::collections::HashMap;

const MS: u64 = 1_000_000;

fn short(text: &str) -> Vec<u8> {
    let mut bytes = vec![text.len() as u8];
    bytes.extend(text.as_bytes());
    bytes
}

fn frame(kind: u8, channel: u16, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![kind];
    bytes.extend(channel.to_be_bytes());
    bytes.extend((payload.len() as u32).to_be_bytes());
    bytes.extend(payload);
    bytes.push(0xce);
    bytes
}

fn method(channel: u16, class: u16, method: u16, arguments: &[&[u8]]) -> Vec<u8> {
    let mut payload = class.to_be_bytes().to_vec();
    payload.extend(method.to_be_bytes());
    arguments.iter().for_each(|argument| payload.extend(*argument));
    frame(1, channel, &payload)
}

/// Content header with message-id and a traceparent, and a body in frames of at most 1000 bytes.
fn content(channel: u16, body: &[u8], message_id: &str) -> Vec<u8> {
    let mut payload = vec![0, 60, 0, 0];
    payload.extend((body.len() as u64).to_be_bytes());
    let mut flags = 1 << 15 | 1 << 12;
    let mut properties = short("text/plain");
    if !message_id.is_empty() {
        flags |= 1 << 7 | 1 << 13;
        let mut table = short("x-number");
        table.extend(*b"I\0\0\0\x07");
        table.extend(short("traceparent"));
        let parent = b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        table.push(b'S');
        table.extend((parent.len() as u32).to_be_bytes());
        table.extend(parent);
        properties.extend((table.len() as u32).to_be_bytes());
        properties.extend(table);
        properties.push(2);
        properties.extend(short(message_id));
    } else {
        properties.push(2);
    }
    payload.extend(u16::to_be_bytes(flags));
    payload.extend(properties);
    let mut bytes = frame(2, channel, &payload);
    for piece in body.chunks(1000) {
        bytes.extend(frame(3, channel, piece));
    }
    bytes
}

fn publish(channel: u16, key: &str, mandatory: bool, body: &[u8], id: &str) -> Vec<u8> {
    let mut bytes = method(
        channel,
        60,
        40,
        &[&[0, 0], &short("ex"), &short(key), &[u8::from(mandatory)]],
    );
    bytes.extend(content(channel, body, id));
    bytes
}

fn deliver(channel: u16, consumer: &str, tag: u64, key: &str, body: &[u8]) -> Vec<u8> {
    let arguments: [&[u8]; 5] = [
        &short(consumer),
        &tag.to_be_bytes(),
        &[0],
        &short("ex"),
        &short(key),
    ];
    let mut bytes = method(channel, 60, 60, &arguments);
    bytes.extend(content(channel, body, ""));
    bytes
}

/// basic.get-ok from the default exchange, with its message.
fn got(channel: u16, tag: u64, queue: &str, body: &[u8]) -> Vec<u8> {
    let arguments: [&[u8]; 5] = [&tag.to_be_bytes(), &[1], &short(""), &short(queue), &[0; 4]];
    let mut bytes = method(channel, 60, 71, &arguments);
    bytes.extend(content(channel, body, ""));
    bytes
}

/// basic.return of an unroutable message.
fn returned(channel: u16, key: &str, body: &[u8], id: &str) -> Vec<u8> {
    let code = 312u16.to_be_bytes();
    let arguments: [&[u8]; 4] = [&code, &short("NO_ROUTE"), &short("ex"), &short(key)];
    let mut bytes = method(channel, 60, 50, &arguments);
    bytes.extend(content(channel, body, id));
    bytes
}

fn settle(channel: u16, number: u16, tag: u64, bits: u8) -> Vec<u8> {
    method(channel, 60, number, &[&tag.to_be_bytes(), &[bits]])
}

fn close(channel: u16, class: u16, code: u16, cause: (u16, u16)) -> Vec<u8> {
    let arguments: [&[u8]; 4] = [
        &code.to_be_bytes(),
        &short("text"),
        &cause.0.to_be_bytes(),
        &cause.1.to_be_bytes(),
    ];
    method(channel, class, if class == 10 { 50 } else { 40 }, &arguments)
}

/// What a test compares: all that is certain in the first part, what may be unknown in the second.
type Line = (String, Option<String>);

#[expect(clippy::too_many_arguments, reason = "the columns of a line")]
fn line(
    operation: &str,
    channel: u16,
    key: &str,
    tag: u64,
    start: u64,
    end: u64,
    error: &str,
    outcome: &str,
    queue: &str,
) -> Line {
    let certain =
        format!("{operation} ch={channel} key={key} tag={tag} {start}-{end} error={error} outcome={outcome}");
    (certain, (!queue.is_empty()).then(|| queue.to_owned()))
}

fn read(transaction: &Transaction<'_>) -> Line {
    let Record::Amqp(record) = &transaction.record else {
        panic!("not AMQP")
    };
    line(
        record.operation.as_str(),
        record.channel,
        record.routing_key.unwrap_or_default(),
        record.delivery_tag.unwrap_or_default(),
        transaction.start,
        transaction.end,
        transaction.error.unwrap_or_default(),
        record.outcome.map_or("", |outcome| outcome.as_str()),
        record.queue.unwrap_or_default(),
    )
}

/// A client and a broker, and what is to be seen of them.
struct Session {
    time: u64,
    writes: Vec<Write>,
    expected: Vec<Line>,
    /// What is expected besides, if the connection is closed a millisecond after the last write.
    cut_off: Vec<Line>,
}

impl Session {
    fn new() -> Session {
        let mut session = Session {
            time: 1000 * MS,
            writes: Vec::new(),
            expected: Vec::new(),
            cut_off: Vec::new(),
        };
        session.write(Flow::ToServer, PROTOCOL_HEADER.to_vec());
        let start: [&[u8]; 4] = [&[0, 9], &[0; 4], b"\0\0\0\x05PLAIN", b"\0\0\0\x05en_US"];
        session.write(Flow::ToClient, method(0, 10, 10, &start));
        let start_ok: [&[u8]; 4] = [&[0; 4], &short("PLAIN"), b"\0\0\0\x05\0u\0pw", &short("en_US")];
        session.write(Flow::ToServer, method(0, 10, 11, &start_ok));
        session.write(Flow::ToClient, method(0, 10, 30, &[&[7, 255, 0, 2, 0, 0, 0, 60]]));
        let mut open = method(0, 10, 31, &[&[7, 255, 0, 2, 0, 0, 0, 60]]);
        open.extend(method(0, 10, 40, &[&short("/"), &[0, 0]]));
        session.write(Flow::ToServer, open);
        session.write(Flow::ToClient, method(0, 10, 41, &[&[0]]));
        session
    }

    /// Writes, a millisecond after what was before. Returns when.
    fn write(&mut self, flow: Flow, bytes: Vec<u8>) -> u64 {
        self.time += MS;
        self.writes.push(Write {
            flow,
            time: self.time,
            bytes,
        });
        self.time
    }

    fn client(&mut self, bytes: Vec<u8>) -> u64 {
        self.write(Flow::ToServer, bytes)
    }

    fn server(&mut self, bytes: Vec<u8>) -> u64 {
        self.write(Flow::ToClient, bytes)
    }

    fn open_channel(&mut self, channel: u16) {
        self.client(method(channel, 20, 10, &[&[0]]));
        self.server(method(channel, 20, 11, &[&[0; 4]]));
    }

    fn expect(&mut self, line: Line) {
        self.expected.push(line);
    }

    fn confirm_select(&mut self, channel: u16) {
        let start = self.client(method(channel, 85, 10, &[&[0]]));
        let end = self.server(method(channel, 85, 11, &[]));
        self.expect(line("confirm.select", channel, "", 0, start, end, "", "", ""));
    }

    fn consume(&mut self, channel: u16, queue: &str, tag: &str, no_ack: bool) {
        let bits = if no_ack { 2 } else { 0 };
        let arguments: [&[u8]; 5] = [&[0, 0], &short(queue), &short(""), &[bits], &[0; 4]];
        let start = self.client(method(channel, 60, 20, &arguments));
        let end = self.server(method(channel, 60, 21, &[&short(tag)]));
        self.expect(line("basic.consume", channel, "", 0, start, end, "", "", queue));
    }

    fn finish(&self, ending: Ending) -> Seen<Line> {
        run_whole(&self.writes, ending, read)
    }

    /// What is reported of the whole is what is expected.
    fn check(&self, ending: Ending) -> Seen<Line> {
        let mut seen = self.finish(ending);
        let mut expected = self.expected.clone();
        expected.sort();
        seen.transactions.sort();
        assert_same(&seen.transactions, &expected);
        seen
    }
}

/// Both hold the same lines, in their order; says which one of them alone has.
fn assert_same(seen: &[Line], expected: &[Line]) {
    if seen != expected {
        let alone = |of: &[Line], other: &[Line]| -> Vec<Line> {
            of.iter().filter(|line| !other.contains(line)).cloned().collect()
        };
        panic!(
            "{} instead of {}\nseen alone {:#?}\nexpected alone {:#?}",
            seen.len(),
            expected.len(),
            alone(seen, expected),
            alone(expected, seen)
        );
    }
}

fn cutter(mut random: Random, largest: u64) -> impl FnMut(usize) -> usize {
    move |_| 1 + random.below(largest) as usize
}

/// What is reported is expected, though not all that is expected need be.
fn check_nothing_false(session: &Session, seen: &Seen<Line>) {
    let mut expected: HashMap<&str, (usize, Option<&str>)> = HashMap::new();
    for (certain, queue) in session.expected.iter().chain(&session.cut_off) {
        expected.entry(certain).or_insert((0, queue.as_deref())).0 += 1;
    }
    for (certain, queue) in &seen.transactions {
        let entry = expected.get_mut(certain.as_str());
        let Some((left @ 1.., known)) = entry else {
            panic!("false: {certain} {queue:?}")
        };
        *left -= 1;
        assert!(
            queue.is_none() || queue.as_deref() == *known,
            "false queue: {certain} {queue:?}"
        );
    }
}
