//! From a packet to its TCP segment.

use crate::capture::Packet;

/// Why a packet is not looked at any further.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Skip {
    /// UDP.
    Udp,
    /// ICMP or ICMPv6.
    Icmp,
    /// Another protocol over IP.
    OtherTransport,
    /// ARP.
    Arp,
    /// Another protocol than IP.
    OtherNetwork,
    /// A link type that is not read, or a packet of an undescribed interface.
    UnknownLink,
    /// So little was captured that the headers are not whole.
    HeaderCutOff,
    /// Headers that contradict themselves.
    Malformed,
    /// A fragment of a TCP packet of which other fragments are missing, overlap or were cut off.
    Fragment,
}

impl Skip {
    /// All reasons, for tables of counters indexed by `Skip as usize`.
    pub const ALL: [Skip; 9] = [
        Skip::Udp,
        Skip::Icmp,
        Skip::OtherTransport,
        Skip::Arp,
        Skip::OtherNetwork,
        Skip::UnknownLink,
        Skip::HeaderCutOff,
        Skip::Malformed,
        Skip::Fragment,
    ];

    /// The reason in words.
    pub fn as_str(self) -> &'static str {
        match self {
            Skip::Udp => "UDP",
            Skip::Icmp => "ICMP",
            Skip::OtherTransport => "other IP protocol",
            Skip::Arp => "ARP",
            Skip::OtherNetwork => "not IP",
            Skip::UnknownLink => "unknown link type",
            Skip::HeaderCutOff => "headers cut off",
            Skip::Malformed => "malformed",
            Skip::Fragment => "fragment without the others",
        }
    }
}

/// An address as IPv6, IPv4 mapped into it, with a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct End {
    pub(crate) address: u128,
    pub(crate) port: u16,
}

/// A TCP segment (RFC 9293 § 3.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Segment<'a> {
    pub(crate) source: End,
    pub(crate) destination: End,
    pub(crate) sequence: u32,
    pub(crate) acknowledgement: u32,
    pub(crate) flags: u8,
    pub(crate) header_length: u32,
    /// Bytes of payload on the wire.
    pub(crate) length: u32,
    /// Those that were captured.
    pub(crate) bytes: &'a [u8],
}

pub(crate) const FIN: u8 = 1;
pub(crate) const SYN: u8 = 2;
pub(crate) const RST: u8 = 4;
pub(crate) const ACK: u8 = 16;

impl Segment<'_> {
    pub(crate) fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }
}

/// Which datagram a fragment belongs to (RFC 791 § 3.2, RFC 8200 § 4.5).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Datagram {
    pub(crate) source: u128,
    pub(crate) destination: u128,
    pub(crate) identification: u32,
    pub(crate) protocol: u8,
}

/// A fragment of a datagram.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Fragment<'a> {
    pub(crate) datagram: Datagram,
    pub(crate) offset: u32,
    pub(crate) more: bool,
    pub(crate) length: u32,
    pub(crate) bytes: &'a [u8],
}

/// What is in a packet.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Decoded<'a> {
    Segment(Segment<'a>),
    Fragment(Fragment<'a>),
}

/// The rest of a packet: what was captured of it, and how long it was.
#[derive(Debug, Clone, Copy)]
struct Rest<'a> {
    bytes: &'a [u8],
    length: u32,
}

impl<'a> Rest<'a> {
    /// The header of `n` bytes, at least.
    fn header(&self, n: u32) -> Result<&'a [u8], Skip> {
        if self.length < n {
            return Err(Skip::Malformed);
        }
        self.bytes.get(..n as usize).ok_or(Skip::HeaderCutOff)
    }

    /// What is behind the first `n` bytes.
    fn after(&self, n: u32) -> Rest<'a> {
        Rest {
            bytes: self.bytes.get(n as usize..).unwrap_or_default(),
            length: self.length.saturating_sub(n),
        }
    }

    /// The first `n` bytes, as long as the header says the packet is.
    fn limit(&self, n: u32) -> Rest<'a> {
        Rest {
            bytes: &self.bytes[..self.bytes.len().min(n as usize)],
            length: n,
        }
    }
}

fn be16(bytes: &[u8], at: usize) -> u16 {
    let bytes = bytes.get(at..).and_then(<[u8]>::first_chunk);
    bytes.map_or(0, |bytes| u16::from_be_bytes(*bytes))
}

fn be32(bytes: &[u8], at: usize) -> u32 {
    let bytes = bytes.get(at..).and_then(<[u8]>::first_chunk);
    bytes.map_or(0, |bytes| u32::from_be_bytes(*bytes))
}

fn be128(bytes: &[u8], at: usize) -> u128 {
    let bytes = bytes.get(at..).and_then(<[u8]>::first_chunk);
    bytes.map_or(0, |bytes| u128::from_be_bytes(*bytes))
}

fn mapped(address: u32) -> u128 {
    0xffff_0000_0000 | u128::from(address)
}

/// Finds the TCP segment, or the fragment of one, in `packet`.
pub(crate) fn decode<'a>(packet: &Packet<'a>) -> Result<Decoded<'a>, Skip> {
    let rest = Rest {
        bytes: packet.bytes,
        length: packet.length,
    };
    // https://www.tcpdump.org/linktypes.html
    match packet.link {
        0 => family(rest, false),
        1 => {
            let header = rest.header(14)?;
            ethertype(be16(header, 12), rest.after(14))
        }
        // Raw IP: the registry's number, and those of systems that write their own DLT_RAW.
        12 | 14 | 101 => ip(rest),
        108 => family(rest, true),
        113 => {
            let header = rest.header(16)?;
            ethertype(be16(header, 14), rest.after(16))
        }
        228 => ipv4(rest),
        229 => ipv6(rest),
        276 => {
            let header = rest.header(20)?;
            ethertype(be16(header, 0), rest.after(20))
        }
        _ => Err(Skip::UnknownLink),
    }
}

/// BSD loopback: an address family, in the byte order of the host that captured or, for LOOP, of the network.
fn family<'a>(rest: Rest<'a>, network_order: bool) -> Result<Decoded<'a>, Skip> {
    let family = be32(rest.header(4)?, 0);
    // The families are small numbers.
    let family = if !network_order && family > 0xffff {
        family.swap_bytes()
    } else {
        family
    };
    match family {
        2 => ipv4(rest.after(4)),
        // NetBSD and OpenBSD, FreeBSD, macOS; Linux; Windows.
        24 | 28 | 30 | 10 | 23 => ipv6(rest.after(4)),
        _ => Err(Skip::OtherNetwork),
    }
}

fn ethertype<'a>(kind: u16, rest: Rest<'a>) -> Result<Decoded<'a>, Skip> {
    let (mut kind, mut rest) = (kind, rest);
    // IEEE 802.1Q and 802.1ad, and the numbers used before the latter.
    while let 0x8100 | 0x88a8 | 0x9100 | 0x9200 | 0x9300 = kind {
        kind = be16(rest.header(4)?, 2);
        rest = rest.after(4);
    }
    match kind {
        0x0800 => ipv4(rest),
        0x86dd => ipv6(rest),
        0x0806 => Err(Skip::Arp),
        _ => Err(Skip::OtherNetwork),
    }
}

fn ip(rest: Rest<'_>) -> Result<Decoded<'_>, Skip> {
    match rest.header(1)?.first().map(|byte| byte >> 4) {
        Some(4) => ipv4(rest),
        Some(6) => ipv6(rest),
        _ => Err(Skip::OtherNetwork),
    }
}

/// RFC 791 § 3.1.
fn ipv4(rest: Rest<'_>) -> Result<Decoded<'_>, Skip> {
    let header = rest.header(20)?;
    let header_length = u32::from(header[0] & 0xf) * 4;
    if header[0] >> 4 != 4 || header_length < 20 {
        return Err(Skip::Malformed);
    }
    let length = match u32::from(be16(header, 2)) {
        // Not filled in yet where segmentation is left to the network card.
        0 => rest.length,
        length => length,
    };
    if length < header_length {
        return Err(Skip::Malformed);
    }
    let payload = rest.limit(length).after(header_length);
    let (source, destination) = (mapped(be32(header, 12)), mapped(be32(header, 16)));
    let (protocol, fragment) = (header[9], be16(header, 6));
    let (more, offset) = (fragment & 0x2000 != 0, u32::from(fragment & 0x1fff) * 8);
    if more || offset > 0 {
        transport_kind(protocol)?;
        return Ok(Decoded::Fragment(Fragment {
            datagram: Datagram {
                source,
                destination,
                identification: be16(header, 4).into(),
                protocol,
            },
            offset,
            more,
            length: payload.length,
            bytes: payload.bytes,
        }));
    }
    tcp(source, destination, protocol, payload)
}

/// RFC 8200 § 3.
fn ipv6(rest: Rest<'_>) -> Result<Decoded<'_>, Skip> {
    let header = rest.header(40)?;
    if header[0] >> 4 != 6 {
        return Err(Skip::Malformed);
    }
    let payload = match u32::from(be16(header, 4)) {
        // A jumbogram (RFC 2675), or not filled in yet.
        0 => rest.after(40),
        length => rest.after(40).limit(length),
    };
    let (source, destination) = (be128(header, 8), be128(header, 24));
    extensions(source, destination, header[6], payload)
}

/// The extension headers of IPv6 (RFC 8200 § 4), then TCP.
fn extensions(source: u128, destination: u128, kind: u8, rest: Rest<'_>) -> Result<Decoded<'_>, Skip> {
    let (mut kind, mut rest) = (kind, rest);
    loop {
        let length = match kind {
            // Hop-by-hop, routing, destination options, mobility, HIP, Shim6.
            0 | 43 | 60 | 135 | 139 | 140 => 8 + u32::from(rest.header(2)?[1]) * 8,
            // Authentication header (RFC 4302 § 2.2).
            51 => 8 + u32::from(rest.header(2)?[1]) * 4,
            44 => {
                let header = rest.header(8)?;
                let fragment = be16(header, 2);
                let (offset, more) = (u32::from(fragment & !7), fragment & 1 != 0);
                if more || offset > 0 {
                    // Others than TCP are not put together, unless they could hold it.
                    let protocol = header[0];
                    if !matches!(protocol, 0 | 43 | 51 | 60) {
                        transport_kind(protocol)?;
                    }
                    let rest = rest.after(8);
                    return Ok(Decoded::Fragment(Fragment {
                        datagram: Datagram {
                            source,
                            destination,
                            identification: be32(header, 4),
                            protocol,
                        },
                        offset,
                        more,
                        length: rest.length,
                        bytes: rest.bytes,
                    }));
                }
                8
            }
            _ => return tcp(source, destination, kind, rest),
        };
        kind = rest.header(2)?[0];
        rest.header(length)?;
        rest = rest.after(length);
    }
}

/// What a datagram holds that was put together.
pub(crate) fn decode_datagram<'a>(datagram: &Datagram, bytes: &'a [u8]) -> Result<Segment<'a>, Skip> {
    let rest = Rest {
        bytes,
        length: bytes.len() as u32,
    };
    let (source, destination) = (datagram.source, datagram.destination);
    match extensions(source, destination, datagram.protocol, rest)? {
        Decoded::Segment(segment) => Ok(segment),
        Decoded::Fragment(_) => Err(Skip::Malformed),
    }
}

/// Only TCP is of interest.
fn transport_kind(protocol: u8) -> Result<(), Skip> {
    match protocol {
        6 => Ok(()),
        17 => Err(Skip::Udp),
        1 | 58 => Err(Skip::Icmp),
        _ => Err(Skip::OtherTransport),
    }
}

/// RFC 9293 § 3.1.
fn tcp(source: u128, destination: u128, protocol: u8, rest: Rest<'_>) -> Result<Decoded<'_>, Skip> {
    transport_kind(protocol)?;
    let header = rest.header(20)?;
    let header_length = u32::from(header[12] >> 4) * 4;
    if header_length < 20 || header_length > rest.length {
        return Err(Skip::Malformed);
    }
    let end = |address, at| End {
        address,
        port: be16(header, at),
    };
    let payload = rest.after(header_length);
    Ok(Decoded::Segment(Segment {
        source: end(source, 0),
        destination: end(destination, 2),
        sequence: be32(header, 4),
        acknowledgement: be32(header, 8),
        flags: header[13],
        header_length,
        length: payload.length,
        bytes: payload.bytes,
    }))
}
