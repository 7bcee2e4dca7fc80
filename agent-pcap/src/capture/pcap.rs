//! pcap (draft-ietf-opsawg-pcap; pcap-savefile(5)).

use super::input::WINDOW;
use super::{Cut, Damage, Input, MAX_PACKET, NotACapture, Order, Packet, Stop};
use std::io::Read;

const FILE_HEADER: u64 = 24;

pub(super) struct Pcap {
    order: Order,
    /// Nanoseconds per unit of the fraction of a second.
    unit: u64,
    record_header: usize,
    link: u16,
    /// Bytes of the last record that are not read yet, and where it began.
    rest: u64,
    record: u64,
}

impl Pcap {
    /// The format of a file that begins with `start`, and the length of its header; `None` if it is no pcap.
    pub(super) fn new(start: &[u8]) -> Result<Option<(Pcap, u64)>, NotACapture> {
        let Some(magic) = start.first_chunk::<4>() else {
            return Ok(None);
        };
        let magic = |order| match order {
            Order::Little => u32::from_le_bytes(*magic),
            Order::Big => u32::from_be_bytes(*magic),
        };
        let known = [Order::Little, Order::Big].into_iter().find_map(|order| {
            let (unit, record_header) = match magic(order) {
                0xa1b2_c3d4 => (1000, 16),
                0xa1b2_3c4d => (1, 16),
                0xa1b2_cd34 => (1000, 24),
                _ => return None,
            };
            Some((order, unit, record_header))
        });
        let Some((order, unit, record_header)) = known else {
            return Ok(None);
        };
        if start.len() >= 8 && order.u16(start, 4) != 2 {
            return Err(NotACapture("it has pcap's magic number and an unknown version"));
        }
        let pcap = Pcap {
            order,
            unit,
            record_header,
            // The high bits tell of a frame check sequence, which the IP length excludes anyway.
            link: order.u32(start, 20) as u16,
            rest: 0,
            record: 0,
        };
        Ok(Some((pcap, FILE_HEADER)))
    }

    pub(super) fn next<'a, R: Read>(&mut self, input: &'a mut Input<R>) -> Result<Option<Packet<'a>>, Stop> {
        let cut = |offset, damage| Stop::Cut(Cut { offset, damage });
        if !input.skip(self.rest)? {
            return Err(cut(self.record, Damage::CutOff));
        }
        self.rest = 0;
        self.record = input.offset();
        let header = input.peek(self.record_header)?;
        if header.is_empty() {
            return Ok(None);
        }
        if header.len() < self.record_header {
            return Err(cut(self.record, Damage::CutOff));
        }
        let seconds = u64::from(self.order.u32(header, 0));
        let fraction = u64::from(self.order.u32(header, 4));
        let captured = self.order.u32(header, 8);
        let length = self.order.u32(header, 12);
        if captured > MAX_PACKET {
            return Err(cut(self.record, Damage::Length));
        }
        let whole = self.record_header + captured as usize;
        let seen = whole.min(WINDOW);
        if input.peek(seen)?.len() < seen {
            return Err(cut(self.record, Damage::CutOff));
        }
        self.rest = whole as u64;
        Ok(Some(Packet {
            link: self.link,
            time: Some(seconds * 1_000_000_000 + fraction * self.unit),
            length: length.max(captured),
            bytes: &input.window(seen)[self.record_header..],
        }))
    }
}
