//! Which response answers which request, where a protocol says it by order alone (HTTP/1, RESP).
//!
//! As long as both flows are seen whole, the first request outstanding owns the next response. Behind a gap, and where
//! a connection was joined in the middle, the number of messages that went by unseen is unknown, so responses could be
//! off by any number of requests. What is known then is time. A client that waits sends requests (one, or several as a
//! burst), and the next ones after the responses it waited for: a *turn*. Pairs made of such turns are held as
//! tentative and reported, with their own times, once there were enough of them (see [`KNOWN`], [`JOINED`], [`WARY`]).
//! A turn weighs more where both flows are silent for long before the next request ([`SILENCE`], [`LONG_SILENCE`]): a
//! server does not keep what it could answer until the next request comes, again and again.
//!
//! What speaks against it begins the count anew: a request that is sent when some of a burst were answered and others
//! were not (a window that slides), a response too many, one that does not fit.
//!
//! One case cannot be told apart by any means: a client that keeps several requests in flight, sends exactly one more
//! for each response, and is first seen in the midst of that. The numbers are chosen so that it has to go on like
//! that for long, without one response that comes sooner or a request that comes later.

use super::Flow;
use crate::loss::Loss;
use crate::output::Output;
use std::collections::VecDeque;

/// Requests that may be outstanding; a protocol lets its request flow wait while there are as many.
pub const OUTSTANDING: usize = 8192;

/// Turns, seen without a gap, after which a client is known to wait for its responses. Behind a gap, [`AGREEMENT`] turns
/// are enough for it.
pub const KNOWN: u32 = 8;

/// Turns behind a gap, to trust the order again: a client may begin to pipeline in a hole.
pub const AGREEMENT: u32 = 6;

/// Turns to trust the order of a connection that was joined in the middle.
pub const JOINED: u32 = 16;

/// Turns to trust the order where the client pipelines, or that may be hidden in a hole: a client that pipelines shows
/// it when a connection is young.
pub const WARY: u32 = 64;

/// Nanoseconds without a byte in either flow, after which a turn weighs as a sixteenth of those that are asked for, if
/// that is [`SILENT`] times as long as what went before: longer than an acknowledgement is delayed (40 ms in Linux),
/// which may hold a response back.
pub const SILENCE: u64 = 45_000_000;

/// The same, of turns that weigh as a quarter of those that are asked for.
pub const LONG_SILENCE: u64 = 1_000_000_000;

/// How much longer than the requests and responses before it a silence has to be.
pub const SILENT: u64 = 4;

/// Pairs held at most; one more and the oldest is given up.
const HELD: usize = 4096;

/// Requests passed over that wait for the responses which tell whether they were pipelined; with more, they were.
const PASSED: usize = 256;

/// How far the order of messages can be trusted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Trust {
    /// Both flows were seen whole, or were proved to be in step.
    Certain,
    /// A gap put the order in doubt.
    Doubtful,
    /// A flow broke the protocol's rules.
    Ended,
}

#[derive(Debug)]
struct Entry<R> {
    request: R,
    start: u64,
    /// Last byte of the request, when that was seen.
    request_end: Option<u64>,
    /// Last byte of the response; 0 where it is not complete.
    end: u64,
    /// Its response is the next one, whatever happened to the requests behind it.
    certain: bool,
}

/// A request with its response: what was stored of both, and when they were.
#[derive(Debug, PartialEq, Eq)]
pub struct Exchange<R> {
    /// What the protocol stored of the request, and wrote to it of the response.
    pub request: R,
    /// First byte of the request.
    pub start: u64,
    /// Last byte of the response.
    pub end: u64,
}

/// What a response that begins is to the requests seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// It answers [`Pairing::current`].
    Current,
    /// No request is outstanding: it may only be late ([`Then::Blocked`]).
    ///
    /// [`Then::Blocked`]: super::Then::Blocked
    NoRequest,
    /// It began before the request whose turn it is, or that is to come: it answers none.
    TooEarly,
    /// The order is in doubt: only a response at a turn-around can be paired (see [`Pairing::turned_to_server`]).
    Unknown,
}

/// A time that may not be known, in eight bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct When(u64);

impl When {
    const UNKNOWN: When = When(u64::MAX);

    fn get(self) -> Option<u64> {
        (self != When::UNKNOWN).then_some(self.0)
    }
}

impl Default for When {
    fn default() -> When {
        When::UNKNOWN
    }
}

/// Requests that were sent without waiting, and their responses, so far.
#[derive(Debug, Default)]
struct Burst {
    /// When the first request began, where it was seen.
    start: When,
    /// When the first response ended.
    answered: When,
    /// A response ended when a request began, so that it is not known which came first.
    unclear: bool,
}

/// The requests of one connection and what answers them. `R` is what a protocol stores of a request.
#[derive(Debug)]
pub struct Pairing<R> {
    /// First `complete` pairs, then requests outstanding.
    entries: VecDeque<Entry<R>>,
    complete: usize,
    trust: Trust,
    /// Two requests were in flight at a time, since the order was certain last or ever.
    pipelined: bool,
    burst: Burst,
    /// Seen from its first bytes.
    fresh: bool,
    /// Joined in the middle, and whole since.
    joined: bool,
    /// Turns while the order was certain; since it is in doubt; and of those, the ones since the last gap.
    turns: u32,
    doubtful_turns: u32,
    agreed: u32,
    /// Something speaks for pipelining.
    wary: bool,
    /// End of the response to the last request, while no request came after it.
    last_end: When,
    /// Time of the latest response seen to begin.
    last_response: When,
    /// The request flow is seen up to this time, at least.
    requests_until: u64,
    /// When the latest response began that answers no request seen.
    last_unsolicited: u64,
    /// A hole in the requests begins behind one of this time, and nothing that was in it was answered yet.
    hidden_since: When,
    /// When requests came that were passed over, with the bytes before them; of responses between not all were seen yet.
    #[allow(
        clippy::box_collection,
        reason = "there is none as a rule, and an idle connection is small"
    )]
    passed: Option<Box<VecDeque<(u64, u64)>>>,
    /// The newest request has not ended yet.
    open: bool,
    pool: Vec<R>,
    /// Most entries at a time since there was none.
    depth: u32,
    /// Most entries that are allowed.
    limit: u32,
}

impl<R: Default> Pairing<R> {
    /// `fresh`: both flows are seen from their first byte.
    pub fn new(fresh: bool) -> Pairing<R> {
        Pairing::with_limit(fresh, OUTSTANDING)
    }

    /// As [`Pairing::new`], with up to `limit` requests outstanding.
    pub fn with_limit(fresh: bool, limit: usize) -> Pairing<R> {
        Pairing {
            limit: limit as u32,
            // Most clients have one request in flight, and the first growth is by four.
            entries: VecDeque::with_capacity(1),
            complete: 0,
            trust: if fresh { Trust::Certain } else { Trust::Doubtful },
            pipelined: false,
            burst: Burst::default(),
            fresh,
            joined: !fresh,
            turns: 0,
            doubtful_turns: 0,
            agreed: 0,
            wary: false,
            last_end: When::UNKNOWN,
            last_response: When::UNKNOWN,
            requests_until: 0,
            last_unsolicited: 0,
            hidden_since: When::UNKNOWN,
            passed: None,
            open: false,
            pool: Vec::new(),
            depth: 0,
        }
    }

    /// Whether one more request would be too many.
    pub fn is_full(&self) -> bool {
        self.outstanding() >= self.limit as usize
    }

    /// Whether requests and responses are paired no more.
    pub fn has_ended(&self) -> bool {
        self.trust == Trust::Ended && self.entries.is_empty()
    }

    /// Storage for a request, to be filled: as it was left, where it is used again.
    pub fn storage(&mut self) -> R {
        self.pool.pop().unwrap_or_default()
    }

    /// Takes storage back.
    pub fn recycle(&mut self, request: R) {
        if self.entries.is_empty() {
            self.pool.truncate(self.depth.saturating_sub(1) as usize);
            self.depth = 0;
        }
        self.pool.push(request);
    }

    /// A request was seen, whose first byte came at `start`.
    pub fn request(&mut self, request: R, start: u64, output: &mut dyn Output) {
        self.open = false;
        self.requests_until = self.requests_until.max(start);
        if self.trust == Trust::Ended {
            output.lost(Loss::UnpairedRequest, 1);
            self.recycle(request);
            return;
        }
        if self.is_full() {
            // What is left out would shift every pair behind it: as if it had not been seen.
            output.lost(Loss::Evicted, 1);
            self.recycle(request);
            self.gap(Flow::ToServer, output);
            return;
        }
        self.entries.push_back(Entry {
            request,
            start,
            request_end: None,
            end: 0,
            certain: self.trust == Trust::Certain,
        });
        if self.entries.len() == 1 && self.last_end.get().is_none() {
            self.burst = Burst {
                start: When(start),
                ..Burst::default()
            };
        }
        self.open = true;
        self.depth = self.depth.max(self.entries.len() as u32);
        if let Some(end) = std::mem::take(&mut self.last_end).get() {
            self.compare(end, start, output);
        }
    }

    /// The last byte of the newest request came at `end`.
    pub fn request_ended(&mut self, end: u64) {
        if std::mem::take(&mut self.open)
            && let Some(entry) = self.entries.back_mut()
        {
            entry.request_end = Some(end);
        }
    }

    /// The newest request, while it has not ended.
    pub fn unended(&mut self) -> Option<&mut R> {
        let entry = self.entries.back_mut().filter(|_| self.open)?;
        Some(&mut entry.request)
    }

    /// The newest request, while it is outstanding.
    pub fn newest(&self) -> Option<&R> {
        let newest = self.entries.back().filter(|_| self.outstanding() > 0)?;
        Some(&newest.request)
    }

    /// The oldest request that is outstanding.
    pub fn current(&mut self) -> Option<&mut R> {
        self.entries
            .get_mut(self.complete)
            .map(|entry| &mut entry.request)
    }

    /// The newest request, where its response is complete and is not proved to be its own.
    pub fn last_held(&self) -> Option<&R> {
        let last = self.entries.back().filter(|_| self.outstanding() == 0)?;
        Some(&last.request)
    }

    /// Requests without a complete response.
    pub fn outstanding(&self) -> usize {
        self.entries.len() - self.complete
    }

    /// A response (final, not interim) begins at `start`, where the one before it ended.
    pub fn response(&mut self, start: u64, output: &mut dyn Output) -> Answer {
        let Some(entry) = self.entries.get(self.complete) else {
            return match self.trust {
                Trust::Ended => Answer::Unknown,
                _ if self.is_too_early(start) => Answer::TooEarly,
                _ => Answer::NoRequest,
            };
        };
        if entry.certain {
            if entry.start > start {
                return Answer::TooEarly;
            }
        } else if self.complete == 0 || entry.request_end.is_none_or(|end| end > start) {
            // The first behind a gap has to be found at a turn-around; a later one is in turn or nothing is proved.
            self.step_back(output);
            return Answer::Unknown;
        }
        self.saw_response(start);
        Answer::Current
    }

    /// Whether any request that is still to come began after `start`, the begin of a response.
    pub fn is_too_early(&self, start: u64) -> bool {
        self.requests_until > start
    }

    /// A response that answers none was waited for in vain: it was the second without a request between.
    pub fn unsolicited(&mut self, start: u64, output: &mut dyn Output) {
        output.lost(Loss::UnpairedResponse, 1);
        self.saw_response(start);
        self.answered_hidden(start);
        if self.trust == Trust::Doubtful {
            self.step_back(output);
        }
    }

    /// The response to [`Pairing::current`] is complete; its last byte came at `end`.
    pub fn response_ended(&mut self, end: u64, output: &mut dyn Output) {
        let Some(entry) = self.entries.get_mut(self.complete) else {
            return;
        };
        entry.end = end.max(entry.start);
        let certain = entry.certain;
        self.complete += 1;
        if self.complete > HELD && !certain {
            self.complete -= 1;
            self.drop_first(0, output);
        }
        if certain && self.trust != Trust::Certain {
            return;
        }
        if self.burst.answered.get().is_none() {
            self.burst.answered = When(end);
        }
        match self.entries.get(self.complete).map(|next| next.start) {
            Some(next) => self.compare(end, next, output),
            None => self.last_end = When(end),
        }
    }

    /// The next pair that is proved; to be asked for after every change.
    pub fn proven(&mut self) -> Option<Exchange<R>> {
        if self.complete == 0 || !self.entries.front()?.certain {
            return None;
        }
        let Entry {
            request, start, end, ..
        } = self.entries.pop_front()?;
        self.complete -= 1;
        self.open &= !self.entries.is_empty();
        Some(Exchange { request, start, end })
    }

    /// Bytes of `flow` are missing.
    pub fn gap(&mut self, flow: Flow, output: &mut dyn Output) {
        self.joined = false;
        self.agreed = 0;
        self.last_end = When::UNKNOWN;
        self.burst = Burst::default();
        self.wary |= self.fresh && self.turns < KNOWN;
        if flow == Flow::ToClient {
            // What answered them may be in the hole.
            self.passed = None;
            // Each may have been answered in the hole; `passed_over` tells those from later ones.
            for entry in self.entries.range_mut(self.complete..) {
                entry.certain = false;
            }
            self.drop_held(output);
        } else {
            self.open = false;
            self.drop_uncertain(output);
            if self.last_unsolicited <= self.requests_until {
                self.hidden_since = When(self.requests_until);
            }
        }
        match self.trust {
            Trust::Ended => self.drop_uncertain(output),
            _ => self.trust = Trust::Doubtful,
        }
    }

    /// Nothing more is to be learned from `flow`, which broke the protocol's rules.
    pub fn give_up(&mut self, flow: Flow, output: &mut dyn Output) {
        self.trust = Trust::Ended;
        self.gap(flow, output);
    }

    /// The response to [`Pairing::current`] can be no other request's, whatever happened before.
    pub fn prove_current(&mut self, output: &mut dyn Output) {
        self.drop_held(output);
        if let Some(entry) = self.entries.front_mut() {
            entry.certain = true;
        }
    }

    /// Takes [`Pairing::current`] out, which another protocol will see answered. Pairs that are held stay so.
    pub fn take_current(&mut self) -> Option<Exchange<R>> {
        let Entry {
            request, start, end, ..
        } = self.entries.remove(self.complete)?;
        Some(Exchange { request, start, end })
    }

    /// Counts all that is held or outstanding as unpaired.
    pub fn give_up_all(&mut self, output: &mut dyn Output) {
        self.complete = 0;
        while !self.entries.is_empty() {
            self.drop_first(0, output);
        }
    }

    /// The response to [`Pairing::current`] is complete, but when is not known.
    pub fn response_end_lost(&mut self, output: &mut dyn Output) {
        self.last_end = When::UNKNOWN;
        if self.outstanding() > 0 {
            self.drop_first(self.complete, output);
        }
    }

    /// Whether both flows are in step, as far as the newest request.
    pub fn is_certain(&self) -> bool {
        self.trust == Trust::Certain
    }

    /// While the response flow is searched for a response: whether one at the begin of a chunk of time `start`
    /// answers [`Pairing::current`], when the byte before it came at `before` (`None` if that was lost): it must
    /// be the first byte since the request began, and come after the request's end. If so, it is taken as that.
    ///
    /// Right behind a hole it may be that of a client that is known to wait, if there is one request whose response
    /// can be in the hole and one that came after it.
    pub fn turned_to_client(&mut self, before: Option<u64>, start: u64, output: &mut dyn Output) -> bool {
        if self.trust == Trust::Ended || self.hidden_since.get().is_some() {
            return false;
        }
        let begun = |entry: &Entry<R>| entry.request_end.is_some_and(|end| end <= start);
        match before {
            Some(before) => {
                let current = self.entries.get(self.complete);
                if !current.is_some_and(|entry| before < entry.start && begun(entry)) {
                    return false;
                }
            }
            None => {
                let (Some(lost), Some(current)) = (
                    self.entries.get(self.complete),
                    self.entries.get(self.complete + 1),
                ) else {
                    return false;
                };
                let next = self.entries.get(self.complete + 2);
                let one_each = lost.request_end.is_some_and(|end| end < current.start)
                    && begun(current)
                    && next.is_none_or(|next| next.start > start);
                if !one_each || !self.waits_for_each() {
                    return false;
                }
                self.drop_first(self.complete, output);
            }
        }
        if self.complete == 0 {
            self.burst.start = self
                .entries
                .front()
                .map_or(When::UNKNOWN, |entry| When(entry.start));
        }
        self.saw_response(start);
        true
    }

    /// The client is known to have one request in flight.
    fn waits_for_each(&self) -> bool {
        self.turns >= KNOWN && !self.pipelined && !self.wary
    }

    /// While the request flow is searched for a request: whether one may be at the begin of a chunk of time
    /// `start`, when the byte before it came at `before` (`None` if that was lost): a response must have begun
    /// between them. Right behind a hole, of a client that is known to wait, one since its last request that was seen
    /// will do; if what is in the hole is answered before this one is.
    pub fn turned_to_server(&self, before: Option<u64>, start: u64) -> bool {
        let known = self.turns >= KNOWN && !self.wary;
        let before = before.or(known.then_some(self.requests_until));
        before.is_some_and(|before| {
            let since = |response| before < response && response <= start;
            self.last_response.get().is_some_and(since)
        })
    }

    /// Whether a response may be late that [`Pairing::turned_to_server`] asks for.
    pub fn may_turn_to_server(&self, before: Option<u64>, start: u64) -> bool {
        let known = self.turns >= KNOWN && !self.wary;
        (before.is_some() || known) && self.last_response.get().is_none_or(|response| response < start)
    }

    /// While the request flow is searched, bytes that came at `time` were passed over, after others at `before`. What
    /// looks like a request there, without a response between them, may have been pipelined.
    pub fn passed_request(&mut self, looks_like_one: bool, before: Option<u64>, time: u64) {
        self.requests_until = self.requests_until.max(time);
        self.hidden_since = When::UNKNOWN;
        if let Some(before) = before.filter(|_| looks_like_one && !self.turned_to_server(before, time)) {
            let passed = self.passed.get_or_insert_default();
            if passed.len() < PASSED && self.last_response.get().is_none_or(|response| response <= time) {
                passed.push_back((before, time));
            } else {
                self.wary = true;
            }
        }
    }

    /// Something that looks like a final response began at `time`.
    pub fn saw_response(&mut self, time: u64) {
        self.last_response = When(self.last_response.get().map_or(time, |last| last.max(time)));
        let Some(queue) = &mut self.passed else { return };
        while let Some(&(before, passed)) = queue.front()
            && before < time
        {
            self.wary |= passed < time;
            queue.pop_front();
        }
        if queue.is_empty() {
            self.passed = None;
        }
    }

    /// While the response flow is searched, bytes that came at `time` were passed over: they may have answered any
    /// request that began before. Returns how many these are.
    pub fn passed_over(&mut self, time: u64, output: &mut dyn Output) -> usize {
        let before = self.entries.len();
        self.answered_hidden(time);
        while self.outstanding() > 0 && self.entries[self.complete].start <= time {
            self.drop_first(self.complete, output);
        }
        let passed = before - self.entries.len();
        self.pipelined |= passed > 1;
        passed
    }

    /// Bytes of a response that answers no request seen came at `time`.
    fn answered_hidden(&mut self, time: u64) {
        self.last_unsolicited = self.last_unsolicited.max(time);
        if self.hidden_since.get().is_some_and(|since| since < time) {
            self.hidden_since = When::UNKNOWN;
        }
    }

    /// The connection is closed: to be followed by [`Pairing::proven`] and [`Pairing::cut_off`].
    ///
    /// A close after the last response is a turn, and no more: a client that keeps several requests in flight and
    /// leaves before its last response came looks like one that had them all. `all_answered`: the protocol proves that
    /// the last response was the last request's. Where the connection was joined in the middle and is whole since, an
    /// older request would then have left its mark: one response too many.
    pub fn close(&mut self, all_answered: bool, output: &mut dyn Output) {
        if self.trust == Trust::Doubtful
            && self.outstanding() == 0
            && std::mem::take(&mut self.last_end).get().is_some()
        {
            self.agreed += 1;
            self.doubtful_turns += 1;
            if self.has_agreed() || all_answered && self.joined && !self.wary {
                self.trust_again();
            }
        }
        self.drop_uncertain(output);
    }

    /// A request that will get no (complete) response, oldest first, after [`Pairing::close`].
    pub fn cut_off(&mut self) -> Option<Exchange<R>> {
        let Entry { request, start, .. } = self.entries.pop_front()?;
        Some(Exchange {
            request,
            start,
            end: start,
        })
    }

    /// Observation ends.
    pub fn abandon(&mut self, output: &mut dyn Output) {
        self.drop_held(output);
        let open = self.entries.len() as u64;
        self.entries.clear();
        if open > 0 {
            output.lost(Loss::Unfinished, open);
        }
    }

    /// What was put together since the order is in doubt goes together, as what both say proves: it weighs like a long
    /// silence.
    pub fn confirm(&mut self) {
        if self.trust == Trust::Doubtful {
            self.agree(self.needed() / 4);
        }
    }

    /// A response does not fit the request that it was put together with.
    pub fn contradict(&mut self, output: &mut dyn Output) {
        if self.trust == Trust::Doubtful {
            self.step_back(output);
        }
    }

    /// Compares the end of a response with the begin of the request that follows.
    fn compare(&mut self, end: u64, next: u64, output: &mut dyn Output) {
        if next <= end {
            self.pipelined |= next < end;
            self.burst.unclear |= next == end;
            if next < end && self.burst.answered.get().is_some_and(|answered| answered < next) {
                self.slid(output);
            }
            return;
        }
        let before = std::mem::replace(
            &mut self.burst,
            Burst {
                start: When(next),
                ..Burst::default()
            },
        );
        let another = |&response: &u64| end < response && response < next;
        if before.unclear || self.last_response.get().as_ref().is_some_and(another) {
            return;
        }
        if self.trust == Trust::Certain {
            self.turns = self.turns.saturating_add(1);
            return;
        }
        let silence = next - end;
        let silent = before
            .start
            .get()
            .is_some_and(|start| silence / SILENT >= end.saturating_sub(start));
        self.agree(match silence {
            LONG_SILENCE.. if silent => self.needed() / 4,
            SILENCE.. if silent => self.needed() / 16,
            _ => 1,
        });
    }

    fn agree(&mut self, weight: u32) {
        self.agreed = self.agreed.saturating_add(1);
        self.doubtful_turns = self.doubtful_turns.saturating_add(weight);
        if self.trust == Trust::Doubtful && self.has_agreed() {
            self.trust_again();
        }
    }

    /// A request was sent when one of those in flight was answered, and another was not.
    fn slid(&mut self, output: &mut dyn Output) {
        (self.turns, self.doubtful_turns) = (0, 0);
        self.burst.unclear = true;
        if self.trust == Trust::Doubtful {
            self.step_back(output);
        }
    }

    /// A response came out of turn: what was held is not proved, and the count of turns begins anew.
    fn step_back(&mut self, output: &mut dyn Output) {
        if self.complete > 0 {
            (self.wary, self.doubtful_turns) = (true, 0);
        }
        self.agreed = 0;
        self.last_end = When::UNKNOWN;
        self.burst = Burst::default();
        self.drop_held(output);
    }

    /// Turns that are asked for in all.
    fn needed(&self) -> u32 {
        match self.wary || self.pipelined {
            true => WARY,
            false => JOINED,
        }
    }

    fn has_agreed(&self) -> bool {
        let known = self.turns >= KNOWN && !self.wary;
        // One alone may be the end of something older.
        known && self.agreed >= AGREEMENT || self.agreed > 1 && self.doubtful_turns >= self.needed()
    }

    fn trust_again(&mut self) {
        self.trust = Trust::Certain;
        self.turns = self.turns.max(KNOWN);
        self.doubtful_turns = 0;
        (self.wary, self.pipelined) = (false, false);
        for entry in &mut self.entries {
            entry.certain = true;
        }
    }

    /// Gives up the pairs that are held.
    fn drop_held(&mut self, output: &mut dyn Output) {
        for _ in 0..std::mem::take(&mut self.complete) {
            self.drop_first(0, output);
        }
    }

    /// Gives up all that is not certain; what is certain comes first.
    fn drop_uncertain(&mut self, output: &mut dyn Output) {
        let first = self.entries.partition_point(|entry| entry.certain);
        while self.entries.len() > first {
            self.drop_first(first, output);
        }
        self.complete = self.complete.min(first);
    }

    fn drop_first(&mut self, index: usize, output: &mut dyn Output) {
        self.open &= index + 1 < self.entries.len();
        if let Some(entry) = self.entries.remove(index) {
            output.lost(Loss::UnpairedRequest, 1);
            if entry.end > 0 {
                output.lost(Loss::UnpairedResponse, 1);
            }
            self.recycle(entry.request);
        }
    }
}

#[cfg(test)]
mod tests;
