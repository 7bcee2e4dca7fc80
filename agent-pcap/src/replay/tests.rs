use super::*;
use crate::capture::Damage;
use crate::tcp::recorder::{Recorder, Told};
use crate::testing::{Pcap, Tcp as Built, ethernet, ipv4, ipv4_address, ipv6_address};
use proptest::prelude::*;
use redwire_protocol::connection::{ConnectionInfo, Endpoint, Side};
use redwire_protocol::loss::Loss;
use redwire_protocol::trace_context::SpanContext;
use redwire_protocol::transaction::Transaction;

const MS: u64 = 1_000_000;
const START: u64 = 1_700_000_000_000 * MS;

const SYN: u8 = 2;
const ACK: u8 = 16;

fn told(file: &[u8]) -> (Vec<Told>, Result<Summary, ReplayError>) {
    let mut recorder = Recorder::default();
    let result = run(file, &mut recorder, &mut |_| {});
    (recorder.0, result)
}

/// SYN, SYN-ACK, a request and its response.
fn exchange() -> [Built<'static>; 4] {
    let (there, back) = ((40_000, 80), (80, 40_000));
    let segment = |ports, sequence, acknowledgement, flags, payload| Built {
        ports,
        sequence,
        acknowledgement,
        flags,
        payload,
    };
    [
        segment(there, 99, 0, SYN, b""),
        segment(back, 199, 100, SYN | ACK, b""),
        segment(there, 100, 200, ACK, b"the request"),
        segment(back, 200, 111, ACK, b"the response"),
    ]
}

/// Checks that a file holds the exchange and nothing else.
#[track_caller]
fn assert_exchange(file: &[u8]) -> Summary {
    let (told, result) = told(file);
    let [told] = &told[..] else {
        panic!("{told:?} {result:?}")
    };
    assert_eq!(told.origins, [Some(100), Some(200)]);
    assert_eq!(told.streams[0].text(), b"the request");
    assert_eq!(told.streams[1].text(), b"the response");
    let summary = result.unwrap();
    assert_eq!(summary.segments, 4);
    assert_eq!(summary.bytes, file.len() as u64);
    summary
}

/// A pcap of the exchange where `wrap` makes link-layer packets of IPv4 ones.
fn pcap(link: u32, wrap: impl Fn(Vec<u8>) -> Vec<u8>) -> Vec<u8> {
    let mut file = Pcap::new(link);
    for (i, segment) in exchange().iter().enumerate() {
        file.packet(START + i as u64 * MS, &wrap(segment.ipv4()));
    }
    file.0
}

fn prefixed(prefix: &[u8]) -> impl Fn(Vec<u8>) -> Vec<u8> {
    move |packet| [prefix, &packet].concat()
}

#[test]
fn link_types() {
    let mac = [2; 12];
    let ethernet = |tags: &[u8]| pcap(1, prefixed(&[&mac[..], tags].concat()));
    assert_exchange(&ethernet(&[8, 0]));
    // VLAN, QinQ by IEEE 802.1ad and as it was before, and a stack of three.
    assert_exchange(&ethernet(&[0x81, 0, 0, 5, 8, 0]));
    assert_exchange(&ethernet(&[0x88, 0xa8, 0, 5, 0x81, 0, 0, 6, 8, 0]));
    assert_exchange(&ethernet(&[0x91, 0, 0, 5, 0x91, 0, 0, 5, 0x81, 0, 0, 6, 8, 0]));
    // LINKTYPE_LINUX_SLL and _SLL2: the protocol is last there, and first here.
    let cooked = [0, 0, 0, 1, 0, 6, 2, 2, 2, 2, 2, 2, 0, 0];
    assert_exchange(&pcap(113, prefixed(&[&cooked[..], &[8, 0]].concat())));
    assert_exchange(&pcap(
        113,
        prefixed(&[&cooked[..], &[0x81, 0, 0, 5, 8, 0]].concat()),
    ));
    let cooked = [0, 0, 0, 0, 0, 1, 0, 1, 0, 6, 2, 2, 2, 2, 2, 2, 0, 0];
    assert_exchange(&pcap(276, prefixed(&[&[8, 0][..], &cooked].concat())));
    // Raw IP.
    for link in [12, 14, 101, 228] {
        assert_exchange(&pcap(link, |packet| packet));
    }
    // BSD loopback: AF_INET in the byte order of either kind of host, and of the network.
    assert_exchange(&pcap(0, prefixed(&[2, 0, 0, 0])));
    assert_exchange(&pcap(0, prefixed(&[0, 0, 0, 2])));
    assert_exchange(&pcap(108, prefixed(&[0, 0, 0, 2])));
    // The registry's number is in the low half; above it are the length of a frame check sequence and a flag.
    assert_exchange(&pcap(0x2400_0001, prefixed(&[&mac[..], &[8, 0]].concat())));
    let (told, result) = told(&pcap(147, |packet| packet));
    assert!(told.is_empty());
    assert_eq!(result.unwrap().skipped(Skip::UnknownLink), 4);
}

#[test]
fn padding_is_no_payload_and_a_length_of_0_is_that_of_the_packet() {
    let mac = [&[2; 12][..], &[8, 0]].concat();
    assert_exchange(&pcap(1, |packet| [&mac, &packet[..], &[0; 9]].concat()));
    assert_exchange(&pcap(1, |mut packet| {
        packet[2..4].fill(0);
        [&mac, &packet[..]].concat()
    }));
}

#[test]
fn ipv4_options() {
    assert_exchange(&pcap(101, |mut packet| {
        packet[0] = 0x47;
        packet[3] += 8;
        packet.splice(20..20, [1; 8]);
        packet
    }));
}

/// The exchange over IPv6 with these extension headers.
fn ipv6(first: u8, extensions: &[u8]) -> Vec<u8> {
    let mut file = Pcap::new(229);
    for (i, segment) in exchange().iter().enumerate() {
        let addresses = [segment.ports.0, segment.ports.1].map(ipv6_address);
        let payload = [extensions, &segment.bytes(&addresses[0], &addresses[1])].concat();
        file.packet(START + i as u64 * MS, &ipv6_packet(addresses, first, &payload));
    }
    file.0
}

fn ipv6_packet(addresses: [[u8; 16]; 2], first: u8, payload: &[u8]) -> Vec<u8> {
    let mut packet = vec![0x60, 0, 0, 0];
    packet.extend((payload.len() as u16).to_be_bytes());
    packet.extend([first, 64]);
    packet.extend(addresses.as_flattened());
    packet.extend(payload);
    packet
}

#[test]
fn ipv6_extension_headers() {
    assert_exchange(&ipv6(6, &[]));
    // Hop-by-hop, routing, an atomic fragment, destination options of 16 bytes; authentication.
    let all = [
        &[43, 0, 1, 4, 0, 0, 0, 0][..],
        &[44, 0, 0, 0, 0, 0, 0, 0],
        &[60, 0, 0, 0, 1, 2, 3, 4],
        &[51, 1, 1, 12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
        &[
            6, 4, 0, 0, 0, 0, 0, 1, 0, 0, 0, 1, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9,
        ],
    ];
    let file = ipv6(0, &all.concat());
    assert_exchange(&file);
    let (told, _) = told(&file);
    assert_eq!(
        told[0].info.local,
        Endpoint::Inet("[fd00::2]:40000".parse().unwrap())
    );
}

#[test]
fn others_are_counted() {
    let mut file = Pcap::new(1);
    let (a, b) = (ipv4_address(1), ipv4_address(5000));
    for protocol in [17, 17, 1, 132, 47] {
        file.packet(START, &ethernet(0x0800, &ipv4(a, b, protocol, 0, &[0; 30])));
    }
    file.packet(START, &ethernet(0x0800, &ipv4(a, b, 17, 0x2000, &[0; 32])));
    file.packet(START, &ethernet(0x0806, &[0; 28]));
    file.packet(START, &ethernet(0x88cc, &[0; 28]));
    file.cut_packet(START, &exchange()[0].ethernet(), 40);
    file.packet(START, &ethernet(0x0800, &[0x45; 10]));
    file.packet(START, &ethernet(0x0800, &[0x60; 60]));
    let (told, result) = told(&file.0);
    assert!(told.is_empty());
    let summary = result.unwrap();
    let skipped: Vec<_> = Skip::ALL.iter().map(|&reason| summary.skipped(reason)).collect();
    assert_eq!(skipped, [3, 1, 2, 1, 1, 0, 1, 2, 0]);
    assert_eq!(summary.packets, 11);
}

/// The exchange with its packets cut into fragments, in an order made by `arrange`.
fn fragments(arrange: impl Fn(&mut Vec<Vec<u8>>)) -> Vec<u8> {
    let mut file = Pcap::new(101);
    for (i, segment) in exchange().iter().enumerate() {
        let addresses = [segment.ports.0, segment.ports.1].map(ipv4_address);
        let whole = segment.bytes(&addresses[0], &addresses[1]);
        let n = whole.chunks(8).len();
        let mut packets: Vec<Vec<u8>> = whole
            .chunks(8)
            .enumerate()
            .map(|(at, piece)| {
                let more = if at + 1 < n { 0x2000 } else { 0 };
                ipv4(addresses[0], addresses[1], 6, more | at as u16, piece)
            })
            .collect();
        arrange(&mut packets);
        for packet in packets {
            file.packet(START + i as u64 * MS, &packet);
        }
    }
    file.0
}

#[test]
fn ipv4_fragments() {
    assert_exchange(&fragments(|_| {}));
    assert_exchange(&fragments(|packets| packets.reverse()));
    let doubled = assert_exchange(&fragments(|packets| {
        let first = packets[0].clone();
        packets.insert(0, first);
    }));
    assert_eq!(doubled.skipped(Skip::Fragment), 0);
}

#[test]
fn contradicting_fragments_are_refused() {
    // What overlaps, what differs from its copy, what a wrong checksum shows to be of another datagram.
    let overlap = fragments(|packets| packets[1][7] = 0);
    let differs = fragments(|packets| {
        let mut copy = packets[1].clone();
        copy[20] ^= 1;
        packets.insert(1, copy);
    });
    let mixed = fragments(|packets| packets[1][20] ^= 1);
    for file in [overlap, differs, mixed] {
        let (told, result) = told(&file);
        assert!(told.is_empty());
        assert!(result.unwrap().skipped(Skip::Fragment) > 0);
    }
    // Each part of the last packet but one.
    let (told, result) = told(&fragments(|packets| {
        packets.pop();
    }));
    assert!(told.is_empty());
    let summary = result.unwrap();
    assert_eq!(summary.skipped(Skip::Fragment), summary.packets);
}

#[test]
fn ipv6_fragments() {
    let mut file = Pcap::new(101);
    for (i, segment) in exchange().iter().enumerate() {
        let addresses = [segment.ports.0, segment.ports.1].map(ipv6_address);
        let whole = segment.bytes(&addresses[0], &addresses[1]);
        let n = whole.chunks(16).len();
        for (at, piece) in whole.chunks(16).enumerate() {
            let field = (at as u16 * 16) | u16::from(at + 1 < n);
            let header = [&[6, 0][..], &field.to_be_bytes(), &[0, 0, 0, i as u8]].concat();
            let packet = ipv6_packet(addresses, 44, &[&header[..], piece].concat());
            file.packet(START + i as u64 * MS, &packet);
        }
    }
    assert_exchange(&file.0);
}

/// What can be cut into fragments may begin with headers of its own (RFC 8200 § 4.5).
#[test]
fn ipv6_fragments_with_headers_before_and_inside() {
    let mut file = Pcap::new(229);
    for (i, segment) in exchange().iter().enumerate() {
        let addresses = [segment.ports.0, segment.ports.1].map(ipv6_address);
        let inside = [
            &[6, 0, 1, 4, 0, 0, 0, 0][..],
            &segment.bytes(&addresses[0], &addresses[1]),
        ];
        let whole = inside.concat();
        let n = whole.chunks(16).len();
        for (at, piece) in whole.chunks(16).enumerate() {
            let field = (at as u16 * 16) | u16::from(at + 1 < n);
            let before = [44, 0, 1, 4, 0, 0, 0, 0];
            let header = [&before[..], &[60, 0], &field.to_be_bytes(), &[0, 0, 0, i as u8]];
            let payload = [&header.concat()[..], piece].concat();
            file.packet(START + i as u64 * MS, &ipv6_packet(addresses, 0, &payload));
        }
    }
    assert_exchange(&file.0);
}

#[test]
fn fragments_are_bounded() {
    let mut fragments = Fragments::default();
    for identification in 0..100_000 {
        let datagram = crate::packet::Datagram {
            source: 1,
            destination: 2,
            identification,
            protocol: 6,
        };
        let fragment = crate::packet::Fragment {
            datagram,
            offset: 64_000,
            more: true,
            length: 800,
            bytes: &[0; 800],
        };
        assert_eq!(fragments.add(&fragment, START), None);
    }
    assert!(fragments.held() <= 5 << 20);
    fragments.finish();
    assert_eq!(fragments.lost, 100_000);
}

/// Numbers of a file in one byte order.
struct Writer {
    big: bool,
    bytes: Vec<u8>,
}

impl Writer {
    fn u16(&mut self, value: u16) -> &mut Writer {
        let bytes = if self.big {
            value.to_be_bytes()
        } else {
            value.to_le_bytes()
        };
        self.bytes.extend(bytes);
        self
    }

    fn u32(&mut self, value: u32) -> &mut Writer {
        let bytes = if self.big {
            value.to_be_bytes()
        } else {
            value.to_le_bytes()
        };
        self.bytes.extend(bytes);
        self
    }

    fn all(&mut self, values: &[u32]) -> &mut Writer {
        for &value in values {
            self.u32(value);
        }
        self
    }

    /// A pcapng block: its body is what `body` writes, padded.
    fn block(&mut self, kind: u32, body: impl Fn(&mut Writer)) {
        let mut inner = Writer {
            big: self.big,
            bytes: Vec::new(),
        };
        body(&mut inner);
        inner.bytes.resize(inner.bytes.len().next_multiple_of(4), 0);
        let length = inner.bytes.len() as u32 + 12;
        self.all(&[kind, length]).bytes.extend(inner.bytes);
        self.u32(length);
    }

    fn section(&mut self) {
        self.block(0x0a0d_0d0a, |body| {
            body.u32(0x1a2b_3c4d).u16(1).u16(0).all(&[u32::MAX, u32::MAX]);
        });
    }

    /// `options` are code, and value with its length.
    fn interface(&mut self, link: u16, snap_length: u32, options: &[(u16, &[u8])]) {
        self.block(1, |body| {
            body.u16(link).u16(0).u32(snap_length);
            for (code, value) in options {
                body.u16(*code).u16(value.len() as u16).bytes.extend(*value);
                body.bytes.resize(body.bytes.len().next_multiple_of(4), 0);
            }
        });
    }

    fn enhanced(&mut self, interface: u32, ticks: u64, packet: &[u8]) {
        let n = packet.len() as u32;
        self.block(6, |body| {
            body.all(&[interface, (ticks >> 32) as u32, ticks as u32, n, n])
                .bytes
                .extend(packet);
        });
    }
}

#[test]
fn pcap_formats() {
    // Both byte orders; microseconds, nanoseconds, and the longer record header.
    for big in [false, true] {
        for (magic, unit, extra) in [
            (0xa1b2_c3d4, 1000, 0),
            (0xa1b2_3c4d, 1, 0),
            (0xa1b2_cd34, 1000, 2),
        ] {
            let mut file = Writer {
                big,
                bytes: Vec::new(),
            };
            file.u32(magic).u16(2).u16(4).all(&[0, 0, 65_535, 1]);
            for (i, segment) in exchange().iter().enumerate() {
                let (packet, fraction) = (segment.ethernet(), i as u32 * MS as u32 / unit);
                let n = packet.len() as u32;
                file.all(&[1_700_000_000, fraction, n, n])
                    .all(&vec![0; extra])
                    .bytes
                    .extend(packet);
            }
            let summary = assert_exchange(&file.bytes);
            assert_eq!(summary.times, Some((START, START + 3 * MS)));
        }
    }
}

/// The exchange in two sections of a pcapng file, the first in this byte order, the second in the other.
fn sections(big: bool) -> Vec<u8> {
    let mut file = Writer {
        big,
        bytes: Vec::new(),
    };
    let [syn, answer, request, response] = exchange();
    let offset = 1_000_000_i64;
    let offset = if big {
        offset.to_be_bytes()
    } else {
        offset.to_le_bytes()
    };
    file.section();
    // Microseconds; 2^-10 s and a million seconds later; a section of its own with 10^-10 s.
    file.interface(101, 0, &[(2, b"eth0"), (0, b"")]);
    file.interface(1, 0, &[(9, &[0x8a]), (14, &offset)]);
    file.enhanced(0, START / 1000, &syn.ipv4());
    file.block(5, |body| {
        body.all(&[0, 1, 2]);
    });
    file.enhanced(
        1,
        (START / 1_000_000_000 - 1_000_000) * 1024 + 1,
        &answer.ethernet(),
    );
    file.block(0x8000_1234, |body| body.bytes.extend([7; 5000]));
    file.big = !big;
    file.section();
    file.interface(228, 60, &[(9, &[10])]);
    // The obsolete Packet Block, and a Simple Packet Block, which has no time.
    let (packet, ticks) = (request.ipv4(), (START + 5 * MS) * 10);
    file.block(2, |body| {
        let n = packet.len() as u32;
        body.u16(0)
            .u16(9)
            .all(&[(ticks >> 32) as u32, ticks as u32, n, n])
            .bytes
            .extend(&packet);
    });
    let packet = response.ipv4();
    file.block(3, |body| body.u32(packet.len() as u32).bytes.extend(&packet));
    // An interface that is not described.
    file.enhanced(7, 0, &packet);
    file.bytes
}

#[test]
fn pcapng_formats() {
    for big in [false, true] {
        let summary = assert_exchange(&sections(big));
        assert_eq!(summary.skipped(Skip::UnknownLink), 1);
        assert_eq!(summary.times, Some((START, START + 5 * MS)));
    }
}

#[test]
fn cut_off_files() {
    let mut whole = pcap(101, |packet| packet);
    let (_, result) = told(&whole[..whole.len() - 1]);
    let last = whole.len() - 16 - 52;
    let Err(ReplayError::CutOff { cut, summary }) = &result else {
        panic!("{result:?}")
    };
    assert_eq!(
        (cut.offset, cut.damage, summary.packets),
        (last as u64, Damage::CutOff, 3)
    );
    assert_eq!(result.unwrap_err().exit_status(), 3);
    for end in 0..whole.len() {
        let (told, result) = told(&whole[..end]);
        assert!(told.iter().all(|told| told.streams[1].bytes.is_empty()));
        if let Err(error) = result {
            assert_eq!(error.exit_status(), if end < 4 { 1 } else { 3 }, "{end}: {error}");
        }
    }
    whole[last + 11] = 0xff;
    let (_, result) = told(&whole);
    let Err(ReplayError::CutOff { cut, .. }) = result else {
        panic!("{result:?}")
    };
    assert_eq!((cut.offset, cut.damage), (last as u64, Damage::Length));
}

/// A file cut anywhere is told as cut in the block that holds the place; what was whole was read.
#[test]
fn cut_off_pcapng_files() {
    for big in [false, true] {
        let whole = sections(big);
        // Where blocks begin: their length comes after their type. The second section is in the other byte order.
        let (mut starts, mut read) = (vec![0], vec![0]);
        let (mut at, mut order, mut packets) = (0, !big, 0);
        while let Some([kind, length]) = whole
            .get(at..at + 8)
            .map(|head| [0, 4].map(|at| <[u8; 4]>::try_from(&head[at..at + 4]).unwrap()))
        {
            // The type of a section reads the same both ways.
            order ^= kind == [0x0a, 0x0d, 0x0d, 0x0a];
            let number = |bytes| {
                if order {
                    u32::from_be_bytes(bytes)
                } else {
                    u32::from_le_bytes(bytes)
                }
            };
            packets += u64::from([2, 3, 6].contains(&number(kind)));
            at += number(length) as usize;
            starts.push(at);
            read.push(packets);
        }
        // 7 blocks and 5, and the end.
        assert_eq!((starts.len(), packets), (13, 5));
        for end in 4..whole.len() {
            let (_, result) = told(&whole[..end]);
            let block = starts.partition_point(|&start| start <= end) - 1;
            if starts[block] == end {
                assert_eq!(result.unwrap().packets, read[block]);
                continue;
            }
            let Err(ReplayError::CutOff { cut, summary }) = result else {
                panic!("{end}: {result:?}")
            };
            assert_eq!(
                (cut.offset, cut.damage),
                (starts[block] as u64, Damage::CutOff),
                "{end}"
            );
            // The last packet may be there, and the end of its block not.
            assert!(
                (read[block]..=read[block] + 1).contains(&summary.packets),
                "{end}"
            );
        }
    }
}

#[test]
fn other_files() {
    for (file, name) in [
        (&b"\x1f\x8b\x08\0"[..], "gzip"),
        (b"", "empty"),
        (b"#!/bin/sh\n", "text"),
        (b"\x00\x01\x02\x03", "no known magic"),
        (b"\xd4\xc3\xb2\xa1\x09\0\0\0", "unknown version"),
    ] {
        let error = told(file).1.unwrap_err();
        assert!(error.to_string().contains(name), "{error}");
        assert_eq!((error.exit_status(), error.summary()), (1, None));
    }
}

#[test]
fn a_clock_that_is_set_back() {
    let mut file = Pcap::new(101);
    for (segment, time) in exchange()
        .iter()
        .zip([START, START, START, START - 3_600_000 * MS])
    {
        file.packet(time, &segment.ipv4());
    }
    assert_exchange(&file.0);
}

/// Counts what the streams lost.
#[derive(Default)]
struct Losses([u64; Loss::ALL.len()]);

impl Observer for Losses {
    fn transaction(&mut self, _: &ConnectionInfo, _: Side, _: &Transaction<'_>) -> SpanContext {
        panic!("a transaction of no protocol")
    }

    fn lost(&mut self, _: &ConnectionInfo, _: Option<&'static str>, loss: Loss, n: u64) {
        self.0[loss as usize] += n;
    }

    fn sessions(&mut self, _: &ConnectionInfo, _: Side, _: i64) {}
}

#[test]
fn streams_are_told_of_holes_of_exactly_their_size() {
    let mut file = Pcap::new(101);
    let mut time = START;
    let mut segment = |ports, sequence, acknowledgement, payload: &[u8]| {
        time += MS;
        let segment = Built {
            ports,
            sequence,
            acknowledgement,
            flags: ACK,
            payload,
        };
        file.packet(time, &segment.ipv4());
    };
    let (there, back) = ((40_000, 80), (80, 40_000));
    segment(there, 1, 1000, b"\x01\x02\x03\x04");
    // 70 bytes are missing, then 5; a retransmission fills another hole; both are acknowledged.
    segment(there, 75, 1000, b"\x01\x02\x03\x04");
    segment(there, 84, 1000, b"\x01\x02\x03\x04");
    segment(there, 90, 1000, b"\x01\x02\x03\x04");
    segment(there, 88, 1000, b"\x01\x02");
    segment(back, 1000, 94, b"");
    for _ in 0..500 {
        segment(back, 1000, 94, b"");
    }
    let mut connections = Connections::new(limits());
    let mut losses = Losses::default();
    replay(&file.0[..], &mut connections, &mut losses, &mut |_| {}).unwrap();
    assert_eq!(losses.0[Loss::Gap as usize], 2);
    assert_eq!(losses.0[Loss::GapBytes as usize], 75);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// Damage anywhere is survived, and costs no memory that the file does not have.
    #[test]
    fn damaged_files_are_survived(
        ng in any::<bool>(),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
    ) {
        let mut file = if ng { sections(false) } else { fragments(|_| {}) };
        for (at, byte) in damage {
            let at = at.index(file.len());
            file[at] = byte;
        }
        let mut connections = Connections::new(limits());
        let mut losses = Losses::default();
        _ = replay(&file[..], &mut connections, &mut losses, &mut |_| {});
        connections.finish(&mut losses);
    }
}

/// Compares the streams of captures with tshark's: those made here, and those in the folder `REDWIRE_CAPTURES`, if any.
#[test]
fn agrees_with_tshark() {
    let own = std::env::temp_dir().join(format!("redwire-captures-{}", std::process::id()));
    std::fs::create_dir_all(&own).unwrap();
    for (name, file) in [
        ("fragments.pcap", fragments(|_| {})),
        ("little.pcapng", sections(false)),
        ("big.pcapng", sections(true)),
    ] {
        std::fs::write(own.join(name), file).unwrap();
    }
    let folders = std::iter::once(own.clone()).chain(std::env::var_os("REDWIRE_CAPTURES").map(Into::into));
    let files = folders.flat_map(|folder| std::fs::read_dir(folder).unwrap());
    let mut compared = 0;
    for entry in files {
        let path = entry.unwrap().path();
        let file = std::fs::read(&path).unwrap();
        let (mut told, result) = told(&file);
        told.retain(|told| told.streams.iter().any(|stream| !stream.bytes.is_empty()));
        println!("{}: {} connections, {result:?}", path.display(), told.len());
        let mut theirs = std::collections::HashMap::<_, Vec<_>>::new();
        for index in 0.. {
            let Some((nodes, streams)) = follow(&path, index) else {
                break;
            };
            if streams.iter().any(|stream| !stream.is_empty()) {
                theirs.entry(nodes).or_default().push(streams);
            }
        }
        let count: usize = theirs.values().map(Vec::len).sum();
        assert_eq!(told.len(), count, "{}", path.display());
        for told in &told {
            let [local, remote] = [&told.info.local, &told.info.remote].map(|end| match end {
                Endpoint::Inet(address) => address.to_string(),
                Endpoint::Unix(path) => path.to_string(),
            });
            let mut ours = told.streams.clone().map(|stream| stream.text());
            let mut nodes = [local, remote];
            if !theirs.contains_key(&nodes) {
                nodes.reverse();
                ours.reverse();
            }
            let streams = theirs.get_mut(&nodes).unwrap().remove(0);
            for (ours, theirs) in ours.iter().zip(&streams) {
                assert_eq!(ours.len(), theirs.len(), "{} {nodes:?}", path.display());
                assert!(ours == theirs, "{} {nodes:?}", path.display());
            }
            compared += 1;
        }
    }
    std::fs::remove_dir_all(own).unwrap();
    assert!(compared >= 3, "{compared} connections");
}

/// Both ends and what each sent, by `tshark -z follow`.
fn follow(path: &Path, index: usize) -> Option<([String; 2], [Vec<u8>; 2])> {
    let output = std::process::Command::new("tshark")
        .args(["-q", "-n", "-z", &format!("follow,tcp,raw,{index}"), "-r"])
        .arg(path)
        .output()
        .expect("tshark, which `cargo xtask setup` installs");
    let text = String::from_utf8(output.stdout).unwrap();
    let node = |name: &str| Some(text.split_once(name)?.1.split_once('\n')?.0.trim().to_string());
    let nodes = [node("Node 0: ")?, node("Node 1: ")?];
    if nodes[0] == ":0" {
        return None;
    }
    let mut streams = [Vec::new(), Vec::new()];
    let hex = text.split_once("Node 1: ")?.1.lines().skip(1);
    for line in hex.take_while(|line| !line.starts_with('=')) {
        let stream = &mut streams[usize::from(line.starts_with('\t'))];
        for pair in line.trim().as_bytes().chunks(2) {
            stream.push(u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?);
        }
    }
    Some((nodes, streams))
}
