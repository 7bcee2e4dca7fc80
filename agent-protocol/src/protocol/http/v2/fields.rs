//! The header fields that a transaction is made of.

use super::hpack::{Field, FieldName, Id};
use crate::protocol::grpc;
use crate::protocol::http::forwarded;
use crate::record;
use crate::trace_context::SpanContext;

/// A request of HTTP/1.1 that the server answered with `101 Switching Protocols` to `h2c` (RFC 7540 § 3.2).
#[derive(Debug, Clone)]
pub struct Upgrade<'a> {
    /// First byte of the request, nanoseconds since the Unix epoch.
    pub start: u64,
    /// The request; what it says of the response is of no interest.
    pub request: record::http::Record<'a>,
    /// The caller's span.
    pub remote_parent: Option<SpanContext>,
    /// The caller's `tracestate`.
    pub tracestate: Option<&'a str>,
}

/// Names of fields, as far as they matter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Name {
    Authority,
    Method,
    Path,
    Protocol,
    Scheme,
    Status,
    ContentType,
    Forwarded,
    Host,
    GrpcStatus,
    GrpcTimeout,
    Traceparent,
    Tracestate,
    UserAgent,
    XForwardedFor,
    XForwardedHost,
    XForwardedPort,
    XForwardedProto,
    Other,
}

impl FieldName for Name {
    fn of(name: &[u8]) -> Name {
        match name {
            b":authority" => Name::Authority,
            b":method" => Name::Method,
            b":path" => Name::Path,
            b":protocol" => Name::Protocol,
            b":scheme" => Name::Scheme,
            b":status" => Name::Status,
            b"content-type" => Name::ContentType,
            b"forwarded" => Name::Forwarded,
            b"host" => Name::Host,
            b"grpc-status" => Name::GrpcStatus,
            b"grpc-timeout" => Name::GrpcTimeout,
            b"traceparent" => Name::Traceparent,
            b"tracestate" => Name::Tracestate,
            b"user-agent" => Name::UserAgent,
            b"x-forwarded-for" => Name::XForwardedFor,
            b"x-forwarded-host" => Name::XForwardedHost,
            b"x-forwarded-port" => Name::XForwardedPort,
            b"x-forwarded-proto" => Name::XForwardedProto,
            _ => Name::Other,
        }
    }

    fn of_static(index: usize) -> Name {
        match index {
            0 => Name::Authority,
            1 | 2 => Name::Method,
            3 | 4 => Name::Path,
            5 | 6 => Name::Scheme,
            7..=13 => Name::Status,
            30 => Name::ContentType,
            37 => Name::Host,
            57 => Name::UserAgent,
            _ => Name::Other,
        }
    }

    fn is_needed(&self) -> bool {
        *self != Name::Other
    }
}

/// A piece of [`Request`]'s text.
#[derive(Debug, Clone, Copy, Default)]
struct Piece {
    start: u32,
    /// One past its end; 0 where there is no such piece.
    end: u32,
}

/// What is known of a request's header section.
#[derive(Debug, Default)]
pub(super) struct Request {
    text: String,
    method: Piece,
    path: Piece,
    query: Piece,
    scheme: Piece,
    authority: Piece,
    host: Piece,
    user_agent: Piece,
    /// By Forwarded, and by X-Forwarded-For.
    forwarded_for: [Piece; 2],
    original_scheme: [Option<&'static str>; 2],
    original_authority: [Piece; 2],
    original_port: Option<u16>,
    tracestate: Piece,
    pub(super) context: Option<SpanContext>,
    pub(super) content: Content,
    /// How long the client gives a gRPC call.
    pub(super) deadline: Option<grpc::Deadline>,
    /// Extended CONNECT (RFC 8441) for a WebSocket.
    pub(super) websocket: bool,
    /// A pseudo-header field of a request was among the fields.
    pub(super) is_request: bool,
    /// Some fields are unknown.
    pub(super) incomplete: bool,
    /// Which they are.
    pub(super) unknown: Unknown,
    /// A field breaks a rule of RFC 9113 § 8.3.1.
    pub(super) refused: bool,
}

/// Which entries from before we looked a header section refers to, as a hash (FNV-1a by entries). `None` where it has
/// unknown fields that are none of these.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Unknown(pub(super) Option<u64>);

impl Default for Unknown {
    fn default() -> Unknown {
        Unknown(Some(0xcbf2_9ce4_8422_2325))
    }
}

impl Unknown {
    fn take(&mut self, entry: Id) {
        let next = |hash: u64| (hash ^ entry.number()).wrapping_mul(0x0100_0000_01b3);
        self.0 = self.0.map(next);
    }
}

/// Appends `value` and has `piece` point to it, unless it points to something or the value is no UTF-8.
fn add(text: &mut String, piece: &mut Piece, value: &[u8]) {
    if piece.end == 0
        && let Ok(value) = std::str::from_utf8(value)
    {
        let start = text.len() as u32;
        text.push_str(value);
        *piece = Piece {
            start,
            end: text.len() as u32,
        };
    }
}

/// A token of RFC 9110 § 5.6.2.
fn is_token(value: &[u8]) -> bool {
    let is_tchar = |byte: &u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte);
    !value.is_empty() && value.iter().all(is_tchar)
}

/// What a message's content-type says.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Content {
    /// There is none.
    #[default]
    None,
    Grpc(grpc::Kind),
    Other,
}

impl Content {
    fn of(value: &[u8]) -> Content {
        grpc::Kind::of(value).map_or(Content::Other, Content::Grpc)
    }
}

impl Request {
    /// A request that was parsed elsewhere. Unknown things are absent.
    pub(super) fn upgraded(upgrade: &Upgrade<'_>) -> Request {
        let mut request = Request {
            context: upgrade.remote_parent,
            is_request: true,
            original_scheme: [upgrade.request.original.scheme, None],
            original_port: upgrade.request.original.port,
            ..Request::default()
        };
        let known = &upgrade.request;
        for (piece, value) in [
            (&mut request.method, known.method),
            (&mut request.path, known.path),
            (&mut request.query, known.query),
            (&mut request.scheme, known.scheme),
            (&mut request.authority, known.authority),
            (&mut request.user_agent, known.user_agent),
            (&mut request.forwarded_for[0], known.forwarded_for),
            (&mut request.original_authority[0], known.original.authority),
            (&mut request.tracestate, upgrade.tracestate),
        ] {
            if let Some(value) = value {
                add(&mut request.text, piece, value.as_bytes());
            }
        }
        request
    }

    /// Forgets all, but keeps a reasonable buffer.
    pub(super) fn clear(&mut self) {
        let mut text = std::mem::take(&mut self.text);
        text.clear();
        text.shrink_to(1024);
        *self = Request {
            text,
            ..Request::default()
        };
    }

    /// Takes note of a field. Of several fields of one name, the first counts.
    pub(super) fn take(&mut self, field: Field<'_, Name>) {
        let (name, value) = match field {
            Field::Known(name, value) => (name, value),
            Field::Old(entry) => {
                self.incomplete = true;
                self.unknown.take(entry);
                return;
            }
            Field::Unnamed(..) | Field::Beyond => {
                self.incomplete = true;
                self.unknown.0 = None;
                return;
            }
        };
        match name {
            Name::Method => {
                self.is_request = true;
                self.refused |= !is_token(value);
                add(&mut self.text, &mut self.method, value);
            }
            Name::Path => {
                self.is_request = true;
                self.refused |= value.iter().any(|&byte| byte <= b' ' || byte == 0x7f);
                let (path, query) = match memchr::memchr(b'?', value) {
                    Some(at) => (&value[..at], Some(&value[at + 1..])),
                    None => (value, None),
                };
                if path != b"*" {
                    add(&mut self.text, &mut self.path, path);
                }
                if let Some(query) = query {
                    add(&mut self.text, &mut self.query, query);
                }
            }
            Name::Scheme => {
                self.is_request = true;
                add(&mut self.text, &mut self.scheme, value);
            }
            Name::Authority => {
                self.is_request = true;
                add(&mut self.text, &mut self.authority, value);
            }
            Name::Protocol => self.websocket = value.eq_ignore_ascii_case(b"websocket"),
            Name::Host => add(&mut self.text, &mut self.host, value),
            Name::UserAgent => add(&mut self.text, &mut self.user_agent, value),
            Name::Tracestate => add(&mut self.text, &mut self.tracestate, value),
            Name::Traceparent => self.context = self.context.or_else(|| SpanContext::parse(value)),
            Name::ContentType if self.content == Content::None => self.content = Content::of(value),
            Name::Forwarded => {
                let said = forwarded::forwarded(value);
                if let Some(client) = said.client {
                    add(&mut self.text, &mut self.forwarded_for[0], client);
                }
                if let Some(authority) = said.authority {
                    add(&mut self.text, &mut self.original_authority[0], authority);
                }
                self.original_scheme[0] = self.original_scheme[0].or(said.scheme);
            }
            Name::XForwardedFor => {
                if let Some(client) = forwarded::client(value) {
                    add(&mut self.text, &mut self.forwarded_for[1], client);
                }
            }
            Name::XForwardedHost => {
                if let Some(authority) = forwarded::authority(value) {
                    add(&mut self.text, &mut self.original_authority[1], authority);
                }
            }
            Name::XForwardedProto => {
                self.original_scheme[1] = self.original_scheme[1].or_else(|| forwarded::scheme(value));
            }
            Name::XForwardedPort => {
                self.original_port = self.original_port.or_else(|| forwarded::port(value));
            }
            Name::Status => self.refused = true,
            Name::GrpcTimeout => self.deadline = grpc::Deadline::parse(value),
            Name::ContentType | Name::GrpcStatus | Name::Other => {}
        }
    }

    fn get(&self, piece: Piece) -> Option<&str> {
        self.text
            .get(piece.start as usize..piece.end as usize)
            .filter(|_| piece.end != 0)
    }

    pub(super) fn method(&self) -> Option<&str> {
        self.get(self.method)
    }

    pub(super) fn path(&self) -> Option<&str> {
        self.get(self.path)
    }

    pub(super) fn query(&self) -> Option<&str> {
        self.get(self.query)
    }

    pub(super) fn scheme(&self) -> Option<&str> {
        self.get(self.scheme)
    }

    pub(super) fn authority(&self) -> Option<&str> {
        let authority = self.get(self.authority).or_else(|| self.get(self.host));
        authority.filter(|authority| !authority.is_empty())
    }

    pub(super) fn user_agent(&self) -> Option<&str> {
        self.get(self.user_agent)
    }

    pub(super) fn forwarded_for(&self) -> Option<&str> {
        self.first(self.forwarded_for)
    }

    pub(super) fn original(&self) -> record::http::Original<'_> {
        let [scheme, other] = self.original_scheme;
        record::http::Original {
            scheme: scheme.or(other),
            authority: self.first(self.original_authority),
            port: self.original_port,
        }
    }

    fn first(&self, [first, second]: [Piece; 2]) -> Option<&str> {
        self.get(first).or_else(|| self.get(second))
    }

    pub(super) fn tracestate(&self) -> Option<&str> {
        self.get(self.tracestate).filter(|_| self.context.is_some())
    }
}

/// What is known of a response's header section, or of trailers.
#[derive(Debug, Default)]
pub(super) struct Response {
    /// A status code was among the fields, though perhaps not a readable one.
    pub(super) has_status: bool,
    pub(super) status: Option<u16>,
    pub(super) content: Content,
    pub(super) grpc_status: Option<record::grpc::Status>,
    /// Some fields are unknown.
    pub(super) incomplete: bool,
    /// How many of these can be `grpc-status`, and the last of them.
    candidates: u32,
    candidate: Option<(Id, Option<record::grpc::Status>)>,
}

impl Response {
    /// Takes note of a field.
    pub(super) fn take(&mut self, field: Field<'_, Name>) {
        match field {
            Field::Known(Name::Status, value) => {
                self.has_status = true;
                self.status = match *value {
                    [a, b, c] if value.iter().all(u8::is_ascii_digit) => {
                        Some(u16::from(a - b'0') * 100 + u16::from(b - b'0') * 10 + u16::from(c - b'0'))
                    }
                    _ => None,
                };
            }
            Field::Known(Name::ContentType, value) => self.content = Content::of(value),
            Field::Known(Name::GrpcStatus, value) => {
                self.grpc_status = Some(record::grpc::Status::parse(value))
            }
            Field::Known(..) => {}
            Field::Old(entry) => {
                self.incomplete = true;
                self.candidates += 1;
                self.candidate = Some((entry, None));
            }
            Field::Unnamed(entry, value) => {
                self.incomplete = true;
                // "grpc-status" 1*DIGIT
                let possible = |value: &&[u8]| !value.is_empty() && value.iter().all(u8::is_ascii_digit);
                if let Some(value) = value.filter(possible) {
                    self.candidates += 1;
                    self.candidate = Some((entry, Some(record::grpc::Status::parse(value))));
                }
            }
            Field::Beyond => {
                self.incomplete = true;
                self.candidates += 2;
            }
        }
    }

    /// The fields end a gRPC call, so `grpc-status` is among them (doc/PROTOCOL-HTTP2.md, "Responses": Trailers begin
    /// with Status). Where one unknown field only can be it, it is: the entry that has its name.
    pub(super) fn infer_grpc_status(&mut self) -> Option<Id> {
        if self.grpc_status.is_some() || self.candidates != 1 {
            return None;
        }
        let (entry, status) = self.candidate?;
        self.grpc_status = status;
        Some(entry)
    }
}
