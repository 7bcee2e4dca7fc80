//! AMQP 0-9-1 with RabbitMQ's extensions: the specification's PDF and XML, and
//! <https://www.rabbitmq.com/docs/specification>.
//!
//! # Joined in the middle
//!
//! Of a channel that is older than the observation, some things are not known, and transactions that depend on them are
//! held until something proves them; what nothing proves is counted as lost.
//!
//! - *Whether it is in confirm mode.* A confirm proves that it is; a tx method that the broker answers proves that it is
//!   not, since no channel is both. Without either, it is taken to be without when the broker was heard for 5 s after a
//!   publish and confirmed nothing: brokers have no limit to that time, but one that takes no publishes says so
//!   (connection.blocked), and that time does not count. A publish without confirm mode has no length, one with it ends
//!   with its confirm; until the mode is known, neither is said.
//! - *Which publish a confirm is of.* Sequence numbers began with confirm.select. Every confirm gives a lower bound of
//!   how many publishes came before those that were seen. The bound is exact once all is confirmed, which shows in two
//!   silences that are long beside the time that confirms take. Then all that was held finds its confirm. A publisher
//!   that never pauses for a second stays unproved.
//! - *Whether a consumer acknowledges.* A settlement that names the tag of one of its deliveries proves that it does; see
//!   `settlement`. That one does not is proved by nothing: its deliveries are never reported. The queue that it reads is
//!   not known either.
//! - *Which request an answer is of.* Two exchanges in strict alternation, or channel.close-ok without an answer left
//!   over, prove that none older is under way.
//!
//! What settles or confirms nothing that was seen is counted as an unpaired response. As long as the broker was not heard
//! at all, what it confirmed or returned may have been missed.

mod channel;
mod confirm_mode;
mod confirms;
mod content;
mod frames;
mod ledger;
mod matcher;
mod methods;
mod open;
mod reader;
mod resync;
mod ring;
mod settlement;
#[cfg(test)]
mod tests;

use super::{Detection, Detector, Protocol};
use frames::Chain;

/// AMQP 0-9-1.
pub const DETECTOR: Detector = Detector {
    name: NAME,
    detect,
    answered: |_, _| None,
    create,
};

const NAME: &str = "amqp";

fn detect(bytes: &[u8], fresh: bool) -> Detection {
    if fresh {
        match frames::protocol_header(bytes) {
            Chain::No => {}
            Chain::Yes(flow) => return Detection::Yes(flow),
            Chain::Maybe | Chain::Either => return Detection::Maybe,
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
