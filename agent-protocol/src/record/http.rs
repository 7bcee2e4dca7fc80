//! What a transaction of HTTP carries, whatever its version.

/// What is known of an exchange. Names as in RFC 9110; unknown things are absent.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Record<'a> {
    /// The method as sent; `None` where it is not known (HTTP/2 joined in the middle).
    pub method: Option<&'a str>,
    /// The path of the target, without query; `None` for asterisk-form and authority-form, and where unknown.
    pub path: Option<&'a str>,
    /// The query, without `?`.
    pub query: Option<&'a str>,
    /// `http` or `https`, where the target says so.
    pub scheme: Option<&'a str>,
    /// Host header, `:authority`, or the authority of the target.
    pub authority: Option<&'a str>,
    /// User-Agent.
    pub user_agent: Option<&'a str>,
    /// The nearest client that Forwarded or X-Forwarded-For names.
    pub forwarded_for: Option<&'a str>,
    /// What a proxy says of the original request.
    pub original: Original<'a>,
    /// `1.0`, `1.1`, `2`.
    pub version: &'static str,
    /// Status code as sent, of the final response (or 101).
    pub status: Option<u16>,
    /// Bytes of request content, without transfer coding's framing.
    pub request_body_size: Option<u64>,
    /// Bytes of response content, without transfer coding's framing.
    pub response_body_size: Option<u64>,
}

/// What Forwarded (RFC 7239), or X-Forwarded-Proto, -Host and -Port, say of the request that the first proxy got.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Original<'a> {
    /// `http` or `https`.
    pub scheme: Option<&'static str>,
    /// The authority that was asked for.
    pub authority: Option<&'a str>,
    /// Its port, where that is said apart from it.
    pub port: Option<u16>,
}
