//! AMQP 0-9-1 with RabbitMQ's extensions: the specification's PDF and XML, and
//! <https://www.rabbitmq.com/docs/specification>.

mod channel;
mod confirms;
mod frames;
mod ledger;
mod matcher;
mod methods;
mod record;
mod ring;
mod settlement;
#[cfg(test)]
mod tests;

pub use record::{Operation, Outcome, Record};

use super::{Detection, Detector, Flow, Protocol};
use frames::Chain;

/// AMQP 0-9-1.
pub const DETECTOR: Detector = Detector {
    name: NAME,
    detect,
    create,
};

const NAME: &str = "amqp";

fn detect(bytes: &[u8], fresh: bool) -> Detection {
    if fresh {
        let n = bytes.len().min(frames::PROTOCOL_HEADER.len());
        if bytes[..n] == frames::PROTOCOL_HEADER[..n] {
            let whole = n == frames::PROTOCOL_HEADER.len();
            return if whole {
                Detection::Yes(Flow::ToServer)
            } else {
                Detection::Maybe
            };
        }
    }
    match frames::chain(bytes, None) {
        Chain::Yes(flow) => Detection::Yes(flow),
        Chain::No => Detection::No,
        Chain::Maybe | Chain::Either => Detection::Maybe,
    }
}

fn create(fresh: bool) -> Box<dyn Protocol> {
    Box::new(matcher::Amqp::new(fresh))
}
