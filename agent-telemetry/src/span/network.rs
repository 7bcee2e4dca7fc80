//! Attributes of the connection, the same for all protocols.

use super::{Context, Description};
use crate::value::{Key, Value};
use opentelemetry_semantic_conventions::attribute::{
    CLIENT_ADDRESS, CLIENT_PORT, NETWORK_PEER_ADDRESS, NETWORK_PEER_PORT, NETWORK_TRANSPORT, NETWORK_TYPE,
    SERVER_ADDRESS, SERVER_PORT,
};
use redwire_protocol::connection::{Endpoint, Side};
use redwire_protocol::record::http::Original;

/// The address of an end (a path for a unix socket) and its port; absent where it has none.
pub(super) fn address(endpoint: &Endpoint) -> (Option<Value<&str>>, Option<u16>) {
    match endpoint {
        Endpoint::Inet(address) => (Some(Value::Ip(address.ip())), Some(address.port())),
        Endpoint::Unix(path) if path.is_empty() => (None, None),
        Endpoint::Unix(path) => (Some(Value::Str(path)), None),
    }
}

/// `network.peer.*`, `network.transport`, `network.type`.
pub(super) fn describe<'a>(context: Context<'a>, to: &mut Description<'a>) {
    let peer = &context.connection.remote;
    set(to, NETWORK_PEER_ADDRESS, NETWORK_PEER_PORT, address(peer));
    match peer {
        Endpoint::Inet(address) => {
            to.span(NETWORK_TRANSPORT, "tcp");
            to.span(NETWORK_TYPE, if address.is_ipv4() { "ipv4" } else { "ipv6" });
        }
        Endpoint::Unix(_) => to.span(NETWORK_TRANSPORT, "unix"),
    }
}

/// `client.*`, as the socket has it.
pub(super) fn client<'a>(context: Context<'a>, to: &mut Description<'a>) {
    set(to, CLIENT_ADDRESS, CLIENT_PORT, address(context.client()));
}

/// The server's name and port as an authority (RFC 3986 § 3.2) has them, where it has, else as the socket has them.
pub(super) fn server<'a>(
    context: Context<'a>,
    authority: Option<&'a str>,
) -> (Option<Value<&'a str>>, Option<u16>) {
    let (socket_address, socket_port) = address(context.server());
    match authority.and_then(split_authority) {
        Some((host, port)) => (Some(Value::Str(host)), port.or(socket_port)),
        None => (socket_address, socket_port),
    }
}

/// The server as the client of the first proxy asked for it, where that is known, else as [`server`]. The port of an
/// authority without one follows from the scheme (RFC 9110 § 4.2).
pub(super) fn original_server<'a>(
    context: Context<'a>,
    authority: Option<&'a str>,
    original: Original<'a>,
) -> (Option<Value<&'a str>>, Option<u16>) {
    if context.side == Side::Client {
        return server(context, authority);
    }
    match original.authority.and_then(split_authority) {
        Some((host, port)) => {
            let default = original
                .scheme
                .map(|scheme| if scheme == "https" { 443 } else { 80 });
            (Some(Value::Str(host)), port.or(original.port).or(default))
        }
        None => {
            let (address, port) = server(context, authority);
            let has_port = matches!(authority.and_then(split_authority), Some((_, Some(_))));
            (address, original.port.filter(|_| !has_port).or(port))
        }
    }
}

fn set<'a>(
    to: &mut Description<'a>,
    address_key: Key,
    port_key: Key,
    (address, port): (Option<Value<&'a str>>, Option<u16>),
) {
    if let Some(address) = address {
        to.span(address_key, address);
    }
    if let Some(port) = port {
        to.span(port_key, port);
    }
}

/// Sets `server.address` and `server.port` of the span, and with `metric` of the metrics too.
pub(super) fn set_server<'a>(
    to: &mut Description<'a>,
    (address, port): (Option<Value<&'a str>>, Option<u16>),
    metric: bool,
) {
    if let Some(address) = address {
        if metric {
            to.metric(SERVER_ADDRESS, address);
        }
        to.span(SERVER_ADDRESS, address);
    }
    if let Some(port) = port {
        if metric {
            to.metric(SERVER_PORT, port);
        }
        to.span(SERVER_PORT, port);
    }
}

/// The longest host name (RFC 1035 § 2.3.4) or address literal.
const HOST: usize = 255;

/// An authority without its user information, which can hold a password.
pub(super) fn without_userinfo(authority: &str) -> &str {
    authority.rsplit_once('@').map_or(authority, |(_, host)| host)
}

/// Host (an IPv6 address without its brackets) and port of an authority; `None` where it is none.
pub(super) fn split_authority(authority: &str) -> Option<(&str, Option<u16>)> {
    let authority = without_userinfo(authority);
    let (host, port) = if let Some(literal) = authority.strip_prefix('[') {
        let (host, rest) = literal.split_once(']')?;
        match rest {
            "" => (host, ""),
            _ => (host, rest.strip_prefix(':')?),
        }
    } else {
        authority.split_once(':').unwrap_or((authority, ""))
    };
    let digits = port.bytes().all(|b| b.is_ascii_digit());
    if host.is_empty() || host.len() > HOST || !digits {
        return None;
    }
    Some((host, port.parse().ok()))
}
