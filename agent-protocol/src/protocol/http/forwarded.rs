//! The client that a proxy names: Forwarded (RFC 7239) and X-Forwarded-For.

/// The client of a Forwarded value: the `for` parameter of its first element.
pub(crate) fn of_forwarded(value: &[u8]) -> Option<&[u8]> {
    let element = value.split(|&byte| byte == b',').next()?;
    element.split(|&byte| byte == b';').find_map(|pair| {
        let (name, value) = pair.trim_ascii().split_at_checked(4)?;
        if !name.eq_ignore_ascii_case(b"for=") {
            return None;
        }
        let quoted = value
            .strip_prefix(b"\"")
            .and_then(|value| value.strip_suffix(b"\""));
        address(quoted.unwrap_or(value))
    })
}

/// The client of an X-Forwarded-For value: its first element.
pub(crate) fn of_x_forwarded_for(value: &[u8]) -> Option<&[u8]> {
    address(value.split(|&byte| byte == b',').next()?.trim_ascii())
}

/// The address in a node (RFC 7239 § 6) without its port; `None` for `unknown` and obfuscated ones.
fn address(node: &[u8]) -> Option<&[u8]> {
    if let Some(rest) = node.strip_prefix(b"[") {
        return rest.split(|&byte| byte == b']').next();
    }
    let mut parts = node.split(|&byte| byte == b':');
    let host = parts.next()?;
    // More than one colon: IPv6 without brackets, as X-Forwarded-For has it.
    let host = if parts.count() > 1 { node } else { host };
    let is_known = !host.is_empty() && !host.starts_with(b"_") && !host.eq_ignore_ascii_case(b"unknown");
    is_known.then_some(host)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients() {
        // The examples of RFC 7239 § 4, § 6 and § 7.4.
        for (value, client) in [
            ("for=\"_gazonk\"", None),
            ("For=\"[2001:db8:cafe::17]:4711\"", Some("2001:db8:cafe::17")),
            ("for=192.0.2.60;proto=http;by=203.0.113.43", Some("192.0.2.60")),
            ("for=192.0.2.43, for=198.51.100.17", Some("192.0.2.43")),
            ("for=\"192.0.2.43:47011\"", Some("192.0.2.43")),
            ("for=unknown", None),
            ("by=203.0.113.43", None),
            ("", None),
        ] {
            assert_eq!(
                of_forwarded(value.as_bytes()),
                client.map(str::as_bytes),
                "{value}"
            );
        }
        for (value, client) in [
            ("203.0.113.195, 70.41.3.18", Some("203.0.113.195")),
            ("2001:db8::1", Some("2001:db8::1")),
            ("203.0.113.195:41237", Some("203.0.113.195")),
            ("", None),
        ] {
            assert_eq!(
                of_x_forwarded_for(value.as_bytes()),
                client.map(str::as_bytes),
                "{value}"
            );
        }
    }
}
