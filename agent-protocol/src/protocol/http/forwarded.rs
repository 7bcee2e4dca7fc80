//! What a proxy says of the request that it got: Forwarded (RFC 7239), and X-Forwarded-For, -Proto, -Host and -Port. Of
//! several proxies, the first one counts.

/// What one Forwarded says.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Forwarded<'a> {
    /// The client, without its port; `None` for `unknown` and obfuscated ones.
    pub(crate) client: Option<&'a [u8]>,
    /// `http` or `https`.
    pub(crate) scheme: Option<&'static str>,
    /// The authority that was asked for.
    pub(crate) authority: Option<&'a [u8]>,
}

/// Reads the first element of a Forwarded value.
pub(crate) fn forwarded(value: &[u8]) -> Forwarded<'_> {
    let mut forwarded = Forwarded::default();
    for pair in first(value).split(|&byte| byte == b';') {
        let Some(equals) = memchr::memchr(b'=', pair) else {
            continue;
        };
        let (name, value) = (pair[..equals].trim_ascii(), pair[equals + 1..].trim_ascii());
        let quoted = value
            .strip_prefix(b"\"")
            .and_then(|value| value.strip_suffix(b"\""));
        let value = quoted.unwrap_or(value);
        if name.eq_ignore_ascii_case(b"for") {
            forwarded.client = address(value);
        } else if name.eq_ignore_ascii_case(b"proto") {
            forwarded.scheme = scheme(value);
        } else if name.eq_ignore_ascii_case(b"host") {
            forwarded.authority = authority(value);
        }
    }
    forwarded
}

/// The client of an X-Forwarded-For.
pub(crate) fn client(value: &[u8]) -> Option<&[u8]> {
    address(first(value))
}

/// The scheme of an X-Forwarded-Proto.
pub(crate) fn scheme(value: &[u8]) -> Option<&'static str> {
    let value = first(value);
    ["http", "https"]
        .into_iter()
        .find(|known| value.eq_ignore_ascii_case(known.as_bytes()))
}

/// The authority of an X-Forwarded-Host.
pub(crate) fn authority(value: &[u8]) -> Option<&[u8]> {
    let value = first(value);
    let is_one = !value.is_empty() && value.iter().all(u8::is_ascii_graphic);
    is_one.then_some(value)
}

/// The port of an X-Forwarded-Port.
pub(crate) fn port(value: &[u8]) -> Option<u16> {
    std::str::from_utf8(first(value)).ok()?.parse().ok()
}

/// The first element of a list.
fn first(value: &[u8]) -> &[u8] {
    let end = memchr::memchr(b',', value).unwrap_or(value.len());
    value[..end].trim_ascii()
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

    /// The examples of RFC 7239 § 4, § 6 and § 7.4, and of its other parameters.
    #[test]
    fn of_the_standard() {
        let text = |bytes: Option<&[u8]>| bytes.map(|bytes| String::from_utf8(bytes.to_vec()).unwrap());
        for (value, client, scheme, authority) in [
            ("for=\"_gazonk\"", None, None, None),
            (
                "For=\"[2001:db8:cafe::17]:4711\"",
                Some("2001:db8:cafe::17"),
                None,
                None,
            ),
            (
                "for=192.0.2.60;proto=http;by=203.0.113.43",
                Some("192.0.2.60"),
                Some("http"),
                None,
            ),
            (
                "for=192.0.2.43, for=198.51.100.17;proto=https",
                Some("192.0.2.43"),
                None,
                None,
            ),
            ("for=\"192.0.2.43:47011\"", Some("192.0.2.43"), None, None),
            ("for=unknown; Proto=HTTPS", None, Some("https"), None),
            (
                "host=\"shop.example:8443\";proto=https",
                None,
                Some("https"),
                Some("shop.example:8443"),
            ),
            ("host=shop.example;proto=gopher", None, None, Some("shop.example")),
            ("host=\"a b\"", None, None, None),
            ("by=203.0.113.43", None, None, None),
            ("", None, None, None),
        ] {
            let read = forwarded(value.as_bytes());
            assert_eq!(text(read.client).as_deref(), client, "{value}");
            assert_eq!(read.scheme, scheme, "{value}");
            assert_eq!(text(read.authority).as_deref(), authority, "{value}");
        }
    }

    #[test]
    fn of_the_others() {
        for (value, expected) in [
            ("203.0.113.195, 70.41.3.18", Some("203.0.113.195")),
            ("2001:db8::1", Some("2001:db8::1")),
            ("203.0.113.195:41237", Some("203.0.113.195")),
            ("", None),
        ] {
            assert_eq!(client(value.as_bytes()), expected.map(str::as_bytes), "{value}");
        }
        assert_eq!(
            [scheme(b"https,http"), scheme(b"HTTP"), scheme(b"wss")],
            [Some("https"), Some("http"), None]
        );
        assert_eq!(
            authority(b"shop.example, proxy.example"),
            Some(&b"shop.example"[..])
        );
        assert_eq!([authority(b""), authority(b"a b")], [None, None]);
        assert_eq!(
            [port(b"8443, 80"), port(b"0x1"), port(b"65536")],
            [Some(8443), None, None]
        );
    }
}
