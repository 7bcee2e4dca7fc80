//! What a client sends: commands, as arrays of bulk strings or inline.

use super::commands::{self, Kind, MAX_NAME};
use super::frames::{self, Begin, Line};
use super::matcher::{Command, Redis};
use crate::loss::Loss;
use crate::output::Output;
use crate::protocol::{Input, Progress, Then};

/// Whether the server answers (CLIENT REPLY).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ReplyMode {
    On,
    Off,
    /// Not the next command.
    Skip,
}

/// A command whose arguments are being read.
#[derive(Debug)]
struct Building {
    command: Command,
    start: u64,
    /// Arguments to come, and which is next; the name is the first.
    left: u32,
    index: u32,
}

/// When the last byte before the input came, if it was seen.
pub(super) fn seen_until(input: &Input<'_>) -> Option<u64> {
    (!input.end_unseen).then_some(input.time_before)
}

/// The state of the flow.
#[derive(Debug)]
pub(super) struct Requests {
    /// A place where a command begins is to be found first.
    lost: bool,
    /// Joined in the middle, where the first command found is believed.
    joined: bool,
    /// While lost: time of the byte before, if it was seen.
    before: Option<u64>,
    building: Option<Building>,
    /// The argument that was skipped is over.
    skipping: bool,
    mode: ReplyMode,
}

impl Requests {
    pub(super) fn new(fresh: bool) -> Requests {
        Requests {
            lost: !fresh,
            joined: !fresh,
            before: None,
            building: None,
            skipping: false,
            mode: ReplyMode::On,
        }
    }

    /// The command that was being read, which is lost.
    pub(super) fn unfinished(&mut self) -> Option<Command> {
        self.building.take().map(|building| building.command)
    }

    /// Returns whether it is not known any more if the server answers.
    pub(super) fn lose_track(&mut self, before: Option<u64>) -> bool {
        (self.lost, self.joined, self.before) = (true, false, before);
        self.skipping = false;
        self.mode != ReplyMode::On
    }
}

impl Redis {
    pub(super) fn client_sent(&mut self, input: Input<'_>, output: &mut dyn Output) -> Progress {
        if std::mem::take(&mut self.requests.skipping)
            && let Some(then) = self.argument_over(seen_until(&input), output)
        {
            return Progress::new(0, then);
        }
        let mut at = 0;
        loop {
            if self.requests.lost {
                match self.find_command(&input, at, output) {
                    Ok(found) => at = found,
                    Err((passed, then)) => return Progress::new(passed, then),
                }
            }
            let bytes = &input.bytes[at..];
            if bytes.is_empty() {
                return Progress::new(at, Then::More);
            }
            if self.requests.building.is_some() {
                let length = match frames::line(bytes) {
                    Line::Incomplete => return Progress::new(at, Then::More),
                    Line::Whole(text, taken) => frames::argument_length(text).map(|length| (length, taken)),
                    Line::TooLong => None,
                };
                let Some((length, taken)) = length else {
                    return self.malformed(&input, at, output);
                };
                let whole = usize::try_from(length).ok().and_then(|n| n.checked_add(taken));
                let argument = whole.and_then(|end| bytes.get(taken..end));
                if argument.is_none() && length <= MAX_NAME as u64 {
                    return Progress::new(at, Then::More);
                }
                if let Some(building) = &mut self.requests.building {
                    building.argument(argument.unwrap_or_default());
                }
                // With its CRLF.
                let end = whole
                    .and_then(|end| end.checked_add(2))
                    .filter(|&end| end <= bytes.len());
                let Some(end) = end else {
                    self.requests.skipping = true;
                    let here = bytes.len().min(taken);
                    let rest = length + 2;
                    return Progress::new(at + here, Then::Skip(rest));
                };
                at += end;
                if let Some(then) = self.argument_over(Some(input.time_until(at)), output) {
                    return Progress::new(at, then);
                }
                continue;
            }
            if self.pairing.is_full() {
                return Progress::new(at, Then::Wait);
            }
            let (text, taken) = match frames::line(bytes) {
                Line::Incomplete => return Progress::new(at, Then::More),
                Line::TooLong => return self.malformed(&input, at, output),
                Line::Whole(text, taken) => (text, taken),
            };
            let start = input.time_at(at);
            if text.first() == Some(&b'*') {
                let Some(count) = frames::argument_count(text) else {
                    return self.malformed(&input, at, output);
                };
                at += taken;
                // Nothing asked for is not answered.
                if let Ok(left @ 1..) = u32::try_from(count) {
                    let mut command = self.pairing.storage();
                    command.clear();
                    self.requests.building = Some(Building {
                        command,
                        start,
                        left,
                        index: 0,
                    });
                }
                continue;
            }
            let mut command = self.pairing.storage();
            command.clear();
            let mut building = Building {
                command,
                start,
                left: 0,
                index: 0,
            };
            match frames::split_inline(text, &mut |_, word| building.argument(word)) {
                None => {
                    self.pairing.recycle(building.command);
                    return self.malformed(&input, at, output);
                }
                Some(0) => self.pairing.recycle(building.command),
                Some(_) => {
                    if let Some(then) = self.complete(building, Some(input.time_until(at + taken)), output) {
                        return Progress::new(at + taken, then);
                    }
                }
            }
            at += taken;
        }
    }

    /// Finds a command behind a loss. `Err` is how many bytes of the input are none, and what is needed next.
    fn find_command(
        &mut self,
        input: &Input<'_>,
        from: usize,
        output: &mut dyn Output,
    ) -> Result<usize, (usize, Then)> {
        let mut at = from;
        loop {
            let bytes = &input.bytes[at..];
            if !bytes.is_empty() && input.chunk_starts_at(at) {
                let turned = self.requests.joined
                    || self
                        .pairing
                        .turned_to_server(self.requests.before, input.time_at(at));
                match frames::command_chain(bytes) {
                    Begin::Yes if turned => {
                        self.requests.lost = false;
                        return Ok(at);
                    }
                    Begin::Maybe if turned && bytes.len() < frames::MAX_LINE => return Err((at, Then::More)),
                    Begin::Yes
                        if !(input.waited && at == 0)
                            && self
                                .pairing
                                .may_turn_to_server(self.requests.before, input.time_at(at)) =>
                    {
                        return Err((at, Then::Blocked));
                    }
                    _ => {}
                }
            }
            let next = input.next_chunk(at + 1).unwrap_or(input.bytes.len());
            if next > at {
                output.lost(Loss::ResyncBytes, (next - at) as u64);
                let last = input.time_until(next);
                self.pairing.passed_request(false, self.requests.before, last);
                self.requests.before = Some(last);
            }
            at = next;
            if at >= input.bytes.len() {
                return Err((input.bytes.len(), Then::More));
            }
        }
    }

    /// One argument more of the command that is being read. Returns what is to be done, if the flow does not go on.
    fn argument_over(&mut self, time: Option<u64>, output: &mut dyn Output) -> Option<Then> {
        let building = self.requests.building.as_mut()?;
        building.left -= 1;
        if building.left > 0 {
            return None;
        }
        let building = self.requests.building.take()?;
        self.complete(building, time, output)
    }

    /// A command is complete; its last byte came at `end`, if that was seen.
    fn complete(&mut self, building: Building, end: Option<u64>, output: &mut dyn Output) -> Option<Then> {
        let Building {
            mut command,
            start,
            index,
            ..
        } = building;
        let named = 1 + u32::from(command.name.contains(' '));
        command.arguments = index.saturating_sub(named);
        let mode = self.requests.mode;
        match command.kind {
            Kind::Sync => {
                output.lost(Loss::Unreportable, 1);
                self.pairing.abandon(output);
                return Some(Then::Ignore);
            }
            Kind::ReplyOn => self.requests.mode = ReplyMode::On,
            Kind::ReplyOff => self.requests.mode = ReplyMode::Off,
            Kind::ReplySkip if mode == ReplyMode::On => self.requests.mode = ReplyMode::Skip,
            Kind::Reset => self.requests.mode = ReplyMode::On,
            _ if mode == ReplyMode::Skip => self.requests.mode = ReplyMode::On,
            _ => {}
        }
        let answered = match command.kind {
            Kind::ReplyOff | Kind::ReplySkip => false,
            Kind::ReplyOn | Kind::Reset => true,
            _ => mode == ReplyMode::On,
        };
        if answered {
            command.certain = self.pairing.is_certain();
            if !command.certain && matches!(command.kind, Kind::Select(_)) {
                self.forget_database();
            }
            self.asked(command, start, end, output);
        } else {
            self.unanswered(command, start, output);
        }
        None
    }

    /// The server answers what is no command with an error and closes the connection.
    fn malformed(&mut self, input: &Input<'_>, at: usize, output: &mut dyn Output) -> Progress {
        output.lost(Loss::Refused, 1);
        let (mut command, start) = match self.requests.building.take() {
            Some(Building { command, start, .. }) => (command, start),
            None => (self.pairing.storage(), input.time_at(at)),
        };
        command.clear();
        self.asked(command, start, Some(input.time_at(at)), output);
        Progress::new(input.bytes.len(), Then::SkipToEnd)
    }
}

impl Building {
    /// The next argument, as far as it may matter: empty where it is long.
    fn argument(&mut self, word: &[u8]) {
        let command = &mut self.command;
        match self.index {
            0 => {
                if !commands::push_name(&mut command.name, word) {
                    command.name.clear();
                }
                command.kind = commands::kind(&command.name);
                command.cache = commands::cache(&command.name);
            }
            1 if commands::is_container(&command.name) => {
                let length = command.name.len();
                command.name.push(' ');
                if !commands::push_name(&mut command.name, word) {
                    command.name.truncate(length);
                }
            }
            1 if matches!(command.kind, Kind::Select(_)) => {
                let database = frames::number(word).and_then(|n| u32::try_from(n).ok());
                command.kind = Kind::Select(database);
            }
            2 if command.name == "CLIENT REPLY" => {
                command.kind = match word {
                    word if word.eq_ignore_ascii_case(b"off") => Kind::ReplyOff,
                    word if word.eq_ignore_ascii_case(b"skip") => Kind::ReplySkip,
                    word if word.eq_ignore_ascii_case(b"on") => Kind::ReplyOn,
                    _ => Kind::Plain,
                }
            }
            _ => {}
        }
        self.index = self.index.saturating_add(1);
    }
}
