//! Which protocols are recognised.

use super::{Detector, amqp, http, postgres, redis};

/// The protocols known, those with the strongest signature first.
pub const DETECTORS: &[Detector] = &[
    http::v2::DETECTOR,
    http::v1::DETECTOR,
    amqp::DETECTOR,
    redis::DETECTOR,
    postgres::DETECTOR,
];
