//! pcapng (draft-ietf-opsawg-pcapng).

use super::input::WINDOW;
use super::{Cut, Damage, Input, MAX_PACKET, Order, Packet, Stop};
use std::io::Read;

pub(super) const SECTION_HEADER: u32 = 0x0a0d_0d0a;
const INTERFACE_DESCRIPTION: u32 = 1;
const PACKET: u32 = 2;
const SIMPLE_PACKET: u32 = 3;
const ENHANCED_PACKET: u32 = 6;

const BYTE_ORDER_MAGIC: u32 = 0x1a2b_3c4d;

/// Options of an Interface Description Block.
const END_OF_OPTIONS: u16 = 0;
const IF_TSRESOL: u16 = 9;
const IF_TSOFFSET: u16 = 14;

/// Type, length, and the length again at the end.
const FRAME: usize = 12;

/// Interfaces of a section that are remembered; packets of others cannot be read.
const MAX_INTERFACES: usize = 1 << 16;

#[derive(Debug, Clone, Copy)]
enum Resolution {
    /// A unit is so many nanoseconds.
    Times(u64),
    /// So many units are a nanosecond.
    Per(u64),
    /// A unit is 2^-n seconds.
    Binary(u8),
}

#[derive(Debug, Clone, Copy)]
struct Interface {
    link: u16,
    snap_length: u32,
    resolution: Resolution,
    /// Added to every timestamp, in seconds.
    offset: i64,
}

impl Interface {
    /// From the body of its block (§ 4.2).
    fn new(order: Order, body: &[u8]) -> Interface {
        let mut interface = Interface {
            link: order.u16(body, 0),
            snap_length: order.u32(body, 4),
            resolution: Resolution::Times(1000),
            offset: 0,
        };
        let mut options = body.get(8..).unwrap_or_default();
        while options.len() >= 4 {
            let (code, length) = (order.u16(options, 0), usize::from(order.u16(options, 2)));
            let Some(value) = options.get(4..4 + length) else {
                break;
            };
            match (code, value) {
                (END_OF_OPTIONS, _) => break,
                (IF_TSRESOL, [resolution]) => interface.resolution = Resolution::new(*resolution),
                (IF_TSOFFSET, [_, _, _, _, _, _, _, _]) => interface.offset = order.u64(value, 0) as i64,
                _ => {}
            }
            options = options.get(4 + length.next_multiple_of(4)..).unwrap_or_default();
        }
        interface
    }

    /// Nanoseconds since the epoch at `ticks`.
    fn time(&self, ticks: u64) -> u64 {
        let ticks = u128::from(ticks);
        let nanoseconds = match self.resolution {
            Resolution::Times(n) => ticks * u128::from(n),
            Resolution::Per(n) => ticks / u128::from(n),
            Resolution::Binary(n) => (ticks * 1_000_000_000).checked_shr(n.into()).unwrap_or(0),
        };
        let offset = i128::from(self.offset) * 1_000_000_000;
        let time = (nanoseconds as i128 + offset).clamp(0, u64::MAX.into());
        time as u64
    }
}

impl Resolution {
    /// From the value of `if_tsresol` (§ 4.2): a power of 10, or of 2 with the highest bit set.
    fn new(value: u8) -> Resolution {
        let exponent = value & 0x7f;
        if value & 0x80 != 0 {
            Resolution::Binary(exponent)
        } else if exponent <= 9 {
            Resolution::Times(10u64.pow(9 - u32::from(exponent)))
        } else {
            Resolution::Per(10u64.saturating_pow(u32::from(exponent) - 9))
        }
    }
}

pub(super) struct PcapNg {
    order: Order,
    interfaces: Vec<Interface>,
    /// The block that was read last: its begin and its length, 0 where there is none.
    block: u64,
    block_length: u32,
}

impl Default for PcapNg {
    fn default() -> PcapNg {
        PcapNg {
            order: Order::Little,
            interfaces: Vec::new(),
            block: 0,
            block_length: 0,
        }
    }
}

impl PcapNg {
    pub(super) fn next<'a, R: Read>(&mut self, input: &'a mut Input<R>) -> Result<Option<Packet<'a>>, Stop> {
        loop {
            self.end_block(input)?;
            let Some(kind) = self.begin_block(input)? else {
                return Ok(None);
            };
            let Some(found) = self.packet(kind, input)? else {
                continue;
            };
            let seen = (found.at + found.captured as usize).min(WINDOW);
            if input.peek(seen)?.len() < seen {
                return Err(self.cut(Damage::CutOff));
            }
            return Ok(Some(Packet {
                link: found.interface.map_or(UNKNOWN_LINK, |interface| interface.link),
                time: found.time,
                length: found.length.max(found.captured),
                bytes: input.window(seen).get(found.at..).unwrap_or_default(),
            }));
        }
    }

    fn cut(&self, damage: Damage) -> Stop {
        Stop::Cut(Cut {
            offset: self.block,
            damage,
        })
    }

    /// Goes to the end of the block and compares its lengths.
    fn end_block<R: Read>(&mut self, input: &mut Input<R>) -> Result<(), Stop> {
        let length = std::mem::take(&mut self.block_length);
        if length == 0 {
            return Ok(());
        }
        if !input.skip(u64::from(length) - 4)? {
            return Err(self.cut(Damage::CutOff));
        }
        let trailer = input.peek(4)?;
        if trailer.len() < 4 {
            return Err(self.cut(Damage::CutOff));
        }
        if self.order.u32(trailer, 0) != length {
            return Err(self.cut(Damage::Length));
        }
        input.skip(4)?;
        Ok(())
    }

    /// Reads the type and the length of the next block.
    fn begin_block<R: Read>(&mut self, input: &mut Input<R>) -> Result<Option<u32>, Stop> {
        self.block = input.offset();
        let start = input.peek(FRAME)?;
        if start.is_empty() {
            return Ok(None);
        }
        if start.len() < FRAME {
            return Err(self.cut(Damage::CutOff));
        }
        let section = start.starts_with(&SECTION_HEADER.to_le_bytes());
        if section {
            self.order = match [Order::Little, Order::Big].map(|order| order.u32(start, 8)) {
                [BYTE_ORDER_MAGIC, _] => Order::Little,
                [_, BYTE_ORDER_MAGIC] => Order::Big,
                _ => return Err(self.cut(Damage::Section)),
            };
        }
        let (kind, length) = (self.order.u32(start, 0), self.order.u32(start, 4));
        let least = match kind {
            SECTION_HEADER => FRAME + 16,
            INTERFACE_DESCRIPTION => FRAME + 8,
            PACKET | ENHANCED_PACKET => FRAME + 20,
            SIMPLE_PACKET => FRAME + 4,
            _ => FRAME,
        };
        if (length as usize) < least || length % 4 != 0 {
            return Err(self.cut(Damage::Length));
        }
        self.block_length = length;
        if section {
            self.interfaces.clear();
            let start = input.peek(14)?;
            if start.len() < 14 {
                return Err(self.cut(Damage::CutOff));
            }
            if self.order.u16(start, 12) != 1 {
                return Err(self.cut(Damage::Section));
            }
        }
        Ok(Some(kind))
    }

    /// The packet in a block of this kind; interfaces are remembered.
    fn packet<R: Read>(&mut self, kind: u32, input: &mut Input<R>) -> Result<Option<Found>, Stop> {
        let order = self.order;
        let body = self.block_length as usize - FRAME;
        let fixed = match kind {
            INTERFACE_DESCRIPTION => 8 + body,
            PACKET | ENHANCED_PACKET => 28,
            SIMPLE_PACKET => 12,
            _ => return Ok(None),
        };
        if fixed > WINDOW {
            return Err(self.cut(Damage::Length));
        }
        let block = input.peek(fixed)?;
        if block.len() < fixed {
            return Err(self.cut(Damage::CutOff));
        }
        if kind == INTERFACE_DESCRIPTION {
            if self.interfaces.len() < MAX_INTERFACES {
                let body = block.get(8..).unwrap_or_default();
                self.interfaces.push(Interface::new(order, body));
            }
            return Ok(None);
        }
        let found = if kind == SIMPLE_PACKET {
            let interface = self.interfaces.first().copied();
            let length = order.u32(block, 8);
            let snap_length = interface.map_or(0, |interface| interface.snap_length);
            let captured = if snap_length == 0 {
                length
            } else {
                length.min(snap_length)
            };
            Found {
                interface,
                time: None,
                at: 12,
                length,
                // Some writers do not say how short they cut.
                captured: captured.min(body as u32 - 4),
            }
        } else {
            let interface = match kind {
                PACKET => usize::from(order.u16(block, 8)),
                _ => order.u32(block, 8) as usize,
            };
            let interface = self.interfaces.get(interface).copied();
            let ticks = u64::from(order.u32(block, 12)) << 32 | u64::from(order.u32(block, 16));
            Found {
                interface,
                time: interface.map(|interface| interface.time(ticks)),
                at: 28,
                captured: order.u32(block, 20),
                length: order.u32(block, 24),
            }
        };
        if found.captured > MAX_PACKET || found.at + found.captured as usize > self.block_length as usize - 4
        {
            return Err(self.cut(Damage::Length));
        }
        Ok(Some(found))
    }
}

/// Where a packet is in its block.
struct Found {
    interface: Option<Interface>,
    time: Option<u64>,
    at: usize,
    captured: u32,
    length: u32,
}

/// `LINKTYPE_RESERVED` of a packet whose interface was not described.
const UNKNOWN_LINK: u16 = u16::MAX;
