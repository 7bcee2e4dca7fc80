//! One connection: detection, then a protocol over both directions.

use super::half::{Closed, Half, Offer};
use super::proxy_header::{self, ProxyHeader};
use super::{Chunk, Limits, Origin};
use crate::connection::{ConnectionInfo, Direction, Side, Vantage};
use crate::loss::Loss;
use crate::output::{Need, Observer, Output};
use crate::protocol::{Flow, Input, Protocol, Then};
use crate::record::grpc;
use crate::trace_context::SpanContext;
use crate::transaction::Transaction;

/// How a connection's bytes are understood.
pub(super) enum Stage {
    Detecting,
    Speaking(Box<dyn Protocol>),
    Ignored,
}

/// Which half carries the requests.
fn flow_of(direction: Direction, to_server: Direction) -> Flow {
    if direction == to_server {
        Flow::ToServer
    } else {
        Flow::ToClient
    }
}

/// A skip shorter than this is not worth telling the source.
const WORTH_TELLING: u64 = 4096;

/// Bytes that come of a chunk at most where the source passes its content by.
const CHUNK_WINDOW: usize = 64;

pub(super) struct Connection {
    pub(super) info: ConnectionInfo,
    pub(super) halves: [Half; 2],
    pub(super) stage: Stage,
    pub(super) to_server: Direction,
    /// On the wire `local` is told as the client, though its bytes are the ingress.
    pub(super) turned: bool,
    /// The first bytes of both directions are seen.
    pub(super) fresh: bool,
    /// The first bytes of a direction are to come: a proxy's header may be in front of them.
    at_begin: [bool; 2],
    pub(super) turns: u32,
    pub(super) last_turn: Option<Direction>,
    pub(super) undetected: u64,
    pub(super) last_time: u64,
    /// It is in the table's list of those that wait.
    pub(super) queued: bool,
}

/// Reports for one connection.
struct Reporter<'a> {
    info: &'a ConnectionInfo,
    side: Side,
    protocol: &'static str,
    observer: &'a mut dyn Observer,
}

impl Output for Reporter<'_> {
    fn transaction(&mut self, transaction: &Transaction<'_>) -> SpanContext {
        self.observer.transaction(self.info, self.side, transaction)
    }

    fn lost(&mut self, loss: Loss, n: u64) {
        self.observer.lost(self.info, Some(self.protocol), loss, n);
    }

    fn sessions(&mut self, change: i64) {
        self.observer.sessions(self.info, self.side, change);
    }

    fn messages(&mut self, call: &grpc::Record<'_>, new: [grpc::Messages; 2]) {
        self.observer.messages(self.info, self.side, call, new);
    }

    fn unattributed(&mut self, code: u16) {
        self.observer.unattributed(self.info, self.side, code);
    }
}

impl Connection {
    pub(super) fn new(info: ConnectionInfo, origins: [Origin; 2]) -> Connection {
        let mut halves = [Half::default(), Half::default()];
        for (half, origin) in halves.iter_mut().zip(origins) {
            if let Some(origin) = origin {
                half.begin_at(origin);
            }
        }
        Connection {
            info,
            halves,
            stage: Stage::Detecting,
            to_server: Direction::Egress,
            turned: false,
            fresh: origins.iter().all(Option::is_some),
            at_begin: origins.map(|origin| origin.is_some()),
            turns: 0,
            last_turn: None,
            undetected: 0,
            last_time: 0,
            queued: false,
        }
    }

    /// The role of the observed side.
    pub(super) fn side(&self) -> Side {
        match (self.info.vantage, self.to_server) {
            (Vantage::Wire, _) | (Vantage::Socket, Direction::Egress) => Side::Client,
            (Vantage::Socket, Direction::Ingress) => Side::Server,
        }
    }

    /// Whether something waits for time to pass.
    pub(super) fn waits(&self) -> bool {
        self.halves
            .iter()
            .any(|half| half.held_position().is_some() || half.blocked_since.is_some())
    }

    pub(super) fn is_ignored(&self) -> bool {
        matches!(self.stage, Stage::Ignored)
    }

    pub(super) fn chunk(&mut self, chunk: &Chunk<'_>, limits: &Limits, observer: &mut dyn Observer) {
        self.last_time = self.last_time.max(chunk.time);
        if chunk.process.is_some() {
            self.info.process = chunk.process;
        }
        if self.is_ignored() {
            return;
        }
        let half = &mut self.halves[chunk.direction as usize];
        let position = half.extend(chunk.position);
        self.offer(
            chunk.direction,
            position,
            chunk.length,
            chunk.bytes,
            chunk.time,
            observer,
        );
        self.settle(chunk.direction, observer);
        let in_order = limits.hole_patience == 0;
        while self.halves[chunk.direction as usize].held_bytes() > limits.held_bytes
            || in_order && self.halves[chunk.direction as usize].held_position().is_some()
        {
            self.give_up_first_hole(chunk.direction, observer);
        }
    }

    fn offer(
        &mut self,
        direction: Direction,
        position: u64,
        length: u32,
        bytes: &[u8],
        time: u64,
        observer: &mut dyn Observer,
    ) {
        let half = &mut self.halves[direction as usize];
        if let Offer::Bytes(from) = half.offer(position, length, bytes, time) {
            self.run(direction, &bytes[from..], time, false, observer);
            let missing_until = self.halves[direction as usize].missing_until();
            self.close_hole(direction, missing_until, true, observer);
        }
    }

    /// What is missing in `direction` before `to` is given up; `seen` if it went by just now, uncaptured.
    fn close_hole(&mut self, direction: Direction, to: u64, seen: bool, observer: &mut dyn Observer) {
        if self.halves[direction as usize].next() < to {
            self.run_waited(direction, observer);
        }
        loop {
            match self.halves[direction as usize].close_hole(to, seen) {
                Closed::Nothing => return,
                Closed::Skip => {
                    self.run(direction, &[], 0, false, observer);
                }
                Closed::Gap { missing, discarded } => {
                    return self.report_gap(direction, missing, discarded, observer);
                }
            }
        }
    }

    /// Lets `direction` go on without what its flow waits for in the other one.
    fn run_waited(&mut self, direction: Direction, observer: &mut dyn Observer) {
        while self.halves[direction as usize].blocked_since.is_some()
            && self.run(direction, &[], 0, true, observer)
        {}
    }

    /// Takes in what waited and is in order by now, and lets a blocked flow go on.
    fn settle(&mut self, direction: Direction, observer: &mut dyn Observer) {
        self.unblock(direction, observer);
        while let Some((position, length, bytes, time)) = self.halves[direction as usize].release() {
            self.offer(direction, position, length, &bytes, time, observer);
            self.unblock(direction, observer);
        }
    }

    /// `direction` may have come on: lets the other flow, if it is blocked, go on, and so forth.
    fn unblock(&mut self, direction: Direction, observer: &mut dyn Observer) {
        let mut direction = direction.opposite();
        while self.halves[direction as usize].blocked_since.is_some() {
            let came_on = self.run(direction, &[], 0, false, observer);
            self.tell_end(direction, observer);
            if !came_on {
                break;
            }
            direction = direction.opposite();
        }
    }

    fn report_gap(
        &mut self,
        direction: Direction,
        missing: u64,
        discarded: u64,
        observer: &mut dyn Observer,
    ) {
        let side = self.side();
        self.at_begin[direction as usize] = false;
        match &mut self.stage {
            Stage::Detecting => {
                self.fresh = false;
                observer.lost(&self.info, None, Loss::Gap, 1);
                observer.lost(&self.info, None, Loss::GapBytes, missing);
                observer.lost(&self.info, None, Loss::ResyncBytes, discarded);
            }
            Stage::Speaking(protocol) => {
                let mut output = Reporter {
                    info: &self.info,
                    side,
                    protocol: protocol.name(),
                    observer,
                };
                output.lost(Loss::Gap, 1);
                output.lost(Loss::GapBytes, missing);
                output.lost(Loss::ResyncBytes, discarded);
                let length = missing + discarded;
                protocol.gap(flow_of(direction, self.to_server), length, &mut output);
            }
            Stage::Ignored => {}
        }
    }

    fn give_up_first_hole(&mut self, direction: Direction, observer: &mut dyn Observer) {
        if let Some(to) = self.halves[direction as usize].held_position() {
            self.close_hole(direction, to, false, observer);
        }
        self.settle(direction, observer);
    }

    /// The receiver of `direction` has everything before `position`: what is missing below will not come.
    pub(super) fn acknowledged(&mut self, direction: Direction, position: u32, observer: &mut dyn Observer) {
        if self.is_ignored() || !self.halves[direction as usize].has_begun() {
            return;
        }
        let position = self.halves[direction as usize].extend(position);
        while let Some(held) = self.halves[direction as usize].held_position()
            && held <= position
        {
            self.give_up_first_hole(direction, observer);
        }
        if self.halves[direction as usize].next() < position {
            self.close_hole(direction, position, false, observer);
            self.settle(direction, observer);
        }
    }

    /// Time has come to `now`: holes and blocked flows that waited long enough go on without.
    pub(super) fn tick(&mut self, now: u64, limits: &Limits, observer: &mut dyn Observer) {
        // Holes of both directions first: a blocked flow may wait for what is behind one.
        for direction in [Direction::Egress, Direction::Ingress] {
            while let Some(since) = self.halves[direction as usize].held_since()
                && now >= since.saturating_add(limits.hole_patience)
            {
                self.give_up_first_hole(direction, observer);
            }
        }
        for direction in [Direction::Egress, Direction::Ingress] {
            while let Some(since) = self.halves[direction as usize].blocked_since
                && now >= since.saturating_add(limits.patience)
            {
                let came_on = self.run(direction, &[], 0, true, observer);
                self.tell_end(direction, observer);
                self.settle(direction, observer);
                if !came_on {
                    break;
                }
            }
        }
    }

    /// `direction` has ended, at `position` where that is known.
    pub(super) fn end(
        &mut self,
        direction: Direction,
        position: Option<u32>,
        time: u64,
        observer: &mut dyn Observer,
    ) {
        if std::mem::replace(&mut self.halves[direction as usize].ended, true) || self.is_ignored() {
            return;
        }
        self.last_time = self.last_time.max(time);
        self.flush(direction, position, observer);
        let half = &mut self.halves[direction as usize];
        (half.finished, half.end_untold) = (true, Some(time));
        self.tell_end(direction, observer);
        self.settle(direction, observer);
    }

    /// Tells the protocol that a direction has ended, unless bytes before the end still wait.
    fn tell_end(&mut self, direction: Direction, observer: &mut dyn Observer) {
        let side = self.side();
        let half = &mut self.halves[direction as usize];
        let Some(time) = half.end_untold else { return };
        let Stage::Speaking(protocol) = &mut self.stage else {
            return;
        };
        if half.blocked_since.is_some() && !half.buffer.is_empty() {
            return;
        }
        half.end_untold = None;
        let time = if half.time_before == 0 {
            time
        } else {
            half.time_before
        };
        let flow = flow_of(direction, self.to_server);
        if half.finished {
            protocol.finished(flow);
        }
        let mut output = Reporter {
            info: &self.info,
            side,
            protocol: protocol.name(),
            observer,
        };
        protocol.end(flow, time, &mut output);
    }

    /// Gives up all that is missing in `direction`, up to its end.
    fn flush(&mut self, direction: Direction, position: Option<u32>, observer: &mut dyn Observer) {
        while self.halves[direction as usize].held_position().is_some() {
            self.give_up_first_hole(direction, observer);
        }
        let half = &self.halves[direction as usize];
        if let Some(position) = position
            && half.has_begun()
        {
            self.close_hole(direction, half.extend(position), false, observer);
        }
    }

    /// The connection is closed; the directions ended at these positions, where known.
    pub(super) fn close(&mut self, positions: [Option<u32>; 2], time: u64, observer: &mut dyn Observer) {
        if self.is_ignored() {
            return;
        }
        for half in &mut self.halves {
            if !std::mem::replace(&mut half.ended, true) {
                half.end_untold = Some(time);
            }
        }
        self.run_out(positions, observer);
        let side = self.side();
        match &mut self.stage {
            Stage::Speaking(protocol) => {
                let mut output = Reporter {
                    info: &self.info,
                    side,
                    protocol: protocol.name(),
                    observer,
                };
                protocol.close(time, &mut output);
            }
            Stage::Detecting
                if self.undetected > 0 || self.halves.iter().any(|half| !half.buffer.is_empty()) =>
            {
                observer.lost(&self.info, None, Loss::Foreign, 1);
            }
            _ => {}
        }
        self.stage = Stage::Ignored;
    }

    /// Observation of the connection ends.
    pub(super) fn abandon(&mut self, observer: &mut dyn Observer) {
        self.run_out([None, None], observer);
        let side = self.side();
        if let Stage::Speaking(protocol) = &mut self.stage {
            let mut output = Reporter {
                info: &self.info,
                side,
                protocol: protocol.name(),
                observer,
            };
            protocol.abandon(&mut output);
        }
        self.stage = Stage::Ignored;
    }

    /// Nothing will come any more: holes are given up and blocked flows go on without.
    fn run_out(&mut self, positions: [Option<u32>; 2], observer: &mut dyn Observer) {
        for direction in [Direction::Egress, Direction::Ingress] {
            self.flush(direction, positions[direction as usize], observer);
        }
        for direction in [self.to_server, self.to_server.opposite()] {
            while self.halves[direction as usize].blocked_since.is_some() {
                let came_on = self.run(direction, &[], 0, true, observer);
                self.settle(direction, observer);
                if !came_on {
                    break;
                }
            }
            self.tell_end(direction, observer);
        }
    }

    /// Runs the protocol over the unconsumed bytes of `direction` and `more`, seen at `time`, behind them.
    /// Returns whether it came on.
    fn run(
        &mut self,
        direction: Direction,
        more: &[u8],
        time: u64,
        waited: bool,
        observer: &mut dyn Observer,
    ) -> bool {
        let half = &mut self.halves[direction as usize];
        half.took(more.len(), time);
        // Parsed in place where nothing is left from before.
        let mut buffer = std::mem::take(&mut half.buffer);
        let in_place = buffer.is_empty();
        if !in_place {
            buffer.extend_from_slice(more);
        }
        let consumed = self.consume(direction, if in_place { more } else { &buffer }, waited, observer);
        let half = &mut self.halves[direction as usize];
        if in_place {
            buffer.extend_from_slice(&more[consumed..]);
        } else {
            buffer.drain(..consumed);
        }
        half.buffer = buffer;
        half.trim_marks();
        if half.buffer.len() > Limits::BUFFER {
            if !waited {
                self.run_waited(direction, observer);
            }
            let half = &mut self.halves[direction as usize];
            let lost = half.buffer.len() as u64;
            if lost > Limits::BUFFER as u64 {
                half.discard();
                self.report_gap(direction, 0, lost, observer);
            }
        }
        consumed > 0
    }

    /// Feeds `bytes`, which end at the half's `next`, to whatever the stage is. Returns how many are done with.
    fn consume(
        &mut self,
        direction: Direction,
        bytes: &[u8],
        waited: bool,
        observer: &mut dyn Observer,
    ) -> usize {
        let mut at = 0;
        if self.at_begin[direction as usize] && !bytes.is_empty() {
            match proxy_header::find(bytes) {
                ProxyHeader::Maybe if !waited => return 0,
                ProxyHeader::Whole(length) => at = length,
                ProxyHeader::Maybe | ProxyHeader::No => {}
            }
            self.at_begin[direction as usize] = false;
            let half = &mut self.halves[direction as usize];
            half.passed(half.next() - (bytes.len() - at) as u64);
        }
        loop {
            let side = self.side();
            let protocol = match &mut self.stage {
                Stage::Ignored => return bytes.len(),
                Stage::Detecting => {
                    let passed = self.detect(direction, &bytes[at..], observer);
                    let half = &mut self.halves[direction as usize];
                    let start = half.next() - (bytes.len() - at) as u64;
                    half.passed(start + passed as u64);
                    at += passed;
                    match self.stage {
                        Stage::Detecting if passed == 0 || at == bytes.len() => return at,
                        _ => continue,
                    }
                }
                Stage::Speaking(protocol) => protocol,
            };
            let half = &mut self.halves[direction as usize];
            let position = half.next() - (bytes.len() - at) as u64;
            let input = Input {
                bytes: &bytes[at..],
                time_before: half.time_before,
                // Not for what follows: that has its own time.
                waited: waited && at == 0,
                end_unseen: half.end_unseen,
                position,
                marks: &half.marks,
            };
            let flow = flow_of(direction, self.to_server);
            let mut output = Reporter {
                info: &self.info,
                side,
                protocol: protocol.name(),
                observer,
            };
            let progress = protocol.data(flow, input, &mut output);
            debug_assert!(progress.consumed <= input.bytes.len());
            let consumed = progress.consumed.min(input.bytes.len());
            half.time_before = input.time_until(consumed);
            half.end_unseen &= consumed == 0;
            at += consumed;
            half.blocked_since = None;
            match progress.then {
                Then::More => return at,
                Then::Skip(n) | Then::SkipChunk(n, _) => {
                    let left = bytes.len() - at;
                    let here = usize::try_from(n).unwrap_or(usize::MAX).min(left);
                    half.time_before = input.time_until(consumed + here);
                    at += here;
                    if (here as u64) < n {
                        let until = half.next().saturating_add(n - here as u64);
                        half.skip_to(until);
                        if let Then::SkipChunk(_, line) = progress.then
                            && let Ok(stride) = u32::try_from(n + line as u64 + 2)
                        {
                            // Few bytes of it came: the source passes the chunks by.
                            if here > CHUNK_WINDOW && n >= WORTH_TELLING {
                                let line = (until + 2) as u32;
                                observer.need(self.info.id, direction, Need::Chunks { line, stride });
                            }
                        } else if n - here as u64 >= WORTH_TELLING {
                            // The last byte's time is.
                            observer.need(self.info.id, direction, Need::From((until - 1) as u32));
                        }
                        return at;
                    }
                }
                Then::SkipToEnd => {
                    half.time_before = input.time_until(input.bytes.len());
                    half.skip_forever();
                    observer.need(self.info.id, direction, Need::Lengths);
                    return bytes.len();
                }
                Then::Blocked | Then::Wait => {
                    // `Wait` is a block whose time does not run out.
                    half.blocked_since = Some(match progress.then {
                        Then::Blocked => input.time_at(consumed),
                        _ => u64::MAX,
                    });
                    return at;
                }
                Then::Become(next) => {
                    self.stage = Stage::Speaking(next);
                    self.change_over(direction);
                }
                Then::Detect => {
                    self.stage = Stage::Detecting;
                    (self.turns, self.undetected, self.last_turn) = (0, 0, None);
                    self.change_over(direction);
                }
                Then::Ignore => {
                    self.ignore(observer);
                    return bytes.len();
                }
            }
        }
    }

    /// The other half is to be read anew, too: what it holds is blocked until this one has gone on.
    pub(super) fn change_over(&mut self, direction: Direction) {
        let other = &mut self.halves[direction.opposite() as usize];
        other.stop_skipping();
        other.blocked_since = Some(u64::MAX);
    }

    pub(super) fn ignore(&mut self, observer: &mut dyn Observer) {
        self.stage = Stage::Ignored;
        for direction in [Direction::Egress, Direction::Ingress] {
            let half = &mut self.halves[direction as usize];
            half.discard();
            half.skip_forever();
            half.blocked_since = None;
            observer.need(self.info.id, direction, Need::Nothing);
        }
    }
}
