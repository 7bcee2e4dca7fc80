//! Random traffic of well-behaved peers, with what must be seen of it: however it is cut, and at most that where
//! parts of it are missing.

use crate::encoder::*;
use crate::harness::{CLIENT, Feed, Report, SERVER, Seen};
use proptest::prelude::*;
use redwire_protocol::connection::Direction;
use redwire_protocol::loss::Loss;

/// Bytes that go at one time.
#[derive(Debug, Clone)]
pub(crate) struct Write {
    pub(crate) direction: Direction,
    pub(crate) time: u64,
    pub(crate) bytes: Vec<u8>,
}

/// Pseudo-random numbers of a seed.
#[derive(Debug, Clone)]
pub(crate) struct Random(pub(crate) u64);

impl Random {
    /// A number below `n` (xorshift64*).
    pub(crate) fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % n
    }

    fn one_of<T: Copy>(&mut self, items: &[T]) -> T {
        items[self.below(items.len())]
    }
}

/// An exchange on a stream, under way.
struct Exchange {
    id: u32,
    seen: Seen,
    grpc: bool,
    request_left: usize,
    request_ended: bool,
    answered: bool,
    response_left: usize,
    /// Times of END_STREAM.
    response_end: Option<u64>,
}

pub(crate) struct Traffic {
    random: Random,
    encoders: [Encoder; 2],
    pub(crate) writes: Vec<Write>,
    /// What is to be seen, sorted.
    pub(crate) expected: Vec<Seen>,
    pub(crate) close: u64,
    next_id: u32,
    next_promise: u32,
    /// The largest table that the receiver of each direction allows.
    allowed: [usize; 2],
    time: u64,
}

impl Traffic {
    pub(crate) fn new(seed: u64, exchanges: usize) -> Traffic {
        let mut traffic = Traffic {
            random: Random(seed | 1),
            encoders: [Encoder::new(), Encoder::new()],
            writes: Vec::new(),
            expected: Vec::new(),
            close: 0,
            next_id: 1,
            next_promise: 2,
            allowed: [8192; 2],
            time: 1,
        };
        for encoder in &mut traffic.encoders {
            encoder.dynamic_names = traffic.random.below(3) == 0;
        }
        let mut preface = PREFACE.to_vec();
        preface.extend(settings(&[(1, 8192), (2, 0), (5, 1 << 20)]));
        traffic.write(CLIENT, preface);
        traffic.write(SERVER, settings(&[(1, 8192), (5, 1 << 20)]));
        traffic.write(SERVER, frame(SETTINGS, ACK, 0, &[]));
        traffic.write(CLIENT, frame(SETTINGS, ACK, 0, &[]));
        traffic.run(exchanges);
        traffic.expected.sort();
        traffic
    }

    fn write(&mut self, direction: Direction, bytes: Vec<u8>) {
        self.time += 1 + self.random.below(5) as u64;
        // Now and then, several frames in one write; but one request only, so that they can be told apart by time.
        let begins_request = direction == CLIENT && bytes[3] == HEADERS;
        if !begins_request
            && let Some(last) = self.writes.last_mut()
            && last.direction == direction
            && self.random.below(3) == 0
        {
            last.bytes.extend(bytes);
            self.time = last.time;
            return;
        }
        self.writes.push(Write {
            direction,
            time: self.time,
            bytes,
        });
    }

    /// Writes a header block, in pieces and padded as it comes. Returns the times of its first and last bytes.
    fn headers(&mut self, direction: Direction, id: u32, ends: bool, fields: &[Field<'_>]) -> (u64, u64) {
        let random = &mut self.random;
        let encoder = &mut self.encoders[direction as usize];
        if random.below(20) == 0 {
            let size = random.one_of(&[0, 100, 1000, 4096, 8192]);
            encoder.resize(size.min(self.allowed[direction as usize]));
        }
        let block = encoder.block(fields, || {
            random.one_of(&[
                Indexing::Incremental,
                Indexing::Incremental,
                Indexing::Without,
                Indexing::Never,
            ])
        });
        let mut flags = if ends { END_STREAM } else { 0 };
        let mut payload = Vec::new();
        let padding = if random.below(4) == 0 { random.below(20) } else { 0 };
        if padding > 0 {
            flags |= PADDED;
            payload.push(padding as u8);
        }
        if direction == CLIENT && random.below(4) == 0 {
            flags |= HAS_PRIORITY;
            payload.extend([0, 0, 0, 0, 15]);
        }
        let cut = if random.below(5) == 0 {
            random.below(block.len() + 1)
        } else {
            flags |= END_HEADERS;
            block.len()
        };
        payload.extend(&block[..cut]);
        payload.resize(payload.len() + padding, 0);
        let mut bytes = frame(HEADERS, flags, id, &payload);
        if flags & END_HEADERS == 0 {
            bytes.extend(frame(CONTINUATION, 0, id, &[]));
            bytes.extend(frame(CONTINUATION, END_HEADERS, id, &block[cut..]));
        }
        self.write(direction, bytes);
        let time = self.writes.last().unwrap().time;
        (time, time)
    }

    fn begin(&mut self) -> Exchange {
        let id = self.next_id;
        self.next_id += 2 * (1 + self.random.below(2)) as u32;
        let random = &mut self.random;
        let grpc = random.below(2) == 0;
        let n = random.below(20);
        let path = if grpc {
            format!("/pkg.S{n}/M{n}")
        } else {
            format!("/path/{n}")
        };
        let method = if grpc {
            "POST"
        } else {
            random.one_of(&["GET", "POST", "PUT", "DELETE"])
        };
        let agent = random.one_of(&["a/1", "b/2"]);
        let content = if grpc {
            "application/grpc"
        } else {
            random.one_of(&["text/plain", "image/png"])
        };
        let cookie = format!("c={}", "z".repeat(random.below(300)));
        let request_left = random.below(4);
        let response_left = random.below(4);
        let fields = [
            (":method", method),
            (":scheme", "http"),
            (":authority", "a.example"),
            (":path", path.as_str()),
            ("content-type", content),
            ("user-agent", agent),
            ("cookie", cookie.as_str()),
        ];
        let ends = request_left == 0;
        let (start, _) = self.headers(CLIENT, id, ends, &fields);
        let (method, path) = if grpc {
            (format!("pkg.S{n}"), format!("M{n}"))
        } else {
            (method.to_owned(), path.clone())
        };
        Exchange {
            id,
            grpc,
            request_left,
            request_ended: ends,
            answered: false,
            response_left,
            response_end: None,
            seen: Seen {
                start,
                method: Some(method),
                path: Some(path),
                sizes: if grpc { [None; 2] } else { [Some(0); 2] },
                messages: if grpc { [Some((0, 0)); 2] } else { [None; 2] },
                kind: if grpc { "grpc" } else { "http" },
                ..Seen::default()
            },
        }
    }

    /// A DATA frame of the exchange, the last where `ends`.
    fn body(&mut self, exchange: &mut Exchange, direction: Direction, ends: bool) {
        let length = self.random.below(300) * (1 + 60 * usize::from(self.random.below(9) == 0));
        let content = if exchange.grpc {
            message(length)
        } else {
            vec![0x11; length]
        };
        let way = direction as usize;
        if let Some((count, bytes)) = &mut exchange.seen.messages[way] {
            *count += 1;
            *bytes += length as u64;
        }
        if let Some(size) = &mut exchange.seen.sizes[way] {
            *size += length as u64;
        }
        let flags = if ends { END_STREAM } else { 0 };
        let bytes = if self.random.below(3) == 0 && content.len() > 6 {
            let (a, b) = content.split_at(self.random.below(6));
            let mut padded = vec![9];
            padded.extend(b);
            padded.extend([0; 9]);
            let mut bytes = frame(DATA, 0, exchange.id, a);
            bytes.extend(frame(DATA, PADDED | flags, exchange.id, &padded));
            bytes
        } else {
            frame(DATA, flags, exchange.id, &content)
        };
        self.write(direction, bytes);
    }

    /// Something happens on the exchange. Returns whether it is over.
    fn step(&mut self, exchange: &mut Exchange) -> bool {
        let id = exchange.id;
        let client =
            !exchange.request_ended && (exchange.response_end.is_some() || self.random.below(2) == 0);
        if self.random.below(40) == 0 && exchange.response_end.is_none() {
            let by = self.random.one_of(&[CLIENT, SERVER]);
            let (code, name, status) = self.random.one_of(&[
                (2, "INTERNAL_ERROR", 13),
                (7, "REFUSED_STREAM", 14),
                (8, "CANCEL", 1),
            ]);
            self.write(by, reset(id, code));
            exchange.seen.end = self.writes.last().unwrap().time;
            exchange.seen.sizes[1] = None;
            if !exchange.request_ended {
                exchange.seen.sizes[0] = None;
            }
            if exchange.grpc {
                exchange.seen.status = Some(status);
            } else {
                exchange.seen.error = Some(name.to_owned());
            }
            return true;
        }
        if client {
            exchange.request_left -= 1;
            exchange.request_ended = exchange.request_left == 0;
            self.body(exchange, CLIENT, exchange.request_ended);
        } else if !exchange.answered {
            if self.random.below(6) == 0 {
                self.headers(SERVER, id, false, &[(":status", "103"), ("link", "x")]);
                return false;
            }
            exchange.answered = true;
            let status = self.random.one_of(&["200", "404", "503", "201"]);
            let status = if exchange.grpc { "200" } else { status };
            let content = if exchange.grpc {
                "application/grpc"
            } else {
                "text/html"
            };
            let fields = [(":status", status), ("content-type", content), ("server", "s")];
            let ends = !exchange.grpc && exchange.response_left == 0;
            let (_, end) = self.headers(SERVER, id, ends, &fields);
            if !exchange.grpc {
                exchange.seen.status = status.parse().ok();
            }
            exchange.response_end = ends.then_some(end);
        } else if exchange.response_left > 0 {
            exchange.response_left -= 1;
            let ends = !exchange.grpc && exchange.response_left == 0;
            self.body(exchange, SERVER, ends);
            exchange.response_end = ends.then(|| self.writes.last().unwrap().time);
        } else {
            let status = self.random.one_of(&["0", "5", "13"]);
            let mut fields = vec![("grpc-status", status)];
            // Others whose value could be a status, too.
            fields.extend(
                self.random
                    .one_of(&[None, Some(("x", "y")), Some(("x-count", "5"))]),
            );
            fields.extend(self.random.one_of(&[None, Some(("grpc-message", "7"))]));
            let (_, end) = self.headers(SERVER, id, true, &fields);
            exchange.seen.status = status.parse().ok();
            exchange.response_end = Some(end);
        }
        if let Some(end) = exchange.response_end
            && exchange.request_ended
        {
            exchange.seen.end = end;
            return true;
        }
        false
    }

    /// What changes nothing of the exchanges.
    fn aside(&mut self) {
        let (of, to) = self.random.one_of(&[(CLIENT, SERVER), (SERVER, CLIENT)]);
        match self.random.below(4) {
            // An extension, such as ALTSVC (RFC 7838), ORIGIN (RFC 8336) or PRIORITY_UPDATE (RFC 9218).
            0 => {
                let kind = self.random.one_of(&[0xa, 0xc, 0x10, 0xfe]);
                self.write(of, frame(kind, 0xff, 0, b"whatever"));
            }
            1 => self.write(SERVER, frame(GOAWAY, 0, 0, &[0x7f, 0xff, 0xff, 0xff, 0, 0, 0, 0])),
            2 => {
                let size = self.random.one_of(&[0, 100, 4096, 8192]);
                self.write(to, settings(&[(1, size as u32)]));
                self.write(of, frame(SETTINGS, ACK, 0, &[]));
                self.allowed[of as usize] = size;
                self.encoders[of as usize].resize(size);
            }
            _ => {
                let promise = self.next_promise;
                self.next_promise += 2;
                let path = format!("/pushed/{}", self.random.below(9));
                let encoder = &mut self.encoders[SERVER as usize];
                let fields = [(":method", "GET"), (":path", &path), ("x-count", "5")];
                let mut payload = promise.to_be_bytes().to_vec();
                payload.extend(encoder.block(&fields, || Indexing::Incremental));
                self.write(SERVER, frame(PUSH_PROMISE, END_HEADERS, 1, &payload));
                self.headers(SERVER, promise, true, &[(":status", "204"), ("x-count", "7")]);
            }
        }
    }

    fn run(&mut self, exchanges: usize) {
        let at_once = 1 + self.random.below(20);
        let (mut open, mut begun) = (Vec::<Exchange>::new(), 0);
        while begun < exchanges || !open.is_empty() {
            if begun < exchanges && open.len() < at_once && self.random.below(3) == 0 {
                begun += 1;
                let exchange = self.begin();
                open.push(exchange);
                continue;
            }
            match self.random.below(12) {
                0 => self.write(CLIENT, frame(WINDOW_UPDATE, 0, 0, &[0, 0, 0x40, 0])),
                1 => self.write(SERVER, frame(PING, self.time as u8 & 1, 0, &[7; 8])),
                2 => self.write(CLIENT, frame(PRIORITY, 0, self.next_id + 100, &[0, 0, 0, 0, 3])),
                3 if self.random.below(3) == 0 => self.aside(),
                _ if open.is_empty() => {}
                _ => {
                    let at = self.random.below(open.len());
                    if self.step(&mut open[at]) {
                        self.expected.push(open.swap_remove(at).seen);
                    }
                }
            }
            // The connection may close with some in flight.
            if begun == exchanges && self.random.below(30) == 0 {
                break;
            }
        }
        self.time += 10;
        self.close = self.time;
        for mut exchange in open {
            match exchange.response_end {
                Some(end) => exchange.seen.end = end,
                None => {
                    exchange.seen.end = self.close;
                    exchange.seen.error = Some("connection_closed".to_owned());
                    exchange.seen.sizes[1] = None;
                    if exchange.grpc {
                        exchange.seen.status = Some(14);
                    }
                }
            }
            if !exchange.request_ended {
                exchange.seen.sizes[0] = None;
            }
            self.expected.push(exchange.seen);
        }
    }
}

/// Whether `seen` is `expected`, with nothing wrong and perhaps something absent.
fn agrees(seen: &Seen, expected: &Seen) -> bool {
    fn absent_or<T: PartialEq>(seen: &Option<T>, expected: &Option<T>) -> bool {
        seen.is_none() || seen == expected
    }
    // A hole that nothing has come behind yet is not seen when the call is reset.
    let was_reset = matches!(seen.status, Some(1 | 13 | 14));
    // That it is gRPC is in a field, too.
    let http_of_grpc = seen.kind == "http" && expected.kind == "grpc";
    (seen.start, seen.end) == (expected.start, expected.end)
        && (http_of_grpc
            || seen.kind == expected.kind
                && seen.error == expected.error
                && absent_or(&seen.method, &expected.method)
                && absent_or(&seen.path, &expected.path)
                && absent_or(&seen.status, &expected.status)
                && (0..2).all(|way| {
                    absent_or(&seen.sizes[way], &expected.sizes[way])
                        && match (seen.messages[way], expected.messages[way]) {
                            (Some(some), Some(all)) if was_reset => some <= all,
                            (some, all) => absent_or(&some, &all),
                        }
                }))
}

/// Takes each transaction out of what was expected.
pub(crate) fn all_agree(seen: &[Seen], expected: &[Seen]) -> Result<(), String> {
    let mut left: Vec<_> = expected.iter().collect();
    // Those that say most, first.
    let mut seen: Vec<_> = seen.iter().collect();
    seen.sort_by_key(|seen| (seen.kind == "http", seen.path.is_none()));
    for seen in seen {
        let same_kind = |expected: &&Seen| expected.kind == seen.kind && agrees(seen, expected);
        let found = left.iter().position(same_kind);
        match found.or_else(|| left.iter().position(|expected| agrees(seen, expected))) {
            Some(at) => drop(left.remove(at)),
            None => {
                let near: Vec<_> = left
                    .iter()
                    .filter(|expected| expected.start == seen.start)
                    .collect();
                return Err(format!("false: {seen:#?}\nnearest: {near:#?}"));
            }
        }
    }
    Ok(())
}

/// Feeds the writes in pieces of at most `most` bytes.
fn cut(traffic: &Traffic, random: &mut Random, most: usize) -> Report {
    let mut feed = Feed::new(true);
    for write in &traffic.writes {
        let mut bytes = &write.bytes[..];
        while !bytes.is_empty() {
            let length = (1 + random.below(most)).min(bytes.len());
            feed.write(write.direction, write.time, &bytes[..length]);
            bytes = &bytes[length..];
        }
    }
    feed.close(traffic.close)
}

/// Feeds traffic of which `holes` pieces, each of at most `longest` bytes, are missing.
fn with_holes(seed: u64, holes: usize, longest: usize) -> Result<(), String> {
    let traffic = Traffic::new(seed, 30);
    let mut random = Random(seed ^ 0x7777 | 1);
    let total: usize = traffic.writes.iter().map(|write| write.bytes.len()).sum();
    let mut missing: Vec<(usize, usize)> = (0..holes)
        .map(|_| (random.below(total), 1 + random.below(longest)))
        .collect();
    missing.sort_unstable();
    let mut feed = Feed::new(true);
    let mut at = 0;
    for write in &traffic.writes {
        // A piece at a time, each wholly there or missing.
        let mut from = 0;
        while from < write.bytes.len() {
            let position = at + from;
            let is_missing = |position: usize| {
                missing
                    .iter()
                    .any(|&(start, n)| (start..start + n).contains(&position))
            };
            let first = is_missing(position);
            let length = (from..write.bytes.len())
                .take_while(|&to| is_missing(at + to) == first)
                .count();
            if first {
                feed.miss(write.direction, length);
            } else {
                feed.write(write.direction, write.time, &write.bytes[from..from + length]);
            }
            from += length;
        }
        at += write.bytes.len();
        // What is missing will not come.
        feed.tick(write.time + 1_000_000_000);
    }
    let report = feed.close(traffic.close);
    all_agree(&report.seen, &traffic.expected)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(200) })]

    #[test]
    fn however_it_is_cut(seed in any::<u64>(), most in prop::sample::select(vec![1, 3, 20, 500, 100_000])) {
        let traffic = Traffic::new(seed, 30);
        let mut random = Random(seed ^ 0x5555 | 1);
        let report = cut(&traffic, &mut random, most);
        prop_assert_eq!(report.losses.values().sum::<u64>(), 0);
        prop_assert_eq!(report.sorted(), traffic.expected);
    }

    #[test]
    fn nothing_false_with_holes(seed in any::<u64>(), holes in 1usize..6, longest in prop::sample::select(vec![1, 50, 3000])) {
        if let Err(why) = with_holes(seed, holes, longest) {
            prop_assert!(false, "{}", why);
        }
    }

    #[test]
    fn nothing_false_when_joined_in_the_middle(seed in any::<u64>(), whole_writes in any::<bool>()) {
        let traffic = Traffic::new(seed, 60);
        let mut random = Random(seed ^ 0x9999 | 1);
        let mut feed = Feed::new(false);
        let skipped = random.below(traffic.writes.len());
        for write in &traffic.writes[skipped..] {
            if whole_writes {
                feed.write(write.direction, write.time, &write.bytes);
            } else {
                let at = random.below(write.bytes.len());
                feed.write(write.direction, write.time, &write.bytes[..at]);
                feed.write(write.direction, write.time, &write.bytes[at..]);
            }
            feed.tick(write.time + 1_000_000_000);
        }
        let report = feed.close(traffic.close);
        if let Err(why) = all_agree(&report.seen, &traffic.expected) {
            prop_assert!(false, "{}", why);
        }
    }

    #[test]
    fn no_bytes_do_harm(bytes in prop::collection::vec(any::<u8>(), 0..400), at in 0usize..2000, seed in any::<u64>()) {
        let traffic = Traffic::new(seed, 5);
        let mut feed = Feed::new(seed % 2 == 0);
        let mut position = 0;
        for write in &traffic.writes {
            if (position..position + write.bytes.len()).contains(&at) {
                let (before, after) = write.bytes.split_at(at - position);
                feed.write(write.direction, write.time, before);
                feed.write(write.direction, write.time, &bytes);
                feed.write(write.direction, write.time, after);
            } else {
                feed.write(write.direction, write.time, &write.bytes);
            }
            position += write.bytes.len();
        }
        let report = feed.close(traffic.close);
        prop_assert_eq!(report.sessions, 0);
    }
}

/// Padding and the begin of a message look like DATA of no length that ends a stream, right in front of a frame.
#[test]
fn zeros_in_front_of_a_frame() {
    with_holes(3_656_972_279_937_932_094, 3, 3000).unwrap();
}

/// After a hole, most of what follows is seen; joined in the middle, likewise.
#[test]
fn recovery() {
    let (mut all, mut seen, mut named) = (0, 0, 0);
    for seed in 1..100 {
        let traffic = Traffic::new(seed * 7919, 60);
        let from = traffic.writes.len() / 4;
        let begin = traffic.writes[from].time;
        let mut feed = Feed::new(false);
        for write in &traffic.writes[from..] {
            feed.write(write.direction, write.time, &write.bytes);
        }
        let report = feed.close(traffic.close);
        all += traffic.expected.iter().filter(|seen| seen.start >= begin).count();
        seen += report.seen.len();
        named += report.seen.iter().filter(|seen| seen.path.is_some()).count();
        assert_eq!(report.loss(Loss::Refused), 0);
    }
    assert!(seen * 100 > all * 90, "{seen} of {all}");
    // The others are in the table from before.
    assert!(named * 2 > seen, "{named} of {seen}");
    assert!(seen <= all, "{seen} of {all}");
}
