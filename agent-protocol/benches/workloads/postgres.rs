//! PostgreSQL after its login: simple queries, and the extended protocol with unnamed statements.

use super::Workload;
use redwire_protocol::connection::Direction::{Egress, Ingress};

const EXCHANGES: usize = 1000;

fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    let length = (body.len() as u32 + 4).to_be_bytes();
    [&[kind], &length[..], body].concat()
}

fn login() -> [(redwire_protocol::connection::Direction, Vec<u8>); 2] {
    let body = b"\0\x03\0\0user\0bench\0database\0shop\0\0";
    let length = (body.len() as u32 + 4).to_be_bytes();
    let ready = [
        message(b'R', &[0; 4]),
        message(b'S', b"standard_conforming_strings\0on\0"),
        message(b'Z', b"I"),
    ];
    [(Egress, [&length[..], body].concat()), (Ingress, ready.concat())]
}

fn sql(id: usize) -> String {
    // One of another table each time, so that an answer of another statement shows.
    match id % 3 {
        0 => format!("SELECT name, price FROM items_{id} WHERE id = 17\0"),
        1 => format!("UPDATE items_{id} SET price = 3 WHERE id = 17\0"),
        _ => format!("INSERT INTO items_{id} VALUES (1, 'x')\0"),
    }
}

/// Rows and the command tag, or an error.
fn answer(id: usize) -> Vec<u8> {
    match id % 3 {
        0 => [message(b'D', b"\0\x01\0\0\0\x02hi"), message(b'C', b"SELECT 1\0")].concat(),
        1 => message(b'C', format!("UPDATE {}\0", id % 7).as_bytes()),
        _ => message(b'E', b"SERROR\0VERROR\0C23505\0Mduplicate key\0\0"),
    }
}

pub fn simple() -> Workload {
    let exchange = |id| {
        let row = if id % 3 == 0 {
            message(
                b'T',
                b"\0\x01name\0\0\0\0\0\0\0\0\0\0\x19\xff\xff\xff\xff\xff\xff\0\0",
            )
        } else {
            Vec::new()
        };
        [
            (Egress, message(b'Q', sql(id).as_bytes())),
            (Ingress, [row, answer(id), message(b'Z', b"I")].concat()),
        ]
    };
    Workload {
        name: "postgres",
        writes: login()
            .into_iter()
            .chain((0..EXCHANGES).flat_map(exchange))
            .collect(),
        transactions: EXCHANGES as u64,
    }
}

pub fn extended() -> Workload {
    let exchange = |id| {
        let parse = [b"\0", sql(id).as_bytes(), b"\0\0"].concat();
        let request = [
            message(b'P', &parse),
            message(b'B', &[0; 8]),
            message(b'E', &[0; 5]),
            message(b'S', b""),
        ];
        let response = [
            message(b'1', b""),
            message(b'2', b""),
            answer(id),
            message(b'Z', b"I"),
        ];
        [(Egress, request.concat()), (Ingress, response.concat())]
    };
    Workload {
        name: "postgres-extended",
        writes: login()
            .into_iter()
            .chain((0..EXCHANGES).flat_map(exchange))
            .collect(),
        transactions: EXCHANGES as u64,
    }
}
