//! The Huffman code of RFC 7541 Appendix B.

use super::Malformed;

/// Bits of each symbol's code; 256 is EOS. The code is canonical: codes of one length ascend with their symbols,
/// so the lengths say it all.
const LENGTHS: [u8; 257] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 30, 28, //
    28, 28, 28, 28, 28, 28, 28, 28, 6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6, //
    5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10, 13, 6, 7, 7, 7, 7, 7, 7, //
    7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6, //
    15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5, 6, 7, 6, 5, 5, 6, 7, 7, //
    7, 7, 7, 15, 11, 14, 13, 28, 20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23, //
    24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24, 22, 21, 20, 22, 22, 23, 23, 21, //
    23, 22, 22, 24, 21, 22, 23, 23, 21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23, //
    26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25, 19, 21, 26, 27, 27, 26, 27, 24, //
    21, 21, 26, 26, 28, 27, 27, 27, 20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23, //
    26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26, 30,
];

const LONGEST: usize = 30;
const EOS: u16 = 256;

struct Code {
    /// Symbol and code length by the next eight bits; length 0 where the code is longer.
    short: [(u8, u8); 256],
    /// First code of each length.
    first: [u32; LONGEST + 1],
    /// How many codes of each length.
    count: [u32; LONGEST + 1],
    /// Where the symbols of each length begin in `symbols`.
    start: [u16; LONGEST + 1],
    /// Symbols by length, then value.
    symbols: [u16; 257],
}

static CODE: Code = build();

const fn build() -> Code {
    let mut code = Code {
        short: [(0, 0); 256],
        first: [0; LONGEST + 1],
        count: [0; LONGEST + 1],
        start: [0; LONGEST + 1],
        symbols: [0; 257],
    };
    let (mut next, mut filled, mut length) = (0u32, 0, 1);
    while length <= LONGEST {
        next <<= 1;
        code.first[length] = next;
        code.start[length] = filled as u16;
        let mut symbol = 0;
        while symbol < LENGTHS.len() {
            if LENGTHS[symbol] as usize == length {
                code.symbols[filled] = symbol as u16;
                filled += 1;
                code.count[length] += 1;
                if length <= 8 {
                    let from = (next as usize) << (8 - length);
                    let mut i = 0;
                    while i < 1 << (8 - length) {
                        code.short[from + i] = (symbol as u8, length as u8);
                        i += 1;
                    }
                }
                next += 1;
            }
            symbol += 1;
        }
        length += 1;
    }
    code
}

/// Decodes `bytes` symbol by symbol into `out`. Padding is at most seven bits, all ones (§ 5.2).
pub(super) fn decode(bytes: &[u8], mut out: impl FnMut(u8)) -> Result<(), Malformed> {
    let mut input = bytes.iter();
    let (mut bits, mut have) = (0u64, 0u32);
    loop {
        while have <= 56
            && let Some(&byte) = input.next()
        {
            bits = bits << 8 | u64::from(byte);
            have += 8;
        }
        // The next eight bits, filled up with ones where fewer are left.
        let next = if have >= 8 {
            (bits >> (have - 8)) as u8
        } else {
            !(u8::MAX.checked_shr(have).unwrap_or(0)) & (bits << (8 - have)) as u8
                | u8::MAX.checked_shr(have).unwrap_or(0)
        };
        let (symbol, length) = CODE.short[usize::from(next)];
        if length != 0 && u32::from(length) <= have {
            out(symbol);
            have -= u32::from(length);
        } else if have < 8 {
            return if next == u8::MAX { Ok(()) } else { Err(Malformed) };
        } else {
            let (symbol, length) = long(bits, have).ok_or(Malformed)?;
            out(symbol);
            have -= length;
        }
    }
}

/// The next symbol, whose code is longer than eight bits. `None` for EOS and where bits are missing.
fn long(bits: u64, have: u32) -> Option<(u8, u32)> {
    for length in 9..=(LONGEST as u32).min(have) {
        let code = (bits >> (have - length)) as u32 & ((1 << length) - 1);
        let nth = code.wrapping_sub(CODE.first[length as usize]);
        if nth < CODE.count[length as usize] {
            let symbol = CODE.symbols[usize::from(CODE.start[length as usize]) + nth as usize];
            return (symbol != EOS).then_some((symbol as u8, length));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decoded(hex: &str) -> Result<String, Malformed> {
        let bytes: Vec<u8> = (0..hex.len())
            .step_by(2)
            .map(|i| u8::from_str_radix(&hex[i..i + 2], 16).unwrap())
            .collect();
        let mut out = Vec::new();
        decode(&bytes, |byte| out.push(byte))?;
        Ok(String::from_utf8_lossy(&out).into_owned())
    }

    #[test]
    fn the_rfc_s_examples() {
        for (hex, text) in [
            ("f1e3c2e5f23a6ba0ab90f4ff", "www.example.com"),
            ("a8eb10649cbf", "no-cache"),
            ("25a849e95ba97d7f", "custom-key"),
            ("25a849e95bb8e8b4bf", "custom-value"),
            ("6402", "302"),
            ("aec3771a4b", "private"),
            (
                "d07abe941054d444a8200595040b8166e082a62d1bff",
                "Mon, 21 Oct 2013 20:13:21 GMT",
            ),
            ("9d29ad171863c78f0b97c8e9ae82ae43d3", "https://www.example.com"),
            ("", ""),
        ] {
            assert_eq!(decoded(hex).unwrap(), text);
        }
    }

    #[test]
    fn codes_of_appendix_b() {
        // '!' |11111110|00, '\' |11111111|11111110|000 (19 bits), 0xff of 26 bits, 0x00 of 13 bits.
        let mut out = Vec::new();
        decode(&[0b1111_1110, 0b0011_1111], |byte| out.push(byte)).unwrap();
        decode(&[0xff, 0xfe, 0b0001_1111], |byte| out.push(byte)).unwrap();
        decode(&[0xff, 0xff, 0xfb, 0b1011_1111], |byte| out.push(byte)).unwrap();
        decode(&[0xff, 0b1100_0111], |byte| out.push(byte)).unwrap();
        assert_eq!(out, [b'!', b'\\', 0xff, 0x00]);
    }

    #[test]
    fn what_is_no_code() {
        assert!(decoded("ff").is_err(), "padding of eight bits");
        assert!(decoded("1fff").is_err(), "padding of eleven bits");
        assert!(decoded("18").is_err(), "padding of zeros");
        assert!(decoded("ffffffff").is_err(), "EOS");
        assert!(decoded("fffffffc").is_err(), "a code cut off");
    }
}
