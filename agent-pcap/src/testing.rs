//! Builds packets and captures, for tests and benchmarks.

/// A TCP segment to be built.
#[derive(Debug, Clone)]
pub(crate) struct Tcp<'a> {
    pub(crate) ports: (u16, u16),
    pub(crate) sequence: u32,
    pub(crate) acknowledgement: u32,
    pub(crate) flags: u8,
    pub(crate) payload: &'a [u8],
}

/// The host that `ipv4` and `ipv6` packets of a port come from: the same for a port, another for others.
fn host(port: u16) -> u8 {
    if port < 1024 { 1 } else { 2 }
}

pub(crate) fn ipv4_address(port: u16) -> [u8; 4] {
    [10, 0, 0, host(port)]
}

pub(crate) fn ipv6_address(port: u16) -> [u8; 16] {
    let mut address = [0; 16];
    (address[0], address[15]) = (0xfd, host(port));
    address
}

fn checksum(parts: &[&[u8]]) -> u16 {
    let all = parts.concat();
    let words = all
        .chunks(2)
        .map(|word| u32::from(word[0]) << 8 | word.get(1).map_or(0, |&low| low.into()));
    let mut sum: u32 = words.sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

impl Tcp<'_> {
    /// The segment with the checksum that it has over these addresses.
    pub(crate) fn bytes(&self, source: &[u8], destination: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(20 + self.payload.len());
        bytes.extend(self.ports.0.to_be_bytes());
        bytes.extend(self.ports.1.to_be_bytes());
        bytes.extend(self.sequence.to_be_bytes());
        bytes.extend(self.acknowledgement.to_be_bytes());
        bytes.extend([5 << 4, self.flags, 0xff, 0xff, 0, 0, 0, 0]);
        bytes.extend(self.payload);
        let length = (bytes.len() as u32).to_be_bytes();
        let padding: &[u8] = if bytes.len() % 2 == 1 { &[0] } else { &[] };
        let sum = checksum(&[source, destination, &length, &[0, 6], &bytes, padding]);
        bytes[16..18].copy_from_slice(&sum.to_be_bytes());
        bytes
    }

    pub(crate) fn ipv4(&self) -> Vec<u8> {
        let (source, destination) = (ipv4_address(self.ports.0), ipv4_address(self.ports.1));
        ipv4(source, destination, 6, 0x4000, &self.bytes(&source, &destination))
    }

    pub(crate) fn ethernet(&self) -> Vec<u8> {
        ethernet(0x0800, &self.ipv4())
    }
}

/// `fragment` holds the flags and the offset in units of 8 bytes.
pub(crate) fn ipv4(
    source: [u8; 4],
    destination: [u8; 4],
    protocol: u8,
    fragment: u16,
    payload: &[u8],
) -> Vec<u8> {
    let mut bytes = vec![0x45, 0];
    bytes.extend((20 + payload.len() as u16).to_be_bytes());
    bytes.extend([0x12, 0x34]);
    bytes.extend(fragment.to_be_bytes());
    bytes.extend([64, protocol, 0, 0]);
    bytes.extend(source);
    bytes.extend(destination);
    bytes.extend(payload);
    bytes
}

pub(crate) fn ethernet(kind: u16, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![2; 12];
    bytes.extend(kind.to_be_bytes());
    bytes.extend(payload);
    bytes
}

/// A pcap file in little endian with microseconds.
pub(crate) struct Pcap(pub(crate) Vec<u8>);

impl Pcap {
    pub(crate) fn new(link: u32) -> Pcap {
        let mut bytes = 0xa1b2_c3d4_u32.to_le_bytes().to_vec();
        bytes.extend([2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        bytes.extend(262_144_u32.to_le_bytes());
        bytes.extend(link.to_le_bytes());
        Pcap(bytes)
    }

    /// Adds a packet of which `captured` bytes were captured, at `time` in nanoseconds.
    pub(crate) fn cut_packet(&mut self, time: u64, packet: &[u8], captured: usize) {
        let captured = captured.min(packet.len());
        let header = [
            (time / 1_000_000_000) as u32,
            (time % 1_000_000_000 / 1000) as u32,
            captured as u32,
            packet.len() as u32,
        ];
        self.0.extend(header.into_iter().flat_map(u32::to_le_bytes));
        self.0.extend(&packet[..captured]);
    }

    pub(crate) fn packet(&mut self, time: u64, packet: &[u8]) {
        self.cut_packet(time, packet, usize::MAX);
    }
}
