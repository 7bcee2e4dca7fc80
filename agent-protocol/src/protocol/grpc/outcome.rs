//! What a call ended with, of all that can be seen of its end.

use crate::record::grpc::Status;

/// What a response says of the call's status.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Told {
    /// Nothing, and all was seen that could.
    #[default]
    Nothing,
    /// There is, or may be, a status that cannot be read.
    Unreadable,
    /// This.
    Status(Status),
}

/// How the exchange ended that carried the call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// With a complete response.
    Complete,
    /// By RST_STREAM.
    Reset {
        /// Its error code (RFC 9113 § 7).
        code: u32,
        /// It came when the deadline was over.
        late: bool,
    },
    /// With its connection.
    Closed,
}

/// The status of a call. A `grpc-status` stands whatever comes with it or after. Without one, a status of HTTP other than
/// 200 decides (doc/http-grpc-status-mapping.md), since clients end the call with it and reset the stream then; the same
/// holds for a 200 whose content (`foreign`) cannot be of gRPC. Else it is what the reset means, or the loss of the
/// connection. `None` where it is not known.
pub fn status(told: Told, http: Option<u16>, foreign: bool, end: End) -> Option<Status> {
    match (told, http, end) {
        (Told::Status(status), _, _) => Some(status),
        (Told::Unreadable, _, End::Complete) => None,
        (_, Some(status), _) if status != 200 => Some(of_http(status)),
        (_, Some(status), End::Reset { .. }) if foreign => Some(of_http(status)),
        (_, _, End::Reset { code, late }) => Some(of_reset(code, late)),
        (_, _, End::Closed) => Some(Status::UNAVAILABLE),
        (Told::Nothing, status, End::Complete) => status.map(of_http),
    }
}

/// For a response without `grpc-status` (doc/http-grpc-status-mapping.md).
fn of_http(status: u16) -> Status {
    match status {
        400 => Status::INTERNAL,
        401 => Status::UNAUTHENTICATED,
        403 => Status::PERMISSION_DENIED,
        404 => Status::UNIMPLEMENTED,
        429 | 502 | 503 | 504 => Status::UNAVAILABLE,
        _ => Status::UNKNOWN,
    }
}

/// For a stream that was reset (doc/PROTOCOL-HTTP2.md, "Errors"). Codes without a mapping there are errors of the
/// transport: INTERNAL. CANCEL is also how peers let go of a call whose deadline is over (`late`).
fn of_reset(code: u32, late: bool) -> Status {
    match code {
        7 => Status::UNAVAILABLE,
        8 if late => Status::DEADLINE_EXCEEDED,
        8 => Status::CANCELLED,
        11 => Status::RESOURCE_EXHAUSTED,
        12 => Status::PERMISSION_DENIED,
        _ => Status::INTERNAL,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(told: Told, http: Option<u16>, foreign: bool, end: End) -> &'static str {
        status(told, http, foreign, end).map_or("-", |status| status.name().unwrap())
    }

    fn ends() -> impl Iterator<Item = End> {
        let resets = (0..=14).flat_map(|code| [false, true].map(|late| End::Reset { code, late }));
        resets.chain([End::Complete, End::Closed])
    }

    /// The table of doc/http-grpc-status-mapping.md, however the exchange ends.
    #[test]
    fn of_http_without_a_status() {
        for (http, expected) in [
            (400, "INTERNAL"),
            (401, "UNAUTHENTICATED"),
            (403, "PERMISSION_DENIED"),
            (404, "UNIMPLEMENTED"),
            (429, "UNAVAILABLE"),
            (502, "UNAVAILABLE"),
            (503, "UNAVAILABLE"),
            (504, "UNAVAILABLE"),
            (302, "UNKNOWN"),
            (415, "UNKNOWN"),
            (500, "UNKNOWN"),
        ] {
            for (end, foreign) in ends().flat_map(|end| [(end, true), (end, false)]) {
                let said = name(Told::Nothing, Some(http), foreign, end);
                assert_eq!(said, expected, "{http} {end:?}");
            }
        }
        assert_eq!(name(Told::Nothing, Some(200), false, End::Complete), "UNKNOWN");
        let reset = End::Reset { code: 8, late: false };
        assert_eq!(name(Told::Nothing, Some(200), true, reset), "UNKNOWN");
        assert_eq!(name(Told::Nothing, None, false, End::Complete), "-");
    }

    /// The table of doc/PROTOCOL-HTTP2.md, "Errors", for a call that no status came of.
    #[test]
    fn of_resets() {
        const CODES: [&str; 15] = [
            "INTERNAL",           // NO_ERROR
            "INTERNAL",           // PROTOCOL_ERROR
            "INTERNAL",           // INTERNAL_ERROR
            "INTERNAL",           // FLOW_CONTROL_ERROR
            "INTERNAL",           // SETTINGS_TIMEOUT
            "INTERNAL",           // STREAM_CLOSED, without a mapping
            "INTERNAL",           // FRAME_SIZE_ERROR
            "UNAVAILABLE",        // REFUSED_STREAM
            "CANCELLED",          // CANCEL
            "INTERNAL",           // COMPRESSION_ERROR
            "INTERNAL",           // CONNECT_ERROR
            "RESOURCE_EXHAUSTED", // ENHANCE_YOUR_CALM
            "PERMISSION_DENIED",  // INADEQUATE_SECURITY
            "INTERNAL",           // HTTP_1_1_REQUIRED, without a mapping
            "INTERNAL",           // no code of the specification
        ];
        for (code, expected) in (0..).zip(CODES) {
            for (http, late) in [(None, false), (Some(200), false), (None, true), (Some(200), true)] {
                let expected = if late && code == 8 {
                    "DEADLINE_EXCEEDED"
                } else {
                    expected
                };
                let end = End::Reset { code, late };
                assert_eq!(name(Told::Nothing, http, false, end), expected, "{code} {late}");
            }
        }
    }

    #[test]
    fn a_status_stands() {
        for (http, end) in [None, Some(200), Some(404), Some(503)]
            .into_iter()
            .flat_map(|http| ends().map(move |end| (http, end)))
        {
            let told = Told::Status(Status(5));
            assert_eq!(name(told, http, false, end), "NOT_FOUND");
            assert_eq!(name(Told::Status(Status::OK), http, true, end), "OK");
        }
    }

    #[test]
    fn a_status_that_cannot_be_read_is_not_known() {
        assert_eq!(name(Told::Unreadable, Some(200), false, End::Complete), "-");
        assert_eq!(name(Told::Unreadable, None, false, End::Complete), "-");
    }

    #[test]
    fn a_lost_connection() {
        for http in [None, Some(200)] {
            assert_eq!(name(Told::Nothing, http, false, End::Closed), "UNAVAILABLE");
        }
    }
}
