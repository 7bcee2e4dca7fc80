//! W3C Trace Context, levels 1 and 2: <https://www.w3.org/TR/trace-context/>.

/// Identity of a span.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SpanContext {
    /// Trace id, not all zero.
    pub trace_id: [u8; 16],
    /// Span id, not all zero.
    pub span_id: [u8; 8],
    /// Trace flags; bit 0 is *sampled*.
    pub flags: u8,
}

impl SpanContext {
    /// Parses a `traceparent` value. `None` where the specification says it must be ignored.
    pub fn parse(value: &[u8]) -> Option<SpanContext> {
        let value = value.trim_ascii();
        let (version, rest) = value.split_at_checked(2)?;
        let version = hex::<1>(version)?[0];
        // Version 0 has exactly this length; a later one may go on after another dash (§ 3.2.4).
        if version == 0xff || (version == 0 && value.len() != 55) || (value.len() > 55 && value[55] != b'-') {
            return None;
        }
        if rest.len() < 53 || rest[0] != b'-' || rest[33] != b'-' || rest[50] != b'-' {
            return None;
        }
        let context = SpanContext {
            trace_id: hex(&rest[1..33])?,
            span_id: hex(&rest[34..50])?,
            flags: hex::<1>(&rest[51..53])?[0],
        };
        (context.trace_id != [0; 16] && context.span_id != [0; 8]).then_some(context)
    }
}

/// Lower-case hexadecimal only (§ 3.2.2: upper case must be ignored).
fn hex<const N: usize>(text: &[u8]) -> Option<[u8; N]> {
    if text.len() != 2 * N {
        return None;
    }
    let digit = |b: u8| match b {
        b'0'..=b'9' => Some(b - b'0'),
        b'a'..=b'f' => Some(b - b'a' + 10),
        _ => None,
    };
    let mut out = [0; N];
    for (byte, [high, low]) in out.iter_mut().zip(text.as_chunks().0) {
        *byte = digit(*high)? << 4 | digit(*low)?;
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_specification_s_example() {
        let context = SpanContext::parse(b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01").unwrap();
        assert_eq!(context.trace_id[..2], [0x0a, 0xf7]);
        assert_eq!(context.span_id, [0xb7, 0xad, 0x6b, 0x71, 0x69, 0x20, 0x33, 0x31]);
        assert_eq!(context.flags, 1);
    }

    #[test]
    fn what_must_be_ignored() {
        for bad in [
            "",
            "00",
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
            "00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-x",
            "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c_b7ad6b7169203331-01",
            "é0-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        ] {
            assert_eq!(SpanContext::parse(bad.as_bytes()), None, "{bad}");
        }
    }

    #[test]
    fn a_later_version_may_be_longer() {
        assert!(
            SpanContext::parse(b"01-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-more").is_some()
        );
        assert!(SpanContext::parse(b"01-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01more").is_none());
    }
}
