//! What a server sends: replies, pushes, published messages and lines of MONITOR.

use super::commands::{Kind, MAX_NAME, Topic};
use super::frames::{self, Band, Element, Line};
use super::matcher::{Command, Redis, Reply};
use super::requests::seen_until;
use crate::loss::Loss;
use crate::output::Output;
use crate::protocol::pairing::Answer;
use crate::protocol::{Flow, Input, Progress, Then};

/// Aggregates within each other; the server's own replies are a few deep.
const MAX_DEPTH: usize = 64;

/// Elements of EXEC's reply that are looked at.
const MAX_ELEMENTS: usize = 65_536;

/// An aggregate whose elements are being read.
#[derive(Debug)]
struct Level {
    /// Elements to come; `None` until an end marker.
    left: Option<u64>,
    attributes: bool,
}

/// What the value being read is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    /// The reply to the oldest command outstanding.
    Answer,
    /// A confirmation on the way to that reply.
    Confirmation(Topic, bool),
    /// Nobody's reply.
    Aside,
}

/// Confirmations that a command for subscriptions waits for.
#[derive(Debug)]
struct Awaited {
    /// How many; `None`: until no subscription is left.
    left: Option<u64>,
}

/// The state of the flow.
#[derive(Debug)]
pub(super) struct Replies {
    lost: bool,
    /// While lost: time of the byte before, if it was seen.
    before: Option<u64>,
    /// A value is being read, as this; the levels of what it is in.
    role: Option<Role>,
    levels: Vec<Level>,
    /// The string that was skipped is over.
    skipping: bool,
    awaited: Option<Awaited>,
    /// Subscriptions left, as the confirmation being read says.
    total: Option<u64>,
    /// Subscriptions by [`Topic`], where known.
    subscribed: [Option<u64>; 3],
    monitoring: bool,
    /// When the latest reply began that answers nothing seen until then.
    pub(super) unsolicited: u64,
}

impl Replies {
    pub(super) fn new(fresh: bool) -> Replies {
        Replies {
            lost: !fresh,
            before: None,
            role: None,
            levels: Vec::new(),
            skipping: false,
            awaited: None,
            total: None,
            subscribed: [fresh.then_some(0); 3],
            monitoring: false,
            unsolicited: 0,
        }
    }

    pub(super) fn lose_track(&mut self, before: Option<u64>) {
        (self.lost, self.before) = (true, before);
        (self.role, self.skipping, self.awaited) = (None, false, None);
        self.levels.clear();
        self.subscribed = [None; 3];
    }

    /// Whether there may be subscriptions, so that arrays may be messages.
    fn may_be_subscribed(&self) -> bool {
        self.subscribed.iter().any(|n| n.is_none_or(|n| n > 0))
    }

    /// A confirmation says how many subscriptions there are.
    fn confirmed(&mut self, topic: Topic, total: u64) {
        let [channels, patterns, shards] = self.subscribed;
        if topic == Topic::Shard {
            self.subscribed[Topic::Shard as usize] = Some(total);
        } else if total == 0 {
            self.subscribed = [Some(0), Some(0), shards];
        } else {
            let other = if topic == Topic::Channel {
                patterns
            } else {
                channels
            };
            self.subscribed[topic as usize] = other.and_then(|other| total.checked_sub(other));
        }
    }
}

/// Why it cannot be said what a value is.
enum Stop {
    Until(Then),
    /// The order is in doubt: only at a turn-around is a reply known again.
    Doubt,
}

/// A value is complete, or what it is in goes on.
enum Done {
    No,
    Yes,
    Broken,
}

impl Redis {
    pub(super) fn server_sent(&mut self, input: Input<'_>, output: &mut dyn Output) -> Progress {
        if std::mem::take(&mut self.replies.skipping) {
            self.value_over(seen_until(&input), output);
        }
        let mut at = 0;
        loop {
            if self.replies.lost {
                match self.find_reply(&input, at, output) {
                    Ok(found) => at = found,
                    Err(passed) => return Progress::new(passed, Then::More),
                }
            }
            let bytes = &input.bytes[at..];
            let Some(&kind) = bytes.first() else {
                return Progress::new(at, Then::More);
            };
            if self.replies.role.is_none() {
                let start = input.time_at(at);
                match self.begin(bytes, start, input.waited && at == 0, output) {
                    Ok(role) => self.replies.role = Some(role),
                    Err(Stop::Doubt) => {
                        self.lose_replies(Some(input.time_until(at)));
                        let turned = input.chunk_starts_at(at)
                            && self
                                .pairing
                                .turned_to_client(Some(input.time_until(at)), start, output);
                        if turned {
                            self.replies.lost = false;
                            self.replies.role = Some(self.answer_role(bytes));
                        } else {
                            output.lost(Loss::UnpairedResponse, 1);
                            continue;
                        }
                    }
                    Err(Stop::Until(then)) => return Progress::new(at, then),
                }
            }
            let (text, taken) = match frames::line(bytes) {
                Line::Whole(text, taken) if frames::begins_element(kind) || kind == b';' || kind == b'.' => {
                    (text, taken)
                }
                Line::Incomplete if frames::begins_element(kind) || kind == b';' || kind == b'.' => {
                    return Progress::new(at, Then::More);
                }
                _ => {
                    self.refuse(&input, at, output);
                    continue;
                }
            };
            let Some(element) = frames::element(text) else {
                self.refuse(&input, at, output);
                continue;
            };
            if let Element::Bulk(length, failed) = element {
                let read =
                    usize::try_from(length)
                        .unwrap_or(usize::MAX)
                        .min(if failed { 2 * MAX_NAME } else { 0 });
                let Some(content) = bytes.get(taken..taken.saturating_add(read)) else {
                    return Progress::new(at, Then::More);
                };
                self.saw(&element, content);
                let end = usize::try_from(length)
                    .ok()
                    .and_then(|n| n.checked_add(taken + 2));
                match end.filter(|&end| end <= bytes.len()) {
                    Some(end) => at += end,
                    None => {
                        self.replies.skipping = true;
                        return Progress::new(at + taken, Then::Skip(length + 2));
                    }
                }
                self.value_over(Some(input.time_until(at)), output);
                continue;
            }
            self.saw(&element, text);
            let time = Some(input.time_until(at + taken));
            let level = |left, attributes| Level { left, attributes };
            let done = match element {
                Element::Aggregate(0) | Element::Simple(..) | Element::Error(_) | Element::Null => Done::Yes,
                Element::Attributes(0) => Done::No,
                Element::Aggregate(n) => self.descend(level(Some(n), false)),
                Element::Attributes(n) => self.descend(level(Some(n), true)),
                Element::Streamed => self.descend(level(None, false)),
                Element::End => match self.replies.levels.pop() {
                    Some(Level { left: None, .. }) => Done::Yes,
                    _ => Done::Broken,
                },
                Element::Bulk(..) => Done::No,
            };
            match done {
                Done::No => {}
                Done::Yes => self.value_over(time, output),
                Done::Broken => {
                    self.refuse(&input, at, output);
                    continue;
                }
            }
            at += taken;
        }
    }

    fn descend(&mut self, level: Level) -> Done {
        if self.replies.levels.len() >= MAX_DEPTH {
            return Done::Broken;
        }
        self.replies.levels.push(level);
        Done::No
    }

    /// What the value that begins with `bytes` is.
    fn begin(
        &mut self,
        bytes: &[u8],
        start: u64,
        waited: bool,
        output: &mut dyn Output,
    ) -> Result<Role, Stop> {
        let kind = bytes.first().copied().unwrap_or_default();
        let nothing_open = self.pairing.outstanding() == 0;
        let about_topic = self
            .pairing
            .current()
            .is_some_and(|command| matches!(command.kind, Kind::Subscribe(_) | Kind::Unsubscribe(_)));
        let mut band = Band::Other;
        if kind == b'>' || (kind == b'*' && (self.replies.may_be_subscribed() || about_topic)) {
            band = match frames::out_of_band(bytes) {
                Ok(band) => band,
                Err(_) => return Err(Stop::Until(Then::More)),
            };
        }
        let confirms = match (band, self.pairing.current().map(|command| command.kind)) {
            (Band::Confirmation(topic, true), Some(Kind::Subscribe(asked))) => topic == asked,
            (Band::Confirmation(topic, false), Some(Kind::Unsubscribe(asked))) => topic == asked,
            _ => false,
        };
        if self.replies.awaited.is_some() {
            match band {
                Band::Confirmation(topic, on) if confirms => return Ok(Role::Confirmation(topic, on)),
                Band::Message => return Ok(Role::Aside),
                Band::Other if kind == b'>' => return Ok(Role::Aside),
                _ => {
                    // The last confirmation went by as one of many.
                    self.replies.awaited = None;
                    self.pairing.response_end_lost(output);
                    return self.begin(bytes, start, waited, output);
                }
            }
        }
        let subscribed = self.replies.subscribed.iter().flatten().any(|&n| n > 0);
        let aside = match band {
            Band::Message => kind == b'>' || subscribed || nothing_open || about_topic,
            Band::Confirmation(..) => kind == b'>' && !confirms && !nothing_open,
            Band::Other => kind == b'>',
        };
        if aside {
            return Ok(Role::Aside);
        }
        if kind == b'+' && (self.replies.monitoring || nothing_open) {
            match frames::line(bytes) {
                Line::Incomplete => return Err(Stop::Until(Then::More)),
                Line::Whole(text, _) if frames::is_monitor_line(&text[1..]) => return Ok(Role::Aside),
                _ => {}
            }
        }
        match self.pairing.response(start, output) {
            Answer::Current => Ok(match band {
                Band::Confirmation(topic, on) if confirms => {
                    self.await_confirmations();
                    Role::Confirmation(topic, on)
                }
                _ => Role::Answer,
            }),
            Answer::NoRequest if !waited => {
                self.pairing.saw_response(start);
                Err(Stop::Until(Then::Blocked))
            }
            Answer::NoRequest | Answer::TooEarly => {
                self.pairing.unsolicited(start, output);
                self.replies.unsolicited = start;
                self.drain(output);
                Ok(Role::Aside)
            }
            Answer::Unknown => Err(Stop::Doubt),
        }
    }

    /// The role of a reply that was found to be that of the oldest command outstanding.
    fn answer_role(&mut self, bytes: &[u8]) -> Role {
        let kind = self.pairing.current().map(|command| command.kind);
        match (frames::out_of_band(bytes), kind) {
            (Ok(Band::Confirmation(topic, true)), Some(Kind::Subscribe(asked))) if topic == asked => {
                self.await_confirmations();
                Role::Confirmation(topic, true)
            }
            (Ok(Band::Confirmation(topic, false)), Some(Kind::Unsubscribe(asked))) if topic == asked => {
                self.await_confirmations();
                Role::Confirmation(topic, false)
            }
            _ => Role::Answer,
        }
    }

    /// The current command is answered by confirmations: one for each of its arguments; without any, one for each
    /// subscription of the kind, or one that says that there was none.
    fn await_confirmations(&mut self) {
        let subscribed = self.replies.subscribed;
        let Some(command) = self.pairing.current() else {
            return;
        };
        let left = match (command.kind, command.arguments) {
            (Kind::Unsubscribe(topic), 0) => subscribed[topic as usize].map(|n| n.max(1)),
            (_, n) => Some(u64::from(n)),
        };
        self.replies.awaited = Some(Awaited { left });
    }

    /// Takes note of an element of the value being read; `text` is its line, or of a bulk error what it begins with.
    fn saw(&mut self, element: &Element<'_>, text: &[u8]) {
        let levels = &self.replies.levels;
        if levels.iter().any(|level| level.attributes) {
            return;
        }
        let depth = levels.len();
        match self.replies.role {
            Some(Role::Confirmation(..)) => {
                if let (1, Element::Simple(b':', number)) = (depth, element) {
                    self.replies.total = frames::number(number).and_then(|n| u64::try_from(n).ok());
                }
            }
            Some(Role::Answer) => {
                if let Some(command) = self.pairing.current() {
                    command.saw(depth, element, text);
                }
            }
            _ => {}
        }
    }

    /// A value is over, at `time` if that was seen, and with it perhaps what it was in.
    fn value_over(&mut self, time: Option<u64>, output: &mut dyn Output) {
        while let Some(level) = self.replies.levels.last_mut() {
            let Some(left) = &mut level.left else { return };
            *left -= 1;
            if *left > 0 {
                return;
            }
            let attributes = level.attributes;
            self.replies.levels.pop();
            if attributes {
                // What they are attributes of comes now.
                return;
            }
        }
        match self.replies.role.take() {
            Some(Role::Answer) => self.reply_over(time, output),
            Some(Role::Confirmation(topic, _)) => {
                let total = self.replies.total.take();
                if let Some(total) = total {
                    self.replies.confirmed(topic, total);
                }
                let Some(awaited) = &mut self.replies.awaited else {
                    return;
                };
                let last = match &mut awaited.left {
                    Some(left) => {
                        *left = left.saturating_sub(1);
                        *left == 0
                    }
                    None => total == Some(0),
                };
                if last {
                    self.replies.awaited = None;
                    self.reply_over(time, output);
                }
            }
            _ => {}
        }
    }

    fn reply_over(&mut self, time: Option<u64>, output: &mut dyn Output) {
        if let Some(command) = self.pairing.current()
            && !command.reply.failed
        {
            match command.kind {
                Kind::Monitor => self.replies.monitoring = true,
                Kind::Reset => {
                    self.replies.monitoring = false;
                    self.replies.subscribed = [Some(0); 3];
                }
                _ => {}
            }
        }
        match time {
            Some(time) => self.pairing.response_ended(time, output),
            None => self.pairing.response_end_lost(output),
        }
        self.drain(output);
    }

    /// What begins at `at` is no element.
    fn refuse(&mut self, input: &Input<'_>, at: usize, output: &mut dyn Output) {
        output.lost(Loss::Refused, 1);
        self.lose_track(Flow::ToClient, Some(input.time_until(at)), output);
        self.pairing.passed_over(input.time_at(at), output);
    }

    /// The replies are to be searched, though none of their bytes are lost.
    fn lose_replies(&mut self, before: Option<u64>) {
        self.replies.lost = true;
        self.replies.before = before;
    }

    /// Finds the reply to the oldest command outstanding. `Err` is how many bytes of the input are not it.
    fn find_reply(
        &mut self,
        input: &Input<'_>,
        from: usize,
        output: &mut dyn Output,
    ) -> Result<usize, usize> {
        let mut at = from;
        loop {
            let bytes = &input.bytes[at..];
            let Some(&first) = bytes.first() else {
                return Err(at);
            };
            if input.chunk_starts_at(at) && frames::begins_element(first) && first != b'>' {
                let line = match frames::line(bytes) {
                    Line::Whole(text, _) => frames::element(text).is_some(),
                    Line::Incomplete if bytes.len() < MAX_NAME => return Err(at),
                    _ => false,
                };
                let start = input.time_at(at);
                if line && self.pairing.turned_to_client(self.replies.before, start, output) {
                    self.replies.lost = false;
                    self.replies.role = Some(self.answer_role(bytes));
                    return Ok(at);
                }
                if line {
                    self.pairing.saw_response(start);
                }
            }
            let next = input.next_chunk(at + 1).unwrap_or(input.bytes.len());
            let last = input.time_until(next);
            output.lost(Loss::ResyncBytes, (next - at) as u64);
            self.pairing.passed_over(last, output);
            self.replies.before = Some(last);
            at = next;
        }
    }
}

impl Command {
    /// An element of the reply, this deep in it.
    fn saw(&mut self, depth: usize, element: &Element<'_>, text: &[u8]) {
        let (reply, depth) = match (self.kind, depth) {
            (Kind::Exec, 1..) => {
                if depth == 1 {
                    if self.elements.len() >= MAX_ELEMENTS {
                        return;
                    }
                    self.elements.push(Reply::default());
                }
                match self.elements.last_mut() {
                    Some(reply) => (reply, depth - 1),
                    None => return,
                }
            }
            _ => (&mut self.reply, depth),
        };
        match (depth, element) {
            (0, Element::Simple(b':', number)) => {
                reply.integer = frames::number(number).and_then(|n| u32::try_from(n).ok());
            }
            (0, Element::Simple(b'+', b"QUEUED")) => reply.queued = true,
            (0, Element::Error(text)) => reply.fail(text),
            (0, Element::Bulk(_, true)) => reply.fail(text),
            (0, Element::Null) => reply.null = true,
            (0, Element::Aggregate(n)) => reply.elements = Some(*n),
            (1, Element::Null) => reply.nulls += 1,
            _ => {}
        }
    }
}

impl Reply {
    fn fail(&mut self, text: &[u8]) {
        self.failed = true;
        self.prefix.clear();
        self.prefix
            .push_str(frames::error_prefix(text).unwrap_or_default());
    }
}
