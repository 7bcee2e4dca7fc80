//! What a call of gRPC carries.

use super::http::Original;

/// What is known of a call. Unknown things are absent.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Record<'a> {
    /// The full name of the service, `package.Service`.
    pub service: Option<&'a str>,
    /// The method, without the service.
    pub method: Option<&'a str>,
    /// What the call ended with: its `grpc-status`, or what the specification derives where there is none.
    /// `None` where trailers were seen that are not understood (joined in the middle), and while it is open.
    pub status: Option<Status>,
    /// Status code of the HTTP response.
    pub http_status: Option<u16>,
    /// The name of the error code of the RST_STREAM that ended the call, if one did (RFC 9113 § 7).
    pub reset: Option<&'static str>,
    /// `http` or `https`.
    pub scheme: Option<&'a str>,
    /// `:authority`.
    pub authority: Option<&'a str>,
    /// User-Agent.
    pub user_agent: Option<&'a str>,
    /// The nearest client that Forwarded or X-Forwarded-For names.
    pub forwarded_for: Option<&'a str>,
    /// What a proxy says of the original request.
    pub original: Original<'a>,
    /// Version of HTTP: `1.1` (gRPC-Web only), `2`.
    pub version: &'static str,
    /// Messages from client to server. `None` where some may have been missed.
    pub request: Option<Messages>,
    /// Messages from server to client. `None` where some may have been missed.
    pub response: Option<Messages>,
}

/// Messages of one direction of a call.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Messages {
    /// How many were complete.
    pub count: u64,
    /// Their bytes as sent (after compression), without the five-byte prefixes.
    pub bytes: u64,
}

/// A status code (doc/statuscodes.md).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Status(pub u32);

impl Status {
    /// 0.
    pub const OK: Status = Status(0);
    /// 1.
    pub const CANCELLED: Status = Status(1);
    /// 2.
    pub const UNKNOWN: Status = Status(2);
    /// 4.
    pub const DEADLINE_EXCEEDED: Status = Status(4);
    /// 7.
    pub const PERMISSION_DENIED: Status = Status(7);
    /// 8.
    pub const RESOURCE_EXHAUSTED: Status = Status(8);
    /// 12.
    pub const UNIMPLEMENTED: Status = Status(12);
    /// 13.
    pub const INTERNAL: Status = Status(13);
    /// 14.
    pub const UNAVAILABLE: Status = Status(14);
    /// 16.
    pub const UNAUTHENTICATED: Status = Status(16);

    /// The value of `grpc-status`; what is no number means UNKNOWN.
    pub fn parse(value: &[u8]) -> Status {
        let number = value.iter().try_fold(0u32, |number, byte| match byte {
            b'0'..=b'9' => number.checked_mul(10)?.checked_add(u32::from(byte - b'0')),
            _ => None,
        });
        number
            .filter(|_| !value.is_empty())
            .map_or(Status::UNKNOWN, Status)
    }

    /// Its name; `None` for a code that the specification does not know.
    pub fn name(self) -> Option<&'static str> {
        const NAMES: [&str; 17] = [
            "OK",
            "CANCELLED",
            "UNKNOWN",
            "INVALID_ARGUMENT",
            "DEADLINE_EXCEEDED",
            "NOT_FOUND",
            "ALREADY_EXISTS",
            "PERMISSION_DENIED",
            "RESOURCE_EXHAUSTED",
            "FAILED_PRECONDITION",
            "ABORTED",
            "OUT_OF_RANGE",
            "UNIMPLEMENTED",
            "INTERNAL",
            "UNAVAILABLE",
            "DATA_LOSS",
            "UNAUTHENTICATED",
        ];
        NAMES.get(self.0 as usize).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses() {
        assert_eq!(Status::parse(b"0"), Status::OK);
        assert_eq!(Status::parse(b"16").name(), Some("UNAUTHENTICATED"));
        assert_eq!(Status::parse(b"4").name(), Some("DEADLINE_EXCEEDED"));
        for bad in [&b"x"[..], b"", b"+5", b"-1", b" 5", b"4294967296"] {
            assert_eq!(Status::parse(bad), Status::UNKNOWN);
        }
        assert_eq!(Status::parse(b"77").name(), None);
    }
}
