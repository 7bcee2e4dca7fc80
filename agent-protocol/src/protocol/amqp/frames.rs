//! Bytes to frames: AMQP 0-9-1 section 4.2.3, and the methods' arguments as in
//! the XML of the specification with RabbitMQ's extensions.

use super::content::ContentHeader;
use super::reader::Reader;
use crate::protocol::Flow;
use crate::record::amqp::Operation;

/// What a client sends first (section 4.2.2).
pub(super) const PROTOCOL_HEADER: &[u8; 8] = b"AMQP\0\0\x09\x01";

/// What clients of 0-9 send, and those that took it over for 0-9-1: RabbitMQ answers both in 0-9-1 (`rabbit_reader`).
const OLDER_HEADERS: [&[u8; 8]; 2] = [b"AMQP\x01\x01\0\x09", b"AMQP\x01\x01\x09\x01"];

/// Octets before the payload.
pub(super) const HEADER: usize = 7;

const END: u8 = 0xce;

/// A method or content header whose payload is longer than this is not kept to be read. RabbitMQ's frame-max
/// is 128 KiB unless configured.
pub(super) const MAX_READ: usize = 192 << 10;

/// A body frame longer than this is not believed, where frame-max is not known.
const MAX_BODY: u32 = 64 << 20;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FrameType {
    Method,
    Header,
    Body,
    Heartbeat,
}

/// The first seven octets of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FrameHeader {
    pub(super) kind: FrameType,
    pub(super) channel: u16,
    pub(super) size: u32,
}

/// What the bytes at a place where a frame should begin are.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Frame<'a> {
    /// More bytes are needed.
    Incomplete,
    /// No frame.
    Invalid,
    /// `AMQP` and a version: eight octets.
    ProtocolHeader,
    /// A method or content header, whole, with its payload; or a heartbeat.
    Whole(FrameHeader, &'a [u8]),
    /// A body: only its frame header is looked at.
    Body(FrameHeader),
}

impl FrameHeader {
    fn read(bytes: &[u8], frame_max: Option<u32>) -> Option<Option<FrameHeader>> {
        let Some(&[kind, c1, c2, s1, s2, s3, s4]) = bytes.first_chunk::<HEADER>() else {
            let plausible = matches!(bytes.first(), None | Some(1..=3 | 8));
            return plausible.then_some(None);
        };
        let header = FrameHeader {
            kind: match kind {
                1 => FrameType::Method,
                2 => FrameType::Header,
                3 => FrameType::Body,
                8 => FrameType::Heartbeat,
                _ => return None,
            },
            channel: u16::from_be_bytes([c1, c2]),
            size: u32::from_be_bytes([s1, s2, s3, s4]),
        };
        // The size of a whole frame counts (section 4.2.3), but a broker lets those pass that count the payload only
        // (RabbitMQ's rabbit_reader, FRAME_SIZE_FUDGE).
        let fits = frame_max.is_none_or(|max| header.size <= max);
        let size = header.size as usize;
        let plausible = match header.kind {
            FrameType::Method => (4..=MAX_READ).contains(&size),
            FrameType::Header => header.channel > 0 && (14..=MAX_READ).contains(&size),
            FrameType::Body => header.channel > 0 && header.size <= MAX_BODY,
            FrameType::Heartbeat => header.channel == 0 && size == 0,
        };
        (fits && plausible).then_some(Some(header))
    }
}

/// Reads the frame that `bytes` begin with; none is longer than `frame_max`, where that is known.
pub(super) fn frame(bytes: &[u8], frame_max: Option<u32>) -> Frame<'_> {
    if bytes.first() == Some(&b'A') {
        return match bytes.first_chunk::<8>() {
            Some(start) if start.starts_with(b"AMQP") => Frame::ProtocolHeader,
            None if b"AMQP".starts_with(&bytes[..bytes.len().min(4)]) => Frame::Incomplete,
            _ => Frame::Invalid,
        };
    }
    let header = match FrameHeader::read(bytes, frame_max) {
        None => return Frame::Invalid,
        Some(None) => return Frame::Incomplete,
        Some(Some(header)) => header,
    };
    if header.kind == FrameType::Body {
        return Frame::Body(header);
    }
    let end = HEADER + header.size as usize;
    match (bytes.get(HEADER..end), bytes.get(end)) {
        (Some(payload), Some(&END)) => Frame::Whole(header, payload),
        (_, Some(_)) => Frame::Invalid,
        _ => Frame::Incomplete,
    }
}

/// Whether frames begin here, without doubt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Chain {
    No,
    Maybe,
    /// A chain of whole frames, among them a method that only this flow carries.
    Yes(Flow),
    /// A chain of whole frames, among them a method or heartbeat that either flow may carry.
    Either,
}

/// Whether `bytes` begin with what a client sends first.
pub(super) fn protocol_header(bytes: &[u8]) -> Chain {
    let n = bytes.len().min(PROTOCOL_HEADER.len());
    let mut headers = OLDER_HEADERS.into_iter().chain([PROTOCOL_HEADER]);
    match headers.any(|header| header[..n] == bytes[..n]) {
        false => Chain::No,
        true if n < PROTOCOL_HEADER.len() => Chain::Maybe,
        true => Chain::Yes(Flow::ToServer),
    }
}

/// Follows the chain of frames that `bytes` begin with, down to a method that proves it: one whose arguments fill
/// its frame exactly.
pub(super) fn chain(mut bytes: &[u8], frame_max: Option<u32>) -> Chain {
    let mut either = false;
    loop {
        if bytes.is_empty() && either {
            return Chain::Either;
        }
        let length = match frame(bytes, frame_max) {
            Frame::Incomplete => return Chain::Maybe,
            Frame::Invalid | Frame::ProtocolHeader => return Chain::No,
            Frame::Body(header) => {
                let end = HEADER + header.size as usize;
                match bytes.get(end) {
                    Some(&END) => {}
                    Some(_) => return Chain::No,
                    None => return Chain::Maybe,
                }
                end + 1
            }
            Frame::Whole(header, payload) => {
                match header.kind {
                    FrameType::Method => {
                        let flows = [Flow::ToServer, Flow::ToClient]
                            .map(|flow| Method::read(payload, flow).is_some_and(|m| m.fits(header.channel)));
                        match flows {
                            [true, false] => return Chain::Yes(Flow::ToServer),
                            [false, true] => return Chain::Yes(Flow::ToClient),
                            [true, true] => either = true,
                            [false, false] => return Chain::No,
                        }
                    }
                    FrameType::Header if ContentHeader::read(payload).is_none() => return Chain::No,
                    FrameType::Heartbeat => either = true,
                    _ => {}
                }
                HEADER + payload.len() + 1
            }
        };
        bytes = bytes.get(length..).unwrap_or_default();
        if bytes.is_empty() && !either {
            return Chain::Maybe;
        }
    }
}

/// The arguments of a synchronous request that matter here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Arguments<'a> {
    pub(super) queue: Option<&'a [u8]>,
    pub(super) exchange: Option<&'a [u8]>,
    pub(super) routing_key: Option<&'a [u8]>,
    pub(super) consumer_tag: Option<&'a [u8]>,
    pub(super) no_wait: bool,
    pub(super) no_ack: bool,
    pub(super) requeue: bool,
    /// A queue to be declared goes with the connection or with its last consumer.
    pub(super) temporary: bool,
}

/// Why a channel or connection is closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Exception {
    pub(super) code: u16,
    pub(super) class: u16,
    pub(super) method: u16,
}

impl Exception {
    /// Whether it says which method caused it; class and method are zero where none did (section 1.5.2.5).
    pub(super) fn names_a_method(&self) -> bool {
        (self.class, self.method) != (0, 0)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Method<'a> {
    TuneOk {
        frame_max: u32,
    },
    ConnectionClose(Exception),
    ConnectionCloseOk,
    /// connection.blocked and unblocked (RabbitMQ): whether the broker takes no publishes.
    Blocked(bool),
    ChannelOpen,
    ChannelOpenOk,
    ChannelClose(Exception),
    ChannelCloseOk,
    Request(Operation, Arguments<'a>),
    /// The `-ok` of a request, with the queue or consumer tag that it names.
    Reply(Operation, Option<&'a [u8]>),
    GetOk {
        tag: u64,
        redelivered: bool,
        exchange: &'a [u8],
        routing_key: &'a [u8],
    },
    GetEmpty,
    Publish {
        exchange: &'a [u8],
        routing_key: &'a [u8],
        mandatory: bool,
    },
    Return {
        code: u16,
        exchange: &'a [u8],
        routing_key: &'a [u8],
    },
    Deliver {
        consumer_tag: &'a [u8],
        tag: u64,
        redelivered: bool,
        exchange: &'a [u8],
        routing_key: &'a [u8],
    },
    Ack {
        tag: u64,
        multiple: bool,
    },
    Nack {
        tag: u64,
        multiple: bool,
        requeue: bool,
    },
    Reject {
        tag: u64,
        requeue: bool,
    },
    /// basic.cancel from the broker (RabbitMQ's consumer cancel notification).
    Cancelled {
        consumer_tag: &'a [u8],
    },
    /// Valid, and of no consequence here, for a channel.
    OtherOnChannel,
    /// Valid, and of no consequence here, for the connection.
    OtherOnConnection,
}

/// Class and method of a request, as an exception names it.
pub(super) fn number(operation: Operation) -> (u16, u16) {
    match operation {
        Operation::ExchangeDeclare => (40, 10),
        Operation::ExchangeDelete => (40, 20),
        Operation::ExchangeBind => (40, 30),
        Operation::ExchangeUnbind => (40, 40),
        Operation::QueueDeclare => (50, 10),
        Operation::QueueBind => (50, 20),
        Operation::QueuePurge => (50, 30),
        Operation::QueueDelete => (50, 40),
        Operation::QueueUnbind => (50, 50),
        Operation::BasicQos => (60, 10),
        Operation::BasicConsume => (60, 20),
        Operation::BasicCancel => (60, 30),
        Operation::Publish => (60, 40),
        Operation::Deliver => (60, 60),
        Operation::Get => (60, 70),
        Operation::BasicRecover => (60, 110),
        Operation::ConfirmSelect => (85, 10),
        Operation::TxSelect => (90, 10),
        Operation::TxCommit => (90, 20),
        Operation::TxRollback => (90, 30),
    }
}

impl<'a> Method<'a> {
    /// Whether the method belongs on a channel of this number: those of class connection on 0, others elsewhere.
    pub(super) fn fits(&self, channel: u16) -> bool {
        let of_connection = matches!(
            self,
            Method::TuneOk { .. }
                | Method::ConnectionClose(_)
                | Method::ConnectionCloseOk
                | Method::Blocked(_)
                | Method::OtherOnConnection
        );
        of_connection == (channel == 0)
    }

    /// Whether it can end what the other flow began, or a channel.
    pub(super) fn ends_something(&self, flow: Flow) -> bool {
        match self {
            Method::Deliver { .. }
            | Method::Publish { .. }
            | Method::Cancelled { .. }
            | Method::TuneOk { .. }
            | Method::Blocked(_)
            | Method::OtherOnChannel
            | Method::OtherOnConnection => false,
            Method::Request(operation, _) => flow == Flow::ToServer && *operation == Operation::BasicRecover,
            _ => true,
        }
    }

    /// Reads a method that `flow` may carry. Its arguments must fill the payload.
    pub(super) fn read(payload: &'a [u8], flow: Flow) -> Option<Method<'a>> {
        let mut reader = Reader(payload);
        let class = reader.short()?;
        let method = reader.short()?;
        let read = match flow {
            Flow::ToServer => Method::from_client(class, method, &mut reader)?,
            Flow::ToClient => Method::from_server(class, method, &mut reader)?,
        };
        reader.0.is_empty().then_some(read)
    }

    fn exception(r: &mut Reader<'a>) -> Option<Exception> {
        let code = r.short()?;
        r.shortstr()?;
        Some(Exception {
            code,
            class: r.short()?,
            method: r.short()?,
        })
    }

    fn settlement(method: u16, r: &mut Reader<'a>) -> Option<Method<'a>> {
        let tag = r.longlong()?;
        let bits = r.octet()?;
        Some(match method {
            80 => Method::Ack {
                tag,
                multiple: bits & 1 != 0,
            },
            _ => Method::Nack {
                tag,
                multiple: bits & 1 != 0,
                requeue: bits & 2 != 0,
            },
        })
    }

    fn from_client(class: u16, method: u16, r: &mut Reader<'a>) -> Option<Method<'a>> {
        use Operation::*;
        let mut a = Arguments::default();
        // Deprecated `ticket`, the first argument of most methods.
        let ticketed = matches!((class, method), (40, _) | (50, _) | (60, 20 | 40 | 70));
        if ticketed {
            r.short()?;
        }
        let request = |operation, a| Some(Method::Request(operation, a));
        match (class, method) {
            (10, 11) => {
                r.longstr()?;
                r.shortstr()?;
                r.longstr()?;
                r.shortstr()?;
                Some(Method::OtherOnConnection)
            }
            (10, 21) => r.longstr().map(|_| Method::OtherOnConnection),
            (10, 31) => {
                r.short()?;
                let frame_max = r.long()?;
                r.short()?;
                Some(Method::TuneOk { frame_max })
            }
            (10, 40) => {
                r.shortstr()?;
                r.shortstr()?;
                r.octet().map(|_| Method::OtherOnConnection)
            }
            (10, 50) => Method::exception(r).map(Method::ConnectionClose),
            (10, 51) => Some(Method::ConnectionCloseOk),
            (10, 70) => {
                r.longstr()?;
                r.shortstr().map(|_| Method::OtherOnConnection)
            }
            (20, 10) => r.shortstr().map(|_| Method::ChannelOpen),
            (20, 20 | 21) => r.octet().map(|_| Method::OtherOnChannel),
            (20, 40) => Method::exception(r).map(Method::ChannelClose),
            (20, 41) => Some(Method::ChannelCloseOk),
            (30, 10) => {
                r.shortstr()?;
                r.octet().map(|_| Method::OtherOnChannel)
            }
            (40, 10) => {
                a.exchange = Some(r.shortstr()?);
                r.shortstr()?;
                a.no_wait = r.octet()? & 0b1_0000 != 0;
                r.longstr()?;
                request(ExchangeDeclare, a)
            }
            (40, 20) => {
                a.exchange = Some(r.shortstr()?);
                a.no_wait = r.octet()? & 0b10 != 0;
                request(ExchangeDelete, a)
            }
            (40, 30 | 40) => {
                a.exchange = Some(r.shortstr()?);
                r.shortstr()?;
                a.routing_key = Some(r.shortstr()?);
                a.no_wait = r.octet()? & 1 != 0;
                r.longstr()?;
                request(
                    if method == 30 {
                        ExchangeBind
                    } else {
                        ExchangeUnbind
                    },
                    a,
                )
            }
            (50, 10) => {
                a.queue = Some(r.shortstr()?);
                // passive, durable, exclusive, auto-delete, no-wait (section 1.7.2.1).
                let bits = r.octet()?;
                a.no_wait = bits & 0b1_0000 != 0;
                a.temporary = bits & 1 == 0 && bits & 0b1100 != 0;
                r.longstr()?;
                request(QueueDeclare, a)
            }
            (50, 20 | 50) => {
                a.queue = Some(r.shortstr()?);
                a.exchange = Some(r.shortstr()?);
                a.routing_key = Some(r.shortstr()?);
                if method == 20 {
                    a.no_wait = r.octet()? & 1 != 0;
                }
                r.longstr()?;
                request(if method == 20 { QueueBind } else { QueueUnbind }, a)
            }
            (50, 30) => {
                a.queue = Some(r.shortstr()?);
                a.no_wait = r.octet()? & 1 != 0;
                request(QueuePurge, a)
            }
            (50, 40) => {
                a.queue = Some(r.shortstr()?);
                a.no_wait = r.octet()? & 0b100 != 0;
                request(QueueDelete, a)
            }
            (60, 10) => {
                r.long()?;
                r.short()?;
                r.octet()?;
                request(BasicQos, a)
            }
            (60, 20) => {
                a.queue = Some(r.shortstr()?);
                a.consumer_tag = Some(r.shortstr()?);
                let bits = r.octet()?;
                (a.no_ack, a.no_wait) = (bits & 0b10 != 0, bits & 0b1000 != 0);
                r.longstr()?;
                request(BasicConsume, a)
            }
            (60, 30) => {
                a.consumer_tag = Some(r.shortstr()?);
                a.no_wait = r.octet()? & 1 != 0;
                request(BasicCancel, a)
            }
            (60, 31) => r.shortstr().map(|_| Method::OtherOnChannel),
            (60, 40) => {
                let (exchange, routing_key) = (r.shortstr()?, r.shortstr()?);
                let mandatory = r.octet()? & 1 != 0;
                Some(Method::Publish {
                    exchange,
                    routing_key,
                    mandatory,
                })
            }
            (60, 70) => {
                a.queue = Some(r.shortstr()?);
                a.no_ack = r.octet()? & 1 != 0;
                request(Get, a)
            }
            (60, 80 | 120) => Method::settlement(method, r),
            (60, 90) => {
                let tag = r.longlong()?;
                Some(Method::Reject {
                    tag,
                    requeue: r.octet()? & 1 != 0,
                })
            }
            // recover-async has no reply.
            (60, 100 | 110) => {
                a.requeue = r.octet()? & 1 != 0;
                a.no_wait = method == 100;
                request(BasicRecover, a)
            }
            (85, 10) => {
                a.no_wait = r.octet()? & 1 != 0;
                request(ConfirmSelect, a)
            }
            (90, 10) => request(TxSelect, a),
            (90, 20) => request(TxCommit, a),
            (90, 30) => request(TxRollback, a),
            _ => None,
        }
    }

    fn from_server(class: u16, method: u16, r: &mut Reader<'a>) -> Option<Method<'a>> {
        use Operation::*;
        let reply = |operation| Some(Method::Reply(operation, None));
        match (class, method) {
            (10, 10) => {
                r.short()?;
                r.longstr()?;
                r.longstr()?;
                r.longstr().map(|_| Method::OtherOnConnection)
            }
            (10, 20) => r.longstr().map(|_| Method::OtherOnConnection),
            (10, 30) => r.take(8).map(|_| Method::OtherOnConnection),
            (10, 41) => r.shortstr().map(|_| Method::OtherOnConnection),
            (10, 50) => Method::exception(r).map(Method::ConnectionClose),
            (10, 51) => Some(Method::ConnectionCloseOk),
            (10, 60) => r.shortstr().map(|_| Method::Blocked(true)),
            (10, 61) => Some(Method::Blocked(false)),
            (10, 71) => Some(Method::OtherOnConnection),
            (20, 11) => r.longstr().map(|_| Method::ChannelOpenOk),
            (20, 20 | 21) => r.octet().map(|_| Method::OtherOnChannel),
            (20, 40) => Method::exception(r).map(Method::ChannelClose),
            (20, 41) => Some(Method::ChannelCloseOk),
            (30, 11) => r.short().map(|_| Method::OtherOnChannel),
            (40, 11) => reply(ExchangeDeclare),
            (40, 21) => reply(ExchangeDelete),
            (40, 31) => reply(ExchangeBind),
            (40, 51) => reply(ExchangeUnbind),
            (50, 11) => {
                let queue = r.shortstr()?;
                r.take(8)?;
                Some(Method::Reply(QueueDeclare, Some(queue)))
            }
            (50, 21) => reply(QueueBind),
            (50, 31) => r.long().and_then(|_| reply(QueuePurge)),
            (50, 41) => r.long().and_then(|_| reply(QueueDelete)),
            (50, 51) => reply(QueueUnbind),
            (60, 11) => reply(BasicQos),
            (60, 21) => r.shortstr().map(|tag| Method::Reply(BasicConsume, Some(tag))),
            (60, 30) => {
                let consumer_tag = r.shortstr()?;
                r.octet()?;
                Some(Method::Cancelled { consumer_tag })
            }
            (60, 31) => r.shortstr().map(|tag| Method::Reply(BasicCancel, Some(tag))),
            (60, 50) => {
                let code = r.short()?;
                r.shortstr()?;
                Some(Method::Return {
                    code,
                    exchange: r.shortstr()?,
                    routing_key: r.shortstr()?,
                })
            }
            (60, 60) => Some(Method::Deliver {
                consumer_tag: r.shortstr()?,
                tag: r.longlong()?,
                redelivered: r.octet()? & 1 != 0,
                exchange: r.shortstr()?,
                routing_key: r.shortstr()?,
            }),
            (60, 71) => {
                let (tag, redelivered) = (r.longlong()?, r.octet()? & 1 != 0);
                let (exchange, routing_key) = (r.shortstr()?, r.shortstr()?);
                r.long()?;
                Some(Method::GetOk {
                    tag,
                    redelivered,
                    exchange,
                    routing_key,
                })
            }
            (60, 72) => r.shortstr().map(|_| Method::GetEmpty),
            (60, 80 | 120) => Method::settlement(method, r),
            (60, 111) => reply(BasicRecover),
            (85, 11) => reply(ConfirmSelect),
            (90, 11) => reply(TxSelect),
            (90, 21) => reply(TxCommit),
            (90, 31) => reply(TxRollback),
            _ => None,
        }
    }
}
