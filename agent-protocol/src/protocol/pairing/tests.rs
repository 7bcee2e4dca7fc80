use super::*;
use crate::trace_context::SpanContext;
use crate::transaction::Transaction;

#[derive(Default)]
struct Losses(Vec<(Loss, u64)>);

impl Output for Losses {
    fn transaction(&mut self, _: &Transaction<'_>) -> SpanContext {
        unreachable!("pairing reports no transactions")
    }
    fn lost(&mut self, loss: Loss, n: u64) {
        self.0.push((loss, n));
    }
    fn sessions(&mut self, _: i64) {}
}

impl Losses {
    fn of(&self, loss: Loss) -> u64 {
        self.0.iter().filter(|(l, _)| *l == loss).map(|(_, n)| n).sum()
    }
}

/// A connection whose messages are one chunk each, numbered; requests are found at once, as are responses.
struct Talk {
    pairing: Pairing<u32>,
    losses: Losses,
    searching: bool,
    before: Option<u64>,
    pairs: Vec<(u32, u64)>,
}

impl Talk {
    fn new(fresh: bool) -> Talk {
        Talk {
            pairing: Pairing::new(fresh),
            losses: Losses::default(),
            searching: !fresh,
            before: None,
            pairs: Vec::new(),
        }
    }

    fn drain(&mut self) {
        while let Some(done) = self.pairing.proven() {
            self.pairs.push((done.request, done.end));
        }
    }

    fn request(&mut self, id: u32, time: u64) -> &mut Self {
        self.pairing.request(id, time, &mut self.losses);
        self.pairing.request_ended(time);
        self.drain();
        self
    }

    fn response(&mut self, time: u64) -> &mut Self {
        let answers = if self.searching {
            self.pairing.turned_to_client(self.before, time, &mut self.losses)
        } else {
            match self.pairing.response(time, &mut self.losses) {
                Answer::Current => true,
                Answer::NoRequest | Answer::TooEarly => {
                    self.pairing.unsolicited(time, &mut self.losses);
                    self.before = Some(time);
                    return self;
                }
                Answer::Unknown => self.pairing.turned_to_client(self.before, time, &mut self.losses),
            }
        };
        self.searching = !answers;
        if answers {
            self.pairing.response_ended(time, &mut self.losses);
        } else {
            if self.pairing.passed_over(time, &mut self.losses) == 0 {
                self.losses.lost(Loss::UnpairedResponse, 1);
            }
        }
        self.before = Some(time);
        self.drain();
        self
    }

    fn gap(&mut self, flow: Flow) -> &mut Self {
        self.pairing.gap(flow, &mut self.losses);
        if flow == Flow::ToClient {
            self.searching = true;
            self.before = None;
        }
        self.drain();
        self
    }

    fn close(&mut self) -> &mut Self {
        self.close_when(false)
    }

    fn close_when(&mut self, all_answered: bool) -> &mut Self {
        self.pairing.close(all_answered, &mut self.losses);
        self.drain();
        self
    }

    /// `n` exchanges from `id` on, at ten times their number, each answered five later.
    fn turns(&mut self, ids: std::ops::Range<u32>) -> &mut Self {
        for id in ids {
            let time = 10 * u64::from(id);
            self.request(id, time).response(time + 5);
        }
        self
    }

    /// All pairs are those of `turns`, or of a response five later in any case.
    fn true_pairs(&self) -> Vec<u32> {
        for &(id, end) in &self.pairs {
            assert_eq!(end, 10 * u64::from(id) + 5, "request {id}");
        }
        self.pairs.iter().map(|pair| pair.0).collect()
    }
}

#[test]
fn in_order_on_a_whole_connection() {
    let mut talk = Talk::new(true);
    talk.request(1, 10)
        .request(2, 20)
        .response(30)
        .request(3, 31)
        .response(40)
        .response(50);
    assert_eq!(talk.pairs, [(1, 30), (2, 40), (3, 50)]);
    assert_eq!(talk.losses.0, []);
}

#[test]
fn a_response_before_its_request_pairs_with_nothing() {
    let mut talk = Talk::new(true);
    talk.request(1, 10).response(9).response(15);
    assert_eq!(talk.pairs, [(1, 15)]);
    assert_eq!(talk.losses.of(Loss::UnpairedResponse), 1);
}

#[test]
fn requests_before_a_hole_in_the_requests_keep_their_responses() {
    let mut talk = Talk::new(true);
    talk.request(1, 10)
        .request(2, 12)
        .gap(Flow::ToServer)
        .response(15)
        .response(25);
    assert_eq!(talk.pairs, [(1, 15), (2, 25)]);
}

#[test]
fn a_hole_in_the_responses_costs_what_is_outstanding() {
    let mut talk = Talk::new(true);
    talk.turns(1..21)
        .request(21, 210)
        .gap(Flow::ToClient)
        .response(215)
        .turns(22..30);
    assert_eq!(talk.true_pairs(), (1..21).chain(22..30).collect::<Vec<_>>());
    assert_eq!(talk.losses.of(Loss::UnpairedRequest), 1);
}

#[test]
fn held_pairs_are_reported_once_the_turns_agree() {
    let mut talk = Talk::new(true);
    // What was in the hole is answered, which costs no other.
    talk.turns(1..21).gap(Flow::ToServer).response(215);
    talk.turns(22..22 + AGREEMENT);
    assert_eq!(talk.true_pairs(), (1..21).collect::<Vec<_>>());
    talk.request(22 + AGREEMENT, 220 + 10 * u64::from(AGREEMENT));
    let proved = 22..22 + AGREEMENT;
    assert_eq!(talk.true_pairs(), (1..21).chain(proved).collect::<Vec<_>>());
}

#[test]
fn joined_in_the_middle_more_turns_are_asked_for() {
    let mut talk = Talk::new(false);
    // The first response is only what makes the next one's begin known.
    talk.turns(1..2 + JOINED);
    assert!(talk.true_pairs().is_empty());
    talk.request(2 + JOINED, 10 * u64::from(2 + JOINED));
    assert_eq!(talk.true_pairs(), (2..2 + JOINED).collect::<Vec<_>>());
}

#[test]
fn a_close_after_a_whole_pair_is_a_turn() {
    let mut talk = Talk::new(false);
    talk.turns(1..2 + JOINED).close();
    assert_eq!(talk.true_pairs(), (2..2 + JOINED).collect::<Vec<_>>());
    let mut talk = Talk::new(false);
    talk.turns(1..1 + JOINED).close();
    assert!(talk.true_pairs().is_empty());
    assert_eq!(talk.losses.of(Loss::UnpairedRequest), u64::from(JOINED));
    let mut talk = Talk::new(false);
    talk.turns(1..15).request(15, 150).close();
    assert!(talk.true_pairs().is_empty());
    assert_eq!(talk.losses.of(Loss::UnpairedRequest), 15);
}

#[test]
fn where_all_is_answered_the_order_is_proved() {
    let mut talk = Talk::new(false);
    talk.turns(1..3).close_when(true);
    assert_eq!(talk.true_pairs(), [2]);
    // Not if something may be missing, or one request is not answered.
    let mut talk = Talk::new(false);
    talk.turns(1..4).gap(Flow::ToClient).turns(4..8).close_when(true);
    assert!(talk.true_pairs().is_empty());
    let mut talk = Talk::new(false);
    talk.turns(1..3).request(3, 30).close_when(true);
    assert!(talk.true_pairs().is_empty());
}

/// A client with two requests in flight leaves before its last response came.
#[test]
fn a_close_alone_does_not_prove_the_order() {
    let mut talk = Talk::new(false);
    talk.response(5).turns(1..8).close();
    assert!(talk.pairs.is_empty());
}

/// `n` bursts of three requests at a hundred times their number, answered 5, 6 and 7 later.
fn bursts(talk: &mut Talk, numbers: std::ops::Range<u32>) {
    for number in numbers {
        let (first, time) = (10 * number, 100 * u64::from(number));
        for i in 0..3 {
            talk.request(first + i, time);
        }
        for i in 0..3 {
            talk.response(time + 5 + i);
        }
    }
}

/// What `bursts` made, in order.
fn of_bursts(talk: &Talk, numbers: std::ops::Range<u32>) {
    let expected: Vec<_> = numbers
        .flat_map(|number| (0..3).map(move |i| (10 * number + i, 100 * u64::from(number) + 5 + u64::from(i))))
        .collect();
    assert_eq!(talk.pairs, expected);
}

#[test]
fn a_gap_between_bursts_costs_the_burst() {
    let mut talk = Talk::new(true);
    bursts(&mut talk, 1..20);
    of_bursts(&talk, 1..20);
    talk.pairs.clear();
    talk.gap(Flow::ToClient);
    bursts(&mut talk, 20..21 + AGREEMENT);
    // The first is found behind a response that was seen.
    talk.close();
    of_bursts(&talk, 21..21 + AGREEMENT);
}

/// A client that sends a burst once all before are answered, first seen in the middle.
#[test]
fn joined_bursts_are_proved_by_many() {
    let mut talk = Talk::new(false);
    bursts(&mut talk, 1..2 + WARY);
    assert!(talk.pairs.is_empty());
    bursts(&mut talk, 2 + WARY..4 + WARY);
    of_bursts(&talk, 2..4 + WARY);
}

/// Silence proves sooner; that of a second at once.
#[test]
fn joined_bursts_are_proved_by_silence() {
    for (pause, needed) in [(50_000_000u64, 16u32), (2_000_000_000, 4)] {
        let mut talk = Talk::new(false);
        let mut proved = None;
        for number in 1..30u32 {
            let time = pause * u64::from(number);
            for i in 0..3 {
                talk.request(10 * number + i, time);
            }
            if proved.is_none() && !talk.pairs.is_empty() {
                proved = Some(number);
            }
            for i in 0..3 {
                talk.response(time + 1000 + i);
            }
        }
        // Of the first it is not known whether it was whole.
        assert_eq!(proved, Some(needed + 2), "{pause}");
        assert_eq!(talk.pairs.len(), 28 * 3);
        for &(id, end) in &talk.pairs {
            assert_eq!(end, pause * u64::from(id / 10) + 1000 + u64::from(id % 10));
        }
    }
}

/// Two bursts always in flight, each sent when one was answered: it comes out when the server is faster once.
#[test]
fn bursts_that_slide_are_not_taken_for_turns() {
    for slip in 2..40 {
        let mut talk = Talk::new(false);
        for number in 1..60u32 {
            let time = 100 * u64::from(number);
            for i in 0..3 {
                talk.request(10 * number + i, time);
            }
            for i in 0..3 {
                talk.response(time + 5 + i);
            }
            if number % slip == 0 {
                talk.response(time + 8);
            }
        }
        talk.close();
        assert!(talk.pairs.is_empty(), "{slip}");
    }
}

#[test]
fn what_contradicts_begins_the_count_anew() {
    let mut talk = Talk::new(false);
    talk.turns(1..10);
    talk.pairing.contradict(&mut talk.losses);
    talk.turns(10..40);
    assert!(talk.pairs.is_empty());
    let mut talk = Talk::new(false);
    talk.turns(1..3);
    for id in 3..7u32 {
        talk.request(id, 10 * u64::from(id));
        talk.response(10 * u64::from(id) + 5);
        talk.pairing.confirm();
        talk.drain();
    }
    assert_eq!(talk.true_pairs(), [2, 3, 4, 5, 6]);
}

/// Two requests always in flight, one sent for each response: joined in the middle this alternates, and each
/// response is that of the request before. It comes out when one response is faster.
#[test]
fn a_sliding_window_is_not_taken_for_turns() {
    for slip in 2..JOINED {
        let mut talk = Talk::new(false);
        for id in 1..50u32 {
            let time = 10 * u64::from(id);
            talk.request(id, time);
            talk.response(if id % slip == 0 { time + 12 } else { time + 5 });
        }
        talk.close();
        assert!(talk.pairs.is_empty(), "{slip}");
    }
}

#[test]
fn drained_windows_are_no_turns() {
    let mut talk = Talk::new(false);
    for id in 1..100u32 {
        let time = 10 * u64::from(id);
        talk.request(id, time).response(time + 5);
        if id % 7 == 0 {
            talk.response(time + 6);
        }
    }
    assert!(talk.pairs.is_empty());
}

/// A hole in the first few messages may hide that the client pipelines.
#[test]
fn a_young_connection_has_to_show_more() {
    let mut talk = Talk::new(true);
    talk.turns(1..KNOWN + 1)
        .gap(Flow::ToServer)
        .response(195)
        .turns(20..20 + WARY);
    assert_eq!(talk.pairs.len(), KNOWN as usize);
    talk.request(200, 2000);
    assert_eq!(talk.true_pairs().len(), KNOWN as usize + WARY as usize);
    assert_eq!(talk.losses.of(Loss::UnpairedRequest), 0);
}

#[test]
fn a_response_at_no_turn_around_costs_the_request() {
    let mut pairing = Pairing::new(false);
    let mut losses = Losses::default();
    pairing.request(1, 10, &mut losses);
    assert!(
        !pairing.turned_to_client(Some(5), 15, &mut losses),
        "the request has not ended"
    );
    pairing.request_ended(12);
    assert!(
        !pairing.turned_to_client(None, 15, &mut losses),
        "bytes were lost before it"
    );
    assert!(
        !pairing.turned_to_client(Some(11), 15, &mut losses),
        "not the first since the request"
    );
    assert!(
        !pairing.turned_to_client(Some(5), 11, &mut losses),
        "began before the request ended"
    );
    assert!(pairing.turned_to_client(Some(5), 15, &mut losses));
    pairing.passed_over(9, &mut losses);
    assert_eq!(pairing.outstanding(), 1);
    pairing.passed_over(10, &mut losses);
    assert_eq!(pairing.outstanding(), 0);
}

#[test]
fn a_request_at_a_turn_around_follows_a_response() {
    let mut pairing: Pairing<u32> = Pairing::new(false);
    assert!(!pairing.turned_to_server(Some(1), 10));
    pairing.saw_response(5);
    assert!(pairing.turned_to_server(Some(4), 10));
    assert!(!pairing.turned_to_server(None, 10), "bytes were lost before it");
    assert!(
        !pairing.turned_to_server(Some(5), 10),
        "the response is not later than the byte before"
    );
    assert!(
        !pairing.turned_to_server(Some(4), 4),
        "the response is later than it"
    );
}

#[test]
fn outstanding_requests_are_bounded() {
    let mut pairing = Pairing::new(true);
    let mut losses = Losses::default();
    for id in 0..OUTSTANDING as u32 {
        assert!(!pairing.is_full());
        pairing.request(id, 1, &mut losses);
    }
    assert!(pairing.is_full());
    pairing.request(0, 1, &mut losses);
    assert_eq!(losses.0, [(Loss::Evicted, 1)]);
    // Those before it keep their responses.
    assert_eq!(pairing.response(2, &mut losses), Answer::Current);
}

#[test]
fn storage_is_used_again_and_not_hoarded() {
    let mut talk = Talk::new(true);
    for id in 0..64 {
        talk.request(id, 1);
    }
    for _ in 0..64 {
        talk.pairing.response(2, &mut talk.losses);
        talk.pairing.response_ended(2, &mut talk.losses);
        while let Some(done) = talk.pairing.proven() {
            talk.pairing.recycle(done.request);
        }
    }
    assert_eq!(talk.pairing.pool.len(), 64);
    let request = talk.pairing.storage();
    talk.request(request, 3);
    talk.pairing.response(4, &mut talk.losses);
    talk.pairing.response_ended(4, &mut talk.losses);
    let done = talk.pairing.proven().unwrap();
    talk.pairing.recycle(done.request);
    assert_eq!(talk.pairing.pool.len(), 1);
}
