//! The header that a proxy sends in front of what its client says
//! (<https://www.haproxy.org/download/3.0/doc/proxy-protocol.txt>).

/// What the first bytes of a direction are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ProxyHeader {
    /// None.
    No,
    /// Could be one, with more bytes.
    Maybe,
    /// One of so many bytes.
    Whole(usize),
}

/// The longest line of version 1, with its CR LF (section 2.1).
const LONGEST_LINE: usize = 107;

/// What version 2 begins with (section 2.2).
const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";

/// Signature, version and command, family, and the length of what follows.
const FIXED: usize = SIGNATURE.len() + 4;

/// Looks for a header at the begin of `bytes`.
pub(super) fn find(bytes: &[u8]) -> ProxyHeader {
    match line(bytes) {
        ProxyHeader::No => binary(bytes),
        found => found,
    }
}

/// Version 1: `PROXY TCP4 192.0.2.1 192.0.2.2 56324 443`, or `TCP6`, or `UNKNOWN` with whatever.
fn line(bytes: &[u8]) -> ProxyHeader {
    const FAMILIES: [&[u8]; 3] = [b"PROXY TCP4 ", b"PROXY TCP6 ", b"PROXY UNKNOWN"];
    let begins = |family: &&[u8]| {
        let n = bytes.len().min(family.len());
        bytes[..n] == family[..n]
    };
    if !FAMILIES.iter().any(begins) {
        return ProxyHeader::No;
    }
    let window = &bytes[..bytes.len().min(LONGEST_LINE)];
    match memchr::memchr(b'\n', window) {
        Some(end) if end > 0 && window[end - 1] == b'\r' => ProxyHeader::Whole(end + 1),
        None if window.len() < LONGEST_LINE => ProxyHeader::Maybe,
        _ => ProxyHeader::No,
    }
}

/// Version 2.
fn binary(bytes: &[u8]) -> ProxyHeader {
    let n = bytes.len().min(SIGNATURE.len());
    if bytes[..n] != SIGNATURE[..n] || bytes.get(n).is_some_and(|version| version >> 4 != 2) {
        return ProxyHeader::No;
    }
    match bytes.get(FIXED - 2..FIXED) {
        Some(&[high, low]) => {
            let whole = FIXED + usize::from(u16::from_be_bytes([high, low]));
            if bytes.len() < whole {
                ProxyHeader::Maybe
            } else {
                ProxyHeader::Whole(whole)
            }
        }
        _ => ProxyHeader::Maybe,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn assert_whole(header: &[u8]) {
        for cut in 0..header.len() {
            assert_eq!(find(&header[..cut]), ProxyHeader::Maybe, "{cut}");
        }
        assert_eq!(find(header), ProxyHeader::Whole(header.len()));
        let behind = [header, b"GET / HTTP/1.1\r\n\r\n"].concat();
        assert_eq!(find(&behind), ProxyHeader::Whole(header.len()));
    }

    /// The examples of sections 2.1 and 2.2.
    #[test]
    fn headers_however_they_are_cut() {
        assert_whole(b"PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535\r\n");
        assert_whole(b"PROXY TCP6 ffff::1 ffff::2 65535 65535\r\n");
        assert_whole(b"PROXY UNKNOWN\r\n");
        assert_whole(
            b"PROXY UNKNOWN ffff:f...f:ffff ffff:f...f:ffff 65535 65535 01234567890123456789012345678901234567890\r\n",
        );
        assert_whole(b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xc0\0\x02\x01\xc0\0\x02\x02\xdc\x04\x01\xbb");
        // LOCAL, and one with TLVs.
        assert_whole(b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0");
        assert_whole(&[b"\r\n\r\n\0\r\nQUIT\n\x21\x11\xff\xff".as_slice(), &[7; 65535]].concat());
    }

    #[test]
    fn others() {
        for other in [
            &b"POST / HTTP/1.1\r\n"[..],
            b"PROXY /x HTTP/1.1\r\n",
            b"PROXY TCP4 1.2.3.4 1.2.3.4 1 2\n",
            b"PROXY UNKNOWN 0123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789",
            b"\r\n\r\n\0\r\nQUIT\n\x11",
            b"\r\nGET / HTTP/1.1\r\n",
        ] {
            assert_eq!(find(other), ProxyHeader::No, "{:?}", String::from_utf8_lossy(other));
        }
    }
}
