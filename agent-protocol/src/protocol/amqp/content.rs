//! Content headers: AMQP 0-9-1 sections 4.2.6.1 (properties) and 4.2.5.5 (field tables).

use super::reader::Reader;
use crate::trace_context::SpanContext;

/// A content header (section 4.2.6.1) with the properties that matter here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct ContentHeader<'a> {
    pub(super) body_size: u64,
    pub(super) message_id: Option<&'a [u8]>,
    pub(super) correlation_id: Option<&'a [u8]>,
    pub(super) traceparent: Option<SpanContext>,
    pub(super) tracestate: Option<&'a [u8]>,
}

impl<'a> ContentHeader<'a> {
    pub(super) fn read(payload: &'a [u8]) -> Option<ContentHeader<'a>> {
        let mut r = Reader(payload);
        // Only class basic has content; weight is unused and zero.
        if (r.short()?, r.short()?) != (60, 0) {
            return None;
        }
        let mut header = ContentHeader {
            body_size: r.longlong()?,
            ..ContentHeader::default()
        };
        let flags = r.short()?;
        // Bit 0: more flags follow. There are no properties for them, nor for bit 1; what there may be comes last.
        let mut unknown = flags & 0b11 != 0;
        let mut more = flags;
        while more & 1 != 0 {
            more = r.short()?;
            unknown = true;
        }
        let has = |bit: u16| flags & (1 << bit) != 0;
        for bit in [15, 14] {
            if has(bit) {
                r.shortstr()?;
            }
        }
        if has(13) {
            header.read_headers(r.longstr()?);
        }
        for bit in [12, 11] {
            if has(bit) {
                r.octet()?;
            }
        }
        if has(10) {
            header.correlation_id = Some(r.shortstr()?);
        }
        for bit in [9, 8] {
            if has(bit) {
                r.shortstr()?;
            }
        }
        if has(7) {
            header.message_id = Some(r.shortstr()?);
        }
        if has(6) {
            r.longlong()?;
        }
        for bit in [5, 4, 3, 2] {
            if has(bit) {
                r.shortstr()?;
            }
        }
        (unknown || r.0.is_empty()).then_some(header)
    }

    /// Looks for the trace context among the headers, up to a field of a type that is not known.
    fn read_headers(&mut self, table: &'a [u8]) {
        let mut r = Reader(table);
        while let Some((name, value)) = field(&mut r) {
            match name {
                b"traceparent" => self.traceparent = value.and_then(SpanContext::parse),
                b"tracestate" => self.tracestate = value,
                _ => {}
            }
        }
    }
}

/// The next field of a table, with its value where that is a string. Types as RabbitMQ has them
/// (<https://www.rabbitmq.com/docs/amqp-0-9-1-errata>, section 3), and `U`, which is the specification's only.
fn field<'a>(r: &mut Reader<'a>) -> Option<(&'a [u8], Option<&'a [u8]>)> {
    let name = r.shortstr()?;
    let fixed = match r.octet()? {
        b'S' | b'x' => return Some((name, Some(r.longstr()?))),
        b'A' | b'F' => {
            r.longstr()?;
            0
        }
        b't' | b'b' | b'B' => 1,
        b's' | b'u' | b'U' => 2,
        b'I' | b'i' | b'f' => 4,
        b'D' => 5,
        b'l' | b'L' | b'd' | b'T' => 8,
        b'V' => 0,
        _ => return None,
    };
    r.take(fixed)?;
    Some((name, None))
}
