//! HTTP/1 through `stream::Connections`: any chunking gives the same transactions, any loss gives no false one.

mod harness;

use harness::{Conversation, Delivery, collect};
use proptest::prelude::*;
use redwire_protocol::connection::Direction::{Egress, Ingress};
use redwire_protocol::loss::Loss;
use redwire_protocol::record::Record;
use redwire_protocol::transaction::Transaction;

#[derive(Debug, Clone, PartialEq, Eq)]
struct Seen {
    start: u64,
    end: u64,
    error: Option<String>,
    method: String,
    path: String,
    status: Option<u16>,
    sizes: [Option<u64>; 2],
}

impl Seen {
    /// Without the sizes that `other` does not know: of a request whose end came later than its response.
    fn known_to(mut self, other: &Seen) -> Seen {
        for (size, known) in self.sizes.iter_mut().zip(other.sizes) {
            *size = size.filter(|_| known.is_some());
        }
        self
    }
}

fn seen(transaction: &Transaction<'_>) -> Seen {
    let Record::Http(record) = &transaction.record else {
        panic!("no HTTP: {transaction:?}")
    };
    Seen {
        start: transaction.start,
        end: transaction.end,
        error: transaction.error.map(Into::into),
        method: record.method.unwrap_or_default().into(),
        path: record.path.unwrap_or_default().into(),
        status: record.status,
        sizes: [record.request_body_size, record.response_body_size],
    }
}

/// How content is sent.
#[derive(Debug, Clone, Copy)]
enum Framing {
    None,
    Length,
    Chunked,
}

#[derive(Debug, Clone)]
struct Exchange {
    method: &'static str,
    status: u16,
    request: (Framing, usize),
    response: (Framing, usize),
    interim: bool,
    /// Where each message is cut into writes, in thousandths.
    cuts: [u16; 2],
    /// Nanoseconds before each write.
    pauses: [u64; 4],
}

/// Content that looks like messages wherever a write may begin.
fn content(n: usize, fake: &str) -> Vec<u8> {
    fake.bytes().cycle().take(n).collect()
}

const FAKE_REQUEST: &str = "GET /fake HTTP/1.1\r\nHost: fake\r\n\r\n";
const FAKE_RESPONSE: &str = "HTTP/1.1 299 Fake\r\nContent-Length: 0\r\n\r\n";

fn body(framing: Framing, size: usize, fake: &str) -> (String, Vec<Vec<u8>>) {
    let content = content(size, fake);
    match framing {
        Framing::None => (String::new(), vec![]),
        Framing::Length => (
            format!("Content-Length: {size}\r\n"),
            content.chunks(200).map(Into::into).collect(),
        ),
        Framing::Chunked => {
            let mut pieces = Vec::new();
            for piece in content.chunks(90) {
                let mut chunk = format!("{:x};ext=\"a b\"\r\n", piece.len()).into_bytes();
                chunk.extend_from_slice(piece);
                chunk.extend_from_slice(b"\r\n");
                pieces.push(chunk);
            }
            pieces.push(b"0\r\nTrailer: value\r\n\r\n".to_vec());
            ("Transfer-Encoding: chunked\r\n".into(), pieces)
        }
    }
}

fn size((framing, size): (Framing, usize)) -> u64 {
    match framing {
        Framing::None => 0,
        _ => size as u64,
    }
}

/// The writes of the request and of the response of exchange `id`; content is written by pieces, so that its
/// fakes are at the begin of writes.
fn messages(id: usize, exchange: &Exchange) -> [Vec<Vec<u8>>; 2] {
    let split = |mut head: Vec<u8>, rest: Vec<Vec<u8>>, cut: u16, interim: Option<&[u8]>| {
        let mut writes = Vec::new();
        if let Some(interim) = interim {
            writes.push(interim.to_vec());
        }
        let at = head.len() * usize::from(cut) / 1000;
        let tail = head.split_off(at);
        writes.extend([head, tail]);
        writes.extend(rest);
        writes.retain(|write| !write.is_empty());
        writes
    };
    let (fields, pieces) = body(exchange.request.0, exchange.request.1, FAKE_REQUEST);
    let request = format!("{} /{id}?q HTTP/1.1\r\nHost: h\r\n{fields}\r\n", exchange.method);
    let request = split(request.into_bytes(), pieces, exchange.cuts[0], None);
    let (fields, pieces) = body(exchange.response.0, exchange.response.1, FAKE_RESPONSE);
    let bodyless = exchange.method == "HEAD" || matches!(exchange.status, 204 | 304);
    let response = format!("HTTP/1.1 {} Reason\r\n{fields}\r\n", exchange.status);
    let interim = exchange.interim.then_some(&b"HTTP/1.1 100 Continue\r\n\r\n"[..]);
    let pieces = if bodyless { vec![] } else { pieces };
    [
        request,
        split(response.into_bytes(), pieces, exchange.cuts[1], interim),
    ]
}

fn exchange() -> impl Strategy<Value = Exchange> {
    let framing = || prop_oneof![Just(Framing::Length), Just(Framing::Chunked)];
    let methods = prop_oneof![Just("GET"), Just("POST"), Just("HEAD"), Just("VERSION-CONTROL")];
    let statuses =
        prop_oneof![4 => Just(200), 1 => Just(204), 1 => Just(304), 1 => Just(404), 1 => Just(503)];
    let pause = || prop_oneof![3 => 1..1_000_000u64, 1 => 1..400_000_000u64];
    let request = (framing(), 0..500usize).prop_map(|(framing, size)| match size {
        0..250 => (Framing::None, 0),
        _ => (framing, size),
    });
    (
        methods,
        statuses,
        request,
        (framing(), 0..700usize),
        proptest::bool::weighted(0.2),
        [0..1000u16, 0..1000],
        [pause(), pause(), pause(), pause()],
    )
        .prop_map(
            |(method, status, request, response, interim, cuts, pauses)| Exchange {
                method,
                status,
                request,
                response,
                interim,
                cuts,
                pauses,
            },
        )
}

/// A conversation with the transactions it consists of. At most `window` requests are in flight; `order` says
/// which end goes on. With `cut_off`, the last that are in flight are not answered.
fn conversation(
    exchanges: &[Exchange],
    window: usize,
    order: &[bool],
    cut_off: bool,
) -> (Conversation, Vec<Seen>) {
    let mut conversation = Conversation::default();
    let mut expected: Vec<Seen> = Vec::new();
    let (mut time, mut asked, mut answered) = (1_000_000_000u64, 0, 0);
    let mut order = order.iter().cycle();
    while answered < exchanges.len() {
        let ask = asked < exchanges.len()
            && (asked == answered || asked - answered < window && *order.next().unwrap_or(&true));
        if cut_off && !ask && asked == exchanges.len() {
            break;
        }
        let id = if ask { asked } else { answered };
        let exchange = &exchanges[id];
        let direction = if ask { Egress } else { Ingress };
        let mut first = None;
        for (i, write) in messages(id, exchange)[direction as usize].iter().enumerate() {
            time += exchange.pauses[2 * direction as usize + usize::from(i > 0)];
            first.get_or_insert(time);
            conversation.write(direction, time, write.clone());
        }
        if ask {
            asked += 1;
            expected.push(Seen {
                start: first.unwrap(),
                end: 0,
                error: None,
                method: exchange.method.into(),
                path: format!("/{id}"),
                status: None,
                sizes: [Some(size(exchange.request)), None],
            });
        } else {
            answered += 1;
            let bodyless = exchange.method == "HEAD" || matches!(exchange.status, 204 | 304);
            let seen = &mut expected[id];
            seen.end = time;
            seen.status = Some(exchange.status);
            seen.sizes[1] = Some(if bodyless { 0 } else { size(exchange.response) });
        }
    }
    let closed = time + 1_000;
    conversation.closed = Some(closed);
    for seen in expected.iter_mut().filter(|seen| seen.status.is_none()) {
        (seen.end, seen.error) = (closed, Some("connection_closed".into()));
    }
    (conversation, expected)
}

fn cuts(seed: &[u16]) -> impl FnMut(usize) -> Vec<usize> + use<'_> {
    let mut seed = seed.iter().copied().cycle();
    move |length| {
        let n = usize::from(seed.next().unwrap_or(0)) % 4;
        (0..n)
            .map(|_| usize::from(seed.next().unwrap_or(0)) % length)
            .collect()
    }
}

proptest! {
    #[test]
    fn any_chunking_gives_the_same(
        exchanges in prop::collection::vec(exchange(), 1..12),
        window in 1..6usize,
        order in prop::collection::vec(any::<bool>(), 1..20),
        cut_off: bool,
        seed in prop::collection::vec(any::<u16>(), 1..30),
    ) {
        let (conversation, expected) = conversation(&exchanges, window, &order, cut_off);
        let whole = collect(&conversation, &Delivery::default(), seen);
        prop_assert_eq!(&whole.transactions, &expected);
        prop_assert!(whole.losses.is_empty(), "{:?}", whole.losses);
        let cut = collect(&conversation.cut(cuts(&seed)), &Delivery::default(), seen);
        prop_assert_eq!(&cut.transactions, &expected);
        let bytes = collect(&conversation.cut(|length| (0..length).collect()), &Delivery::default(), seen);
        prop_assert_eq!(&bytes.transactions, &expected);
    }

    #[test]
    fn late_and_in_any_order_gives_the_same(
        exchanges in prop::collection::vec(exchange(), 1..12),
        window in 1..6usize,
        order in prop::collection::vec(any::<bool>(), 1..20),
        delays in prop::collection::vec(0..150_000_000u64, 1..200),
    ) {
        let (conversation, expected) = conversation(&exchanges, window, &order, false);
        let delivery = Delivery { delays, ..Delivery::default() };
        let transactions = collect(&conversation, &delivery, seen).transactions;
        prop_assert_eq!(transactions.len(), expected.len());
        for (transaction, truth) in transactions.into_iter().zip(expected) {
            prop_assert_eq!(&transaction, &truth.known_to(&transaction));
        }
    }

    #[test]
    fn bodies_that_are_not_captured_change_nothing(
        exchanges in prop::collection::vec(exchange(), 1..12),
        captured in 150..400usize,
    ) {
        let lengths = |mut exchange: Exchange| {
            exchange.request.0 = Framing::Length;
            exchange.response.0 = Framing::Length;
            exchange
        };
        let exchanges: Vec<_> = exchanges.into_iter().map(lengths).collect();
        let (mut conversation, _) = conversation(&exchanges, 1, &[true], false);
        // All of a message in one write, of which only the begin is captured.
        let mut writes: Vec<harness::Write> = Vec::new();
        for write in conversation.writes {
            match writes.last_mut() {
                Some(last) if last.direction == write.direction => last.bytes.extend(write.bytes),
                _ => writes.push(write),
            }
        }
        conversation.writes = writes;
        let whole = collect(&conversation, &Delivery::default(), seen).transactions;
        let delivery = Delivery { captured, ..Delivery::default() };
        prop_assert_eq!(collect(&conversation, &delivery, seen).transactions, whole);
    }

    #[test]
    fn no_loss_gives_a_false_one(
        exchanges in prop::collection::vec(exchange(), 1..40),
        window in prop_oneof![2 => Just(1usize), 1 => 2..6usize],
        order in prop::collection::vec(any::<bool>(), 1..20),
        cut_off: bool,
        from in prop_oneof![Just(0usize), 0..40usize],
        lost in prop::collection::vec(any::<prop::sample::Index>(), 0..10),
        delays in prop_oneof![Just(vec![]), prop::collection::vec(0..150_000_000u64, 1..100)],
    ) {
        // Joined in the midst of it, a window that slides for longer cannot be told from turns (see `pairing`).
        let n = if from > 0 && window > 1 { exchanges.len().min(16) } else { exchanges.len() };
        let (conversation, expected) = conversation(&exchanges[..n], window, &order, cut_off);
        let lost = lost.iter().map(|index| index.index(conversation.writes.len())).collect();
        let delivery = Delivery { from, lost, delays, ..Delivery::default() };
        for transaction in collect(&conversation, &delivery, seen).transactions {
            let id: usize = transaction.path[1..].parse().expect("a true path");
            let truth = expected[id].clone().known_to(&transaction);
            prop_assert_eq!(transaction, truth);
        }
    }
}

/// The transaction as it is where the conversation, of which `whole` is a transaction, is cut off behind `last`.
fn cut_off(whole: &Seen, last: u64, closed: u64, seen: &Seen) -> Seen {
    let mut truth = whole.clone();
    if whole.end > last {
        (truth.end, truth.error) = (closed, Some("connection_closed".into()));
        truth.status = truth.status.filter(|_| seen.status.is_some());
    }
    truth.known_to(seen)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    /// A client that leaves, or is killed, before its last responses came, and a server that closes before it has
    /// answered everything.
    #[test]
    fn a_close_at_any_place_gives_no_false_one(
        exchanges in prop::collection::vec(exchange(), 1..16),
        window in 1..5usize,
        order in prop_oneof![Just(vec![true]), prop::collection::vec(any::<bool>(), 1..20)],
        from in prop_oneof![Just(0usize), 1..30usize],
        end in any::<prop::sample::Index>(),
        lost in prop_oneof![2 => Just(vec![]), 1 => prop::collection::vec(any::<prop::sample::Index>(), 0..4)],
    ) {
        let (mut conversation, expected) = conversation(&exchanges, window, &order, false);
        conversation.writes.truncate(end.index(conversation.writes.len()) + 1);
        let last = conversation.writes.last().map_or(0, |write| write.time);
        let closed = last + 1_000;
        conversation.closed = Some(closed);
        let lost = lost.iter().map(|index| index.index(conversation.writes.len())).collect();
        let delivery = Delivery { from, lost, ..Delivery::default() };
        for transaction in collect(&conversation, &delivery, seen).transactions {
            let id: usize = transaction.path[1..].parse().expect("a true path");
            prop_assert!(expected[id].start <= last, "{:?} was never sent", transaction);
            let truth = cut_off(&expected[id], last, closed, &transaction);
            prop_assert_eq!(transaction, truth);
        }
    }
}

/// 500 exchanges in turn, two milliseconds each.
fn turns() -> Conversation {
    let mut conversation = Conversation::default();
    for id in 0..500u64 {
        let time = 1_000_000_000 + id * 2_000_000;
        conversation.write(Egress, time, format!("GET /{id} HTTP/1.1\r\nHost: h\r\n\r\n"));
        let response = format!("HTTP/1.1 {} X\r\nContent-Length: 2\r\n\r\nok", 400 + id % 99);
        conversation.write(Ingress, time + 1_000_000, response);
    }
    conversation.closed = Some(3_000_000_000);
    conversation
}

/// Which of [`turns`] are missing among the transactions; all others are true.
fn missing(delivery: &Delivery) -> (Vec<usize>, u64) {
    let collector = collect(&turns(), delivery, seen);
    let mut missing: Vec<usize> = (0..500).collect();
    for transaction in &collector.transactions {
        let id: usize = transaction.path[1..].parse().unwrap();
        assert_eq!(transaction.status, Some(400 + id as u16 % 99));
        missing.retain(|&other| other != id);
    }
    (
        missing,
        collector.lost(Loss::UnpairedRequest) + collector.lost(Loss::UnpairedResponse),
    )
}

/// What a lost write costs on a connection whose client is known to wait for each response: its exchange, counted once.
#[test]
fn a_lost_write_costs_one() {
    for lost in [400, 401] {
        let delivery = Delivery {
            lost: vec![lost],
            ..Delivery::default()
        };
        assert_eq!(missing(&delivery), (vec![200], 1), "write {lost}");
    }
}

#[test]
fn joined_in_the_middle_the_rest_is_seen() {
    for from in [200, 201] {
        let delivery = Delivery {
            from,
            ..Delivery::default()
        };
        let (missing, lost) = missing(&delivery);
        // Before, and the first whole one.
        assert_eq!(
            missing,
            (0..=100 + from % 2).collect::<Vec<_>>(),
            "from write {from}"
        );
        assert_eq!(lost, 1 + from as u64 % 2, "from write {from}");
    }
}
