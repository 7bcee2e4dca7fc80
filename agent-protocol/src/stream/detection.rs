//! Which protocol a connection speaks.

use super::connection::{Connection, Stage};
use super::half::Half;
use super::proxy_header::{self, ProxyHeader};
use crate::connection::{Direction, Opener, Vantage};
use crate::loss::Loss;
use crate::output::Observer;
use crate::protocol::detectors::DETECTORS;
use crate::protocol::{Detection, Detector, Flow};

/// Turns between the directions without a message of any protocol, after which a connection is foreign.
const TURNS: u32 = 32;

/// Bytes without a message of any protocol, after which a connection is foreign.
const BYTES: u64 = 16 << 20;

/// Bytes that a detector may ask for before it has to decide, and that are kept of a side that speaks first and says
/// nothing that a protocol can be told by.
const WINDOW: usize = 64 << 10;

/// What the detectors say together.
enum Verdict {
    No,
    Maybe,
    Yes(&'static Detector, Flow),
}

fn ask(bytes: &[u8], fresh: bool) -> Verdict {
    let mut verdict = Verdict::No;
    for detector in DETECTORS {
        match (detector.detect)(bytes, fresh) {
            Detection::No => {}
            Detection::Maybe => verdict = Verdict::Maybe,
            Detection::Yes(flow) => return Verdict::Yes(detector, flow),
        }
    }
    verdict
}

impl Connection {
    /// Looks for a message of some protocol in `bytes`. Returns how many can be none.
    pub(super) fn detect(
        &mut self,
        direction: Direction,
        bytes: &[u8],
        observer: &mut dyn Observer,
    ) -> usize {
        if bytes.is_empty() {
            return 0;
        }
        let half = &self.halves[direction as usize];
        let start = half.next() - bytes.len() as u64;
        // Candidates: where a chunk begins; on a fresh connection, only where the direction begins.
        let candidates: Vec<usize> = if self.fresh {
            vec![0]
        } else {
            let offsets = half.marks.iter().filter(|mark| mark.position >= start);
            offsets
                .map(|mark| (mark.position - start) as usize)
                .filter(|&at| at < bytes.len())
                .collect()
        };
        for &at in &candidates {
            let mut at = at;
            if !self.fresh {
                match proxy_header::find(&bytes[at..]) {
                    ProxyHeader::No => {}
                    ProxyHeader::Maybe => return at,
                    ProxyHeader::Whole(length) => at += length,
                }
            }
            let candidate = &bytes[at..];
            match ask(candidate, self.fresh) {
                Verdict::No => {}
                Verdict::Maybe if candidate.len() >= WINDOW => {}
                Verdict::Maybe => return at,
                Verdict::Yes(detector, flow) => {
                    self.detected(detector, flow, direction, at as u64, observer);
                    return at;
                }
            }
            if self.last_turn.replace(direction) != Some(direction) {
                self.turns += 1;
            }
        }
        let answered = self.answered(direction, bytes);
        match answered {
            Some((detector, Detection::Yes(_))) => {
                self.detected(detector, Flow::ToClient, direction, 0, observer);
                return 0;
            }
            Some((_, Detection::Maybe)) if bytes.len() < WINDOW => return 0,
            _ => {}
        }
        let encrypted = is_tls(bytes);
        let asked = match self.info.opener {
            Opener::Local => direction == Direction::Egress,
            Opener::Remote => direction == Direction::Ingress,
            Opener::Unknown => self.turns > 1,
        };
        let asked = asked || answered.is_some();
        if self.fresh && !encrypted && !asked && bytes.len() < WINDOW {
            // The side that answers speaks first. What it says belongs to the protocol that the other one will show.
            return 0;
        }
        self.undetected += bytes.len() as u64;
        if encrypted || self.fresh && asked || self.turns > TURNS || self.undetected > BYTES {
            let loss = if encrypted { Loss::Encrypted } else { Loss::Foreign };
            observer.lost(&self.info, None, loss, 1);
            self.ignore(observer);
        }
        self.fresh = false;
        bytes.len()
    }

    /// What the detectors say of `bytes` as the answer to what came first in the other direction.
    fn answered(&self, direction: Direction, bytes: &[u8]) -> Option<(&'static Detector, Detection)> {
        let first = |half: &Half| Some(half.marks.first()?.time);
        let (half, other) = (
            &self.halves[direction as usize],
            &self.halves[direction.opposite() as usize],
        );
        if !self.fresh || other.buffer.is_empty() || first(other) > first(half) {
            return None;
        }
        let ask = |detector: &'static Detector| Some((detector, (detector.answered)(&other.buffer, bytes)?));
        DETECTORS.iter().find_map(ask)
    }

    /// `detector` found its protocol in `direction`, which carries `flow`, behind `passed` bytes of something else.
    fn detected(
        &mut self,
        detector: &Detector,
        flow: Flow,
        direction: Direction,
        passed: u64,
        observer: &mut dyn Observer,
    ) {
        self.to_server = match flow {
            Flow::ToServer => direction,
            Flow::ToClient => direction.opposite(),
        };
        let turned = self.to_server == Direction::Ingress;
        if self.info.vantage == Vantage::Wire && turned != std::mem::replace(&mut self.turned, turned) {
            std::mem::swap(&mut self.info.local, &mut self.info.remote);
        }
        self.stage = Stage::Speaking((detector.create)(self.fresh));
        self.change_over(direction);
        let passed = passed + std::mem::take(&mut self.undetected);
        if passed > 0 {
            observer.lost(&self.info, Some(detector.name), Loss::ResyncBytes, passed);
        }
        observer.detected(&self.info, self.side(), detector.name);
    }
}

/// A TLS record header (RFC 8446 § 5.1) of a plausible length, with a handshake or application data.
fn is_tls(bytes: &[u8]) -> bool {
    matches!(bytes, [20..=23, 3, 0..=4, high, low, ..] if u16::from_be_bytes([*high, *low]) <= (1 << 14) + 256)
}

#[cfg(test)]
mod tests {
    use crate::loss::Loss;
    use crate::protocol::Flow::{self, ToClient, ToServer};
    use crate::protocol::testing::{Ending, Seen, View, Write, run};

    type Said = (Flow, Vec<u8>);

    fn said(flow: Flow, bytes: &[u8]) -> Said {
        (flow, bytes.to_vec())
    }

    fn frame2(kind: u8, flags: u8, stream: u8, payload: &[u8]) -> Vec<u8> {
        let header = [0, 0, payload.len() as u8, kind, flags, 0, 0, 0, stream];
        [&header[..], payload].concat()
    }

    fn method(channel: u8, class: u8, method: u8, arguments: &[u8]) -> Vec<u8> {
        let length = 4 + arguments.len() as u8;
        let header = [1, 0, channel, 0, 0, 0, length, 0, class, 0, method];
        [&header[..], arguments, &[0xce]].concat()
    }

    fn message(tag: u8, payload: &[u8]) -> Vec<u8> {
        [&[tag][..], &(payload.len() as u32 + 4).to_be_bytes(), payload].concat()
    }

    /// A server's SETTINGS with MAX_FRAME_SIZE and the one of grpc-core, 0xfe03.
    fn server_settings() -> Said {
        let payload = [0, 5, 0, 0x40, 0, 0, 0xfe, 3, 0, 0, 0, 1];
        (ToClient, frame2(4, 0, 0, &payload))
    }

    /// The client's preface, SETTINGS and a request, then the response.
    fn http2() -> [Said; 2] {
        let request = frame2(1, 5, 1, b"\x82\x86\x84\x41\x01h");
        let preface = [
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
            &frame2(4, 0, 0, &[])[..],
            &request,
        ];
        [(ToServer, preface.concat()), (ToClient, frame2(1, 5, 1, b"\x88"))]
    }

    /// Connections of every protocol from their first byte on, each with one transaction.
    fn connections() -> Vec<(&'static str, Vec<Said>)> {
        let [request, response] = http2();
        let startup = b"\0\0\0\x10\0\x03\0\0user\0u\0\0";
        let ready = [message(b'R', &[0; 4]), message(b'Z', b"I")].concat();
        let answer = [message(b'C', b"SELECT 0\0"), message(b'Z', b"I")].concat();
        vec![
            (
                "http/1",
                vec![
                    said(ToServer, b"GET / HTTP/1.1\r\nHost: h\r\n\r\n"),
                    said(ToClient, b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"),
                ],
            ),
            (
                "http/2",
                vec![request.clone(), server_settings(), response.clone()],
            ),
            ("http/2, server first", vec![server_settings(), request, response]),
            (
                "amqp",
                vec![
                    said(ToServer, b"AMQP\0\0\x09\x01"),
                    (
                        ToClient,
                        method(0, 10, 10, b"\0\x09\0\0\0\0\0\0\0\x05PLAIN\0\0\0\x05en_US"),
                    ),
                    (ToServer, method(1, 20, 10, &[0])),
                    (ToClient, method(1, 20, 11, &[0; 4])),
                    (ToServer, method(1, 50, 10, b"\0\0\x01q\0\0\0\0\0")),
                    (ToClient, method(1, 50, 11, b"\x01q\0\0\0\0\0\0\0\0")),
                ],
            ),
            (
                "redis",
                vec![
                    said(ToServer, b"*1\r\n$4\r\nPING\r\n"),
                    said(ToClient, b"+PONG\r\n"),
                ],
            ),
            (
                "postgres",
                vec![
                    said(ToServer, b"\0\0\0\x08\x04\xd2\x16\x2f"),
                    said(ToClient, b"N"),
                    said(ToServer, startup),
                    (ToClient, ready),
                    (ToServer, message(b'Q', b"SELECT 1\0")),
                    (ToClient, answer),
                ],
            ),
        ]
    }

    fn seen(connection: &[Said], cut: usize, fresh: bool) -> Seen<String> {
        let write = |(time, (flow, bytes)): (usize, &Said)| Write {
            flow: *flow,
            time: 1 + time as u64,
            bytes: bytes.clone(),
        };
        let writes: Vec<Write> = connection.iter().enumerate().map(write).collect();
        let view = View {
            cut: &mut |_| cut,
            lost: &mut || false,
            fresh,
            ending: Ending::Closed(99),
        };
        run(&writes, view, |transaction| format!("{:?}", transaction.record))
    }

    #[track_caller]
    fn assert_same(name: &str, connection: &[Said], expected: &[String], fresh: bool) {
        for cut in [usize::MAX, 11, 1] {
            let seen = seen(connection, cut, fresh);
            assert_eq!(seen.transactions, expected, "{name} in pieces of {cut}");
            let lost = [Loss::Foreign, Loss::Refused, Loss::UnpairedResponse].map(|loss| seen.lost(loss));
            assert_eq!(lost, [0; 3], "{name} in pieces of {cut}");
        }
    }

    #[test]
    fn a_proxy_header_in_front_of_every_protocol() {
        const HEADERS: [&[u8]; 3] = [
            b"PROXY TCP4 192.0.2.1 192.0.2.2 56324 443\r\n",
            b"PROXY UNKNOWN\r\n",
            b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0f\xc0\0\x02\x01\xc0\0\x02\x02\xdc\x04\x01\xbb\x04\0\0",
        ];
        for (name, connection) in connections() {
            let plain = seen(&connection, usize::MAX, true).transactions;
            assert_eq!(plain.len(), 1, "{name}");
            assert_same(name, &connection, &plain, true);
            for header in HEADERS {
                // On its own, and with what follows in one write.
                let mut alone = connection.clone();
                alone.insert(0, said(ToServer, header));
                assert_same(name, &alone, &plain, true);
                let mut with = connection.clone();
                if let Some((_, first)) = with.iter_mut().find(|(flow, _)| *flow == ToServer) {
                    first.splice(..0, header.iter().copied());
                }
                assert_same(name, &with, &plain, true);
            }
        }
    }

    #[test]
    fn a_proxy_header_where_the_opening_was_not_seen() {
        let exchange = connections().swap_remove(0).1;
        let plain: Vec<Said> = std::iter::repeat_n(exchange, 100).flatten().collect();
        let mut with = plain.clone();
        with[0]
            .1
            .splice(..0, *b"PROXY TCP4 192.0.2.1 192.0.2.2 56324 443\r\n");
        let expected = seen(&plain, usize::MAX, false).transactions;
        assert!(expected.len() > 10);
        assert_eq!(seen(&with, usize::MAX, false).transactions, expected);
    }

    /// The first bytes of the server show nothing, and belong to what its client then speaks.
    #[test]
    fn what_the_server_says_first_is_kept() {
        let [request, response] = http2();
        let expected = seen(
            &[request.clone(), server_settings(), response.clone()],
            usize::MAX,
            true,
        );
        // More settings than any detector believes in.
        let settings: Vec<u8> = (0..50).flat_map(|id| [0xff, id, 0, 0, 0, 1]).collect();
        let mut frame = vec![0, 1, 44, 4, 0, 0, 0, 0, 0];
        frame.extend(settings);
        let connection = [(ToClient, frame), request, response];
        assert_same("http/2", &connection, &expected.transactions, true);
    }

    #[test]
    fn a_server_that_only_talks_is_given_up() {
        let connection = vec![said(ToClient, &[7; 200 << 10]), said(ToServer, b"\x01\x02\x03")];
        let seen = seen(&connection, 1000, true);
        assert_eq!(seen.lost(Loss::Foreign), 1);
    }
}
