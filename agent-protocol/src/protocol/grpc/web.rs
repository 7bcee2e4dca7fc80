//! gRPC-Web (doc/PROTOCOL-WEB.md): the body ends with a frame that holds the trailers as an HTTP/1 header block.

use super::Status;

/// The bit of a prefix's flag byte that says that trailers follow.
pub const TRAILERS: u8 = 0x80;

/// The `grpc-status` in the payload of a trailers frame.
pub fn status(trailers: &[u8]) -> Option<Status> {
    trailers.split(|&byte| byte == b'\n').find_map(|line| {
        let colon = memchr::memchr(b':', line)?;
        let (name, value) = (&line[..colon], &line[colon + 1..]);
        name.trim_ascii()
            .eq_ignore_ascii_case(b"grpc-status")
            .then(|| Status::parse(value.trim_ascii()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_status_line() {
        assert_eq!(status(b"grpc-message:no\r\nGrpc-Status: 5\r\n"), Some(Status(5)));
        assert_eq!(status(b"grpc-status:0"), Some(Status::OK));
        assert_eq!(status(b"x-grpc-status: 1\r\n\r\n"), None);
        assert_eq!(status(b""), None);
    }
}
