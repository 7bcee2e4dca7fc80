//! RESP2 and RESP3: <https://redis.io/docs/latest/develop/reference/protocol-spec/>, and
//! <https://github.com/redis/redis-specifications/blob/master/protocol/RESP3.md>.

mod commands;
mod frames;
mod matcher;
mod replies;
mod requests;
#[cfg(test)]
mod tests;

use super::{Detection, Detector, Flow, Protocol};

/// Redis and what speaks like it.
pub const DETECTOR: Detector = Detector {
    name: NAME,
    detect,
    answered: frames::confirm_inline,
    create,
};

const NAME: &str = "redis";

fn detect(bytes: &[u8], fresh: bool) -> Detection {
    use frames::Begin;
    match bytes.first() {
        Some(b'*' | b'>') => {}
        Some(_) if fresh => return frames::detect_inline(bytes),
        _ => return Detection::No,
    }
    match frames::detect_message(bytes) {
        Begin::Yes => return Detection::Yes(Flow::ToClient),
        Begin::Maybe => return Detection::Maybe,
        Begin::No => {}
    }
    let proof = if fresh {
        frames::begins_command(bytes)
    } else {
        frames::command_chain(bytes)
    };
    match proof {
        Begin::Yes => Detection::Yes(Flow::ToServer),
        Begin::Maybe => Detection::Maybe,
        Begin::No => Detection::No,
    }
}

fn create(fresh: bool) -> Box<dyn Protocol> {
    Box::new(matcher::Redis::new(fresh))
}
