//! What is stored of a request until its response is complete.

use super::head::{Fields, RequestHead, absolute};
use crate::protocol::Flow;
use crate::protocol::grpc::outcome::{self, End, Told};
use crate::protocol::grpc::{self, Kind, web};
use crate::protocol::http::forwarded;
use crate::record;
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
    original_scheme: Option<&'static str>,
    original_authority: Option<Piece>,
    original_port: Option<u16>,
    tracestate: Option<Piece>,
    minor: u8,
    pub(super) is_head: bool,
    pub(super) switch: Switch,
    pub(super) remote_parent: Option<SpanContext>,
    pub(super) body_size: Option<u64>,
    pub(super) status: Option<u16>,
    pub(super) response_body_size: Option<u64>,
    /// Where it is a call of gRPC-Web.
    call: Option<Box<Call>>,
}

/// A call of gRPC-Web.
#[derive(Debug, Default)]
struct Call {
    /// Bodies by flow, where their content-type says gRPC-Web.
    bodies: [Option<web::Body>; 2],
    /// In the head of a response without messages.
    status: Option<record::grpc::Status>,
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
        self.forwarded(fields);
        self.remote_parent = fields.traceparent.and_then(SpanContext::parse);
        if self.remote_parent.is_some() {
            self.tracestate = fields.tracestate.and_then(|value| self.push(value));
        }
        self.content(Flow::ToServer, fields);
        if head.method == b"CONNECT" {
            self.switch = Switch::Tunnel;
        } else if fields.upgrade.is_some() && head.minor > 0 {
            self.switch = Switch::Upgrade;
        }
    }

    fn forwarded(&mut self, fields: &Fields<'_>) {
        let said = fields.forwarded.map(forwarded::forwarded).unwrap_or_default();
        let client = said.client.or_else(|| forwarded::client(fields.x_forwarded_for?));
        self.forwarded_for = client.and_then(|client| self.push(client));
        let authority = said
            .authority
            .or_else(|| forwarded::authority(fields.x_forwarded_host?));
        self.original_authority = authority.and_then(|authority| self.push(authority));
        self.original_scheme = said
            .scheme
            .or_else(|| forwarded::scheme(fields.x_forwarded_proto?));
        self.original_port = fields.x_forwarded_port.and_then(forwarded::port);
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
    pub(in crate::protocol::http) fn record(&self) -> record::http::Record<'_> {
        let get = |piece: Option<Piece>| piece.map(|piece| self.piece(piece));
        record::http::Record {
            method: Some(self.piece(self.method)),
            path: get(self.path),
            query: get(self.query),
            scheme: self.scheme,
            authority: get(self.authority),
            user_agent: get(self.user_agent),
            forwarded_for: get(self.forwarded_for),
            original: record::http::Original {
                scheme: self.original_scheme,
                authority: get(self.original_authority),
                port: self.original_port,
            },
            version: if self.minor == 0 { "1.0" } else { "1.1" },
            status: self.status,
            request_body_size: self.body_size,
            response_body_size: self.response_body_size,
        }
    }

    /// Takes note of a head's content-type. gRPC proper needs HTTP/2.
    fn content(&mut self, flow: Flow, fields: &Fields<'_>) {
        let kind = fields.content_type.and_then(Kind::of);
        if let Some(kind) = kind.filter(|&kind| kind != Kind::Native) {
            let call = self.call.get_or_insert_default();
            call.bodies[flow as usize] = Some(web::Body::new(kind));
        }
    }

    /// The response to it has this status and these fields.
    pub(super) fn answered(&mut self, status: u16, fields: &Fields<'_>) {
        self.status = Some(status);
        self.content(Flow::ToClient, fields);
        if let Some(call) = &mut self.call {
            call.status = fields.grpc_status.map(record::grpc::Status::parse);
        }
    }

    /// The body in `flow`, where it is one of gRPC-Web.
    pub(super) fn body(&mut self, flow: Flow) -> Option<&mut web::Body> {
        self.call.as_mut()?.bodies[flow as usize].as_mut()
    }

    /// What a transaction says of it, where it is a call of gRPC-Web.
    pub(super) fn call(&self, cut_off: bool) -> Option<record::grpc::Record<'_>> {
        let call = self.call.as_ref()?;
        let [request, response] = &call.bodies;
        let http = self.record();
        let name = http.path.and_then(grpc::service_and_method);
        let told = match call.status {
            Some(status) => Told::Status(status),
            None => response.as_ref().map(web::Body::told).unwrap_or_default(),
        };
        let end = if cut_off { End::Closed } else { End::Complete };
        let status = outcome::status(told, http.status, response.is_none(), end);
        Some(record::grpc::Record {
            service: name.map(|(service, _)| service),
            method: name.map(|(_, method)| method),
            status,
            http_status: http.status,
            reset: None,
            scheme: http.scheme,
            authority: http.authority,
            user_agent: http.user_agent,
            forwarded_for: http.forwarded_for,
            original: http.original,
            version: http.version,
            request: request.as_ref().and_then(web::Body::messages),
            response: response.as_ref().and_then(web::Body::messages),
        })
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
