//! Matching of responses to requests by the ids of their streams (RFC 9113 § 5.1).

use super::fields::{Content, Response};
use super::hpack::Id;
use super::stream::{Outcome, REPORT_EVERY, Stream};
use crate::loss::Loss;
use crate::output::Output;
use crate::protocol::Flow;
use crate::protocol::grpc::outcome::Told;
use crate::protocol::grpc::{Counter, Kind, web};
use std::collections::VecDeque;

/// Open streams of a connection; the oldest goes when one more comes.
const STREAMS: usize = 2048;

/// How many kinds of unknown requests are remembered to be gRPC.
const KINDS: usize = 64;

/// How long the rest of a request is waited for that its server, having answered, told the client to stop (RFC 9113
/// § 8.1): it may be on its way, and whether it comes before the reset is chance. Nanoseconds.
const IN_FLIGHT: u64 = 100_000_000;

/// The open streams of a connection.
#[derive(Debug, Default)]
pub(super) struct Streams {
    /// By id, which only grows.
    open: VecDeque<(u32, Box<Stream>)>,
    /// Where the last one that was asked for was: a frame asks several times.
    found: usize,
    /// The highest id whose request was seen.
    last: u32,
    /// What `last` was when requests began to be missed.
    last_before: u32,
    /// No request after `last` was missed.
    sure: bool,
    /// Requests up to this id may have been missed.
    unseen: u32,
    /// The highest id of a response that went by before its request was seen.
    passed: u32,
    /// What requests of gRPC refer to in the part of the header table that is not known. A request with the same
    /// references has the same unknown fields, `content-type` among them.
    of_grpc: VecDeque<u64>,
    /// Since when the first of the streams that were stopped waits for the rest of its request.
    stopped: Option<u64>,
}

impl Streams {
    /// The streams at the beginning of a connection.
    pub(super) fn fresh() -> Streams {
        Streams {
            sure: true,
            ..Streams::default()
        }
    }

    fn find(&mut self, id: u32) -> Option<usize> {
        if self.open.get(self.found).is_none_or(|(found, _)| *found != id) {
            self.found = self.open.binary_search_by_key(&id, |(id, _)| *id).ok()?;
        }
        Some(self.found)
    }

    fn get(&mut self, id: u32) -> Option<&mut Stream> {
        let at = self.find(id)?;
        self.open.get_mut(at).map(|(_, stream)| &mut **stream)
    }

    fn remove(&mut self, id: u32) -> Option<Box<Stream>> {
        let at = self.find(id)?;
        let removed = self.open.remove(at).map(|(_, stream)| stream);
        if self.open.is_empty() && self.open.capacity() > 16 {
            self.open = VecDeque::new();
        }
        removed
    }

    /// Whether HEADERS of the client with this id begin a request.
    pub(super) fn is_new(&self, id: u32) -> bool {
        id % 2 == 1 && id > self.last
    }

    /// Whether all requests since the last one were seen.
    pub(super) fn is_sure(&self) -> bool {
        self.sure
    }

    /// Whether a response with this id can be one whose request is late.
    pub(super) fn may_be_late(&self, id: u32) -> bool {
        self.sure && self.is_new(id)
    }

    /// A request has begun that is not to be reported.
    pub(super) fn skip(&mut self, id: u32) {
        if !self.sure {
            self.unseen = id;
        }
        self.sure = true;
        self.last = id;
    }

    /// A request has begun. `doubtful`: its response may go by unseen.
    pub(super) fn open(&mut self, id: u32, mut stream: Box<Stream>, doubtful: bool, output: &mut dyn Output) {
        if !self.sure {
            self.unseen = id - 1;
        }
        self.sure = true;
        self.last = id;
        if id <= self.passed {
            output.lost(Loss::UnpairedRequest, 1);
            return stream.recycle();
        }
        if self.open.len() >= STREAMS
            && let Some((_, mut oldest)) = self.open.pop_front()
        {
            if oldest.is_answered() {
                oldest.report_answered(output);
                oldest.recycle();
            } else {
                lose(oldest, Loss::Evicted, output);
            }
        }
        stream.like_grpc = stream
            .unknown_fields()
            .is_some_and(|fields| self.of_grpc.contains(&fields));
        let counter = stream.new_counter();
        for half in &mut stream.halves {
            half.counter = counter;
        }
        if doubtful {
            let response = stream.half(Flow::ToClient);
            (response.holed, response.doubtful, response.counter) = (true, true, None);
        }
        self.open.push_back((id, stream));
    }

    /// A frame of a response whose stream is not open.
    fn stray(&mut self, id: u32, ends: bool, output: &mut dyn Output) {
        if id.is_multiple_of(2) {
            return;
        }
        let ahead = id > self.last;
        if ahead {
            self.passed = self.passed.max(id);
        }
        if ends && (ahead || !self.sure || id <= self.unseen) {
            output.lost(Loss::UnpairedResponse, 1);
        }
    }

    /// A header section from the server, between `start` and `end`. END_STREAM is told to [`Streams::ended`] next. Returns
    /// the entry of the header table whose name it shows to be `grpc-status`.
    pub(super) fn response(
        &mut self,
        id: u32,
        mut response: Response,
        ends: bool,
        (start, end): (u64, u64),
        output: &mut dyn Output,
    ) -> Option<Id> {
        let Some(stream) = self.get(id) else {
            // An end is told on its own.
            self.stray(id, false, output);
            return None;
        };
        if start < stream.start {
            output.lost(Loss::UnpairedResponse, 1);
            output.lost(Loss::UnpairedRequest, 1);
            self.drop_stream(id);
            return None;
        }
        let mut learned = None;
        stream.half(Flow::ToClient).doubtful = false;
        let is_interim = !ends && matches!(response.status, Some(100..=199));
        if !is_interim && stream.status.is_none() && (response.has_status || !stream.answered) {
            let whole = response.has_status && stream.half(Flow::ToClient).bytes == 0;
            if whole && !stream.answered {
                // Nothing but interim responses can have been missed before it.
                let counter = stream.new_counter();
                let half = stream.half(Flow::ToClient);
                (half.holed, half.counter) = (false, counter);
            }
            stream.answered = true;
            if matches!(response.content, Content::Grpc(Kind::Web | Kind::WebText)) {
                // A response without messages has it here (doc/PROTOCOL-WEB.md, "Trailers-Only").
                stream.grpc_status = response.grpc_status;
            }
            stream.status = response.status;
            stream.content = response.content;
            let half = stream.half(Flow::ToClient);
            match response.content {
                Content::Other | Content::Grpc(Kind::WebText) => half.counter = None,
                Content::Grpc(_) if whole => half.counter = half.counter.or(Some(Counter::default())),
                _ => {}
            }
        }
        if ends {
            if stream.grpc() == Some(Kind::Native) && !matches!(stream.content, Content::Other) {
                learned = response.infer_grpc_status();
            }
            stream.grpc_status = response.grpc_status.or(stream.grpc_status);
            stream.grpc_status_unknown |= response.incomplete;
        } else if matches!(stream.status, Some(200..=299))
            && stream.websocket.is_none()
            && stream.request.method() == Some("CONNECT")
        {
            let span = stream.report(end, Outcome::Complete, output);
            if !stream.request.websocket {
                self.drop_stream(id);
                return None;
            }
            output.sessions(1);
            stream.websocket = Some(span);
            stream.start = end;
            for half in &mut stream.halves {
                half.bytes = 0;
            }
        }
        learned
    }

    /// `length` bytes of content begin.
    pub(super) fn content(&mut self, id: u32, flow: Flow, length: u32, output: &mut dyn Output) {
        match self.get(id) {
            Some(stream) => {
                let half = stream.half(flow);
                half.doubtful = false;
                half.bytes += u64::from(length);
            }
            None if flow == Flow::ToClient => self.stray(id, false, output),
            None => {}
        }
    }

    /// The counter of messages, where they are counted.
    pub(super) fn counter(&mut self, id: u32, flow: Flow) -> Option<&mut Counter> {
        self.get(id)?.half(flow).counter.as_mut()
    }

    /// The trailers of gRPC-Web are in these bytes; `None` where they are too long.
    pub(super) fn web_trailers(&mut self, id: u32, trailers: Option<&[u8]>, compressed: bool) {
        if let Some(stream) = self.get(id)
            && matches!(stream.grpc(), Some(Kind::Web))
        {
            match trailers.map(|trailers| web::told(trailers, compressed)) {
                Some(Told::Status(status)) => stream.grpc_status = Some(status),
                Some(Told::Nothing) => {}
                Some(Told::Unreadable) | None => stream.grpc_status_unknown = true,
            }
        }
    }

    /// The counter came on: messages are told if it is time, and a counter that counts no messages is given up.
    pub(super) fn counted(&mut self, id: u32, flow: Flow, time: u64, output: &mut dyn Output) {
        let Some(stream) = self.get(id) else { return };
        let half = stream.half(flow);
        if half.counter.is_some_and(|counter| counter.is_foreign()) {
            half.counter = None;
        } else if time >= stream.reported_at + REPORT_EVERY && stream.grpc().is_some() {
            stream.report_messages(time, output);
        }
    }

    /// END_STREAM was seen, or is sure to have been sent.
    pub(super) fn ended(&mut self, id: u32, flow: Flow, time: u64, output: &mut dyn Output) {
        let Some(stream) = self.get(id) else {
            if flow == Flow::ToClient {
                self.stray(id, true, output);
            }
            return;
        };
        stream.half(flow).ended = true;
        if flow == Flow::ToClient {
            stream.end = time;
        }
        let [request, response] = &stream.halves;
        if !response.ended || !request.ended && !request.holed {
            // The rest of the request may still be reset, or count.
            return;
        }
        match stream.websocket {
            Some(handshake) => stream.report_websocket(handshake, time, output),
            None => stream.report_answered(output),
        }
        let unknown = stream.unknown_fields();
        if let Some(fields) = unknown.filter(|_| !stream.like_grpc && stream.is_framed()) {
            self.of_grpc.truncate(KINDS - 1);
            self.of_grpc.push_front(fields);
        }
        self.drop_stream(id);
    }

    /// RST_STREAM, at `time`.
    pub(super) fn reset(&mut self, id: u32, flow: Flow, code: u32, time: u64, output: &mut dyn Output) {
        let Some(stream) = self.get(id) else {
            if flow == Flow::ToClient {
                self.stray(id, false, output);
            }
            return;
        };
        if let Some(handshake) = stream.websocket {
            stream.report_websocket(handshake, time, output);
        } else if stream.is_answered() {
            let first = stream.reset.is_none();
            stream.reset.get_or_insert((code, time));
            if flow == Flow::ToClient && first && !stream.half(Flow::ToServer).holed {
                self.stopped.get_or_insert(time);
                return;
            }
            stream.report_answered(output);
        } else {
            stream.report(time, Outcome::Reset(code), output);
        }
        self.drop_stream(id);
    }

    /// It is `time` now: requests that were stopped long ago get no longer.
    pub(super) fn pass_time(&mut self, time: u64, output: &mut dyn Output) {
        if self.stopped.is_none_or(|since| time < since + IN_FLIGHT) {
            return;
        }
        self.take_out(
            |stream| stream.reset.is_some_and(|(_, since)| time >= since + IN_FLIGHT),
            |stream, output| stream.report_answered(output),
            output,
        );
        let left = self.open.iter().filter_map(|(_, stream)| stream.reset);
        self.stopped = left.map(|(_, since)| since).min();
    }

    fn drop_stream(&mut self, id: u32) {
        if let Some(stream) = self.remove(id) {
            stream.recycle();
        }
    }

    /// The end of a response was lost: nothing can be said of when it ended.
    pub(super) fn end_lost(&mut self, id: u32, output: &mut dyn Output) {
        if let Some(stream) = self.remove(id) {
            lose(stream, Loss::UnpairedRequest, output);
        }
    }

    /// Messages on a stream are missing.
    pub(super) fn content_lost(&mut self, id: u32, flow: Flow) {
        if let Some(stream) = self.get(id) {
            stream.half(flow).counter = None;
        }
    }

    /// Frames are missing in `flow`.
    pub(super) fn gap(&mut self, flow: Flow, output: &mut dyn Output) {
        if flow == Flow::ToServer {
            self.sure = false;
            self.last_before = self.last;
            self.of_grpc.clear();
        }
        for (_, stream) in &mut self.open {
            let half = stream.half(flow);
            half.doubtful = true;
            if !half.ended {
                (half.holed, half.counter) = (true, None);
            }
        }
        if flow == Flow::ToServer {
            // Their requests may have ended unseen; nothing is waited for.
            self.take_out(
                Stream::is_answered,
                |stream, output| stream.report_answered(output),
                output,
            );
        }
    }

    /// GOAWAY of the server: requests beyond `last` will not be answered.
    pub(super) fn go_away(&mut self, last: u32, time: u64, output: &mut dyn Output) {
        while let Some((id, stream)) = self.open.pop_back() {
            if id <= last || stream.answered {
                self.open.push_back((id, stream));
                break;
            }
            cut_off(stream, time, output);
        }
    }

    /// No response will come any more, as of `time`; `seen`: bytes of the server were seen at all.
    pub(super) fn cut_off(&mut self, seen: bool, time: u64, output: &mut dyn Output) {
        for (_, stream) in std::mem::take(&mut self.open) {
            if seen {
                cut_off(stream, time, output);
            } else {
                lose(stream, Loss::Unfinished, output);
            }
        }
    }

    /// Observation ends.
    pub(super) fn abandon(&mut self, output: &mut dyn Output) {
        for (_, mut stream) in std::mem::take(&mut self.open) {
            if stream.is_answered() {
                stream.report_answered(output);
                stream.recycle();
            } else {
                lose(stream, Loss::Unfinished, output);
            }
        }
    }

    /// Frames were read that were none: nothing that is open can be believed.
    pub(super) fn distrust(&mut self, flow: Flow, output: &mut dyn Output) {
        if flow == Flow::ToServer {
            (self.last, self.sure) = (self.last_before, false);
        }
        for (_, stream) in std::mem::take(&mut self.open) {
            lose(stream, Loss::UnpairedRequest, output);
        }
    }

    fn take_out(
        &mut self,
        which: impl Fn(&Stream) -> bool,
        report: impl Fn(&mut Stream, &mut dyn Output),
        output: &mut dyn Output,
    ) {
        let mut at = 0;
        while let Some((_, stream)) = self.open.get(at) {
            if !which(stream) {
                at += 1;
            } else if let Some((_, mut stream)) = self.open.remove(at) {
                report(&mut stream, output);
                stream.recycle();
            }
        }
    }
}

/// Counts a stream of which nothing can be reported.
fn lose(stream: Box<Stream>, loss: Loss, output: &mut dyn Output) {
    if stream.websocket.is_some() {
        output.sessions(-1);
    }
    output.lost(loss, 1);
    stream.recycle();
}

/// Ends a stream whose response will not come, or not come to an end.
fn cut_off(mut stream: Box<Stream>, time: u64, output: &mut dyn Output) {
    match stream.websocket {
        Some(handshake) => stream.report_websocket(handshake, time, output),
        None if stream.is_answered() => stream.report_answered(output),
        None if stream.halves.iter().any(|half| half.doubtful) => {
            return lose(stream, Loss::UnpairedRequest, output);
        }
        None => {
            stream.report(time, Outcome::Closed, output);
        }
    }
    stream.recycle();
}
