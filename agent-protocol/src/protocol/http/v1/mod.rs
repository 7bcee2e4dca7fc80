//! HTTP/1.0 and HTTP/1.1 (RFC 9112).

use crate::protocol::{Detection, Detector, Protocol};

/// HTTP/1.
pub const DETECTOR: Detector = Detector {
    name: "http",
    detect,
    create,
};

fn detect(_bytes: &[u8], _fresh: bool) -> Detection {
    Detection::No
}

fn create(_fresh: bool) -> Box<dyn Protocol> {
    unreachable!("detect says no")
}
