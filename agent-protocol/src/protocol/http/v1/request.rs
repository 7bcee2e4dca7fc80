//! What is stored of a request until its response is complete.

use super::head::{RequestHead, absolute};
use crate::protocol::http;
use crate::trace_context::SpanContext;
use memchr::memchr;

/// What else the connection may become after the response.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(in crate::protocol::http) enum Switch {
    #[default]
    None,
    /// CONNECT (RFC 9110 § 9.3.6).
    Tunnel,
    /// Upgrade (RFC 9110 § 7.8).
    Upgrade,
}

/// A piece of [`Request::text`].
#[derive(Debug, Clone, Copy, Default)]
struct Piece {
    from: u32,
    to: u32,
}

/// A request, and what is known of its response.
#[derive(Debug, Default)]
pub(in crate::protocol::http) struct Request {
    text: String,
    method: Piece,
    path: Option<Piece>,
    query: Option<Piece>,
    scheme: Option<&'static str>,
    authority: Option<Piece>,
    user_agent: Option<Piece>,
    forwarded_for: Option<Piece>,
    tracestate: Option<Piece>,
    minor: u8,
    pub(super) is_head: bool,
    pub(super) switch: Switch,
    pub(super) remote_parent: Option<SpanContext>,
    pub(super) body_size: Option<u64>,
    pub(super) status: Option<u16>,
    pub(super) response_body_size: Option<u64>,
}

impl Request {
    /// Takes over what `head` says; the storage is used again.
    pub(super) fn fill(&mut self, head: &RequestHead<'_>) {
        let text = std::mem::take(&mut self.text);
        *self = Request {
            text,
            ..Request::default()
        };
        self.text.clear();
        let fields = &head.fields;
        self.method = self.push(head.method).unwrap_or_default();
        self.minor = head.minor;
        self.is_head = head.method == b"HEAD";
        self.target(head);
        if self.authority.is_none()
            && let Some(host) = fields.host.filter(|host| !host.is_empty())
        {
            self.authority = self.push(host);
        }
        self.user_agent = fields.user_agent.and_then(|value| self.push(value));
        let client = fields.forwarded.and_then(forwarded_for);
        let client = client.or_else(|| {
            let first = fields.x_forwarded_for?.split(|&byte| byte == b',').next()?;
            node(first.trim_ascii())
        });
        self.forwarded_for = client.and_then(|client| self.push(client));
        self.remote_parent = fields.traceparent.and_then(SpanContext::parse);
        if self.remote_parent.is_some() {
            self.tracestate = fields.tracestate.and_then(|value| self.push(value));
        }
        if head.method == b"CONNECT" {
            self.switch = Switch::Tunnel;
        } else if fields.upgrade.is_some() && head.minor > 0 {
            self.switch = Switch::Upgrade;
        }
    }

    /// The four forms of RFC 9112 § 3.2.
    fn target(&mut self, head: &RequestHead<'_>) {
        let target = head.target;
        let local = if head.method == b"CONNECT" {
            self.authority = self.push(target);
            return;
        } else if target == b"*" {
            return;
        } else if target.starts_with(b"/") {
            target
        } else if let Some((scheme, rest)) = absolute(target) {
            self.scheme = ["http", "https"]
                .into_iter()
                .find(|known| scheme.eq_ignore_ascii_case(known.as_bytes()));
            let end = rest
                .iter()
                .position(|byte| matches!(byte, b'/' | b'?'))
                .unwrap_or(rest.len());
            let (authority, local) = rest.split_at(end);
            // Credentials are nobody's business.
            let host = authority.rsplit(|&byte| byte == b'@').next().unwrap_or(authority);
            self.authority = self.push(host);
            local
        } else {
            return;
        };
        let (path, query) = match memchr(b'?', local) {
            Some(mark) => (&local[..mark], Some(&local[mark + 1..])),
            None => (local, None),
        };
        self.path = self.push(if path.is_empty() { b"/" } else { path });
        self.query = query.and_then(|query| self.push(query));
    }

    /// `None` for what is no UTF-8.
    fn push(&mut self, bytes: &[u8]) -> Option<Piece> {
        let text = std::str::from_utf8(bytes).ok()?;
        let from = self.text.len() as u32;
        self.text.push_str(text);
        Some(Piece {
            from,
            to: self.text.len() as u32,
        })
    }

    fn piece(&self, piece: Piece) -> &str {
        self.text
            .get(piece.from as usize..piece.to as usize)
            .unwrap_or_default()
    }

    /// What a transaction says of it.
    pub(in crate::protocol::http) fn record(&self) -> http::Record<'_> {
        let get = |piece: Option<Piece>| piece.map(|piece| self.piece(piece));
        http::Record {
            method: Some(self.piece(self.method)),
            path: get(self.path),
            query: get(self.query),
            scheme: self.scheme,
            authority: get(self.authority),
            user_agent: get(self.user_agent),
            forwarded_for: get(self.forwarded_for),
            version: if self.minor == 0 { "1.0" } else { "1.1" },
            status: self.status,
            request_body_size: self.body_size,
            response_body_size: self.response_body_size,
        }
    }

    pub(in crate::protocol::http) fn tracestate(&self) -> Option<&str> {
        self.tracestate.map(|piece| self.piece(piece))
    }

    /// Makes the storage small again where one request needed much.
    pub(super) fn shrink(&mut self) {
        const KEEP: usize = 512;
        if self.text.capacity() > KEEP {
            self.text = String::new();
        }
    }
}

/// The first `for` parameter of the first element of Forwarded (RFC 7239 § 4).
fn forwarded_for(value: &[u8]) -> Option<&[u8]> {
    let element = value.split(|&byte| byte == b',').next()?;
    element.split(|&byte| byte == b';').find_map(|pair| {
        let (name, value) = pair.trim_ascii().split_at_checked(4)?;
        if !name.eq_ignore_ascii_case(b"for=") {
            return None;
        }
        let quoted = value
            .strip_prefix(b"\"")
            .and_then(|value| value.strip_suffix(b"\""));
        node(quoted.unwrap_or(value))
    })
}

/// The address in a node (RFC 7239 § 6) without its port; `None` for `unknown` and obfuscated ones.
fn node(node: &[u8]) -> Option<&[u8]> {
    if let Some(rest) = node.strip_prefix(b"[") {
        return rest.split(|&byte| byte == b']').next();
    }
    let mut parts = node.split(|&byte| byte == b':');
    let host = parts.next()?;
    // More than one colon: IPv6 without brackets, as X-Forwarded-For has it.
    let host = if parts.count() > 1 { node } else { host };
    let known = !host.is_empty() && host[0] != b'_' && !host.eq_ignore_ascii_case(b"unknown");
    known.then_some(host)
}
