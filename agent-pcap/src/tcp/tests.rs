use super::recorder::{Recorder, Told};
use super::{LATE, Tcp};
use crate::packet::{ACK, End, FIN, RST, SYN, Segment};
use proptest::prelude::*;
use redwire_protocol::connection::{Endpoint, Opener};
use std::collections::BTreeMap;

const MS: u64 = 1_000_000;

const CLIENT: u16 = 40_000;
const SERVER: u16 = 80;

fn end(port: u16) -> End {
    End {
        address: 0xffff_0a00_0000 | u128::from(port),
        port,
    }
}

/// A segment from one of the two ends.
fn segment(from: u16, flags: u8, sequence: u32, acknowledgement: u32, bytes: &[u8]) -> Segment<'_> {
    let to = if from == SERVER { CLIENT } else { SERVER };
    Segment {
        source: end(from),
        destination: end(to),
        sequence,
        acknowledgement,
        flags,
        header_length: 20,
        length: bytes.len() as u32,
        bytes,
    }
}

/// Replays segments that are a millisecond apart.
struct Player {
    tcp: Tcp,
    told: Recorder,
    time: u64,
}

impl Player {
    fn new(limit: usize) -> Player {
        Player {
            tcp: Tcp::new(limit),
            told: Recorder::default(),
            time: 1_000_000 * MS,
        }
    }

    fn play(&mut self, segments: &[Segment<'_>]) -> &mut Player {
        for segment in segments {
            self.wait(MS);
            self.tcp.segment(segment, self.time, &mut self.told);
        }
        self
    }

    fn wait(&mut self, time: u64) -> &mut Player {
        self.time += time;
        self.tcp.tick(self.time, &mut self.told);
        self
    }

    fn finish(&mut self) -> Vec<Told> {
        self.tcp.finish(&mut self.told);
        self.told.0.clone()
    }
}

fn replay(segments: &[Segment<'_>]) -> Vec<Told> {
    Player::new(100).play(segments).finish()
}

/// SYN, SYN-ACK and ACK of a connection with these initial sequence numbers.
fn handshake(client: u32, server: u32) -> [Segment<'static>; 3] {
    let (after_client, after_server) = (client.wrapping_add(1), server.wrapping_add(1));
    [
        segment(CLIENT, SYN, client, 0, b""),
        segment(SERVER, SYN | ACK, server, after_client, b""),
        segment(CLIENT, ACK, after_client, after_server, b""),
    ]
}

fn with_handshake<'a>(client: u32, server: u32, rest: &[Segment<'a>]) -> Vec<Segment<'a>> {
    handshake(client, server)
        .into_iter()
        .chain(rest.iter().copied())
        .collect()
}

#[test]
fn a_whole_connection() {
    let told = replay(&with_handshake(
        u32::MAX,
        99,
        &[
            segment(CLIENT, ACK, 0, 100, b"ping"),
            segment(SERVER, ACK, 100, 4, b"pong!"),
            segment(CLIENT, ACK | FIN, 4, 105, b""),
            segment(SERVER, ACK | FIN, 105, 5, b""),
            segment(CLIENT, ACK, 5, 106, b""),
        ],
    ));
    let [told] = &told[..] else { panic!("{told:?}") };
    assert_eq!(told.origins, [Some(0), Some(100)]);
    assert_eq!(told.info.opener, Opener::Local);
    assert_eq!(
        told.info.local,
        Endpoint::Inet("10.0.156.64:40000".parse().unwrap())
    );
    assert_eq!(told.streams[0].text(), b"ping");
    assert_eq!(told.streams[1].text(), b"pong!");
    assert_eq!(told.closed.unwrap().0, [Some(4), Some(105)]);
}

#[test]
fn a_missing_first_segment_is_a_hole() {
    let mut player = Player::new(9);
    player.play(&with_handshake(
        0,
        0,
        &[
            segment(SERVER, ACK, 1, 11, b"answer"),
            segment(CLIENT, ACK, 11, 7, b"next"),
        ],
    ));
    assert_eq!(player.told.0[0].streams[0].given_up, 0, "too early to tell");
    let told = player.wait(2 * LATE).finish();
    assert_eq!(told[0].streams[0].given_up, 10);
    assert_eq!(told[0].streams[0].missing(14), 10);
    assert_eq!(told[0].streams[1].given_up, 0);
}

#[test]
fn what_is_behind_its_acknowledgement_is_not_missing() {
    let mut player = Player::new(9);
    let told = player
        .play(&with_handshake(
            0,
            0,
            &[
                segment(CLIENT, ACK, 4, 1, b"def"),
                segment(SERVER, ACK, 1, 7, b"answer"),
                segment(CLIENT, ACK, 1, 1, b"abc"),
            ],
        ))
        .wait(2 * LATE)
        .finish();
    assert_eq!(told[0].streams[0].text(), b"abcdef");
    assert_eq!(told[0].streams[0].too_late, 0);
}

#[test]
fn joined_in_the_middle() {
    let told = replay(&[
        segment(SERVER, ACK, 500, 77, b"half of a response"),
        segment(CLIENT, ACK, 77, 518, b"request"),
    ]);
    assert_eq!(told[0].origins, [None, None]);
    assert_eq!(told[0].info.opener, Opener::Unknown);
    assert_eq!(
        told[0].info.local,
        Endpoint::Inet("10.0.0.80:80".parse().unwrap()),
        "the sender of the first"
    );
    assert_eq!(told[0].streams[0].text(), b"half of a response");
    assert!(
        told[0].closed.is_none() && !told[0].abandoned,
        "left to the end of observation"
    );
}

#[test]
fn a_syn_ack_tells_both_origins_and_the_client() {
    let told = replay(&[
        segment(SERVER, SYN | ACK, 41, 8, b""),
        segment(CLIENT, ACK, 8, 42, b"request"),
    ]);
    assert_eq!(told[0].origins, [Some(8), Some(42)]);
    assert_eq!(told[0].info.opener, Opener::Local);
    assert_eq!(told[0].streams[0].text(), b"request");
}

#[test]
fn data_of_a_syn() {
    // RFC 7413: accepted, refused and sent again, answered before its acknowledgement was captured.
    let syn = segment(CLIENT, SYN, 0, 0, b"early");
    let accepted = [
        syn,
        segment(SERVER, SYN | ACK, 100, 6, b""),
        segment(CLIENT, ACK, 6, 101, b"!"),
    ];
    let refused = [
        syn,
        segment(SERVER, SYN | ACK, 100, 1, b""),
        segment(CLIENT, ACK, 1, 101, b"early!"),
    ];
    let unanswered = [syn, segment(CLIENT, ACK, 6, 101, b"!")];
    for (segments, ingress) in [
        (&accepted[..], Some(101)),
        (&refused, Some(101)),
        (&unanswered, None),
    ] {
        let told = replay(segments);
        assert_eq!(told[0].origins, [Some(1), ingress]);
        assert_eq!(told[0].streams[0].text(), b"early!");
    }
}

#[test]
fn a_syn_ack_behind_the_first_data_tells_the_origin_all_the_same() {
    let [syn, answer, ack] = handshake(0, 100);
    let request = segment(CLIENT, ACK, 1, 101, b"request");
    let tail = segment(SERVER, ACK, 107, 8, b"se");
    let response = segment(SERVER, ACK, 101, 8, b"respon");
    let told = replay(&[syn, ack, request, tail, answer, response]);
    assert_eq!(told[0].origins, [Some(1), Some(101)]);
    assert_eq!(told[0].streams[1].text(), b"response");
    // It never came.
    let mut player = Player::new(9);
    player.play(&[syn, ack, request]);
    assert!(player.told.0.is_empty());
    player.wait(LATE);
    assert_eq!(player.told.0[0].origins, [Some(1), None]);
    assert_eq!(player.told.0[0].streams[0].text(), b"request");
}

#[test]
fn keep_alives_carry_nothing() {
    let told = replay(&with_handshake(
        0,
        0,
        &[
            segment(CLIENT, ACK, 1, 1, b"a"),
            segment(SERVER, ACK, 0, 2, b"\0"),
            segment(CLIENT, ACK, 1, 1, b"\0"),
            segment(SERVER, ACK, 1, 2, b"b"),
        ],
    ));
    assert_eq!(told[0].streams[0].text(), b"a");
    assert_eq!(told[0].streams[1].text(), b"b");
    let joined = replay(&[
        segment(SERVER, ACK, 499, 77, b"\0"),
        segment(CLIENT, ACK, 77, 500, b""),
        segment(SERVER, ACK, 500, 77, b"b"),
    ]);
    assert_eq!(joined[0].streams[0].text(), b"b");
}

#[test]
fn zero_window_probes_carry_the_next_byte() {
    let told = replay(&with_handshake(
        0,
        0,
        &[
            segment(CLIENT, ACK, 1, 1, b"abc"),
            segment(CLIENT, ACK, 4, 1, b"d"),
            segment(SERVER, ACK, 1, 4, b""),
            segment(CLIENT, ACK, 4, 1, b"def"),
        ],
    ));
    assert_eq!(told[0].streams[0].text(), b"abcdef");
}

#[test]
fn a_reset_closes_and_what_comes_after_it_does_not_count() {
    let mut player = Player::new(9);
    player.play(&with_handshake(
        0,
        0,
        &[
            segment(CLIENT, ACK, 1, 1, b"request"),
            segment(SERVER, ACK, 1, 8, b"resp"),
            segment(CLIENT, RST, 8, 0, b""),
        ],
    ));
    let reset_at = player.time;
    let told = player
        .play(&[segment(SERVER, ACK, 5, 8, b"onse")])
        .wait(2 * LATE)
        .finish();
    assert_eq!(told.len(), 1);
    assert_eq!(told[0].streams[1].text(), b"resp");
    assert_eq!(told[0].closed, Some(([None, None], reset_at)));
}

#[test]
fn what_is_sent_again_after_a_reset_begins_no_connection() {
    let mut player = Player::new(9);
    player.play(&with_handshake(
        0,
        0,
        &[
            segment(CLIENT, ACK, 1, 1, b"request"),
            segment(CLIENT, RST, 8, 0, b""),
            segment(SERVER, ACK, 1, 8, b"resp"),
        ],
    ));
    for _ in 0..5 {
        player
            .wait(3000 * MS)
            .play(&[segment(SERVER, ACK, 5, 8, b"onse")]);
    }
    let told = player.finish();
    assert_eq!(told.len(), 1);
    assert!(told[0].closed.is_some() && told[0].streams[1].bytes.is_empty());
}

#[test]
fn a_reset_from_outside_the_window_is_none() {
    let told = replay(&with_handshake(
        1000,
        0,
        &[
            segment(CLIENT, ACK, 1001, 1, b"request"),
            segment(SERVER, ACK, 1, 1008, b"re"),
            segment(CLIENT, RST, 900, 0, b""),
            segment(SERVER, ACK, 3, 1008, b"sponse"),
        ],
    ));
    assert_eq!(told[0].streams[1].text(), b"response");
    assert!(told[0].closed.is_none());
}

#[test]
fn a_half_closed_connection_goes_on() {
    let segments = with_handshake(
        0,
        0,
        &[
            segment(CLIENT, ACK | FIN, 1, 1, b"request"),
            segment(SERVER, ACK, 1, 9, b""),
            segment(SERVER, ACK, 1, 9, b"response"),
        ],
    );
    let told = replay(&segments);
    assert_eq!(told[0].streams[0].ended, Some(7));
    assert_eq!(told[0].streams[1].text(), b"response");
    assert!(told[0].closed.is_none());
}

#[test]
fn the_end_waits_for_what_is_missing() {
    let mut player = Player::new(9);
    player.play(&with_handshake(
        0,
        0,
        &[
            segment(CLIENT, ACK | FIN, 4, 1, b"def"),
            segment(SERVER, ACK, 1, 8, b""),
        ],
    ));
    assert_eq!(player.told.0[0].streams[0].ended, None);
    let mut late = Player::new(9);
    late.tcp = std::mem::replace(&mut player.tcp, Tcp::new(1));
    late.told = std::mem::take(&mut player.told);
    late.time = player.time;
    late.play(&[segment(CLIENT, ACK, 1, 1, b"abc")]);
    assert_eq!(late.told.0[0].streams[0].ended, Some(6));
    assert_eq!(late.told.0[0].streams[0].text(), b"abcdef");
}

#[test]
fn the_same_ports_again() {
    let first = |close: &[Segment<'static>]| {
        let mut segments = with_handshake(
            0,
            0,
            &[
                segment(CLIENT, ACK, 1, 1, b"one"),
                segment(SERVER, ACK, 1, 4, b"ONE"),
            ],
        );
        segments.extend(close);
        segments
    };
    let close = [
        segment(CLIENT, ACK | FIN, 4, 4, b""),
        segment(SERVER, ACK | FIN, 4, 5, b""),
        segment(CLIENT, ACK, 5, 5, b""),
    ];
    let reset = [segment(CLIENT, RST, 4, 0, b"")];
    for (close, closed) in [(&close[..], true), (&reset, true), (&[], false)] {
        let mut segments = first(close);
        segments.extend(with_handshake(
            70_000,
            90_000,
            &[
                segment(CLIENT, ACK, 70_001, 90_001, b"two"),
                segment(SERVER, ACK, 90_001, 70_004, b"TWO"),
            ],
        ));
        let told = replay(&segments);
        let [one, two] = &told[..] else { panic!("{told:?}") };
        assert_eq!((one.closed.is_some(), one.abandoned), (closed, !closed));
        assert_eq!(one.streams[0].text(), b"one");
        assert_eq!(two.origins, [Some(70_001), Some(90_001)]);
        assert_eq!([two.streams[0].text(), two.streams[1].text()], [b"two", b"TWO"]);
    }
}

#[test]
fn a_syn_that_is_refused_replaces_nothing() {
    // RFC 5961 § 4: answered by an acknowledgement of what was there.
    let told = replay(&with_handshake(
        0,
        0,
        &[
            segment(CLIENT, ACK, 1, 1, b"one"),
            segment(CLIENT, SYN, 70_000, 0, b""),
            segment(SERVER, ACK, 1, 4, b""),
            segment(SERVER, ACK, 1, 4, b"ONE"),
        ],
    ));
    assert_eq!(told.len(), 1);
    assert_eq!(told[0].streams[1].text(), b"ONE");
}

#[test]
fn the_same_ports_again_with_neither_end_nor_beginning_seen() {
    let mut segments = with_handshake(0, 0, &[segment(CLIENT, ACK, 1, 1, b"one")]);
    segments.extend([
        segment(CLIENT, ACK, 3_000_000_000, 7, b"lost"),
        segment(CLIENT, ACK, 3_000_000_004, 7, b"two"),
        segment(CLIENT, ACK, 3_000_000_007, 7, b"three"),
    ]);
    let told = replay(&segments);
    assert_eq!(told.len(), 2);
    assert!(told[0].abandoned);
    assert_eq!(told[1].origins, [None, None]);
    assert_eq!(told[1].streams[0].text(), b"twothree");
}

#[test]
fn the_same_packets_twice() {
    let segments = with_handshake(
        0,
        0,
        &[
            segment(CLIENT, ACK, 1, 1, b"one"),
            segment(SERVER, ACK, 1, 4, b"ONE"),
            segment(CLIENT, ACK | FIN, 4, 4, b""),
            segment(SERVER, ACK | FIN, 4, 5, b""),
            segment(CLIENT, ACK, 5, 5, b""),
        ],
    );
    let doubled: Vec<_> = segments.iter().flat_map(|&segment| [segment, segment]).collect();
    let told = replay(&doubled);
    assert_eq!(told.len(), 1);
    assert_eq!(told[0].streams[0].text(), b"one");
    assert_eq!(told[0].streams[1].text(), b"ONE");
}

#[test]
fn cut_off_by_the_snap_length() {
    let mut cut = segment(CLIENT, ACK, 1, 1, b"0123");
    cut.length = 1000;
    let told = replay(&with_handshake(
        0,
        0,
        &[cut, segment(CLIENT, ACK, 1001, 1, b"next")],
    ));
    assert_eq!(told[0].streams[0].text(), b"0123next");
    assert_eq!(told[0].streams[0].missing(1004), 996);
}

#[test]
fn only_one_direction_captured() {
    let told = replay(&[
        segment(CLIENT, SYN, 0, 0, b""),
        segment(CLIENT, ACK, 1, 101, b"one"),
        segment(CLIENT, ACK, 7, 151, b"three"),
        segment(CLIENT, ACK, 4, 151, b"two"),
        segment(CLIENT, ACK | FIN, 12, 201, b""),
    ]);
    assert_eq!(told[0].origins, [Some(1), None]);
    assert_eq!(told[0].streams[0].text(), b"onetwothree");
    assert_eq!(told[0].streams[0].ended, Some(11));
    assert!(told[0].streams[1].bytes.is_empty() && told[0].closed.is_none());
}

#[test]
fn simultaneous_open() {
    let told = replay(&[
        segment(CLIENT, SYN, 0, 0, b""),
        segment(SERVER, SYN, 100, 0, b""),
        segment(CLIENT, SYN | ACK, 0, 101, b""),
        segment(SERVER, SYN | ACK, 100, 1, b""),
        segment(CLIENT, ACK, 1, 101, b"x"),
    ]);
    assert_eq!(told.len(), 1);
    assert_eq!(told[0].origins, [Some(1), Some(101)]);
}

#[test]
fn too_many_connections() {
    let mut player = Player::new(2);
    for port in [1000, 2000, 3000] {
        let mut segment = segment(CLIENT, ACK, 1, 1, b"x");
        segment.source.port = port;
        player.play(&[segment]);
    }
    assert_eq!(player.tcp.evicted, 1);
    let told = player.finish();
    let evicted: Vec<bool> = told.iter().map(|told| told.evicted).collect();
    assert_eq!(evicted, [true, false, false]);
}

/// A direction's bytes, none of them 0: a lone one would be taken for a keep-alive.
fn payload(n: usize, seed: u8) -> Vec<u8> {
    (0..n)
        .map(|i| (i as u8).wrapping_mul(31).wrapping_add(seed) | 1)
        .collect()
}

/// Cuts, and the places of segments that are sent again.
type Cuts = (
    Vec<prop::sample::Index>,
    Vec<(prop::sample::Index, prop::sample::Index)>,
);

/// The segments `[from, to)` of `n` bytes: whole by the cuts, then any others over them.
fn ranges(n: usize, (cuts, again): &Cuts) -> Vec<(usize, usize)> {
    if n == 0 {
        return Vec::new();
    }
    let mut ends: Vec<usize> = cuts.iter().map(|cut| cut.index(n)).chain([0, n]).collect();
    ends.sort_unstable();
    ends.dedup();
    let mut ranges: Vec<_> = ends.windows(2).map(|pair| (pair[0], pair[1])).collect();
    for (a, b) in again {
        let (a, b) = (a.index(n + 1), b.index(n + 1));
        if a != b {
            ranges.push((a.min(b), a.max(b)));
        }
    }
    ranges
}

fn cuts() -> impl Strategy<Value = Cuts> {
    let index = any::<prop::sample::Index>;
    (
        prop::collection::vec(index(), 0..12),
        prop::collection::vec((index(), index()), 0..6),
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    /// Any segmentation, order within a few tens of milliseconds, duplication and overlap gives the same bytes;
    /// what no packet held is given up, exactly that and nothing that was still to come.
    #[test]
    fn any_order_gives_the_same_streams(
        isn in any::<[u32; 2]>(),
        lengths in [0usize..400, 0usize..400],
        cuts in [cuts(), cuts()],
        jitter in prop::collection::vec(0u64..90, 100),
        lost in prop::collection::vec(prop::bool::weighted(0.2), 100),
        acknowledged in any::<bool>(),
    ) {
        let data = [payload(lengths[0], 3), payload(lengths[1], 5)];
        let origin = isn.map(|isn| isn.wrapping_add(1));
        let at = |side: usize, offset: usize| origin[side].wrapping_add(offset as u32);
        // In the order of time, a millisecond apart, with what the receiver has by then.
        let mut sent: Vec<Segment<'_>> = Vec::new();
        let mut seen = [vec![false; lengths[0]], vec![false; lengths[1]]];
        for side in [0, 1] {
            let (from, to) = if side == 0 { (CLIENT, SERVER) } else { (SERVER, CLIENT) };
            let mut received = 0;
            for (a, b) in ranges(lengths[side], &cuts[side]) {
                let other = at(1 - side, if side == 1 { lengths[0] } else { 0 });
                if !lost[sent.len()] {
                    sent.push(segment(from, ACK, at(side, a), other, &data[side][a..b]));
                    seen[side][a..b].fill(true);
                } else {
                    // A place in the order of time that nothing was captured at.
                    sent.push(segment(from, 0, at(side, 0), 0, b""));
                }
                received = received.max(b);
                if acknowledged {
                    sent.push(segment(to, ACK, other, at(side, received), b""));
                }
            }
        }
        let mut order: Vec<usize> = (0..sent.len()).collect();
        order.sort_by_key(|&i| i as u64 + jitter[i]);
        let mut player = Player::new(9);
        player.play(&handshake(isn[0], isn[1]));
        for i in order {
            player.play(&[sent[i]]);
        }
        // The ends, after all this is over.
        player.wait(LATE / 2);
        player.play(&[
            segment(CLIENT, ACK | FIN, at(0, lengths[0]), at(1, lengths[1]), b""),
            segment(SERVER, ACK | FIN, at(1, lengths[1]), at(0, lengths[0] + 1), b""),
            segment(CLIENT, ACK, at(0, lengths[0] + 1), at(1, lengths[1] + 1), b""),
        ]);
        let told = player.wait(2 * LATE).wait(2 * LATE).finish();

        let captured = seen.iter().flatten().any(|seen| *seen);
        prop_assert_eq!(told.len(), usize::from(captured));
        for told in told {
            prop_assert_eq!(told.origins, origin.map(Some));
            for side in [0, 1] {
                let stream = &told.streams[side];
                let expected: BTreeMap<i64, u8> = (0..lengths[side])
                    .filter(|&i| seen[side][i])
                    .map(|i| (i as i64, data[side][i]))
                    .collect();
                prop_assert_eq!(&stream.bytes, &expected);
                prop_assert_eq!(stream.too_late, 0);
                prop_assert_eq!(stream.ended, Some(lengths[side] as i64));
            }
            let ends = [0, 1].map(|side| Some(at(side, lengths[side])));
            prop_assert_eq!(told.closed.unwrap().0, ends);
        }
    }

    /// Segments of no connection at all do nothing bad.
    #[test]
    fn any_segments_are_survived(segments in prop::collection::vec(
        (any::<bool>(), 0u8..32, any::<u32>(), any::<u32>(), prop::collection::vec(any::<u8>(), 0..4), 0u64..300),
        0..60,
    )) {
        let mut player = Player::new(9);
        for (server, flags, sequence, acknowledgement, bytes, wait) in &segments {
            let from = if *server { SERVER } else { CLIENT };
            player.wait(*wait * MS);
            player.play(&[segment(from, *flags, *sequence, *acknowledgement, bytes)]);
        }
        player.finish();
    }
}
