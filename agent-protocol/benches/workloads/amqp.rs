//! AMQP 0-9-1 as a service speaks it that publishes with confirms and consumes with acknowledgements.

use super::Workload;
use redwire_protocol::connection::Direction::{Egress, Ingress};

const ROUNDS: usize = 500;

/// A frame with its end octet (section 4.2.3).
fn frame(kind: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![kind, 0, 1];
    bytes.extend((payload.len() as u32).to_be_bytes());
    bytes.extend(payload);
    bytes.push(0xce);
    bytes
}

fn method(class: u16, method: u16, arguments: &[&[u8]]) -> Vec<u8> {
    let mut payload = [class.to_be_bytes(), method.to_be_bytes()].concat();
    payload.extend(arguments.concat());
    frame(1, &payload)
}

fn short(text: &str) -> Vec<u8> {
    [&[text.len() as u8], text.as_bytes()].concat()
}

/// Content header with a message id, and a body.
fn content(id: usize) -> Vec<u8> {
    let body = "x".repeat(20 + id % 200);
    let mut header = vec![0, 60, 0, 0];
    header.extend((body.len() as u64).to_be_bytes());
    header.extend((1u16 << 7).to_be_bytes());
    header.extend(short(&format!("message-{id}")));
    [frame(2, &header), frame(3, body.as_bytes())].concat()
}

fn publish(id: usize) -> Vec<u8> {
    let arguments: [&[u8]; 4] = [&[0, 0], &short("orders"), &short(&format!("order.{id}")), &[0]];
    [method(60, 40, &arguments), content(id)].concat()
}

fn deliver(tag: u64) -> Vec<u8> {
    let arguments: [&[u8]; 5] = [
        &short("reader"),
        &tag.to_be_bytes(),
        &[0],
        &short("orders"),
        &short("order.new"),
    ];
    [method(60, 60, &arguments), content(tag as usize)].concat()
}

/// basic.ack of one message, from either side.
fn ack(tag: u64) -> Vec<u8> {
    method(60, 80, &[&tag.to_be_bytes(), &[0]])
}

/// One message at a time, out and in.
pub fn turns() -> Workload {
    let mut writes = vec![
        (Egress, b"AMQP\0\0\x09\x01".to_vec()),
        (Egress, method(20, 10, &[&[0]])),
        (Ingress, method(20, 11, &[&[0; 4]])),
        (Egress, method(85, 10, &[&[0]])),
        (Ingress, method(85, 11, &[])),
        (
            Egress,
            method(
                60,
                20,
                &[&[0, 0], &short("work"), &short("reader"), &[0], &[0; 4]],
            ),
        ),
        (Ingress, method(60, 21, &[&short("reader")])),
    ];
    for id in 1..=ROUNDS {
        let tag = id as u64;
        writes.extend([(Egress, publish(id)), (Ingress, ack(tag))]);
        writes.extend([(Ingress, deliver(tag)), (Egress, ack(tag))]);
    }
    Workload {
        name: "amqp",
        writes,
        transactions: 2 + 2 * ROUNDS as u64,
    }
}
